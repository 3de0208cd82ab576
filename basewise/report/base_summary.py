"""OUT/summary.json and OUT/intervals.bed.gz of a scan of every base, read strictly."""

from pathlib import Path

import pandas as pd
from pydantic import Field, ValidationError

from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.genome.intervals import read_bed
from basewise.inference.base_merge import INTERVAL_COLUMNS, INTERVALS
from basewise.report.scan_summary import FileFacts, GenomeFacts, ModelFacts, Part, Timing, said


class Reading(Part):
    """How the genome was read."""

    way: str
    of: str
    strands: str
    window: int | None
    stride: int | None
    causal: bool


class Track(Part):
    """What the track leaves out."""

    floor: float
    step: float


class Totals(Part):
    """Counts; `called` are bases at or above the threshold."""

    bases: int = Field(ge=0)
    scored: int = Field(ge=0)
    called: int = Field(ge=0)
    intervals: int = Field(ge=0)


class ContigTotals(Totals):
    """Counts of one strand of a contig ("." where there is one answer a base)."""

    chrom: str
    strand: str


class Probabilities(Part):
    """Histograms over `edges`, one more than there are counts; of intervals the highest probability counts."""

    edges: tuple[float, ...]
    bases: tuple[int, ...]
    intervals: tuple[int, ...]


class Lengths(Part):
    """How many intervals have a length from `from_` up to the next one."""

    from_: tuple[int, ...] = Field(alias="from")
    intervals: tuple[int, ...]


class BaseSummary(Part):
    """What OUT/summary.json of a scan of every base says (docs/file_formats.md)."""

    task: str
    labels: tuple[str, str]
    genome: GenomeFacts
    model: ModelFacts
    regions: FileFacts | None
    threshold: float
    gap: int
    min_length: int
    track: Track
    reading: Reading
    device: str
    totals: Totals
    contigs: tuple[ContigTotals, ...]
    probabilities: Probabilities
    lengths: Lengths
    timing: Timing


def read_base_summary(out: str | Path) -> BaseSummary:
    """Read OUT/summary.json; BasewiseError names every key that is missing or of another type."""
    path = Path(out) / "summary.json"
    try:
        return BaseSummary.model_validate(read_json(path))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {said(dict(e))}" for e in error.errors()]
        raise BasewiseError(
            f"{path} is not the summary of a scan ({'; '.join(problems[:6])}); run basewise scan again with --force"
        ) from None


def read_intervals(out: str | Path, summary: BaseSummary) -> pd.DataFrame:
    """Read OUT/intervals.bed.gz; BasewiseError when it is missing, has other columns or another number of rows than the summary counts."""
    path = Path(out) / INTERVALS
    if not path.is_file():
        raise BasewiseError(f"{path} does not exist; expected a folder written by basewise scan")
    table = read_bed(path, allow_empty=True)
    if len(table) and tuple(table.columns) != INTERVAL_COLUMNS:
        raise BasewiseError(f"{path} has columns {' '.join(table.columns)}, expected {' '.join(INTERVAL_COLUMNS)}")
    if len(table) != summary.totals.intervals:
        raise BasewiseError(
            f"{path} holds {len(table):,} intervals, summary.json counts {summary.totals.intervals:,}: they come from different scans"
        )
    return table
