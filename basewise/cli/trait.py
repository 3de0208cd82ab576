"""`basewise trait`: what a run says of individuals, how depth matters, and which chunks decided."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from basewise.errors import BasewiseError

app = typer.Typer(help="Ask a run of `basewise train` on a cohort about individuals.", no_args_is_help=True)

Run = Annotated[Path, typer.Argument(help="Run folder of a training on a cohort.")]
CohortFolder = Annotated[Path, typer.Argument(help="Cohort folder (basewise individuals makes one).")]
Drop = Annotated[str | None, typer.Option("--drop-contigs", help="Contigs to leave out, comma-separated, wildcards allowed: an ablation.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of every draw.")]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]


class Rule(StrEnum):
    """How the threshold on the ratio of groups is chosen from validation individuals."""

    median = "median"
    midpoint = "midpoint"


@app.callback()
def _trait() -> None:
    """Ask a run of `basewise train` on a cohort about individuals."""


@app.command()
def predict(
    run: Run,
    cohort: CohortFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Table to write: sample probability ratio label K.")],
    chunks: Annotated[int, typer.Option("--chunks", min=1, help="K, groups of chunks of each individual.")] = 300,
    split: Annotated[str, typer.Option("--split", help="train, val, test or all.")] = "all",
    threshold: Annotated[float | None, typer.Option("--threshold", help="On the ratio.  [default: from split val of the cohort]")] = None,
    threshold_rule: Annotated[
        Rule, typer.Option("--threshold-rule", help="median: as published; midpoint: of the classes' medians.")
    ] = Rule.median,
    drop_contigs: Drop = None,
    seed: Seed = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Predict the trait of individuals: K groups of freshly drawn chunks each vote.

    ratio is the share of groups whose probability of the second label is above 0.5; the label is the second one where ratio reaches the
    threshold. With several labels, the label with most votes, and its share.

    Example:

        basewise trait predict run cohort --chunks 300 -o predictions.tsv
    """
    import numpy as np
    import pandas as pd

    from basewise.files import atomic_path
    from basewise.inference.trait import call, choose_ratio, fresh_predictions

    if output.exists() and not force:
        raise BasewiseError(f"{output} exists; choose another -o or add --force to replace it")
    classifier, _, opened, settings = _open(run, cohort, drop_contigs)
    rows = opened.members(split, labelled=False)
    binary = len(opened.labels) == 2
    if threshold is not None and not 0 <= threshold <= 1:
        raise BasewiseError(f"--threshold is {threshold}, expected a ratio of groups, 0 to 1")
    if threshold is not None and not binary:
        raise BasewiseError(
            f"--threshold is for two labels, {run} answers {len(opened.labels)}: the label with most votes wins; leave it out"
        )
    judges = (opened.samples["split"] == "val") & (opened.samples["label"] >= 0)
    if binary and threshold is None and not judges.any():
        raise BasewiseError(
            f"the threshold on the ratio comes from labelled individuals of split val, and {cohort} has none; give --threshold, e.g. what "
            "`trait predict` printed for the cohort of the training"
        )
    val = np.flatnonzero(judges.to_numpy()) if binary and threshold is None else np.empty(0, np.int64)
    everyone = np.unique(np.concatenate([rows, val]))
    with _bar("chunks", len(everyone) * chunks * settings.count) as advance:
        probability, ratio = fresh_predictions(classifier, opened, settings, everyone, chunks, seed, device=device, advance=advance)
    if binary and threshold is None:
        known = np.isin(everyone, val)
        threshold = choose_ratio(ratio[known, 0], opened.samples["label"].to_numpy(np.int64)[everyone[known]], threshold_rule.value)
    labels = call(ratio, threshold)
    at = np.zeros(len(labels), np.int64) if binary else labels
    pick = np.arange(len(labels))
    table = pd.DataFrame(
        {
            "sample": opened.samples["sample"].to_numpy(dtype=object)[everyone],
            "probability": probability[pick, at],
            "ratio": ratio[pick, at],
            "label": [opened.labels[label] for label in labels],
            "K": chunks,
        }
    )[np.isin(everyone, rows)]
    with atomic_path(output) as path:
        table.to_csv(path, sep="\t", index=False, float_format="%.6g")
    truth = opened.samples["label"].to_numpy(np.int64)[everyone]
    scored = (truth >= 0) & np.isin(everyone, rows)
    if threshold is not None and binary:
        typer.echo(f"threshold on the ratio: {threshold:.4f}")
    if scored.any():
        typer.echo(f"{int((labels == truth)[scored].sum())} of {int(scored.sum())} labelled individuals right at K = {chunks}")
    typer.echo(f"wrote {output}")


@app.command()
def curve(
    run: Run,
    cohort: CohortFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write: curve.tsv, confusion.tsv, report.html ...")],
    depths: Annotated[str, typer.Option("--K", help="Numbers of groups, comma-separated.")] = "50,100,300,1000",
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Repeats at each K.")] = 200,
    drop_contigs: Drop = None,
    pool: Annotated[
        int | None, typer.Option("--pool", min=1, help="Chunks of an individual, embedded once.  [default: the recipe's]")
    ] = None,
    groups: Annotated[int, typer.Option("--groups", min=1, help="Groups made of them, which vote once.")] = 5000,
    threshold_rule: Annotated[
        Rule, typer.Option("--threshold-rule", help="median: as published; midpoint: of the classes' medians.")
    ] = Rule.median,
    seed: Seed = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Show accuracy over test individuals against K, beside what is possible at all (oracle) and what read depth would give (baseline).

    With --drop-contigs the curve of the whole genome stands beside that of the ablation.

    Example:

        basewise trait curve run cohort --K 50,100,300,1000 --repeats 200 --drop-contigs X,Y -o curve
    """
    import pandas as pd

    from basewise.files import atomic_path, prepare_output_folder, write_json
    from basewise.inference.trait import ablated, confusion, curve_inputs
    from basewise.inference.trait import curve as sweep
    from basewise.report.trait import CONFUSION, CURVE, write_curve_report

    try:
        steps = sorted({int(part) for part in depths.split(",")})
    except ValueError as error:
        raise BasewiseError(f"--K {depths!r}: expected whole numbers, comma-separated") from error
    if not steps or steps[0] < 1:
        raise BasewiseError(f"--K {depths!r}: expected numbers of 1 or more")
    classifier, recipe, opened, settings = _open(run, cohort, None)
    size = pool or recipe.chunks.pool
    variants = {"whole genome": settings}
    for part in _list(drop_contigs):
        variants[f"without {part}"] = ablated(settings, opened, [part])
    prepare_output_folder(output, force=force)
    tables, confused = [], []
    people = len(opened.members("val")) + len(opened.members("test"))
    with _bar("chunks", len(variants) * people * size) as advance:
        for name, these in variants.items():
            inputs = curve_inputs(classifier, opened, these, pool=size, groups=groups, seed=seed, device=device, advance=advance)
            tables.append(sweep(inputs, steps, repeats, seed, threshold_rule.value).assign(genome=name))
            confused.append(confusion(inputs, steps, repeats, seed, opened.labels, threshold_rule.value).assign(genome=name))
    table = pd.concat(tables, ignore_index=True)
    for name, rows in ((CURVE, table), (CONFUSION, pd.concat(confused, ignore_index=True))):
        with atomic_path(output / name) as path:
            rows.to_csv(path, sep="\t", index=False, float_format="%.6g")
    asked = {"pool": size, "groups": groups, "repeats": repeats, "threshold_rule": threshold_rule.value}
    write_json(output / "run.json", _about("curve", classifier, cohort, settings, seed, **asked))
    write_curve_report(output)
    _show(table[table["species"] == "all"])
    typer.echo(f"wrote {output}")


@app.command()
def evidence(
    run: Run,
    cohort: CohortFolder,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write: contigs.tsv, chunks.parquet, top.bed, report.html ...")],
    split: Annotated[str, typer.Option("--split", help="Whose chunks: train, val, test or all.")] = "test",
    pool: Annotated[int | None, typer.Option("--pool", min=1, help="Chunks of an individual.  [default: the recipe's]")] = None,
    groups: Annotated[int, typer.Option("--groups", min=1, help="Groups made of them.")] = 2000,
    top: Annotated[int, typer.Option("--top", min=1, help="Chunks in top.bed, those of the largest effect.")] = 500,
    seed: Seed = 0,
    device: Device = "cpu",
    force: Force = False,
) -> None:
    """Say which chunks decided: attention and gradient of each, on the reference where that is known, and enrichment by contig.

    Example:

        basewise trait evidence run cohort -o evidence
    """
    from basewise.files import atomic_path, prepare_output_folder, write_json
    from basewise.genome.tables import write_parquet
    from basewise.inference.evidence import evidence as weigh
    from basewise.report.trait import write_evidence_report

    classifier, recipe, opened, settings = _open(run, cohort, None)
    rows = opened.members(split)
    size = pool or recipe.chunks.pool
    prepare_output_folder(output, force=force)
    with _bar("chunks", len(rows) * size) as advance:
        found = weigh(classifier, opened, settings, rows, pool=size, groups=groups, seed=seed, device=device, advance=advance)
    write_parquet(found.chunks, output / "chunks.parquet")
    with atomic_path(output / "contigs.tsv") as path:
        found.contigs.assign(label=[opened.labels[i] for i in found.contigs["label"]]).to_csv(
            path, sep="\t", index=False, float_format="%.6g"
        )
    if (found.chunks["reference_start"] >= 0).all():
        best = found.chunks.iloc[(-found.chunks["effect"].abs()).argsort(kind="stable")[:top]]
        best = best.sort_values(["contig", "reference_start"], kind="stable")
        best = best.assign(reference_end=best["reference_start"] + best["end"] - best["start"])  # a short contig gives a short chunk
        with atomic_path(output / "top.bed") as path, path.open("w", encoding="utf-8") as stream:
            for line in best.itertuples():
                stream.write(f"{line.contig}\t{line.reference_start}\t{line.reference_end}\t{line.sample}\t{line.effect:.6g}\t.\n")
    write_json(output / "run.json", _about("evidence", classifier, cohort, settings, seed, pool=size, groups=groups))
    write_evidence_report(output)
    _show(found.contigs.assign(label=[opened.labels[i] for i in found.contigs["label"]]))
    typer.echo(f"wrote {output}")


def _open(run: Path, cohort: Path, drop: str | None) -> Any:
    from basewise.backbones.classifier import load_classifier
    from basewise.datasets.cohort import open_cohort
    from basewise.inference.trait import chunk_settings
    from basewise.recipes.schema import load_recipe

    if not (run / "recipe.toml").is_file():
        raise BasewiseError(f"{run} is no run folder (no recipe.toml in it); make one with `basewise train RECIPE --data COHORT -o {run}`")
    classifier = load_classifier(run)
    if classifier.config.kind != "individual":
        raise BasewiseError(
            f'{run} answers about single sequences (kind "{classifier.config.kind}"), expected a run on a cohort; ask it with '
            "`basewise predict` or `scan`"
        )
    recipe, opened = load_recipe(run / "recipe.toml"), open_cohort(cohort)
    if opened.labels != tuple(classifier.config.labels):
        raise BasewiseError(f"{cohort} has labels {', '.join(opened.labels)}, {run} answers {', '.join(classifier.config.labels)}")
    return classifier, recipe, opened, chunk_settings(recipe, opened, drop=_list(drop))


def _about(kind: str, classifier: Any, cohort: Path, settings: Any, seed: int, **facts: Any) -> dict[str, Any]:
    """Return run.json: what was asked of which model about which cohort."""
    from basewise.provenance import provenance

    config = classifier.config
    chunks = {"count": settings.count, "length": settings.length}
    return provenance(
        kind=f"trait {kind}",
        task=config.task,
        labels=list(config.labels),
        chunks=chunks,
        model_sha256=classifier.sha256,
        cohort=str(cohort),
        seed=seed,
        **facts,
    )


def _list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _bar(what: str, total: int) -> Any:
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import Progress

    @contextmanager
    def bar() -> Any:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.advance(task, count)

    return bar()


def _show(table: Any) -> None:
    typer.echo(table.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
