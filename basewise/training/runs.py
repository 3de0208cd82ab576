"""The run folder: what a training leaves behind, each file whole or absent, run.json last.

recipe.toml (resolved) · log.jsonl · events.out.tfevents.basewise (the log, for TensorBoard) · checkpoints/ (while training) · model/ ·
predictions.parquet · results.json · README.md · run.json
"""

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from basewise.errors import BasewiseError
from basewise.files import MARKER, atomic_path, prepare_output_folder, read_json
from basewise.recipes.schema import Recipe, load_recipe, recipe_to_toml
from basewise.training import tensorboard
from basewise.training.optimizer import MovingAverage
from basewise.training.placement import Placement
from basewise.training.schedules import Plateau

State = dict[str, Tensor]

AFTERWARDS = ("evaluate", "expected", "source")  # sections that no step of a training reads


@dataclass
class Progress:
    """Where a training stands, beside weights and optimizer; saved with every checkpoint."""

    step: int = 0  # optimizer steps done
    best_step: int | None = None
    best_value: float | None = None
    bad: int = 0  # validations since the best
    stopped: bool = False  # patience ran out
    seconds: float = 0.0
    cpu_seconds: float = 0.0  # of this process; less than `seconds` on a busy machine
    plateau: dict[str, Any] = field(default_factory=dict)


def open_run(folder: str | Path, recipe: Recipe, *, resume: bool, force: bool) -> Path:
    """Return the run folder with recipe.toml in it: new and empty, or with `resume` the one begun with the same recipe.

    What comes after the training (AFTERWARDS) may be another one while the run is not finished: recipe.toml is then written anew.
    `resume` of a folder that does not exist starts one. BasewiseError when a folder is in the way or its recipe is another one.
    """
    folder = Path(folder)
    if resume and (folder / "recipe.toml").is_file():
        begun = load_recipe(folder / "recipe.toml")
        later = set() if is_finished(folder) else set(AFTERWARDS)
        different = _differences(begun.model_dump(mode="json", exclude=later), recipe.model_dump(mode="json", exclude=later))
        if different:
            raise BasewiseError(f"{folder} was begun with another recipe ({'; '.join(different)}); resume with the same, or start a new -o")
        for left_over in folder.glob(".partial-*"):
            shutil.rmtree(left_over) if left_over.is_dir() else left_over.unlink()
        if recipe != begun:
            _write_recipe(folder, recipe)
        return folder
    if resume and folder.is_dir() and {p.name for p in folder.iterdir()} <= {MARKER}:
        force = True
    prepare_output_folder(folder, force=force)
    (folder / "checkpoints").mkdir()
    _write_recipe(folder, recipe)
    return folder


def _write_recipe(folder: Path, recipe: Recipe) -> None:
    with atomic_path(folder / "recipe.toml") as path:
        path.write_text(recipe_to_toml(recipe), encoding="utf-8")


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)]
    return [] if old == new else [f"{where} was {old!r}, is {new!r}"]


def begin(folder: Path, recipe: Recipe, *, resume: bool, force: bool, first: bool) -> dict[str, Any] | None:
    """Open the run folder (in the `first` process) and return None; of a finished run that is resumed, what its results.json holds."""
    if resume and is_finished(folder):
        open_run(folder, recipe, resume=True, force=False)
        found: dict[str, Any] = read_json(folder / "results.json")
        return found
    if first:
        open_run(folder, recipe, resume=resume, force=force)
    return None


def is_finished(folder: Path) -> bool:
    """Tell whether the run in `folder` came to its end."""
    return (folder / "run.json").is_file()


def save_checkpoint(folder: Path, progress: Progress, state: dict[str, Any], *, keep: int = 1) -> None:
    """Replace the checkpoint by rename; best weights that no checkpoint names any more are removed afterwards.

    With `keep` > 1 the last ones also stay as checkpoints/step-<steps>-best-<best step>.pt: copied over last.pt, training goes on there.
    """
    here = folder / "checkpoints"
    with atomic_path(here / "last.pt") as path:
        torch.save({"progress": asdict(progress), **state}, path)
    kept = {best_path(folder, progress.best_step)}
    if keep > 1:
        with atomic_path(here / f"step-{progress.step:08d}-best-{progress.best_step}.pt") as path:
            shutil.copyfile(here / "last.pt", path)
        copies = sorted(here.glob("step-*-best-*.pt"))
        for old in copies[:-keep]:
            old.unlink()
        kept |= {here / f"best-{copy.stem.rpartition('-')[2]}.safetensors" for copy in copies[-keep:]}
    for old in here.glob("best-*.safetensors"):
        if old not in kept:
            old.unlink()


def training_state(model: nn.Module, optimizer: Optimizer, placement: Placement, average: MovingAverage | None) -> dict[str, Any]:
    """Return what `save_checkpoint` is to keep of a training; `restore` puts it back."""
    state: dict[str, Any] = {"weights": model.state_dict(), "optimizer": optimizer.state_dict(), "placement": placement.state()}
    if average is not None:
        state |= {"average": average.mean, "average_updates": average.updates}
    return state


def restore(
    state: dict[str, Any], model: nn.Module, optimizer: Optimizer | None, placement: Placement, average: MovingAverage | None
) -> None:
    """Put back what `training_state` returned; `optimizer` None leaves out that of a phase that is over."""
    model.load_state_dict(state["weights"])
    if optimizer is not None:
        optimizer.load_state_dict(state["optimizer"])
    placement.load_state(state["placement"])
    if average is not None:
        average.updates = state["average_updates"]
        average.mean = {name: tensor.to(placement.device) for name, tensor in state["average"].items()}


def load_checkpoint(folder: Path) -> tuple[Progress, dict[str, Any]] | None:
    """Return the last checkpoint, tensors on the CPU, or None where training was killed before the first."""
    path = folder / "checkpoints" / "last.pt"
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BasewiseError(f"checkpoint {path} cannot be read ({error}); start the run again with --force") from error
    return Progress(**state.pop("progress")), state


def best_path(folder: Path, step: int | None) -> Path:
    """Return where the weights of the best validation, that after `step` steps, are kept while training."""
    return folder / "checkpoints" / f"best-{step}.safetensors"


def save_best(folder: Path, step: int, state: State) -> None:
    """Write weights beside the checkpoint; tensors that share memory are written each."""
    with atomic_path(best_path(folder, step)) as path:
        save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}, path)


def load_best(folder: Path, step: int | None) -> State:
    """Read the weights of the best validation."""
    path = best_path(folder, step)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise BasewiseError(f"best weights {path} cannot be read ({error}); start the run again with --force") from error


class Log:
    """log.jsonl, one JSON object a line, and the same numbers beside it for TensorBoard.

    What lies beyond the checkpoint is dropped on resuming, so that no step stands there twice.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.events = path.with_name(tensorboard.NAME)
        kept = []
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    facts = json.loads(line)
                except json.JSONDecodeError:  # the line a kill cut short
                    continue
                if facts["step"] <= step and step:
                    kept.append((line, facts))
        with atomic_path(path) as temporary:
            temporary.write_text("".join(line + "\n" for line, _ in kept), encoding="utf-8")
        with atomic_path(self.events) as temporary:
            temporary.write_bytes(tensorboard.header() + b"".join(tensorboard.event(facts) for _, facts in kept))

    def write(self, **facts: Any) -> None:
        """Append a line."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(facts, allow_nan=False) + "\n")
        tensorboard.append(self.events, facts)


def new_plateau(recipe: Recipe, state: dict[str, Any], *, higher_is_better: bool) -> Plateau:
    """Return the plateau of a recipe, in the state a checkpoint gives."""
    fresh = Plateau(cut=recipe.train.plateau_cut, patience=recipe.train.plateau_patience, higher_is_better=higher_is_better)
    return Plateau(**state) if state else fresh
