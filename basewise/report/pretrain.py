"""The page of a pretraining: how well the next base of contigs it never read is foreseen, beside what a Markov chain knows."""

from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.provenance import provenance
from basewise.report.origin import origin_section
from basewise.report.page import Block, Chapter, Fact, Facts, Points, Section, Tile, Tiles
from basewise.report.results import Best, Results
from basewise.report.run import SPLIT_NAMES, read_recipe, training_blocks
from basewise.report.tables import Column, Table

COLUMNS = (
    Column("Contigs"),
    Column("Bases", "number"),
    Column("This model, nats", "number", 4),
    Column("bits", "number", 4),
    Column("accuracy", "number", 4),
    Column("Markov chain, nats", "number", 4),
    Column("accuracy", "number", 4),
    Column("Uniform, nats", "number", 4),
)
LIMITS = (
    "A base is foreseen from those before it in its window only, so that the first ones of a window are harder.",
    "Repeats are foreseen best: a lower loss does not by itself make a better start for a question about genes.",
)


def is_pretraining(folder: Path) -> bool:
    """Tell whether `folder` is a finished run of basewise pretrain."""
    results = folder / "results.json"
    value = read_json(results) if results.is_file() else None
    return isinstance(value, dict) and value.get("kind") == "pretrain"


def pretrain_chapter(run_folder: str | Path) -> Chapter:
    """Return what the pretraining in `run_folder` has to say."""
    folder = Path(run_folder)
    results, recipe = read_json(folder / "results.json"), read_recipe(folder / "recipe.toml")
    run = folder / "run.json"
    facts: dict[str, Any] = read_json(run) if run.is_file() else provenance()
    try:
        sections = _sections(folder, results, recipe)
        lead = _lead(results)
    except (KeyError, TypeError) as error:
        raise BasewiseError(f"{folder / 'results.json'} holds no results of basewise pretrain: {error} is missing or wrong") from error
    weights = facts.get("model_sha256")
    origin = origin_section(facts, [("Model weights", "model/model.safetensors", weights)] if weights else [])
    return Chapter("Pretraining", str(results["recipe"]), lead, (*sections, origin))


def _lead(results: dict[str, Any]) -> str:
    test = results["splits"].get("test")
    size = f"A backbone of {results['parameters']:,} parameters"
    if test is None or test["metrics"]["nats"]["value"] is None:
        return f"{size}, not judged on contigs it never read."
    return (
        f"{size} foresees the next base of {test['n']:,} bases it never read with {test['metrics']['nats']['value']:.4f} nats a base; "
        f"a Markov chain of order {test['markov']['order']} needs {test['markov']['nats']:.4f}, guessing {test['uniform']:.4f}."
    )


def _sections(folder: Path, results: dict[str, Any], recipe: dict[str, Any]) -> list[Section]:
    rows: list[tuple[Any, ...]] = []
    for split, verdict in sorted(results["splits"].items()):
        own, markov = verdict["metrics"], verdict["markov"]
        numbers = [own[name]["value"] for name in ("nats", "bits", "accuracy")]
        rows.append((SPLIT_NAMES.get(split, split), verdict["n"], *numbers, markov["nats"], markov["accuracy"], verdict["uniform"]))
    numbers_of_it: list[Block] = []
    test = results["splits"].get("test")
    if test is not None and test["metrics"]["nats"]["value"] is not None:
        tiles = (
            Tile("Nats a base", f"{test['metrics']['nats']['value']:.4f}", f"{test['n']:,} test bases"),
            Tile("Markov chain", f"{test['markov']['nats']:.4f}", f"order {test['markov']['order']}"),
            Tile("Uniform", f"{test['uniform']:.4f}", "ln 4"),
            Tile("Bases read", f"{results['bases_read']:,}", f"{results['steps']:,} steps"),
        )
        numbers_of_it.append(Tiles(tiles))
    if rows:
        numbers_of_it.append(Table("The loss on held-out contigs, all on the same bases.", COLUMNS, rows, "losses"))
    contigs, settings = results["genome"]["contigs"], recipe.get("pretrain", {})
    asked = [
        Fact("Backbone", f"{results['backbone']}, weights at the start: {recipe.get('backbone', {}).get('init', 'random')}"),
        Fact("Genome", f"{results['genome']['name']}, {results['genome']['train_bases']:,} training bases"),
        *(Fact(SPLIT_NAMES.get(split, split), ", ".join(names) or "none") for split, names in contigs.items()),
        Fact("Windows", ", ".join(f"{key} {value}" for key, value in settings.items())),
    ]
    shown = Results.model_validate({**results, "threshold": 0.0, "splits": {}, "best": Best.model_validate(results["best"])})
    return [
        *([Section("numbers", "Key numbers", tuple(numbers_of_it))] if numbers_of_it else []),
        Section("asked", "What was asked", (Facts(tuple(asked)),)),
        Section("training", "How it was trained", training_blocks(folder, "nats a base", shown)),
        Section("limits", "Limits", (Points(LIMITS),)),
    ]
