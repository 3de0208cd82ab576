"""The poly(A) site datasets: annotated cleavage sites against what looks like one, as named variants.

published  as the paper: base 51 of positives forced to A; negatives are As with AATAAA or ATTAAA 10-35 upstream. Not to be learned from:
           59 % of annotated sites hold neither hexamer, so "no canonical hexamer" alone is right in 80 %.
clean      nothing forced: positives and negatives alike are the last A of their run, so that neither base 51 nor the next one tells.
matched    clean, and every positive has AATAAA or ATTAAA, with a negative of the same hexamer at the same distance on its chromosome.
scan       what a scan meets: candidates of the 18-hexamer rule near (24) a site against those far (100) from any. Scanners learn this one.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from basewise.datasets.folder import count_labels
from basewise.datasets.splits import choose_chroms, chromosome_split, random_split
from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.fasta import Genome, check_contigs
from basewise.genome.intervals import require_columns
from basewise.provenance import provenance
from basewise.tasks.polya_options import PolyaOptions
from basewise.tasks.polya_regions import regions
from basewise.tasks.polya_windows import Contig, balanced, plain_letters, scanned, to_table

NOTHING = {
    "gene": "expected sites, and AATAAA or ATTAAA inside genes (of the same strand) far from them",
    "intergene": "expected sites, and AATAAA or ATTAAA outside genes far from them",
    "scan": "expected candidates of the rule near the sites",
}


def build_polya(
    genome: Genome, sites: pd.DataFrame, genes: pd.DataFrame, negatives: str, variant: str | None = None, **options: Any
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return (examples table, manifest) of a poly(A) dataset.

    Everything that is left out is counted in the manifest under `dropped`. Draws are made with a generator a contig: the examples of a
    contig depend on the seed and on that contig alone. Sequences are upper case, other letters than A, C, G, T are N.

    Parameters
    ----------
    genome
        An open genome of any species.
    sites
        Intervals table of annotated sites; the cleavage base is the 3' base of an interval on its strand. Repeats count once.
    genes
        Intervals table of genes with `name` and strand.
    negatives, variant, options
        The fields of `PolyaOptions`.

    Raises
    ------
    BasewiseError
        for options that do not go together (all at once), contigs the genome lacks, sites beyond a contig's end, missing strands, or a
        dataset without positives or negatives.
    """
    chosen = PolyaOptions(negatives, variant, **options).complete()
    dropped: Counter[str] = Counter()
    sites = _unique_sites(sites, genome, dropped)
    genes = _checked(genes, genome, "genes")
    test, val = _chroms(chosen, sites, genome)
    whole = {*test, *val} if chosen.complete_eval else set()
    parts = [_examples(contig, chosen, contig.name in whole, dropped) for contig in _contigs(genome, sites, genes)]
    parts = [part for part in parts if len(part)]
    if not parts:
        raise BasewiseError(f"no example could be built: {NOTHING[chosen.negatives]}; dropped: {dict(sorted(dropped.items()))}")
    examples = pd.concat(parts, ignore_index=True)
    if chosen.split == "random":
        examples = random_split(examples, chosen.seed, by="row" if chosen.level == "sequence" else "group")
    else:
        present = set(examples["chrom"])
        examples = chromosome_split(examples, [c for c in test if c in present], [c for c in val if c in present])
    counts = count_labels(examples)
    labels = {label for split in counts.values() for label in split}
    if labels != {"0", "1"}:
        missing = "negatives" if "0" not in labels else "positives"
        raise BasewiseError(f"the dataset holds no {missing}: {NOTHING[chosen.negatives]}; dropped: {dict(sorted(dropped.items()))}")
    return examples, _manifest(chosen, genome, examples, counts, dropped, test, val)


def _examples(contig: Contig, options: PolyaOptions, keep_all: bool, dropped: Counter[str]) -> pd.DataFrame:
    if options.level == "base":
        return regions(contig, options, keep_all, dropped)
    chosen = scanned(contig, options, keep_all, dropped) if options.negatives == "scan" else balanced(contig, options, dropped)
    return to_table(contig, chosen, options)


def _checked(table: pd.DataFrame, genome: Genome, noun: str) -> pd.DataFrame:
    """Return a stranded intervals table that fits the genome, else raise BasewiseError."""
    require_columns(table, ("chrom", "start", "end", "strand", "name"), f"the table of {noun}")
    check_contigs(table["chrom"], genome, f"the table of {noun}")
    wrong = ~table["strand"].isin(["+", "-"])
    if wrong.any():
        row = table[wrong].iloc[0]
        raise BasewiseError(f"{noun}: {row['chrom']}:{row['start']}-{row['end']} has strand {row['strand']!r}, expected + or -")
    beyond = table["end"].to_numpy(np.int64) > table["chrom"].map(dict(genome.contigs)).to_numpy(np.int64)
    if beyond.any():
        row = table[beyond].iloc[0]
        raise BasewiseError(
            f"{noun}: {row['chrom']}:{row['start']}-{row['end']} lies beyond the end of {row['chrom']} "
            f"({genome.contigs[row['chrom']]} bases in {genome.name}); are both of the same assembly?"
        )
    return table


def _unique_sites(sites: pd.DataFrame, genome: Genome, dropped: Counter[str]) -> pd.DataFrame:
    sites = _checked(sites, genome, "sites")
    if (sites["start"] >= sites["end"]).any():
        raise BasewiseError("sites: an interval is empty; a site is at least one base")
    position = np.where(sites["strand"] == "+", sites["end"] - 1, sites["start"])
    unique = sites.assign(position=position.astype(np.int64)).drop_duplicates(["chrom", "position", "strand"])
    dropped["site: repeated in the annotation"] += len(sites) - len(unique)
    return unique


def _chroms(options: PolyaOptions, sites: pd.DataFrame, genome: Genome) -> tuple[list[str], list[str]]:
    """Return (test, val) chromosomes, chosen by the number of annotated sites where none are given."""
    if options.split == "random":
        return [], []
    if not options.test_chroms and not options.val_chroms:
        return choose_chroms({str(chrom): int(count) for chrom, count in sites["chrom"].value_counts().items()})
    present = set(sites["chrom"])
    for chrom in (*options.test_chroms, *options.val_chroms):
        if chrom not in genome.contigs:
            hint = did_you_mean(chrom, genome.contigs)
            raise BasewiseError(f"test or validation chromosome {chrom!r} is not in {genome.name}.{hint}")
        if chrom not in present:
            raise BasewiseError(f"test or validation chromosome {chrom!r} has no annotated site; choose among {', '.join(sorted(present))}")
    return list(options.test_chroms), list(options.val_chroms)


def _contigs(genome: Genome, sites: pd.DataFrame, genes: pd.DataFrame) -> Iterator[Contig]:
    """Yield the contigs of the genome in its order, one at a time in memory; contigs that are empty are passed over."""
    sites_of = dict(iter(sites.groupby("chrom")))
    genes_of = dict(iter(genes.groupby("chrom")))
    for name, length in genome.contigs.items():
        if not length:
            continue
        mine, holding = sites_of.get(name, sites.iloc[:0]), genes_of.get(name, genes.iloc[:0])
        yield Contig(
            name,
            plain_letters(genome.fetch(name, 0, length)),
            {sign: np.sort(mine.loc[mine["strand"] == strand, "position"].to_numpy(np.int64)) for sign, strand in ((1, "+"), (-1, "-"))},
            {sign: holding[holding["strand"] == strand] for sign, strand in ((1, "+"), (-1, "-"))},
        )


def _manifest(
    options: PolyaOptions,
    genome: Genome,
    examples: pd.DataFrame,
    counts: dict[str, dict[str, int]],
    dropped: Counter[str],
    test: list[str],
    val: list[str],
) -> dict[str, Any]:
    scan, base = options.negatives == "scan", options.level == "base"
    per_positive = "all" if options.negatives_per_positive is None else options.negatives_per_positive
    only_scan = {"positive_distance": options.positive_distance}
    drawn = {"background": options.background, "flank": options.flank} if base else {"negatives_per_positive": per_positive}
    return provenance(
        task="polya",
        negatives=options.negatives,
        variant=options.variant,
        kind=options.level,
        window=options.size,
        seed=options.seed,
        split=options.split,
        test_chroms=test,
        val_chroms=val,
        exclusion=options.exclusion,
        force_center=options.force_center,
        complete_eval=options.complete_eval,
        **(only_scan | drawn if scan else {}),
        inputs={"genome": {"path": genome.path.name, "sha256": genome.sha256()}},
        counts=counts,
        examples={str(split): int(n) for split, n in examples["split"].value_counts(sort=False).sort_index().items()},
        chroms={str(chrom): int(n) for chrom, n in examples["chrom"].value_counts(sort=False).items()},
        dropped={reason: n for reason, n in sorted(dropped.items()) if n},
    )
