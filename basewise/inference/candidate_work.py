"""A scan that scores the candidates of the poly(A) rule: its part of the plan, and its files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from basewise.errors import BasewiseError
from basewise.inference.calls import GAP
from basewise.inference.engine import scorer
from basewise.inference.merge import CANDIDATES, SITES, merge_candidates, read_parts, write_sites, write_tracks
from basewise.inference.plan import Tile
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
    scorer(asked.classifier, device=asked.device)  # refuses a model that cannot scan
    write = partial(_write, asked.contigs, asked.threshold, asked.genes)
    told = {} if asked.options.rule is None else {"rule": "polya"}
    return Work({}, {"gap": GAP}, told, (), 0, open_worker, write)


def _write(
    contigs: Mapping[str, int],
    threshold: float,
    genes: pd.DataFrame | None,
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
    return tally.summary(), tally.seconds
