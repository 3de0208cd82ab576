"""The page of a scan that answered every base: OUT/report.html from what the scan left in OUT."""

from pathlib import Path

import pandas as pd

from basewise.files import read_json
from basewise.provenance import provenance
from basewise.report.base_figures import contig_blocks, length_figure, probability_figure, word_blocks
from basewise.report.base_summary import BaseSummary, read_base_summary, read_intervals
from basewise.report.model_card import find_results
from basewise.report.origin import origin_section
from basewise.report.page import Block, Chapter, Fact, Facts, Note, Points, Prose, Section, Tile, Tiles
from basewise.report.results import Verdict, metric_table
from basewise.report.scan import bases_text, percent
from basewise.report.tables import Cell, Column, Table

TABLE_INTERVALS = 10_000
_STRANDS = {
    "forward": "read once, as the genome reads: the answer is about the place, not a strand",
    "mean": "mean of the probabilities of both strands",
    "each": "each strand by itself",
}
_JUDGED = (
    *("auroc", "auprc", "precision", "recall", "f1", "precision_at_recall_0.5", "ece"),
    *("interval_precision", "interval_recall", "interval_f1"),
)


def base_scan_chapter(out: str | Path, genome: str | Path | None, *, model_folder: str | Path | None = None) -> Chapter:
    """Return what the scan of every base in `out` has to say."""
    summary = read_base_summary(out)
    intervals = read_intervals(out, summary)
    run = Path(out) / "run.json"
    facts = read_json(run) if run.is_file() else provenance()
    label, totals = summary.labels[1], summary.totals
    sections = [
        Section("numbers", "Key numbers", (_tiles(summary), *_empty_notes(summary))),
        Section("asked", "What was asked", (_asked(summary),)),
    ]
    if totals.scored:
        sections.append(Section("chromosomes", "Where they are", contig_blocks(summary)))
        shapes: list[Block] = [probability_figure(summary)]
        if totals.intervals:
            shapes.append(length_figure(summary))
        sections.append(Section("shape", "Probabilities and lengths", tuple(shapes)))
    if totals.intervals:
        sections.append(Section("words", "What the intervals are made of", word_blocks(intervals, genome)))
    sections.append(Section("trust", "How far to trust an interval", _held_out(summary, model_folder)))
    if totals.intervals:
        sections.append(Section("intervals", "The intervals", (_table(intervals, summary),)))
    sections.append(Section("limits", "Method and limits", (_method(summary), Points(_limits(summary)))))
    sections.append(Section("files", "Files", (_files(summary),)))
    model = ("Model weights", summary.model.name, summary.model.sha256)
    sections.append(origin_section(facts, [("Genome", summary.genome.name, summary.genome.sha256), model]))
    return Chapter(f"Genome scan for {label}", f"{label} in {summary.genome.name}", _lead(summary), tuple(sections))


def _lead(summary: BaseSummary) -> str:
    totals = summary.totals
    found = f"{totals.intervals:,} interval{'' if totals.intervals == 1 else 's'}" if totals.intervals else "No interval"
    return (
        f"{found} of {summary.labels[1]} in {bases_text(totals.bases)} of sequence. An interval is a run of bases to which the model gives "
        f"a probability of at least {summary.threshold:.3g}."
    )


def _tiles(summary: BaseSummary) -> Tiles:
    totals = summary.totals
    contigs = len({contig.chrom for contig in summary.contigs if contig.bases})
    return Tiles(
        (
            Tile("Intervals", f"{totals.intervals:,}", f"{1e6 * totals.intervals / totals.scored:.3g} a megabase" if totals.scored else ""),
            Tile("Called bases", f"{totals.called:,}", f"{percent(totals.called, totals.scored)} of all with a probability"),
            Tile("Bases with a probability", f"{totals.scored:,}", "all but N"),
            Tile("Sequence read", bases_text(totals.bases), f"{contigs:,} contig{'' if contigs == 1 else 's'}"),
            Tile("Time", f"{summary.timing.total_s:,.3g} s", summary.device),
        )
    )


def _empty_notes(summary: BaseSummary) -> tuple[Block, ...]:
    if not summary.totals.scored:
        return (Note("Every base is N, so there is nothing to draw."),)
    if not summary.totals.intervals:
        text = f"No run of {summary.min_length} or more bases reaches the threshold of {summary.threshold:.3g}"
        return (Note(f"{text}; a lower --threshold gives more, with more false ones among them."),)
    return ()


def _asked(summary: BaseSummary) -> Facts:
    return Facts(
        (
            Fact("Question", f"Which bases are {summary.labels[1]}?"),
            Fact("Genome", f"{summary.genome.name}, {summary.genome.bases:,} bases"),
            Fact("Regions", summary.regions.name if summary.regions else "the whole genome"),
            Fact("Model", f"{summary.model.name}, {_reading(summary)}"),
            Fact("Strands", _STRANDS.get(summary.reading.strands, summary.reading.strands)),
            Fact("Threshold", f"probability ≥ {summary.threshold:.4g}"),
            Fact("Intervals", f"runs of called bases, joined over at most {summary.gap} others, of {summary.min_length} bases or more"),
        )
    )


def _reading(summary: BaseSummary) -> str:
    reading = summary.reading
    if reading.window is None:
        return "reads the sequence around every base"
    of = "their own answers" if reading.of == "base" else "the answer of the window as a whole"
    return f"reads windows of {reading.window:,} bases, whose central {reading.stride:,} take {of}"


def _table(intervals: pd.DataFrame, summary: BaseSummary) -> Table:
    rank = intervals["name"].str.rpartition("_")[2].astype("int64")
    top = intervals.assign(rank=rank).sort_values("rank").head(TABLE_INTERVALS)
    stranded = summary.reading.strands == "each"
    rows: list[tuple[Cell, ...]] = []
    wanted = ("chrom", "start", "end", "max_probability", "mean_probability", "called_bases", "strand")
    for chrom, start, end, highest, mean, called, strand in zip(*(top[name].tolist() for name in wanted), strict=True):
        row = (f"{chrom}:{start + 1}-{end}", end - start, highest, mean, called, chrom, start + 1)
        rows.append((*row, strand) if stranded else row)
    columns = (
        *(Column("Locus", "locus"), Column("Length", "number"), Column("Highest probability", "number", 4)),
        *(
            Column("Mean of called bases", "number", 4),
            Column("Called bases", "number"),
            Column("Chromosome"),
            Column("First base", "number"),
        ),
        *((Column("Strand"),) if stranded else ()),
    )
    which = "All intervals" if len(top) == len(intervals) else f"The first {len(top):,} of {len(intervals):,} intervals"
    caption = (
        f"{which}, the highest probability first. Positions count from 1, as genome browsers do; paste a locus into the search field of "
        "UCSC or IGV."
    )
    return Table(caption, columns, rows, "intervals")


def _held_out(summary: BaseSummary, model_folder: str | Path | None) -> tuple[Block, ...]:
    name = summary.model.name
    results = find_results(name, summary.model.sha256, model_folder)
    if results is None or (results.complete is None and "test" not in results.splits):
        return (
            Note(
                f"No held-out results were found beside the model {name}: this page cannot say how often its calls are right. "
                "Evaluate it on labelled data of the same species (basewise evaluate) before relying on them."
            ),
        )
    blocks: list[Block] = []
    if results.complete is not None:
        blocks.append(
            Prose(
                f"On every base of contigs held out from training, as a scan meets them, the model was judged so.{_said(results.complete)}"
            )
        )
        blocks.append(
            metric_table(_chosen(results.complete), f"Model {name} on all bases of its test contigs, with 95 % bootstrap intervals.")
        )
    else:
        test = results.splits["test"]
        share = f" {100 * test.prevalence:.2g} % of its bases are positive;" if test.prevalence else ""
        blocks.append(
            Note(f"Known only from a sample of test windows:{share} a genome may hold far fewer, and then fewer calls are right.")
        )
        blocks.append(metric_table(_chosen(test), f"Model {name} on its sampled test windows, with 95 % bootstrap intervals."))
    return tuple(blocks)


def _chosen(verdict: Verdict) -> Verdict:
    return verdict.model_copy(update={"metrics": {key: verdict.metrics[key] for key in _JUDGED if key in verdict.metrics}})


def _said(verdict: Verdict) -> str:
    values = [verdict.metrics[key].value if key in verdict.metrics else None for key in ("interval_precision", "interval_recall")]
    if verdict.threshold is None or values[0] is None or values[1] is None:
        return ""
    return (
        f" At the model's own threshold ({verdict.threshold:.3g}) {100 * values[0]:.0f} % of its intervals share a base with an annotated "
        f"one, and {100 * values[1]:.0f} % of the annotated ones were found."
    )


def _method(summary: BaseSummary) -> Prose:
    return Prose(
        f"The model {summary.model.name} {_reading(summary)}, and gives each base a probability of being {summary.labels[1]}. Runs of "
        f"bases at or above the threshold, with at most {summary.gap} bases below it between two, are intervals. An interval's score is "
        "1000 times its highest probability; its mean is over the called bases. The track holds probabilities rounded to "
        f"{summary.track.step:g} and leaves out those below {summary.track.floor:g}."
    )


def _limits(summary: BaseSummary) -> tuple[str, ...]:
    causal = ("The model reads forward only: a base is answered from the bases before it in its window.",) if summary.reading.causal else ()
    calibrated = (
        "A probability is calibrated for the species, the kind of sequence and the share of positives the model was trained on. In a scan "
        "of a whole genome take the order of intervals more seriously than the numbers."
    )
    return (
        *causal,
        "The model reads DNA only. It does not know in which cell a structure forms or a region is active.",
        calibrated,
        "Annotations that models learn from are incomplete: an interval that hits none is not proved wrong.",
        "A prediction is a hypothesis: an experiment decides.",
    )


def _files(summary: BaseSummary) -> Facts:
    each = summary.reading.strands == "each"
    names = (
        ("intervals.bed.gz", "the intervals, for a genome browser (with its index .tbi)"),
        ("plus.bw, minus.bw" if each else "probability.bw", "probability of each base" + (", one track a strand" if each else "")),
        ("summary.json", "the counts of this page"),
        ("run.json", "versions, checksums and command"),
    )
    return Facts(tuple(Fact(name, text) for name, text in names))
