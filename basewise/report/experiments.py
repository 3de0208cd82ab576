"""The pages of experiments on sequences: perturbation and attention. Each reads the folder its verb wrote, and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.files import read_json
from basewise.interpretation.experiments import ATTENTION_KMERS, ATTENTION_SUMMARY, INSERTED, PERTURB_SUMMARY, PERTURBED
from basewise.interpretation.explain import SUMMARY
from basewise.report import explain_figures as figures
from basewise.report.explain import explain_chapter
from basewise.report.explain_figures import as_floats
from basewise.report.origin import origin_of
from basewise.report.page import Block, Chapter, Figure, Note, Points, Section, write_page
from basewise.report.tables import Column, Table

BARS = 20
REPLACEMENTS = {"random": "random bases", "shuffled": "their own bases, shuffled"}


def write_perturb_report(folder: str | Path) -> Path:
    """Write report.html of a folder of `basewise perturb` into it and return its path."""
    return _write(perturb_chapter(folder), folder)


def write_attention_report(folder: str | Path) -> Path:
    """Write report.html of a folder of `basewise attention` into it and return its path."""
    return _write(attention_chapter(folder), folder)


def explanation_chapter(folder: str | Path) -> Chapter | None:
    """Return the chapter of a folder of explain, perturb or attention; None when it is none of them."""
    makers = {SUMMARY: explain_chapter, PERTURB_SUMMARY: perturb_chapter, ATTENTION_SUMMARY: attention_chapter}
    for name, make in makers.items():
        if (Path(folder) / name).is_file():
            return make(folder)
    return None


def perturb_chapter(folder: str | Path) -> Chapter:
    """Return what an output folder of `basewise perturb` has to say."""
    folder = Path(folder)
    said: dict[str, Any] = read_json(folder / PERTURB_SUMMARY)
    table = pd.read_parquet(folder / PERTURBED)
    levels = [entry["level"] for entry in said["levels"]]
    missed = [entry["mispredicted"] for entry in said["levels"]]
    first, last = said["levels"][0], said["levels"][-1]
    motifs = ", ".join(said["replacing"]["motifs"])
    values = [as_floats(table.loc[table["level"] == level, "probability"]) for level in levels]
    story = f"median {first['median']:.3f} at level {first['level']:g}, {last['median']:.3f} at {last['level']:g}"
    blocks: tuple[Block, ...] = (
        Figure(
            "Probability by level",
            figures.level_boxes(levels, values, said["threshold"]),
            f"Box plot of the probability of {said['positive']} at each share of motifs replaced: {story}.",
            f"Boxes: quartiles and median; whiskers: 5th and 95th percentile; dashed: the threshold {said['threshold']:.3g}. "
            f"{motifs} replaced by {REPLACEMENTS.get(said['replacing']['replacement'], said['replacing']['replacement'])}.",
        ),
        Figure(
            "Mispredictions by level",
            figures.misprediction_bars(levels, missed),
            f"Bars: {first['mispredicted']:,} mispredicted at level {first['level']:g}, {last['mispredicted']:,} at {last['level']:g}.",
            f"Of {said['sequences']:,} positives, those whose probability falls below the threshold.",
        ),
        Table(
            "Probabilities and mispredictions at each level.", _level_columns(), [_level_row(entry) for entry in said["levels"]], "levels"
        ),
    )
    sections = [Section("levels", "Motifs taken out", blocks)]
    if (folder / INSERTED).is_file():
        sections.append(Section("insertion", "Motifs put in", _insertion(pd.read_csv(folder / INSERTED, sep="\t"), said)))
    notes = (
        f"{said['with_motif']:,} of {said['sequences']:,} sequences hold a motif at all; the others cannot change.",
        "Replaced bases are random: they may hold other signals, and chance may put a motif back.",
    )
    sections += [Section("limits", "Limits", (Points(notes),)), origin_of(said)]
    lead = f"Without {motifs}, {last['mispredicted']:,} of {said['sequences']:,} positives are missed; with them {first['mispredicted']:,}."
    return Chapter("Perturbation", str(said["model"]["task"]), lead, tuple(sections))


def attention_chapter(folder: str | Path) -> Chapter:
    """Return what an output folder of `basewise attention` has to say."""
    folder = Path(folder)
    said: dict[str, Any] = read_json(folder / ATTENTION_SUMMARY)
    table = pd.read_csv(folder / ATTENTION_KMERS, sep="\t", dtype={"head": str, "kmer": str, "group": str}, keep_default_na=False)
    mean = table[table["head"] == "mean"]
    main = next(iter(said["groups"]))
    groups = {name: mean[mean["group"] == name].set_index("kmer") for name in said["groups"]}
    blocks: list[Block] = []
    if said["tokens"]["share_of_sequences_with_no_more_than_top"] > 0.5:
        blocks.append(
            Note(
                f"Most sequences have no more than {said['top']} tokens (median {said['tokens']['median']:g}): their top "
                f"{said['top']} are all of them, and such frequencies say nothing about attention. "
                "Read the most attended token, or take a smaller --top."
            )
        )
    for column, title in (("top1_share", "The most attended token"), ("top_share", f"The {said['top']} most attended tokens")):
        kmers = groups[main].sort_values([column, "background"], ascending=[False, True], kind="stable").index[:BARS].tolist()
        shares = {name: [100 * float(part[column].get(kmer, 0.0)) for kmer in kmers] for name, part in groups.items()}
        blocks.append(
            Figure(
                title,
                figures.kmer_bars(kmers, shares, "share (%)"),
                f"{title}: " + ", ".join(f"{kmer} {value:.1f} %" for kmer, value in zip(kmers[:5], shares[main], strict=False)) + ".",
                f"The {len(kmers)} most frequent in the group {main}, heads averaged, layer {said['layer']}"
                + (", attention rollout." if said["rollout"] else "."),
            )
        )
    columns = (
        Column("K-mer"), Column("Group"), Column("Most attended", "number"), Column("Share (%)", "number", 2),
        Column("Among the top", "number"), Column("Share (%)", "number", 2), Column("Background (%)", "number", 2),
        Column("Enrichment", "number", 2),
    )  # fmt: skip
    rows = [
        (
            row["kmer"], row["group"], int(row["top1"]), 100 * float(row["top1_share"]), int(row["top"]), 100 * float(row["top_share"]),
            100 * float(row["background"]), float(row["top1_enrichment"]),
        )
        for row in mean.sort_values(["top1", "top"], ascending=False, kind="stable").head(500).to_dict("records")
    ]  # fmt: skip
    caption = "Tokens by attention, heads averaged; enrichment: share of most attended tokens over the share of all tokens of the group."
    blocks.append(Table(caption, columns, rows, "attended k-mers"))
    sections = (
        Section("kmers", "What attention looks at", tuple(blocks)),
        Section(
            "limits",
            "Limits",
            (Points(("Attention shows what a layer reads, not what the answer depends on: compare with attributions.",)),),
        ),
        origin_of(said),
    )
    counts = ", ".join(f"{count:,} {name}" for name, count in said["groups"].items())
    return Chapter("Attention", str(said["model"]["task"]), f"The tokens that get most attention in {counts} sequences.", sections)


def _write(chapter: Chapter, folder: str | Path) -> Path:
    path = Path(folder) / "report.html"
    write_page([chapter], path)
    return path


def _level_columns() -> tuple[Column, ...]:
    numbers = ("Mean", "5\u00a0%", "25\u00a0%", "Median", "75\u00a0%", "95\u00a0%")
    counts = (Column("Level", "number", 2), Column("Mispredicted", "number"), Column("Motifs replaced", "number"))
    return (*counts, *(Column(name, "number", 3) for name in numbers))


def _level_row(entry: Mapping[str, Any]) -> tuple[float, ...]:
    return tuple(entry[key] for key in ("level", "mispredicted", "replaced", "mean", "p5", "p25", "median", "p75", "p95"))


def _insertion(table: pd.DataFrame, said: Mapping[str, Any]) -> tuple[Block, ...]:
    curves, peaks = {}, []
    for motif, part in table.groupby("motif", sort=False):
        curves[str(motif)] = {column: as_floats(part[column]) for column in ("offset", "mean_change", "low", "high")}
        best = int(curves[str(motif)]["mean_change"].argmax())
        peaks.append(f"{motif} {int(part['offset'].iloc[best])} ({part['mean_change'].iloc[best]:+.3g})")
    settings = said["inserting"]
    return (
        Figure(
            "Where the model likes a motif",
            figures.insertion_curves(curves),
            f"Change of the logit by the offset of the motif; peaks: {'; '.join(peaks)}.",
            f"Mean over {int(table['sequences'].iloc[0])} neutral sequences ({settings['neutral']}) with 95 % intervals; "
            f"offsets of the motif's first base, negative upstream. Peaks: {'; '.join(peaks)}.",
            wide=True,
        ),
    )
