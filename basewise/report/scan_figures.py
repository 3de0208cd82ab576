"""Figures of the page of a scan, with what they say in words: alt texts, captions, tables beside them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.genome.alphabet import codes, reverse_complement
from basewise.report import figures
from basewise.report.page import Block, Figure, Note
from basewise.report.scan_summary import Summary
from basewise.report.tables import Cell, Column, Table

FLANK = 50  # bases on each side of the cleavage base in logo and composition
LOGO_SITES = 5_000
MOST_CONTIGS = 30  # bars of a figure; further contigs are added up
SEED = 0
# the bases the rule of stage 1 demands, which therefore say nothing about the sites: C or G at -1, A at 0
RULE_POSITIONS = (-1, 0)


def chromosome_blocks(summary: Summary) -> tuple[Block, ...]:
    """Return figure and table of counts by chromosome; the figure adds up contigs beyond the MOST_CONTIGS richest in candidates."""
    names = list(dict.fromkeys(contig.chrom for contig in summary.contigs))
    with_genes = summary.totals.candidates_in_genes is not None and summary.totals.genic is not None
    rows = {name: [0] * 5 for name in names}
    for contig in summary.contigs:
        values = (contig.bases, contig.candidates, contig.candidates_in_genes or 0, contig.sites, contig.genic or 0)
        rows[contig.chrom] = [a + b for a, b in zip(rows[contig.chrom], values, strict=True)]
        if contig.strand != "+":
            rows[contig.chrom][0] -= contig.bases  # a base counts once, though it is looked at on both strands
    shown = sorted(names, key=lambda name: -rows[name][1])[:MOST_CONTIGS]
    bars = [(name, rows[name]) for name in names if name in set(shown)]
    rest = [rows[name] for name in names if name not in set(shown)]
    if rest:
        bars.append((f"{len(rest)} others", [sum(column) for column in zip(*rest, strict=True)]))
    series = {"candidates": [row[1] for _, row in bars]}
    if with_genes:
        series["candidates in genes"] = [row[2] for _, row in bars]
    series["sites"] = [row[3] for _, row in bars]
    numbers = "; ".join(
        f"{name}: " + ", ".join(f"{values[i]:,} {label}" for label, values in series.items()) for i, (name, _) in enumerate(bars)
    )
    figure = Figure(
        "Candidates and sites by chromosome",
        figures.chromosome_bars([name for name, _ in bars], series),
        f"Bar chart of counts by chromosome. {numbers}.",
        "Candidates fulfil the rule; sites are those the model keeps, clusters counted once. The axis is logarithmic: compare "
        "lengths within a colour, and read the numbers for ratios.",
        wide=True,
    )
    columns = [Column("Chromosome"), Column("Bases", "number"), Column("Candidates", "number"), Column("Sites", "number")]
    columns += [Column("Sites per Mb", "number", 2)]
    if with_genes:
        columns += [Column("Candidates in genes", "number"), Column("Sites in genes", "number")]
    table = Table("Counts on both strands.", tuple(columns), [_contig_row(name, rows[name], with_genes) for name in names], "chromosomes")
    return figure, table


def _contig_row(name: str, row: Sequence[int], with_genes: bool) -> list[Cell]:
    bases, candidates, in_genes, sites, genic = row
    cells: list[Cell] = [name, bases, candidates, sites, 1e6 * sites / bases if bases else None]
    return [*cells, in_genes, genic] if with_genes else cells


def sequence_blocks(summary: Summary, sites: pd.DataFrame, genome: str | Path | None) -> tuple[Block, ...]:
    """Return logo and composition (with a genome and sites) and the usage of hexamers and distances."""
    blocks: list[Block] = []
    if len(sites) and genome is None:
        blocks.append(Note("Logo and composition are left out: the genome was not at hand when this page was written (give --genome)."))
    elif len(sites) and genome is not None:
        chosen = sites if len(sites) <= LOGO_SITES else sites.sample(LOGO_SITES, random_state=SEED).sort_index()
        counts = base_counts(chosen, genome)
        which = f"all {len(sites):,} sites" if len(chosen) == len(sites) else f"{len(chosen):,} of {len(sites):,} sites, drawn at random"
        blocks += [_logo_figure(counts, which), _composition_figure(counts, which)]
    groups = ("candidates", "sites") if len(sites) else ("candidates",)
    blocks += [_hexamer_figure(summary, groups), _offset_figure(summary, groups)]
    return tuple(blocks)


def base_counts(sites: pd.DataFrame, genome: str | Path) -> npt.NDArray[np.int64]:
    """Return counts of A, C, G, T (2 * FLANK + 1, 4) around the cleavage bases, read 5'->3' on the strand of each site.

    N, and whatever lies beyond a contig's edge, is not counted. BasewiseError when the genome lacks a contig of the sites.
    """
    from basewise.genome.fasta import check_contigs, open_genome

    width = 2 * FLANK + 1
    counts = np.zeros((width, 5), dtype=np.int64)
    columns = np.arange(width)
    with open_genome(genome) as opened:
        check_contigs(list(dict.fromkeys(sites["chrom"])), opened, "sites.bed.gz")
        for chrom, start, strand in zip(sites["chrom"], sites["start"], sites["strand"], strict=True):
            if strand not in ("+", "-"):
                raise BasewiseError(f"site {chrom}:{start} of sites.bed.gz has strand {strand!r}, expected + or -")
            window = opened.window(chrom, int(start) - FLANK, int(start) + FLANK + 1)
            counts[columns, codes(window if strand == "+" else reverse_complement(window))] += 1
    return counts[:, :4]


def _logo_figure(counts: npt.NDArray[np.int64], which: str) -> Figure:
    bits = figures.information(counts).sum(axis=1)
    free = np.array([i for i in range(len(bits)) if i - FLANK not in RULE_POSITIONS])
    best = int(free[np.argmax(bits[free])])
    letters = "ACGT"[int(counts[best].argmax())]
    return Figure(
        "Motif around the cleavage base",
        figures.sequence_logo(counts, FLANK, RULE_POSITIONS),
        f"Sequence logo from position -50 to +50 of {which}. Beside the bases that the rule demands (C or G at -1, A at 0) the most "
        f"informative position is {best - FLANK:+d} with {bits[best]:.2f} bits, mostly {letters}.",
        f"Information content of {which}, 5′ to 3′ on the strand of the site; the cleavage base is position 0. The rule demands C or "
        "G at −1 and A at 0, so these say nothing new: the lower panel leaves them out (grey) and enlarges the rest. Letters of "
        "the poly(A) signal stand low because its distance to the cleavage base varies.",
        wide=True,
    )


def _composition_figure(counts: npt.NDArray[np.int64], which: str) -> Figure:
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    before, after = share[FLANK - 30 : FLANK - 10], share[FLANK + 5 : FLANK + 31]
    return Figure(
        "Base composition around the cleavage base",
        figures.composition_profile(counts, FLANK),
        f"Line chart of the share of each base from -50 to +50 of {which}. Mean share of A 30 to 11 nt upstream: "
        f"{100 * before[:, 0].mean():.0f} %. Mean share 5 to 30 nt downstream of T: {100 * after[:, 3].mean():.0f} %, "
        f"of G: {100 * after[:, 2].mean():.0f} %.",
        f"Share of each base at each position of {which}. Real sites are known for an A-rich stretch with the signal 10–30 nt upstream, "
        "and a U- or GU-rich stretch (T in DNA) downstream.",
        wide=True,
    )


def shares(counts: Sequence[int]) -> list[float]:
    """Return counts as shares of their sum; all 0 when the sum is."""
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _hexamer_figure(summary: Summary, groups: tuple[str, ...]) -> Figure:
    values = {group: shares([getattr(row, group) for row in summary.hexamers]) for group in groups}
    last = values[groups[-1]]
    leaders = sorted(zip(last, summary.hexamers, strict=True), key=lambda pair: -pair[0])[:3]
    said = ", ".join(f"{row.hexamer} {100 * share:.1f} %" for share, row in leaders)
    return Figure(
        "Which signal",
        figures.hexamer_bars([row.hexamer for row in summary.hexamers], values),
        f"Bar chart of the 18 hexamers. Most frequent among {groups[-1]}: {said}.",
        "The hexamer that names a candidate: of those within 10–35 nt the first in this order. What is more frequent among sites than "
        "among candidates is what the model prefers."
        if len(groups) > 1
        else "The hexamer that names a candidate.",
    )


def _offset_figure(summary: Summary, groups: tuple[str, ...]) -> Figure:
    values = {group: shares([getattr(row, group) for row in summary.offsets]) for group in groups}
    offsets = [row.offset for row in summary.offsets]
    peak = offsets[int(np.argmax(values[groups[-1]]))]
    return Figure(
        "Distance from signal to cleavage",
        figures.offset_histogram(offsets, values),
        f"Histogram of the distance from the hexamer to the cleavage base, 10 to 35 nt. Most frequent among {groups[-1]}: {peak} nt.",
        "From the first base of the hexamer to the cleavage base. Annotated human sites peak at 20–23 nt.",
    )


def probability_blocks(summary: Summary) -> tuple[Block, ...]:
    """Return the histogram of probabilities; nothing without candidates."""
    blocks: list[Block] = []
    histogram = summary.probabilities
    if summary.totals.candidates:
        series = {"candidates": np.array(histogram.candidates)}
        if summary.totals.sites:
            series["sites"] = np.array(histogram.sites)
        counts = ", ".join(f"{low:.2f}: {n:,}" for low, n in zip(histogram.edges, histogram.candidates, strict=False) if n)
        figure = Figure(
            "Probabilities of all candidates",
            figures.probability_histogram(np.array(histogram.edges), series, summary.threshold),
            f"Histogram of the probabilities of {summary.totals.candidates:,} candidates on a logarithmic scale, threshold "
            f"{summary.threshold:.3g}. Candidates in the bin from {counts}.",
            "How many candidates have which probability. Of several candidates of one cluster above the threshold only one becomes a site.",
        )
        blocks.append(figure)
    return tuple(blocks)
