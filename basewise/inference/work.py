"""The two kinds of work a scan does with its tiles: score the candidates of a rule, or answer every base.

Plan, executors, shards and the folder's states know neither; they are handed a `Work`.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.inference.executors import DoTile
from basewise.inference.plan import Facts, Tile
from basewise.inference.tiles import ScanJob
from basewise.inference.watcher import Watcher

if TYPE_CHECKING:
    from basewise.inference.scan import ScanOptions

RULES = ("polya", "none")
OF_WORK = ("rule", "gap", "min_length", "track_floor", "strands", "window", "stride")  # the options that only some scans have
Written = tuple[dict[str, Any], Mapping[str, float]]


class Asked(NamedTuple):
    """What a scan has opened when it chooses its work."""

    options: "ScanOptions"
    classifier: Classifier
    device: torch.device
    threshold: float
    contigs: Mapping[str, int]
    genes: pd.DataFrame | None


class Work(NamedTuple):
    """What differs between kinds of scans.

    Attributes
    ----------
    facts
        What the answers depend on beside the facts of every scan.
    about
        What summary.json tells beside that of every scan.
    options
        What run.json tells of the options, beside those of every scan; `merge_shards` gives them to `ScanOptions`.
    notes
        What whoever waits should be told.
    least_tile
        Bases a tile should have at least when nobody asks for a size.
    open_worker
        Picklable; opened once a process.
    write
        (folders of parts, tiles, OUT, watcher) -> counts of summary.json, seconds by stage; writes all files but summary, report and run.
    """

    facts: Facts
    about: Mapping[str, Any]
    options: Mapping[str, Any]
    notes: tuple[str, ...]
    least_tile: int
    open_worker: Callable[[ScanJob], AbstractContextManager[DoTile]]
    write: Callable[[Sequence[Path], Sequence[Tile], Path, Watcher], Written]


def choose_work(asked: Asked) -> Work:
    """Return the work for a model: the candidates of its task's rule, else every base; ``--rule`` decides otherwise."""
    from basewise.inference.base_work import base_work
    from basewise.inference.candidate_work import candidate_work

    rule = asked.options.rule
    if rule is not None and rule not in RULES:
        raise BasewiseError(f"--rule is {rule!r}, expected one of {', '.join(RULES)}")
    config = asked.classifier.config
    of_task = "polya" if "polya" in (config.task, config.provenance.get("dataset")) else "none"
    return candidate_work(asked) if (rule or of_task) == "polya" else base_work(asked)
