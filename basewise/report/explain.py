"""The page of an explanation. It reads the folder that `basewise explain` wrote, and nothing else."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from basewise.errors import BasewiseError
from basewise.interpretation.explain import kmer_rows, read_explained
from basewise.interpretation.kmers import kmer_table
from basewise.report import explain_figures as figures
from basewise.report.explain_figures import as_floats
from basewise.report.origin import origin_of
from basewise.report.page import Block, Chapter, Fact, Facts, Figure, Note, Points, Prose, Section, Tile, Tiles, write_page
from basewise.report.tables import Column, Table

EXAMPLES, TOP_KMERS, BARS = 6, 50, 20
ROWS_A_COUNT = 20  # k-mers scored less than once in so many sequences are left out: the mean of one place leads by chance
METHODS = {
    "ig": "Integrated gradients",
    "smoothgrad": "SmoothGrad of gradients",
    "ig-smoothgrad": "SmoothGrad of integrated gradients",
    "inputxgrad": "Input × gradient",
    "ism": "In-silico mutagenesis",
}


def write_explain_report(folder: str | Path) -> Path:
    """Write report.html of a folder of `basewise explain` into it and return its path."""
    path = Path(folder) / "report.html"
    write_page([explain_chapter(folder)], path)
    return path


def explain_chapter(folder: str | Path) -> Chapter:
    """Return what an output folder of `basewise explain` has to say."""
    said, table = read_explained(folder)
    explained = table[table["scores"].notna()].reset_index(drop=True)
    method = METHODS[said["method"]]
    counts = said["counts"]
    sections = [Section("numbers", "Key numbers", (_explain_tiles(said),)), Section("asked", "What was asked", (_asked(said, method),))]
    if len(explained):
        sections += [
            Section("examples", "Sequences letter by letter", _examples(explained, said)),
            Section("kmers", "K-mers the scores lie on", _kmers(said, table)),
        ]
        profile = _profile(explained)
        if profile is not None:
            sections.insert(3, Section("profile", "Where scores lie", (profile,)))
    sections += [Section("limits", "Limits", (Points(_explain_limits(said)),)), origin_of(said)]
    lead = f"{method}: which bases speak for and against {said['target']} in {counts['explained']:,} sequences."
    return Chapter("Explanation", str(said["model"]["task"]), lead, tuple(sections))


def _explain_tiles(said: Mapping[str, Any]) -> Tiles:
    counts, completeness = said["counts"], said["completeness"]
    tiles = [Tile("Sequences explained", f"{counts['explained']:,}", f"of {counts['sequences']:,}")]
    if completeness is not None:
        tiles.append(Tile("Completeness error", f"{completeness['median_relative']:.1e}", "median, of the difference of logits"))
        tiles.append(
            Tile("Largest error", f"{completeness['max_absolute']:.1e}", f"logits; {counts['not_complete']:,} above the tolerance")
        )
    return Tiles(tuple(tiles))


def _asked(said: Mapping[str, Any], method: str) -> Facts:
    settings = said["settings"]
    rows = [
        Fact(
            "Model", f"{said['model']['task']} ({said['model']['family']}, one answer a {said['kind']}; labels {', '.join(said['labels'])})"
        ),
        Fact("Method", method),
        Fact("Target", said["target"]),
    ]
    if said["method"] in ("ig", "ig-smoothgrad"):
        rows.append(Fact("Path", f"from baseline {settings['baseline']}, steps {settings['steps']}, tolerance {settings['tolerance']:g}"))
    if "smoothgrad" in said["method"]:
        rows.append(Fact("Noise", f"{settings['samples']} samples, sd {settings['sd'] or 'default'}, seed {settings['seed']}"))
    return Facts(tuple(rows))


def _examples(explained: pd.DataFrame, said: Mapping[str, Any]) -> tuple[Block, ...]:
    """Return logos of the sequences of the highest, the lowest and some logits between."""
    order = explained["logit"].sort_values(ascending=False, kind="stable").index.to_numpy()
    places = np.unique(np.linspace(0, len(order) - 1, min(EXAMPLES, len(order))).round().astype(int))
    blocks: list[Block] = [Prose("Letters are as high as their scores; letters below the line speak against the target.")]
    if said["method"] == "smoothgrad" and not said["settings"]["signed"]:
        blocks = [Prose("Letters are as high as the mean size of the gradient, which has no sign.")]
    for place in places:
        row = explained.loc[order[place]]
        scores = as_floats(row["scores"])
        first, last = figures.logo_window(scores)
        best = int(np.abs(scores).argmax())
        center = len(scores) // 2
        where = f"{row['chrom']}:{row['start']}-{row['end']} ({row['strand']}), " if "chrom" in explained else ""
        blocks.append(
            Figure(
                str(row["id"]),
                figures.attribution_logo(row["sequence"][first:last], scores[first:last], first, center),
                f"Scores of {row['id']}, bases {first - center} to {last - 1 - center} from the center; the largest, {scores[best]:.3g}, "
                f"on {row['sequence'][best]} at {best - center}.",
                f"{where}logit {row['logit']:.3g}. Bases {first - center} to {last - 1 - center} of {len(scores):,}.",
                wide=True,
            )
        )
    return tuple(blocks)


def _profile(explained: pd.DataFrame) -> Figure | None:
    """Return the mean score by place, for sequences of one length; None otherwise."""
    lengths = {len(scores) for scores in explained["scores"]}
    if len(lengths) != 1 or len(explained) < 2 or min(lengths) < 2:
        return None
    scores = np.stack([as_floats(one) for one in explained["scores"]])
    offsets = np.arange(scores.shape[1]) - scores.shape[1] // 2
    mean = scores.mean(0)
    low, high = np.percentile(scores, [25, 75], axis=0)
    width = 400
    if len(offsets) > width:  # long windows: the part around the center
        keep = np.abs(offsets) <= width // 2
        offsets, mean, low, high = offsets[keep], mean[keep], low[keep], high[keep]
    best = int(mean.argmax())
    return Figure(
        "Mean score by place",
        figures.mean_profile(offsets, mean, low, high),
        f"Mean score by place; the largest, {mean[best]:.3g}, at {offsets[best]} from the center.",
        f"Mean over {len(explained):,} sequences; the band holds the middle half of them.",
        wide=True,
    )


def _kmers(said: Mapping[str, Any], table: pd.DataFrame) -> tuple[Block, ...]:
    rows = kmer_rows(dict(said), table)
    k = 5
    positive = any(row.positive.any() for row in rows)
    if max(len(row.bases) for row in rows) < k:
        return (Note(f"All sequences are shorter than {k} bases."),)
    of = "sum" if said["kind"] == "base" else "mean"
    least = max(1, len(rows) // ROWS_A_COUNT)
    try:
        kmers = kmer_table(rows, k, restrict="tp" if positive else None, of=of, min_count=least)  # type: ignore[arg-type]
    except BasewiseError as error:
        return (Note(str(error)),)
    top = kmers.head(BARS)
    columns: tuple[Column, ...] = (
        Column("K-mer"), Column("Count", "number"), Column("Mean score", "number", 4), Column("Occurrences", "number"),
        Column("In true positives", "number"), Column("Importance", "number", 4),
    )  # fmt: skip
    cells: list[tuple[str | float, ...]] = [
        (row["kmer"], int(row["count"]), float(row["mean_score"]), int(row["occurrences"]), int(row["tp"]), float(row["importance"]))
        for row in kmers.head(TOP_KMERS).to_dict("records")
    ]
    if not positive:  # nothing is known of true positives: zeros would say that there are none
        columns, cells = columns[:-2], [row[:-2] for row in cells]
    where = "wholly inside true positives" if positive else "of all sequences"
    return (
        Figure(
            f"The {len(top)} leading {k}-mers",
            figures.kmer_bars(top["kmer"].tolist(), {"mean score": top["mean_score"].tolist()}, f"mean score ({of} over its bases)"),
            "Leading k-mers: " + ", ".join(f"{row['kmer']} {row['mean_score']:.3g}" for row in top.head(5).to_dict("records")) + ".",
            f"Mean over the occurrences {where}; k-mers with fewer than {least:,} are left out. Other k, intervals and consensus: "
            "basewise kmers.",
        ),
        Table(f"{k}-mers {where}, by mean score.", columns, cells, "k-mers"),
    )


def _explain_limits(said: Mapping[str, Any]) -> tuple[str, ...]:
    limits = ["Scores say what this model's answer depends on, not what the cell depends on."]
    if said["method"] in ("ig", "ig-smoothgrad"):
        limits.append(f"Scores are relative to the baseline {said['settings']['baseline']}: another baseline gives other scores.")
    if said["counts"]["not_complete"]:
        limits.append(
            f"{said['counts']['not_complete']:,} sequences miss the tolerance: their scores do not add up that closely to the difference "
            "of logits."
        )
    return tuple(limits)
