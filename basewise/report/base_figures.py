"""Figures and tables of the page of a scan of every base, with what they say in words."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.genome.alphabet import N_CODE, codes
from basewise.report import figures
from basewise.report.base_summary import BaseSummary
from basewise.report.page import Block, Figure, Note
from basewise.report.scan_figures import MOST_CONTIGS, SEED
from basewise.report.tables import Cell, Column, Table

K = 6  # letters of the words that are counted
WORD_INTERVALS = 3_000
FLANK = 500  # bases on each side of an interval that its words are compared with
_TOP_WORDS = 20


def contig_blocks(summary: BaseSummary) -> tuple[Block, ...]:
    """Return figure and table of counts by chromosome, of those that were read; the figure adds up all but the MOST_CONTIGS richest."""
    names = list(dict.fromkeys(contig.chrom for contig in summary.contigs if contig.bases))
    strands = len({contig.strand for contig in summary.contigs})
    rows = {name: [0] * 4 for name in names}
    for contig in (contig for contig in summary.contigs if contig.bases):
        values = (contig.bases, contig.scored, contig.called, contig.intervals)
        rows[contig.chrom] = [a + b for a, b in zip(rows[contig.chrom], values, strict=True)]
    for row in rows.values():
        row[0], row[1] = row[0] // strands, row[1] // strands  # a base counts once
    shown = set(sorted(names, key=lambda name: -rows[name][2])[:MOST_CONTIGS])
    bars = [(name, rows[name]) for name in names if name in shown]
    if rest := [rows[name] for name in names if name not in shown]:
        bars.append((f"{len(rest)} others", [sum(column) for column in zip(*rest, strict=True)]))
    series = {"called bases": [row[2] for _, row in bars], "intervals": [row[3] for _, row in bars]}
    numbers = "; ".join(f"{name}: {row[2]:,} called bases, {row[3]:,} intervals" for name, row in bars)
    figure = Figure(
        "Called bases and intervals by chromosome",
        figures.chromosome_bars([name for name, _ in bars], series),
        f"Bar chart of counts by chromosome. {numbers}.",
        "Called bases reach the threshold; intervals are runs of them. The axis is logarithmic: compare lengths within a colour, and read "
        "the numbers for ratios.",
        wide=True,
    )
    columns = (
        Column("Chromosome"),
        Column("Bases", "number"),
        Column("With a probability", "number"),
        Column("Called bases", "number"),
        Column("Called (%)", "number", 4),
        Column("Intervals", "number"),
        Column("Intervals per Mb", "number", 2),
    )
    cells: list[list[Cell]] = [
        [name, bases, scored, called, 100 * called / scored if scored else None, found, 1e6 * found / scored if scored else None]
        for name, (bases, scored, called, found) in rows.items()
    ]
    return figure, Table("Bases that are N have no probability.", columns, cells, "chromosomes")


def length_figure(summary: BaseSummary) -> Figure:
    """Return the bars of interval lengths."""
    first, counts = summary.lengths.from_, summary.lengths.intervals
    names = [str(low) if low + 1 == high else f"{low}–{high - 1}" for low, high in pairwise(first)] + [f"{first[-1]}+"]
    said = ", ".join(f"{name}: {count:,}" for name, count in zip(names, counts, strict=True) if count)
    return Figure(
        "Lengths of the intervals",
        figures.length_bars(names, counts),
        f"Bar chart of interval lengths in bases. {said}.",
        "Intervals of one or two bases are usually the tips of something that falls short of the threshold: raise --min-length to drop "
        "them, --gap to join neighbours.",
    )


def probability_figure(summary: BaseSummary) -> Figure:
    """Return the histogram of probabilities of bases and of intervals."""
    histogram = summary.probabilities
    series = {"bases": np.array(histogram.bases)}
    if summary.totals.intervals:
        series["intervals, by their highest base"] = np.array(histogram.intervals)
    counts = ", ".join(f"{low:.2f}: {n:,}" for low, n in zip(histogram.edges, histogram.bases, strict=False) if n)
    return Figure(
        "Probabilities of all bases",
        figures.probability_histogram(np.array(histogram.edges), series, summary.threshold),
        f"Histogram of the probabilities of {summary.totals.scored:,} bases on a logarithmic scale, threshold {summary.threshold:.3g}. "
        f"Bases in the bin from {counts}.",
        "How many bases have which probability, and how many intervals which highest one.",
    )


def word_blocks(intervals: pd.DataFrame, genome: str | Path | None) -> tuple[Block, ...]:
    """Return the table of words that intervals hold more often than the sequence beside them."""
    if not len(intervals):
        return ()
    if genome is None:
        return (Note("Words are left out: the genome was not at hand when this page was written (give --genome)."),)
    chosen = intervals if len(intervals) <= WORD_INTERVALS else intervals.sample(WORD_INTERVALS, random_state=SEED).sort_index()
    inside, beside = word_counts(chosen, genome)
    n_inside, n_beside = int(inside.sum()), int(beside.sum())
    if not n_inside or not n_beside:
        return (Note(f"No interval holds a word of {K} bases, so none are counted."),)
    fold = ((inside + 0.5) / n_inside) / ((beside + 0.5) / n_beside)
    weight = np.where(inside > 0, inside * np.log(fold), -np.inf)
    top = [int(word) for word in np.argsort(-weight, kind="stable")[:_TOP_WORDS] if inside[word] and fold[word] > 1]
    rows = [(_word(w), int(inside[w]), 100 * inside[w] / n_inside, 100 * beside[w] / n_beside, float(fold[w])) for w in top]
    columns = (
        Column("Word or its complement"),
        Column("In intervals", "number"),
        Column("Share there (%)", "number", 2),
        Column("Share beside (%)", "number", 3),
        Column("Times richer", "number", 1),
    )
    which = f"all {len(intervals):,} intervals" if len(chosen) == len(intervals) else f"{len(chosen):,} of {len(intervals):,} intervals"
    caption = (
        f"Words of {K} bases in {which}, beside those in the {FLANK} bases on either side of each; a word and its reverse complement "
        "count as one. Ordered by how much they tell intervals from their surroundings."
    )
    return (Table(caption, columns, rows, "words"),)


def word_counts(intervals: pd.DataFrame, genome: str | Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return counts int64 (4 ** K,) of words inside `intervals` and in their flanks; of a word and its reverse complement the lower counts.

    Words with an N, and whatever lies beyond a contig's edge, are not counted. BasewiseError when the genome lacks a contig.
    """
    from basewise.genome.fasta import check_contigs, open_genome

    inside, beside = np.zeros(4**K, np.int64), np.zeros(4**K, np.int64)
    with open_genome(genome) as opened:
        check_contigs(list(dict.fromkeys(intervals["chrom"])), opened, "intervals.bed.gz")
        for chrom, start, end in zip(intervals["chrom"], intervals["start"], intervals["end"], strict=True):
            window = codes(opened.window(str(chrom), int(start) - FLANK, int(end) + FLANK))
            inside += np.bincount(_words(window[FLANK : len(window) - FLANK]), minlength=4**K)
            for flank in (window[:FLANK], window[len(window) - FLANK :]):
                beside += np.bincount(_words(flank), minlength=4**K)
    return inside, beside


def _words(base: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the numbers of the words of base codes, each the lower one of itself and its reverse complement."""
    count = len(base) - K + 1
    if count < 1:
        return np.empty(0, np.int64)
    rows = np.lib.stride_tricks.sliding_window_view(base.astype(np.int64), K)
    rows = rows[(rows != N_CODE).all(axis=1)]
    powers = 4 ** np.arange(K - 1, -1, -1)
    return np.minimum(rows @ powers, (3 - rows[:, ::-1]) @ powers)


def _word(number: int) -> str:
    letters = [number // 4 ** (K - 1 - i) % 4 for i in range(K)]
    turned = [3 - letter for letter in reversed(letters)]
    own, other = ("".join("ACGT"[letter] for letter in word) for word in (letters, turned))
    return own if own == other else f"{own} / {other}"
