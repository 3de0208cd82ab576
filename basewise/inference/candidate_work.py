"""A scan that scores the candidates of the poly(A) rule: its part of the plan, and its files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.errors import BasewiseError
from basewise.inference.calls import GAP
from basewise.inference.merge import CANDIDATES, SITES, merge_candidates, read_parts, write_sites, write_tracks
from basewise.inference.plan import Tile
from basewise.inference.staged import StageOptions, count_stages, facts_of_stages
from basewise.inference.tally import Tally
from basewise.inference.tiles import open_worker
from basewise.inference.watcher import Watcher
from basewise.inference.work import OF_WORK, Asked, Work, Written


def candidate_work(asked: Asked) -> Work:
    """Return the work of scoring candidates; BasewiseError for a model that cannot, or options that belong to scans of every base."""
    given = [name for name in OF_WORK if name != "rule" and getattr(asked.options, name) is not None]
    if given:
        raise BasewiseError(
            f"--{given[0].replace('_', '-')} belongs to scans that answer every base; {asked.options.model} is asked about candidates of "
            "the poly(A) rule: leave it out, or add --rule none"
        )
    stages = StageOptions(asked.options.precision, asked.options.exact, asked.threshold)
    facts, about = facts_of_stages(asked.options.model, asked.classifier, asked.device, stages)  # refuses a model that cannot scan
    write = partial(_write, asked.contigs, asked.threshold, asked.genes, about)
    told: dict[str, Any] = {} if asked.options.rule is None else {"rule": "polya"}
    # a merge of shards need not have the device that decided whether the first stage is used
    without = asked.device.type != "cpu" and "first stage sha256" not in facts
    told.update(precision=stages.precision, exact=stages.exact or without)
    return Work(facts, {"gap": GAP, **about}, told, (), 0, partial(open_worker, stages), write)


def _write(
    contigs: Mapping[str, int],
    threshold: float,
    genes: pd.DataFrame | None,
    about: Mapping[str, Any],
    parts: Sequence[Path],
    tiles: Sequence[Tile],
    folder: Path,
    watcher: Watcher,
) -> Written:
    watcher.stage("merge")
    tally = Tally(contigs, genes)
    sites = merge_candidates(read_parts(parts, tiles), folder / CANDIDATES, threshold, GAP, genes, tally)
    write_sites(sites, folder / SITES)
    watcher.stage("tracks")
    write_tracks(folder / CANDIDATES, contigs, folder)
    return {**tally.summary(), **count_stages(about, tally.counts)}, tally.seconds
