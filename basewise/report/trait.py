"""Pages of `basewise trait`: accuracy against depth, ablations, and the chunks that decided. Each reads its folder, nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.files import atomic_path, read_json
from basewise.report import trait_figures as figures
from basewise.report.origin import origin_section
from basewise.report.page import Block, Chapter, Figure, Note, Points, Section, Tile, Tiles, write_page
from basewise.report.tables import Column, Table

CURVE, CONFUSION, CONTIGS, CHUNKS = "curve.tsv", "confusion.tsv", "contigs.tsv", "chunks.parquet"
MAPPED = 6  # contigs on the map of effects
HOW = (
    (
        "Each individual is called from K groups of chunks: the share of groups that vote for the second label is held against a threshold "
        "from the validation individuals. With several labels, the label with most votes."
    ),
    (
        "Oracle: the best that recognising the contigs only one class has can give at that depth, the chance that K groups hold at least "
        "one chunk of them."
    ),
    (
        "Read depth: the class whose mean shares of chunks by contig (validation individuals) make the observed counts most likely, what a "
        "mapper that knows the reference would say. It may pass the oracle, since it also weighs contigs that both classes have."
    ),
    (
        "Mean and sd are over repeats of the draw, for the same individuals and the same trained model: they do not say what others "
        "would give."
    ),
)
BEYOND = (
    "K groups need more chunks than each individual's pool holds, or than groups were made of it. Repeats then scatter around what the "
    "pool says of an individual, which is off from its genome by more than the draw itself. Raise --pool and --groups."
)


def is_curve(folder: str | Path) -> bool:
    """Tell whether `basewise trait curve` wrote this folder."""
    return (Path(folder) / CURVE).is_file()


def is_evidence(folder: str | Path) -> bool:
    """Tell whether `basewise trait evidence` wrote this folder."""
    return (Path(folder) / CONTIGS).is_file() and (Path(folder) / CHUNKS).is_file()


def write_curve_report(folder: str | Path) -> None:
    """Write curve.svg, with ablations ablation.svg, and report.html into a folder that holds curve.tsv, confusion.tsv and run.json."""
    folder = Path(folder)
    table = _read(folder / CURVE)
    _save(figures.depth_plot(table[table["genome"] == table["genome"].iloc[0]]), folder / "curve.svg")
    if len(set(table["genome"])) > 1:
        _save(figures.ablation_plot(table), folder / "ablation.svg")
    write_page([curve_chapter(folder)], folder / "report.html")


def write_evidence_report(folder: str | Path) -> None:
    """Write evidence.svg and report.html into a folder that holds contigs.tsv, chunks.parquet and run.json."""
    folder = Path(folder)
    labels = read_json(folder / "run.json")["labels"]
    _save(figures.enrichment_plot(_numbered(_read(folder / CONTIGS), labels), labels), folder / "evidence.svg")
    write_page([evidence_chapter(folder)], folder / "report.html")


def curve_chapter(folder: str | Path) -> Chapter:
    """Return what a folder of `basewise trait curve` has to say."""
    folder = Path(folder)
    table, about = _read(folder / CURVE), read_json(folder / "run.json")
    main = table[table["genome"] == table["genome"].iloc[0]]
    everyone = main[main["species"] == "all"].sort_values("K")
    last = everyone.to_dict("records")[-1]
    story = ", ".join(f"{row['mean']:.3f} ± {row['sd']:.3f} at K = {row['K']:,}" for row in everyone.to_dict("records"))
    figure = Figure(
        "Accuracy against depth",
        figures.depth_plot(main),
        f"Accuracy over {int(last['individuals'])} test individuals: {story}.",
        f"Mean and one standard deviation of {about['repeats']} repeats; dashed: oracle; dotted: read depth; grey: 0.5.",
        wide=True,
    )
    tiles = [Tile(f"accuracy at K = {int(last['K']):,}", f"{last['mean']:.3f}", f"± {last['sd']:.3f} over {about['repeats']} repeats")]
    if pd.notna(last["oracle"]):
        tiles.append(Tile("oracle", f"{last['oracle']:.3f}", "what the informative contigs allow"))
        tiles.append(Tile("read depth", f"{last['baseline']:.3f}", "what mapping would give"))
    tiles.append(Tile("test individuals", f"{int(last['individuals'])}"))
    sections = [Section("depth", "How many chunks does it take?", (Tiles(tuple(tiles)), figure, *_beyond(table), _curve_table(table)))]
    if len(set(table["genome"])) > 1:
        sections.append(Section("ablation", "Which contigs does it need?", (_ablation(table),)))
    if (folder / CONFUSION).is_file():
        sections.append(Section("confusion", "Who is mistaken for what?", (_confusion(_read(folder / CONFUSION)),)))
    sections.append(Section("limits", "How to read this", (Points(HOW),)))
    sections.append(_origin(about))
    lead = f"{about['task']}: {last['mean']:.1%} of calls on test individuals are right at K = {int(last['K']):,} groups of "
    lead += f"{about['chunks']['count']} chunks of {about['chunks']['length']:,} bases."
    return Chapter("Trait", "Accuracy against depth", lead, tuple(sections))


def evidence_chapter(folder: str | Path) -> Chapter:
    """Return what a folder of `basewise trait evidence` has to say."""
    folder = Path(folder)
    about = read_json(folder / "run.json")
    labels = about["labels"]
    named, chunks = _read(folder / CONTIGS), pd.read_parquet(folder / CHUNKS)
    contigs = _numbered(named, labels)
    best = named.sort_values("enrichment", ascending=False, kind="stable").to_dict("records")[0]
    blocks: list[Block] = [
        Figure(
            "Enrichment by contig",
            figures.enrichment_plot(contigs, labels),
            f"{best['contig']} in {best['label']} individuals has {best['enrichment']:.1f} times its share of all effect.",
            "A contig's share of all absolute effect over its share of chunks, by the label of the individual; dashed: 1.",
            wide=True,
        )
    ]
    if (chunks["reference_start"] >= 0).all():
        size = contigs.groupby("contig", sort=False)["enrichment"].max().sort_values(ascending=False, kind="stable")
        blocks.append(
            Figure(
                "Where on the reference",
                figures.effect_map(chunks, size.index[:MAPPED].tolist(), labels),
                f"Effect of each of {len(chunks):,} chunks along the {min(MAPPED, len(size))} most enriched contigs.",
                f"One dot a chunk (at most {figures.DOTS:,} a contig); above 0 it spoke for {labels[1]}, below for {labels[0]}."
                if len(labels) == 2
                else f"One dot a chunk (at most {figures.DOTS:,} a contig); above 0 it spoke for its individual's label.",
                wide=True,
            )
        )
    columns = (
        Column("Contig"), Column("Label"), Column("Chunks", "number"), Column("Share", "number", 4), Column("Attention", "number", 3),
        Column("Effect", "number", 5), Column("Weight", "number", 4), Column("Enrichment", "number", 3),
    )  # fmt: skip
    blocks.append(Table("Contigs, most enriched first within a label.", columns, named.to_numpy(dtype=object).tolist(), "contigs"))
    limits = (
        "Attention is the mean weight of a chunk over queries and groups; 1 is no more than its share.",
        (
            "Effect is the gradient of the logit times the difference of the chunk's embedding from the individual's mean one, to first "
            "order: large effects are to be trusted in sign and rank, not to the last digit."
        ),
    )
    sections = (Section("where", "Which chunks decided", tuple(blocks)), Section("limits", "How to read this", (Points(limits),)))
    lead = f"{about['task']}: {best['contig']} weighs most, {best['enrichment']:.1f} times its share in {best['label']} individuals."
    return Chapter("Trait", "Which chunks decided", lead, (*sections, _origin(about)))


def _read(path: Path) -> pd.DataFrame:
    may_be_empty: dict[str, list[str]] = {name: [""] for name in ("oracle", "baseline", "baseline_sd", "threshold")}
    return pd.read_csv(path, sep="\t", keep_default_na=False, na_values=may_be_empty)


def _one_species(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` without the rows that say of a single species what those of "all" say already."""
    return table[table["species"] == "all"] if len(set(table["species"])) == 2 else table


def _numbered(contigs: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    return contigs.assign(label=[labels.index(str(name)) for name in contigs["label"]])


def _beyond(table: pd.DataFrame) -> tuple[Block, ...]:
    depths = sorted(table.loc[table["banked"] != "within the pool", "K"].unique().tolist())
    return (Note(f"K = {', '.join(f'{K:,}' for K in depths)}: beyond the pool. {BEYOND}"),) if depths else ()


def _curve_table(table: pd.DataFrame) -> Table:
    columns = (
        Column("Genome"), Column("Species"), Column("K", "number"), Column("Accuracy", "number", 4), Column("sd", "number", 4),
        Column("Oracle", "number", 4), Column("Read depth", "number", 4), Column("Threshold", "number", 4), Column("Individuals", "number"),
        Column("Repeats"),
    )  # fmt: skip
    names = ["genome", "species", "K", "mean", "sd", "oracle", "baseline", "threshold", "individuals", "banked"]
    table = _one_species(table)
    rows = table[names].astype(object).where(table[names].notna(), None).to_numpy(dtype=object).tolist()
    return Table("Accuracy over test individuals at each depth.", columns, rows, "depths")


def _ablation(table: pd.DataFrame) -> Figure:
    deepest = table[(table["species"] == "all") & (table["K"] == table["K"].max())]
    story = ", ".join(f"{row['genome']} {row['mean']:.3f}" for row in deepest.to_dict("records"))
    return Figure(
        "Accuracy without contigs",
        figures.ablation_plot(table),
        f"Accuracy at K = {int(table['K'].max()):,}: {story}.",
        "The same model asked without the contigs named; the threshold is found anew without them. Grey: 0.5.",
        wide=True,
    )


def _confusion(table: pd.DataFrame) -> Table:
    deepest = _one_species(table[table["K"] == table["K"].max()])
    columns = (Column("Genome"), Column("Species"), Column("True label"), Column("Called"), Column("Individuals", "number", 2))
    rows = deepest[["genome", "species", "truth", "called", "individuals"]].to_numpy(dtype=object).tolist()
    return Table(f"Test individuals at K = {int(table['K'].max()):,}, mean over repeats.", columns, rows, "confusion")


def _origin(about: dict[str, Any]) -> Section:
    inputs = [("Cohort", str(about["cohort"]), None), ("Model weights", str(about["task"]), about["model_sha256"])]
    return origin_section(about, inputs)


def _save(svg: str, path: Path) -> None:
    """Write a figure of a page as a file of its own."""
    with atomic_path(path) as temporary:
        temporary.write_text(svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif"', 1), encoding="utf-8")
