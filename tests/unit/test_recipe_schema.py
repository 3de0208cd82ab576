import pytest

from basewise.errors import BasewiseError
from basewise.recipes.schema import apply_overrides, load_recipe, recipe_from, recipe_to_toml, shipped_recipes

MINIMAL = {"name": "x", "backbone": {"name": "convnet"}, "train": {"epochs": 1}}


def test_all_problems_in_one_line_with_hints():
    table = {
        "name": "x",
        "backbone": {"name": "convnet", "initt": "random"},
        "train": {"epochs": 1, "learning_rate": 1, "patiense": 3, "lr": "fast", "scheduler": "cosin"},
        "evalute": {},
    }
    with pytest.raises(BasewiseError) as caught:
        recipe_from(table, "recipe t.toml")
    said = str(caught.value)
    assert "\n" not in said
    assert "recipe t.toml has 6 problems" in said
    assert "'backbone.initt'. Did you mean 'init'?" in said
    assert "'train.patiense'. Did you mean 'patience'?" in said
    assert "'evalute'. Did you mean 'evaluate'?" in said
    assert "'train.lr'" in said
    assert "'train.scheduler'" in said
    assert "'train.learning_rate'" in said


@pytest.mark.parametrize("train", [{}, {"epochs": 1, "steps": 5}])
def test_one_of_epochs_and_steps(train):
    with pytest.raises(BasewiseError, match="exactly one of epochs, steps and phases"):
        recipe_from({**MINIMAL, "train": train}, "r")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"steps": 1, "crop": 8, "augment": {"shift": 2}}, "leave out augment.shift"),
        ({"epochs": 1, "augment": {"mutate": 0.1}}, "give train.crop"),
        ({"epochs": 1, "augment": {"mirror_shift": -1}}, "give augment.reverse_complement"),
    ],
)
def test_augmentations_that_would_do_nothing_are_refused(train, said):
    with pytest.raises(BasewiseError, match=said):
        recipe_from({**MINIMAL, "train": train}, "r")


def test_overrides_change_values_and_swap_lengths():
    recipe = apply_overrides(
        recipe_from(MINIMAL, "r"),
        ["train.lr=1e-4", "train.steps=7", "backbone.init=/some/where", "backbone.config.width=8", "train.augment.shift=2"],
    )
    assert (recipe.train.lr, recipe.train.steps, recipe.train.epochs) == (1e-4, 7, None)
    assert recipe.backbone.init == "/some/where"
    assert recipe.backbone.config == {"width": 8}
    assert recipe.train.augment.shift == 2
    with pytest.raises(BasewiseError, match=r"Did you mean 'lr'"):
        apply_overrides(recipe, ["train.lrr=1"])
    with pytest.raises(BasewiseError, match="expected section"):
        apply_overrides(recipe, ["train.lr"])


def test_toml_reads_back_equal(tmp_path):
    recipe = apply_overrides(recipe_from(MINIMAL, "r"), ["evaluate.threshold=0.5"])
    path = tmp_path / "r.toml"
    path.write_text(recipe_to_toml(recipe))
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_shipped_recipes_load(name):
    recipe = load_recipe(name)
    assert recipe == load_recipe(f"{name}.toml")
    assert recipe.source is not None
    assert all(e.source for e in recipe.expected)


def test_paper_recipes_say_what_the_paper_says():
    recipe = load_recipe("polya_glm/hyenadna_gene_gene")
    t = recipe.train
    assert (t.epochs, t.validate_every, t.patience, t.scheduler, t.warmup, t.loss) == (3, 200, 5, "cosine", 0.1, "bce")
    assert {e.metric: e.value for e in recipe.expected} == {
        "accuracy": 0.7606, "precision_macro": 0.7618, "auc_hard": 0.7606, "f1_macro": 0.7603
    }  # fmt: skip


def test_unknown_recipe_names_the_nearest():
    with pytest.raises(BasewiseError, match="Did you mean 'polya_glm/hyenadna_gene_gene'"):
        load_recipe("polya_glm/hyenadna_gene_gen")
