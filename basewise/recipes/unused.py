"""Settings of a recipe that nothing would read: named, so that nobody trusts a switch that is connected to nothing."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from basewise.recipes.schema import Recipe

FITTED = ("kmers", "rules")  # backbones that no gradient reaches
READ_OF_FITTED = ("epochs", "steps", "seed")  # of [train]: one of the first two must stand in every recipe

Reads = Callable[["Recipe"], bool]


def _base(recipe: "Recipe") -> bool:
    return recipe.kind == "base"


def _individual(recipe: "Recipe") -> bool:
    return recipe.kind == "individual"


def _binary_sequences(recipe: "Recipe") -> bool:
    return recipe.kind != "individual" and len(recipe.head.labels) == 2


def _loss(name: str) -> Reads:
    return lambda recipe: recipe.train.loss == name


def _plateau(recipe: "Recipe") -> bool:
    return recipe.train.scheduler == "plateau"


def _cropped(recipe: "Recipe") -> bool:
    return recipe.train.crop is not None


# key, who reads it, and what to tell when they are not there
RULES: tuple[tuple[str, Reads, str], ...] = (
    ("head.pool", lambda r: r.kind != "base", 'head.kind is "base", whose bases are not pooled'),
    ("head.interpolate", _base, 'is for head.kind "base"'),
    ("head.chunk_queries", _individual, 'is for head.kind "individual"'),
    ("head.window", lambda r: not _individual(r), 'head.kind is "individual": chunks.length says how many bases are read'),
    ("train.crop", _base, 'is for head.kind "base"'),
    ("train.flank", _cropped, "is for crops: give train.crop"),
    ("train.positive_share", _cropped, "is for crops: give train.crop"),
    ("train.negatives_per_positive", lambda r: not _cropped(r), "crops are drawn by train.positive_share"),
    ("train.negatives_per_positive", lambda r: not _individual(r), "individuals are drawn by species, whatever their label"),
    ("train.pos_weight", _loss("bce"), 'is for train.loss "bce"'),
    ("train.class_weights", _loss("weighted_ce"), 'is for train.loss "weighted_ce"'),
    ("train.focal_gamma", _loss("focal"), 'is for train.loss "focal"'),
    ("train.focal_alpha", _loss("focal"), 'is for train.loss "focal"'),
    ("train.focal_alpha", lambda r: len(r.head.labels) == 2, "is for two labels"),
    ("train.plateau_cut", _plateau, 'is for train.scheduler "plateau"'),
    ("train.plateau_patience", _plateau, 'is for train.scheduler "plateau"'),
    ("train.lr", lambda r: not r.train.phases, "with train.phases, the rate is that of each phase"),
    ("train.augment", lambda r: not _individual(r), 'head.kind is "individual": chunks are drawn anew for every group and not augmented'),
    (
        "train.eval_batch_size",
        lambda r: not _individual(r),
        'head.kind is "individual": chunks are embedded as many at a time as memory has room',
    ),
    ("train.augment.shift", lambda r: not _cropped(r), "crops are drawn at every offset already: leave out augment.shift"),
    ("train.augment.mutate", _cropped, "is for crops: give train.crop"),
    ("train.augment.mutate_scored", _cropped, "is for crops: give train.crop"),
    (
        "train.augment.mirror_shift",
        lambda r: r.train.augment.reverse_complement > 0,
        "moves the labels of turned sequences: give augment.reverse_complement",
    ),
    ("train.augment.mirror_shift", _base, 'moves labels of bases, for head.kind "base"'),
    ("train.augment.n_mask_keep", lambda r: r.train.augment.n_mask > 0, "is for masked flanks: give train.augment.n_mask"),
    ("train.augment.mutate", lambda r: not _cropped(r) or r.train.flank > 0, "mutates the flanks of crops: give train.flank"),
    ("evaluate.threshold", _binary_sequences, "is for two labels of sequences or bases; groups of individuals vote at 0.5"),
    ("evaluate.prevalence", _binary_sequences, "is for two labels of sequences or bases"),
    (
        "evaluate.calibrate",
        lambda r: not _individual(r) or r.evaluate.calibrate == "none",
        'groups of individuals vote uncalibrated: "none"',
    ),
    ("chunks", _individual, 'is for head.kind "individual"'),
)


def unused(recipe: "Recipe") -> list[str]:
    """Return a line for every setting that differs from its default though nothing reads it in such a recipe.

    Recipes with [pretrain] and with [fewshot] have rules of their own and give no line.
    """
    if recipe.pretrain is not None or recipe.fewshot is not None:
        return []
    found = [f"{key} {_found(recipe, key)}, but {why}" for key, read, why in RULES if _is_set(recipe, key) and not read(recipe)]
    if recipe.backbone.name in FITTED:
        keys = [k for k in type(recipe.train).model_fields if k not in READ_OF_FITTED and _is_set(recipe, f"train.{k}")]
        names = [f"train.{key}" for key in keys] + (["lora"] if recipe.lora is not None else [])
        found += [f'{name} is set, but backbone "{recipe.backbone.name}" is not trained' for name in names]
    if len(recipe.train.class_weights) != len(recipe.head.labels) and recipe.train.loss == "weighted_ce":
        found.append(f"train.class_weights are {len(recipe.train.class_weights)}, but head.labels are {len(recipe.head.labels)}")
    return found


def _at(recipe: "Recipe", key: str) -> tuple[Any, Any]:
    """Return the value of a key and its default."""
    section: Any = recipe
    *way, last = key.split(".")
    for name in way:
        section = getattr(section, name)
    return getattr(section, last), type(section).model_fields[last].get_default(call_default_factory=True)


def _is_set(recipe: "Recipe", key: str) -> bool:
    value, default = _at(recipe, key)
    return bool(value != default)


def _found(recipe: "Recipe", key: str) -> str:
    value, _ = _at(recipe, key)
    return "is given" if hasattr(type(value), "model_fields") else f"is {value!r}"
