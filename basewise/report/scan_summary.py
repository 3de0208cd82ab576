"""OUT/summary.json and OUT/sites.bed.gz of a scan, read strictly: a page must not be drawn from a folder that lacks something."""

import gzip
from itertools import takewhile
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from basewise.errors import BasewiseError
from basewise.files import read_json

SITE_DTYPES = {
    "chrom": "str",
    "start": "int64",
    "end": "int64",
    "name": "str",
    "score": "int64",
    "strand": "str",
    "probability": "float64",
    "hexamer": "str",
    "hexamer_offset": "int64",
    "n_in_cluster": "int64",
    "region": "str",
    "gene": "str",
}


class Part(BaseModel):
    """Keys beyond these are left alone, so that a scan may say more than a page shows."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class GenomeFacts(Part):
    """The scanned FASTA."""

    name: str
    sha256: str
    bases: int = Field(ge=0)


class ModelFacts(Part):
    """The scoring model; `sha256` of its weights file."""

    name: str
    sha256: str | None
    window: int | None


class FileFacts(Part):
    """A file of regions or genes."""

    name: str
    sha256: str


class Totals(Part):
    """Counts; None where no genes were given. `genic` and `intergenic` are sites."""

    bases: int = Field(ge=0)
    candidates: int = Field(ge=0)
    candidates_in_genes: int | None
    sites: int = Field(ge=0)
    genic: int | None
    intergenic: int | None


class ContigTotals(Totals):
    """Counts of one strand of a contig."""

    chrom: str
    strand: str


class HexamerTotals(Part):
    """How often a hexamer names a candidate, and a site."""

    hexamer: str
    candidates: int
    sites: int


class OffsetTotals(Part):
    """How often a hexamer starts `offset` nt before the cleavage base."""

    offset: int
    candidates: int
    sites: int


class Probabilities(Part):
    """Histogram of probabilities over `edges`, one more than there are counts."""

    edges: tuple[float, ...]
    candidates: tuple[int, ...]
    sites: tuple[int, ...]


class Timing(Part):
    """Wall clock."""

    total_s: float


class Summary(Part):
    """What OUT/summary.json says (docs/architecture.md, inference/scan)."""

    task: str
    genome: GenomeFacts
    model: ModelFacts
    regions: FileFacts | None
    genes: FileFacts | None
    threshold: float
    gap: int
    device: str
    totals: Totals
    contigs: tuple[ContigTotals, ...]
    hexamers: tuple[HexamerTotals, ...]
    offsets: tuple[OffsetTotals, ...]
    probabilities: Probabilities
    precision: dict[str, Any] | None = None
    first_stage: dict[str, Any] | None = None
    timing: Timing


def read_summary(out: str | Path) -> Summary:
    """Read OUT/summary.json; BasewiseError names every key that is missing or of another type."""
    path = Path(out) / "summary.json"
    value = read_json(path)
    try:
        return Summary.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc']))}: {said(dict(e))}" for e in error.errors()]
        raise BasewiseError(
            f"{path} is not the summary of a scan ({'; '.join(problems[:6])}); run basewise scan again with --force"
        ) from None


def said(error: dict[str, Any]) -> str:
    """Return what is wrong with a key, in a few words."""
    return "missing" if error["type"] == "missing" else f"got {str(error['input'])[:40]!r}"


def read_sites(out: str | Path) -> pd.DataFrame:
    """Read OUT/sites.bed.gz: a row a site with the columns of SITE_DTYPES, in the file's order (0-based, half-open).

    "." stands for no gene. BasewiseError when the file is missing or its columns are others.
    """
    path = Path(out) / "sites.bed.gz"
    try:
        with gzip.open(path, "rt", encoding="utf-8") as stream:
            heading = sum(1 for _ in takewhile(lambda line: line.startswith(("#", "track", "browser")), stream))
        table = pd.read_csv(
            path, sep="\t", header=None, skiprows=heading, compression="gzip", dtype="str", keep_default_na=False, quoting=3
        )
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist; expected a folder written by basewise scan") from error
    except pd.errors.EmptyDataError:
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in SITE_DTYPES.items()})
    except (OSError, EOFError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise BasewiseError(f"{path} cannot be read ({str(error).splitlines()[0]}); run basewise scan again with --force") from error
    if table.shape[1] != len(SITE_DTYPES):
        raise BasewiseError(f"{path} has {table.shape[1]} columns, expected {len(SITE_DTYPES)}: {' '.join(SITE_DTYPES)}")
    table.columns = pd.Index(SITE_DTYPES)
    try:
        return table.astype(SITE_DTYPES)
    except ValueError as error:
        raise BasewiseError(f"{path} holds something that is no number where one was expected ({error})") from error


def check_folder(out: str | Path, summary: Summary, sites: pd.DataFrame) -> None:
    """Refuse a folder whose files tell different counts: they come from different scans."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(out) / "candidates.parquet"
    try:
        candidates = pq.ParquetFile(path).metadata.num_rows
    except FileNotFoundError as error:
        raise BasewiseError(f"{path} does not exist; expected a folder written by basewise scan") from error
    except (pa.ArrowException, OSError) as error:
        raise BasewiseError(f"{path} cannot be read ({str(error).splitlines()[0]}); run basewise scan again with --force") from error
    for what, name, found, said in (
        ("rows", "candidates.parquet", candidates, summary.totals.candidates),
        ("sites", "sites.bed.gz", len(sites), summary.totals.sites),
    ):
        if found != said:
            raise BasewiseError(f"{Path(out) / name} has {found:,} {what}, but summary.json counts {said:,}; run basewise scan again")
