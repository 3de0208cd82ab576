"""What a run is: a TOML file with nothing left to guess, read into frozen models; every mistake is reported at once."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from basewise.errors import BasewiseError, did_you_mean
from basewise.recipes.pretraining import Pretrain
from basewise.recipes.unused import unused

HERE = Path(__file__).parent

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Data(_Section):
    """Which examples. `path` is a dataset folder; the other keys say how it must have been built and are held against its manifest.

    With [pretrain], `path` is a genome (FASTA), and `val_chroms` and `test_chroms` are the contigs held out; no other key is used.
    """

    path: str | None = None
    task: str | None = None
    negatives: str | None = None
    variant: str | None = None
    window: int | None = Field(default=None, gt=0)
    split: str | None = None
    test_chroms: tuple[str, ...] | None = None
    val_chroms: tuple[str, ...] | None = None
    seed: int | None = None


class Backbone(_Section):
    """Who reads the DNA: a catalog name ("hyenadna-tiny-1k") or a family ("convnet"), with its configuration keys overridden."""

    name: str
    init: str = "random"
    """"random", "pretrained" (the weights of the catalog name), a catalog name, or the path of a folder with weights."""
    config: dict[str, Any] = {}


class Head(_Section):
    """What turns hidden states into answers. `window` None takes the length of the dataset's sequences."""

    kind: Literal["sequence", "base", "individual"] = "sequence"
    pool: Literal["mean", "last", "cls", "center", "official", "official-pool"] = "mean"
    labels: Annotated[tuple[str, ...], Field(min_length=2)] = ("negative", "positive")
    """Names of the labels 0, 1, ...; two make a binary question with one logit."""
    strands: Literal["forward", "both"] = "forward"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    interpolate: bool = False
    predictor: Literal["linear", "electra"] = "linear"
    """Kind "base": "electra" puts a dense layer and GELU before the linear one, as ELECTRA-small's discriminator does."""
    special_tokens: bool | str = True
    """True: as the backbone's tokenizer has it; False: none; or a dialect of the tokenizer by name."""
    chunk_queries: int = Field(default=4, gt=0)
    """Kind "individual": learned queries that attend over the chunks of a group."""
    window: int | None = Field(default=None, gt=0)


class Chunks(_Section):
    """Kind "individual": what is drawn from a genome. See `basewise.datasets.chunks.ChunkSettings` for the first six."""

    count: int = Field(default=16, gt=0)
    length: int = Field(default=3072, gt=0)
    max_n: Fraction = 0.5
    """Chunks with more N are drawn again; 1.0 takes all, as published."""
    short: Literal["pad", "keep", "drop"] = "pad"
    drop: tuple[str, ...] = ()
    force: tuple[str, ...] = ()
    """Contigs of which validation groups hold at least one chunk, in individuals that have them; training groups too with `force_train`."""
    force_train: bool = False
    validation_groups: int = Field(default=16, gt=0)
    """Groups of each individual of split val that choose the weights; the same ones at every validation."""
    pool: int = Field(default=4096, gt=0)
    """Chunks of each individual that stand for its genome: embedded once where the backbone is frozen, and for the closing verdict."""


class Augment(_Section):
    """What is done to training sequences, drawn anew every epoch. All off by default."""

    reverse_complement: Fraction = 0.0
    """Share of sequences and crops turned (labels of bases are mirrored). Only for questions that do not depend on the strand."""
    mirror_shift: int = 0
    """Bases that mirrored labels move on, in reading direction: -1 where intervals begin one base early (KEx), 1: end one late (Z-DNA)."""
    shift: int = Field(default=0, ge=0)
    """Sequences are moved by -shift..shift bases; vacated bases are N and not scored."""
    n_mask: Fraction = 0.0
    """Share of sequences whose flanks become N, so that a wide model also answers short sequences."""
    n_mask_keep: int = Field(default=50, ge=0)
    """Bases kept at least on each side of the center when flanks are masked."""
    mutate: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Crops: mean share of the flanks' bases that are replaced at random; a crop's own share is drawn between 0 and twice this."""
    mutate_scored: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    """Crops: share of the bases between the flanks that are replaced at random."""


class Phase(_Section):
    """A stretch of training with its own rates: `epochs` (or a part of one), what is frozen, and how fast the rest learns."""

    epochs: Positive
    freeze_backbone: bool = False
    lr: Positive
    head_lr: Positive | None = None
    """Learning rate of the head; None: as the backbone."""
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup"] | None = None
    """None: train.scheduler. Every phase has a schedule of its own, warm-up included."""


class Lora(_Section):
    """Low-rank adapters instead of full fine-tuning; the run's model holds plain weights, adapters merged in."""

    placements: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names for the family ("mixer", "mlp", "embeddings", ...), "biases", or patterns of whole module names."""
    rank: int = Field(default=8, gt=0)
    alpha: Positive = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Train(_Section):
    """How weights are found. One of `epochs`, `steps` and `phases`; a step takes batch_size * accumulation sequences."""

    epochs: Positive | None = None
    steps: int | None = Field(default=None, gt=0)
    batch_size: int = Field(default=64, gt=0)
    accumulation: int = Field(default=1, gt=0)
    """Batches per optimizer step; the gradient is that of the mean over all of them."""
    eval_batch_size: int | None = Field(default=None, gt=0)
    negatives_per_positive: Positive | None = None
    """An epoch takes every positive and this many freshly drawn negatives for each; None takes every example."""
    crop: int | None = Field(default=None, gt=0)
    """Kind base: train on crops of this many bases, drawn anew for every step, instead of whole regions."""
    flank: int = Field(default=0, ge=0)
    """Kind base, with `crop`: bases of context on either side of a crop, not scored."""
    positive_share: Fraction = 0.5
    """Kind base, with `crop`: share of crops drawn around a positive base; the others hold any scored base."""
    optimizer: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    head_lr: Positive | None = None
    """Learning rate of the head; None: as the backbone."""
    freeze_backbone: bool = False
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Not applied to biases, norms and Hyena filter parameters."""
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    scheduler: Literal["linear", "cosine", "constant", "constant_with_warmup", "plateau"] = "cosine"
    warmup: Fraction = 0.1
    """Share of all steps in which the rate rises from 0; not used by "constant"."""
    plateau_cut: Annotated[float, Field(gt=0, lt=1)] = 0.1
    plateau_patience: int = Field(default=2, ge=0)
    loss: Literal["bce", "weighted_ce", "focal"] = "bce"
    pos_weight: Positive = 1.0
    class_weights: tuple[Positive, ...] = (1.0, 1.0)
    focal_gamma: Annotated[float, Field(ge=0)] = 2.0
    focal_alpha: Fraction | None = None
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the whole gradient."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    validate_every: int | None = Field(default=None, gt=0)
    """Steps between validations; None: once an epoch. The last step is always validated."""
    patience: int | None = Field(default=None, gt=0)
    """Validations without improvement before training stops; None: never."""
    metric: str = "auroc"
    """Validation metric that chooses the weights to keep; "loss", "brier" and "ece" are minimised."""
    seed: int = Field(default=0, ge=0)
    phases: tuple[Phase, ...] = ()
    """Instead of epochs, lr, head_lr and freeze_backbone: one after the other, the optimizer fresh in each."""
    keep_checkpoints: int = Field(default=1, gt=0)
    """How many of the last checkpoints stay on disk while training."""
    gradient_checkpointing: bool = False
    """Keep only the input of each layer and compute it again on the way back: less memory, more time, the same gradients."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the running mean of weights that is validated and kept instead of the weights themselves."""
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _one_length(self) -> "Train":
        if sum((self.epochs is not None, self.steps is not None, bool(self.phases))) != 1:
            raise ValueError("give exactly one of epochs, steps and phases")
        if self.phases and self.scheduler == "plateau" and any(phase.scheduler is None for phase in self.phases):
            raise ValueError('scheduler "plateau" is not for phases: give linear, cosine or constant')
        if self.phases and (self.head_lr is not None or self.freeze_backbone):
            raise ValueError("with phases, head_lr and freeze_backbone are those of each phase")
        if self.crop is not None and self.steps is None:
            raise ValueError("crops are drawn, not visited: give steps instead of epochs")
        return self


# keys of [train] that are about examples and classifiers
NOT_FOR_PRETRAINING = (
    *("negatives_per_positive", "crop", "flank", "positive_share", "head_lr", "freeze_backbone", "phases", "augment"),
    *("loss", "pos_weight", "class_weights", "focal_gamma", "focal_alpha"),
)


class Evaluate(_Section):
    """How the trained model is judged. Calibration and threshold come from the validation split."""

    threshold: float | str = "max_f1"
    """A number, "max_f1", "max_mcc", "precision=0.5" or "recall=0.9"."""
    calibrate: Literal["platt", "temperature", "none"] = "platt"
    bootstrap: int = Field(default=1000, ge=0)
    """Resamples for confidence intervals; 0: none."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of positives that threshold and calibration are made for; None: as in the validation split."""

    @field_validator("threshold")
    @classmethod
    def _is_a_rule(cls, value: float | str) -> float | str:
        """Refuse here what would else be refused when hours of training are over."""
        rule, equals, number = value.partition("=") if isinstance(value, str) else ("", "", str(value))
        if rule in ("max_f1", "max_mcc") and not equals:
            return value
        try:
            known = rule in ("precision", "recall") if equals else True
            wanted = float(number if equals or not rule else rule)
        except ValueError:
            known, wanted = False, -1.0
        if not known or not 0 <= wanted <= 1:
            raise ValueError('expected "max_f1", "max_mcc", "precision=0.5", "recall=0.9" or a number in 0..1')
        return value if equals else wanted


class Fewshot(_Section):
    """Instead of training: frozen embeddings, see `basewise fewshot`. [train] is then not used."""

    shots: int = Field(default=2, gt=0)
    """Examples a class whose mean embedding is the prototype."""
    repeats: int = Field(default=10, gt=0)
    folds: int = Field(default=5, ge=3)
    method: Literal["prototype", "knn", "probe"] = "prototype"


class Expected(_Section):
    """A number that the run should reach, and where it stands."""

    metric: str
    value: float
    tolerance: Annotated[float, Field(ge=0)]
    source: str
    status: str = "not run"


class Source(_Section):
    """Where the recipe comes from and what was left open there."""

    paper: str
    table: str = ""
    notes: str = ""


class Recipe(_Section):
    """A whole run, from data to expected numbers."""

    name: str
    task: str = "custom"
    folds: int | None = Field(default=None, ge=3)
    """How many folds the published number is the mean of: `basewise reproduce` cross-validates so, `basewise train` takes --folds."""
    data: Data = Data()
    backbone: Backbone
    head: Head = Head()
    chunks: Chunks = Chunks()
    train: Train
    lora: Lora | None = None
    pretrain: Pretrain | None = None
    """For `basewise pretrain` only: next-nucleotide pretraining on a genome."""
    evaluate: Evaluate = Evaluate()
    fewshot: Fewshot | None = None
    expected: tuple[Expected, ...] = ()
    source: Source | None = None

    @model_validator(mode="after")
    def _adapters_learn(self) -> "Recipe":
        phases = self.train.phases
        frozen = self.train.freeze_backbone or (phases and all(phase.freeze_backbone for phase in phases))
        if self.lora is not None and frozen:
            who = "freeze_backbone of every phase" if phases else "train.freeze_backbone"
            raise ValueError(f"[lora] trains adapters in the backbone, which {who} keeps as it is: take one of the two away")
        return self

    @model_validator(mode="after")
    def _every_setting_is_read(self) -> "Recipe":
        idle = unused(self)
        if idle:
            raise ValueError(f"{'; '.join(idle)}: leave out what nothing reads")
        return self

    @property
    def kind(self) -> str:
        """ "sequence", "base" or "individual"."""
        return self.head.kind

    @model_validator(mode="after")
    def _pretraining_is_no_fine_tuning(self) -> "Recipe":
        if self.pretrain is None:
            return self
        t, plain = self.train, Train(steps=1)
        strange = [f"train.{key}" for key in NOT_FOR_PRETRAINING if getattr(t, key) != getattr(plain, key)]
        strange += [
            f"data.{key}" for key in Data.model_fields if key not in ("path", "val_chroms", "test_chroms") and self.data.model_dump()[key]
        ]
        plain_sections = {"lora": None, "head": Head(), "chunks": Chunks(), "evaluate": Evaluate(), "fewshot": None, "folds": None}
        strange += [name for name, default in plain_sections.items() if getattr(self, name) != default]
        if strange:
            raise ValueError(f"with [pretrain], leave out {', '.join(strange)}")
        if t.metric != "loss":
            raise ValueError(f'with [pretrain], train.metric is "loss" (got {t.metric!r})')
        return self


def recipe_from(table: dict[str, Any], source: str) -> Recipe:
    """Return the recipe in `table`; BasewiseError lists every problem at once, each with its key, in one line."""
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        problems = [_problem(dict(e)) for e in error.errors()]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise BasewiseError(f"{source} has {count}: {'; '.join(problems)}") from None


def _problem(error: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"] if part not in ("float", "str", "int"))
    if error["type"] == "extra_forbidden":
        known = _keys_beside(error["loc"])
        hint = did_you_mean(str(error["loc"][-1]), known) or f" Known: {', '.join(known)}."
        return f"unknown key {where!r}.{hint}"
    if error["type"] == "missing":
        return f"{where!r} is missing"
    said = str(error["msg"]).removeprefix("Value error, ")
    said = said[0].lower() + said[1:]
    if not where:
        return said
    return f"{where!r}: {said}" if isinstance(error["input"], dict) else f"{where!r}: {said} (got {error['input']!r})"


def _keys_beside(loc: tuple[int | str, ...]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in loc[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            inner = model.model_fields[part].annotation
            candidates = [inner, *getattr(inner, "__args__", ())]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes in the package by name, "<folder>/<name>"."""
    return {f"{p.parent.name}/{p.stem}": p for p in sorted(HERE.glob("*/*.toml"))}


def load_recipe(name: str | Path) -> Recipe:
    """Read a recipe by path, or by the name of a shipped one ("polya_glm/hyenadna_gene_gene")."""
    path, shipped = Path(name), shipped_recipes()
    if not path.is_file():
        known = shipped.get(str(name).removesuffix(".toml"))
        if known is None:
            hint = did_you_mean(str(name), shipped) or f" Shipped: {', '.join(shipped)}."
            raise BasewiseError(f"recipe {name} is neither a file nor a shipped recipe.{hint}")
        path = known
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BasewiseError(f"recipe {name} is not valid TOML: {error}") from error
    return recipe_from(table, f"recipe {name}")


def apply_overrides(recipe: Recipe, overrides: list[str]) -> Recipe:
    """Return the recipe with `section.key=value` settings applied; values are read as TOML, and as text where that fails.

    `apply_overrides(recipe, ["train.lr=1e-4", "backbone.config.d_model=64"])`. Setting `train.steps` takes `train.epochs` and
    `train.phases` away, setting `train.epochs` the other two. All problems are listed at once.
    """
    table = recipe.model_dump(mode="json", exclude_none=True)
    for setting in overrides:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise BasewiseError(f"--set {setting!r}: expected section.key=value, e.g. train.lr=1e-4")
        parts = key.strip().split(".")
        place = table
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise BasewiseError(f"--set {setting!r}: {part!r} is not a section")
        place[parts[-1]] = _toml_value(text.strip())
        if parts in (["train", "steps"], ["train", "epochs"]):
            for other in {"steps", "epochs", "phases"} - {parts[-1]}:
                place.pop(other, None)
    return recipe_from(table, "the recipe with --set")


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def recipe_to_toml(recipe: Recipe) -> str:
    """Return the recipe with every default written out, as TOML that `load_recipe` reads back to an equal recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))
