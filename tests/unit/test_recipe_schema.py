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


INDIVIDUAL = {"kind": "individual"}


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"train": {"steps": 1, "crop": 8}}, 'train.crop is 8, but is for head.kind "base"'),
        ({"train": {"steps": 1, "flank": 8}}, "give train.crop"),
        ({"train": {"steps": 1, "positive_share": 0.1}}, "give train.crop"),
        ({"train": {"steps": 1, "crop": 8, "augment": {"mutate": 0.1}}, "head": {"kind": "base"}}, "give train.flank"),
        ({"train": {"steps": 1, "crop": 8, "negatives_per_positive": 2}, "head": {"kind": "base"}}, "train.positive_share"),
        ({"train": {"steps": 1, "negatives_per_positive": 2}, "head": INDIVIDUAL}, "drawn by species"),
        ({"train": {"steps": 1, "augment": {"reverse_complement": 0.5}}, "head": INDIVIDUAL}, "train.augment is given"),
        ({"train": {"steps": 1, "augment": {"reverse_complement": 0.5, "mirror_shift": -1}}}, "moves labels of bases"),
        ({"train": {"steps": 1, "augment": {"n_mask_keep": 7}}}, "train.augment.n_mask"),
        ({"train": {"steps": 1, "loss": "focal", "pos_weight": 2}}, 'for train.loss "bce"'),
        ({"train": {"steps": 1, "class_weights": [1, 2]}}, 'for train.loss "weighted_ce"'),
        ({"train": {"steps": 1, "loss": "weighted_ce", "class_weights": [1, 2, 3]}}, "train.class_weights are 3, but head.labels are 2"),
        ({"train": {"steps": 1, "plateau_cut": 0.5}}, 'train.scheduler "plateau"'),
        ({"train": {"lr": 1e-4, "phases": [{"epochs": 1, "lr": 1e-3}]}}, "the rate is that of each phase"),
        ({"train": {"steps": 1}, "head": {"kind": "base", "pool": "cls"}}, "bases are not pooled"),
        ({"train": {"steps": 1}, "head": {"interpolate": True}}, "head.interpolate is True"),
        ({"train": {"steps": 1}, "head": {"chunk_queries": 8}}, "head.chunk_queries is 8"),
        ({"train": {"steps": 1}, "head": {**INDIVIDUAL, "window": 100}}, "chunks.length"),
        ({"train": {"steps": 1}, "chunks": {"count": 4}}, "chunks is given"),
        ({"train": {"steps": 1}, "head": INDIVIDUAL, "evaluate": {"threshold": "max_mcc"}}, "vote at 0.5"),
        ({"train": {"steps": 1}, "head": INDIVIDUAL, "evaluate": {"calibrate": "temperature"}}, "vote uncalibrated"),
        ({"train": {"steps": 1}, "head": {"labels": ["a", "b", "c"]}, "evaluate": {"prevalence": 0.1}}, "for two labels"),
        ({"train": {"steps": 1, "lr": 0.1}, "backbone": {"name": "kmers"}}, 'train.lr is set, but backbone "kmers" is not trained'),
        ({"train": {"steps": 1}, "backbone": {"name": "rules"}, "lora": {"placements": ["mlp"]}}, "lora is set"),
        (
            {"train": {"phases": [{"epochs": 1, "lr": 1, "freeze_backbone": True}]}, "lora": {"placements": ["mlp"]}},
            "take one of the two away",
        ),
        ({"train": {"steps": 1, "metric": "loss", "pos_weight": 2}, "pretrain": {}}, "leave out train.pos_weight"),
        ({"train": {"steps": 1, "metric": "loss"}, "pretrain": {}, "evaluate": {"bootstrap": 5}}, "leave out evaluate"),
        ({"train": {"steps": 1, "metric": "loss"}, "pretrain": {}, "data": {"window": 5}}, "leave out data.window"),
        ({"train": {"steps": 1, "metric": "loss"}, "pretrain": {"max_masked": 0.2}}, "soft_mask"),
    ],
)
def test_settings_that_nothing_would_read_are_refused(sections, said):
    with pytest.raises(BasewiseError) as caught:
        recipe_from({**MINIMAL, **sections}, "r")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("threshold", ["max_f2", "precision=half", "recall=2", 7, -0.1, "0.5x", "max_f1=1"])
def test_a_threshold_rule_that_nobody_knows_is_refused_before_training(threshold):
    with pytest.raises(BasewiseError, match=r"evaluate\.threshold"):
        recipe_from({**MINIMAL, "evaluate": {"threshold": threshold}}, "r")


@pytest.mark.parametrize(("threshold", "read"), [("max_mcc", "max_mcc"), ("recall=0.9", "recall=0.9"), (1, 1.0), ("0.25", 0.25)])
def test_threshold_rules_that_are_known(threshold, read):
    assert recipe_from({**MINIMAL, "evaluate": {"threshold": threshold}}, "r").evaluate.threshold == read
