"""Traits of individuals: from variants, assemblies or reads, and a table of samples, to a cohort.

Who has which copies: two of every autosome, one of contigs named haploid (the mitochondrion); females two X and never a Y; males one X, a
second one inside the pseudoautosomal regions (PAR) only, and a Y without those (they are counted on X). Inbred lines: one of each.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.datasets.cohort import UNKNOWN, CopyPlan, IndividualPlan
from basewise.datasets.splits import FRACTIONS, random_split
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.contigs import check_contigs, plain_name
from basewise.genome.fasta import Genome, open_genome
from basewise.genome.haplotypes import Edits
from basewise.genome.reads import keep_reads
from basewise.genome.variants import PHASED, Alleles, Which, haplotype_edits

SEXES = {"male": "male", "m": "male", "1": "male", "female": "female", "f": "female", "2": "female"}  # 1 and 2: PLINK's
NOT_KNOWN = ("", "unknown", "na", "nan", ".", "none", "0", "-9")

Interval = tuple[str, int, int]  # contig, start, end; 0-based half-open

# Pseudoautosomal regions, 1-based inclusive: (X, Y). Source: Genome Reference Consortium, GRCh37 and GRCh38.
PAR = {
    "hg19": (((60001, 2699520), (154931044, 155260560)), ((10001, 2649520), (59034050, 59363566))),
    "hg38": (((10001, 2781479), (155701383, 156030895)), ((10001, 2781479), (56887903, 57217415))),
}


@dataclass(frozen=True)
class Ploidy:
    """Which contigs are X, Y and haploid, and where X and Y are one: `par` holds intervals on both."""

    x: str | None = None
    y: str | None = None
    haploid: tuple[str, ...] = ()
    par: tuple[Interval, ...] = ()


@dataclass
class SampleTable:
    """The samples kept, in the table's order, with columns sample species sex label split and the table's others; and what was left out."""

    samples: pd.DataFrame
    labels: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)


def find_ploidy(genome: Genome, x: str | None, y: str | None, haploid: Sequence[str], par: Sequence[str]) -> Ploidy:
    """Return a genome's ploidy: contigs called X, Y, MT in any style unless given; `par` as CONTIG:START-END (1-based), hg19 or hg38."""
    named = {plain_name(contig): contig for contig in reversed(list(genome.contigs))}
    given = [name for name in (x, y, *haploid) if name]
    check_contigs(given, genome, "--x, --y or --haploid")
    x, y = x or named.get("X"), y or named.get("Y")
    regions: list[Interval] = []
    for text in par:
        if text in PAR:
            sides = zip((x, y), PAR[text], strict=True)
            regions += [(contig, start - 1, end) for contig, places in sides if contig for start, end in places]
        else:
            regions.append(parse_region(text, genome))
    for contig, start, end in regions:
        if contig not in (x, y):
            raise BasewiseError(f"--par {contig}:{start + 1}-{end} lies on neither X ({x}) nor Y ({y}); name those with --x and --y")
        if end > genome.contigs[contig]:
            raise BasewiseError(f"--par {contig}:{start + 1}-{end} ends beyond the contig's {genome.contigs[contig]} bases")
    return Ploidy(x, y, tuple(haploid) or tuple(c for c in (named.get("MT"),) if c), tuple(sorted(regions)))


def parse_region(text: str, genome: Genome) -> Interval:
    """Return (contig, start, end), 0-based, of CONTIG:START-END, 1-based inclusive; thousands commas are fine."""
    contig, _, places = text.rpartition(":")
    start, _, end = places.replace(",", "").partition("-")
    if not (contig and start.isdecimal() and end.isdecimal() and 0 < int(start) <= int(end)):
        raise BasewiseError(f"region {text!r}: expected CONTIG:START-END (1-based, inclusive), or {' or '.join(PAR)}")
    check_contigs([contig], genome, "--par")
    return contig, int(start) - 1, int(end)


def read_samples(
    path: str | Path,
    trait: str,
    *,
    labels: Sequence[str] = (),
    needs_sex: bool = False,
    species: str = "species",
    skip_unknown: bool = False,
    keep_unknown: bool = False,
    known: Sequence[str] | None = None,
    need: Sequence[str] = (),
    seed: int = 0,
    fractions: Sequence[float] = FRACTIONS,
) -> SampleTable:
    """Read a table of samples (TSV; or CSV by suffix): columns sample, `trait`, where given sex, species, split; and those in `need`.

    Parameters
    ----------
    labels
        Values of the trait for labels 0, 1, ...; default: male, female for sex, else the sorted values found.
    needs_sex
        Refuse samples without a known sex.
    skip_unknown
        Leave out, and count, samples of unknown sex (where it is needed) or trait, and those not in `known`; else they are refused.
    keep_unknown
        Keep samples of unknown trait, with label -1 and no split of their own: individuals to be predicted.
    known
        Samples there are genotypes of.

    Raises
    ------
    BasewiseError
        A missing column, a sample twice, an unknown or missing value, one class only.

    """
    path = Path(path)
    table = _read_text(path)
    for column in ("sample", trait, *(("sex",) if needs_sex else ()), *need):
        if column not in table:
            raise BasewiseError(f"{path} has no column {column!r}, it has {', '.join(table.columns)}.{did_you_mean(column, table.columns)}")
    twice = table["sample"][table["sample"].duplicated()].tolist()
    if twice:
        raise BasewiseError(f"{path} lists sample {twice[0]!r} twice; an individual has one row")
    dropped: dict[str, int] = {}
    keep = np.ones(len(table), bool)
    if known is not None:
        absent = ~table["sample"].isin(known).to_numpy()
        _refuse(table, absent, path, "is not in the VCF", skip_unknown)
        dropped["not in the VCF"], keep = int(absent.sum()), keep & ~absent
    if "sex" in table:
        sex = table["sex"].str.lower().map(SEXES).fillna("unknown")
        unclear = (sex == "unknown").to_numpy() & keep
        strange = unclear & ~table["sex"].str.lower().isin(NOT_KNOWN).to_numpy()
        if strange.any():
            row = int(np.flatnonzero(strange)[0])
            raise BasewiseError(f"{path}: sample {table['sample'].iloc[row]!r} has sex {table['sex'].iloc[row]!r}, expected male or female")
        if needs_sex:
            _refuse(table, unclear, path, "has no known sex, which says how many X and Y it has", skip_unknown)
            dropped["sex not known"], keep = int(unclear.sum()), keep & ~unclear
        table["sex"] = sex
    else:
        table["sex"] = "unknown"
    values = table[trait].where(~table[trait].str.lower().isin(NOT_KNOWN if trait == "sex" else ("", "na", "nan", ".", "unknown")), None)
    blank = values.isna().to_numpy() & keep
    if not keep_unknown:
        _refuse(table, blank, path, f"has no known {trait}", skip_unknown)
        dropped[f"{trait} not known"] = dropped.get(f"{trait} not known", 0) + int(blank.sum())
        keep &= ~blank
    table, values = table[keep].reset_index(drop=True), values[keep].reset_index(drop=True)
    names = tuple(labels) or (("male", "female") if trait == "sex" else tuple(sorted(set(values.dropna()))))
    outside = sorted(set(values.dropna()) - set(names))
    if outside:
        raise BasewiseError(f"{path}: {trait} is {outside[0]!r}, expected one of {', '.join(names)}.{did_you_mean(outside[0], names)}")
    found = set(values.dropna())
    if len(found) < 2 and not (keep_unknown and labels):
        raise BasewiseError(f"{path} holds one class only ({trait} = {', '.join(found) or 'nothing'}); a trait needs at least two")
    kind = table[species] if species in table else pd.Series([species if species != "species" else "."] * len(table))
    head = pd.DataFrame(
        {
            "sample": table["sample"],
            "species": kind,
            "sex": table["sex"],
            "label": [names.index(v) if isinstance(v, str) else UNKNOWN for v in values],
        }
    )
    head["split"] = _splits(head, table, path, seed, fractions)
    rest = [column for column in table.columns if column not in (*head.columns, species)]
    return SampleTable(pd.concat([head, table[rest]], axis=1), names, {reason: n for reason, n in dropped.items() if n})


def _read_text(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, sep="," if path.suffix == ".csv" else "\t", dtype=str, keep_default_na=False, index_col=False)
    except FileNotFoundError as error:
        raise BasewiseError(f"samples table {path} does not exist") from error
    except (OSError, ValueError) as error:
        raise BasewiseError(f"cannot read samples table {path}: {str(error).splitlines()[0]}") from error
    if not len(table):
        raise BasewiseError(f"samples table {path} lists no samples")
    return table.apply(lambda column: column.str.strip())


def _refuse(table: pd.DataFrame, wrong: np.ndarray, path: Path, what: str, skip: bool) -> None:
    if wrong.any() and not skip:
        more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
        sample = table["sample"].iloc[int(np.flatnonzero(wrong)[0])]
        raise BasewiseError(f"{path}: sample {sample!r}{more} {what}; correct the table, or leave such samples out with --skip-unknown")


def _splits(head: pd.DataFrame, table: pd.DataFrame, path: Path, seed: int, fractions: Sequence[float]) -> pd.Series:
    if "split" in table:
        wrong = sorted(set(table["split"]) - {"train", "val", "test", ""})
        if wrong:
            raise BasewiseError(
                f"{path}: split is {wrong[0]!r}, expected train, val, test or nothing.{did_you_mean(wrong[0], ('train', 'val', 'test'))}"
            )
        return table["split"]
    split = pd.Series([""] * len(head), dtype=object)
    known = head[head["label"] != UNKNOWN]
    strata = known["species"] + "\0" + known["label"].astype(str)
    split[known.index] = random_split(known.assign(stratum=strata), seed, fractions, stratify="stratum")["split"].to_numpy(dtype=object)
    return split


def variant_plans(
    genome: Genome,
    vcfs: Sequence[str | Path],
    table: SampleTable,
    ploidy: Ploidy,
    *,
    inbred: bool = False,
    contigs: Iterable[str] | None = None,
    skip_symbolic: bool = False,
) -> list[IndividualPlan]:
    """Return the genome of every sample of `table`: `contigs` (default: all) with the VCFs' variants, copies by `ploidy` and sex.

    Contigs without variants in any VCF are the reference. Raises BasewiseError where a contig is in two VCFs, and for genotypes that
    contradict the sex: males with two alleles on X outside PAR, females with one.
    """
    samples = table.samples["sample"].tolist()
    sexes = dict(zip(samples, table.samples["sex"].tolist(), strict=True))
    which: tuple[Which, ...] = ("A",) if inbred else PHASED
    edits: dict[str, dict[str, tuple[Edits, ...]]] = {}
    for vcf in vcfs:
        check = _SexCheck(ploidy, sexes, Path(vcf))
        watch = {} if inbred or ploidy.x is None else {ploidy.x: check}
        found = haplotype_edits(vcf, genome, samples, which, skip_symbolic=skip_symbolic, watch=watch)
        check.finish()
        for contig in found:
            if contig in edits:
                raise BasewiseError(f"contig {contig!r} is in two of the VCFs, {vcf} and one before; give each contig's variants once")
        edits |= found
    chosen = list(contigs) if contigs is not None else list(genome.contigs)
    check_contigs(chosen, genome, "--contigs")
    return [
        IndividualPlan(genome.path, tuple(_copies(genome, chosen, edits, sample, sexes[sample], ploidy, inbred=inbred)))
        for sample in samples
    ]


def _copies(
    genome: Genome,
    contigs: Sequence[str],
    edits: Mapping[str, Mapping[str, tuple[Edits, ...]]],
    sample: str,
    sex: str,
    ploidy: Ploidy,
    *,
    inbred: bool,
) -> Iterable[CopyPlan]:
    for contig in contigs:
        length = genome.contigs[contig]
        own = edits.get(contig, {}).get(sample)
        first, second = (own[0] if own else None), (own[-1] if own else None)
        if not length or (contig == ploidy.y and sex != "male"):
            continue
        shared = [(start, end) for name, start, end in ploidy.par if name == contig]
        if contig == ploidy.y:
            kept = shared if not inbred else []
            edges = [0, *(edge for interval in kept for edge in interval), length]
            yield from (CopyPlan(contig, 0, a, b, first) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b)
            continue
        yield CopyPlan(contig, 0, 0, length, first)
        if inbred or contig in ploidy.haploid:
            continue
        if contig == ploidy.x and sex == "male":
            yield from (CopyPlan(contig, 1, start, end, second) for start, end in shared)
        else:
            yield CopyPlan(contig, 1, 0, length, second)


class _SexCheck:
    """Watches genotypes on X: what a male has outside PAR must be one allele, however it is coded; what a female has, two.

    ``1``, ``1/.``, ``./1``, ``1/1`` and ``1|1`` are one allele of a male.
    """

    def __init__(self, ploidy: Ploidy, sexes: Mapping[str, str], vcf: Path) -> None:
        self.inside = [(start, end) for contig, start, end in ploidy.par if contig == ploidy.x]
        self.sexes, self.vcf = sexes, vcf
        self.wrong: tuple[str, int] | None = None  # the first male with two alleles, and where
        self.last = -1
        self.contig = ploidy.x

    def __call__(self, contig: str, position: int, sample: str, alleles: Alleles) -> None:
        known = [allele for allele in alleles if allele is not None]
        if self.sexes[sample] == "female":
            if len(alleles) == 1 and known:
                raise BasewiseError(
                    f"{self.vcf}, {contig}:{position + 1}: sample {sample!r} is female but has one allele on X; is its sex right?"
                )
        elif len(known) == 2 and known[0] != known[1] and not any(start <= position < end for start, end in self.inside):
            self.wrong = self.wrong or (sample, position)
            self.last = position

    def finish(self) -> None:
        """Refuse males with two alleles, saying where they are found."""
        if self.wrong is not None:
            sample, position = self.wrong
            raise BasewiseError(
                f"{self.vcf}: sample {sample!r} is male but has two different alleles at {self.contig}:{position + 1} (males have such up "
                f"to {self.last + 1}); if that is the pseudoautosomal region, give its borders with --par {self.contig}:START-END, "
                "else check its sex"
            )


def assembly_plans(table: SampleTable, base: Path) -> list[IndividualPlan]:
    """Return the genome of every sample from column `fasta` (a path, relative to `base`): every contig once."""
    plans = []
    for text in table.samples["fasta"].tolist():
        with open_genome(base / text) as genome:
            copies = tuple(CopyPlan(contig, 0, 0, length) for contig, length in genome.contigs.items() if length)
            plans.append(IndividualPlan(genome.path, copies))
    return plans


def read_plans(table: SampleTable, base: Path, most: int, seed: int) -> tuple[list[IndividualPlan], dict[str, Any]]:
    """Return the reads of every sample from column `fastq` (comma-separated paths, relative to `base`), and how many there were of each."""
    plans, seen = [], {}
    for sample, text in zip(table.samples["sample"].tolist(), table.samples["fastq"].tolist(), strict=True):
        bases, offsets, found = keep_reads([base / part.strip() for part in text.split(",")], most, seed)
        if not len(bases):
            raise BasewiseError(f"sample {sample!r} has no reads in {text}")
        plans.append(IndividualPlan(reads=(bases, offsets)))
        seen[sample] = {"reads": found, "kept": len(offsets) - 1}
    return plans, seen
