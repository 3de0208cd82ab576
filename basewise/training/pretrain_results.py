"""From the best weights of a pretraining to a run that speaks for itself: the held-out loss beside what a Markov chain knows."""

import shutil
from typing import TYPE_CHECKING, Any

from basewise.backbones.folders import load_backbone, save_backbone
from basewise.evaluation.markov import fit_markov
from basewise.files import atomic_path, sha256_of, write_json
from basewise.provenance import provenance
from basewise.training import runs
from basewise.training.finish import compare
from basewise.training.next_base import UNIFORM, as_language_model, foresee, markov_foresees
from basewise.training.train import recipe_hash
from basewise.training.windows import tiles

if TYPE_CHECKING:
    from basewise.training.pretrain import Pretraining

PIECE = 1 << 22  # bases of a contig that are counted at a time


def finish(state: "Pretraining") -> dict[str, Any]:
    """Write model/, results.json, README.md and, last, run.json; then checkpoints go. Returns what results.json holds."""
    recipe, now, folder = state.recipe, state.progress, state.folder
    backbone: Any = state.model.backbone
    backbone.load_state_dict(runs.load_best(folder, now.best_step))
    origin = {"recipe": recipe.name, "genome": state.genome.name, "genome_sha256": state.genome.sha256(), "licence": ""}
    if (folder / "model").exists():  # killed while finishing
        shutil.rmtree(folder / "model")
    save_backbone(backbone, state.tokenizer, folder / "model", origin, half=state.settings.half)
    splits = _judge(state)
    results = {
        "recipe": recipe.name,
        "kind": "pretrain",
        "backbone": recipe.backbone.name,
        "parameters": sum(p.numel() for p in backbone.parameters()),
        "steps": now.step,
        "stopped_early": now.stopped,
        "bases_read": now.step * state.plan.group * state.settings.length,
        "best": {"step": now.best_step, "metric": "loss", "value": now.best_value},
        "genome": {
            "name": state.genome.name,
            "train_bases": state.source.bases,
            "contigs": {split: list(names) for split, names in state.contigs.items()},
        },
        "splits": splits,
        "expected": compare(recipe, splits),
    }
    write_json(folder / "results.json", results)
    card = model_card(state, results)
    for path in (folder / "README.md", folder / "model" / "README.md"):
        with atomic_path(path) as temporary:
            temporary.write_text(card, encoding="utf-8")
    about = {"seed": recipe.train.seed, "recipe_sha256": recipe_hash(recipe), **origin}
    digest = sha256_of(folder / "model" / "model.safetensors")
    write_json(folder / "run.json", provenance(kind="pretrain", model_sha256=digest, seconds=now.seconds, **about))
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return results


def _judge(state: "Pretraining") -> dict[str, Any]:
    """Return for splits "val" and "test" what the stored weights (in float32) and a Markov chain of the training contigs foresee."""
    settings, genome = state.settings, state.genome
    held_out = {split: tiles(genome, state.contigs[split], settings.length) for split in ("val", "test") if state.contigs[split]}
    if not held_out:
        return {}
    model = as_language_model(load_backbone(state.folder / "model")[0], state.folder)
    pieces = (
        genome.fetch(name, start, min(start + PIECE, genome.contigs[name]))
        for name in state.contigs["train"]
        for start in range(0, genome.contigs[name], PIECE)
    )
    chain = fit_markov(pieces, settings.markov_order, both_strands=settings.strands == "both")
    verdicts = {}
    for split, windows in held_out.items():
        size, device = state.eval_batch_size, state.placement.device
        own = foresee(model, state.tokenizer, genome, windows, settings, batch_size=size, device=device)
        markov = markov_foresees(chain, genome, windows, settings)
        verdicts[split] = {
            "n": own.bases,
            "metrics": {name: {"value": value} for name, value in own.metrics().items()},
            "markov": {"order": settings.markov_order, **markov.metrics()},
            "uniform": UNIFORM,
        }
    return verdicts


def model_card(state: "Pretraining", results: dict[str, Any]) -> str:
    """Return the README.md of a pretraining: what it is, data, losses, limits, how to rebuild."""
    recipe, settings = state.recipe, state.settings
    contigs = results["genome"]["contigs"]
    kept = f"kept: step {results['best']['step']} of {results['steps']}"
    by = ", by the loss on the validation contigs" if contigs["val"] else " (the last: no validation contigs)"
    strands = "both strands" if settings.strands == "both" else "the forward strand"
    lines = [
        f"# {recipe.name}",
        "",
        f"A {state.model.backbone.family} backbone ({recipe.backbone.name}) of {results['parameters']:,} parameters, pretrained on DNA.",
        "",
        f"- asked for the next base of windows of {settings.length:,} bases, {results['bases_read']:,} bases in all, {strands}",
        f"- soft mask: {settings.soft_mask}; at most {settings.max_n:.0%} N a window, N never scored",
        f"- {kept}{by}",
        f"- weights at the start: {recipe.backbone.init}" + ("; stored as float16" if settings.half else ""),
        "",
        "## Data",
        "",
        f"- genome {results['genome']['name']}, {results['genome']['train_bases']:,} training bases",
        *(f"- {split}: {', '.join(names) or 'none'}" for split, names in contigs.items()),
        "",
        "## Loss on contigs it was not trained on",
        "",
        "Nats a base, forward strand, windows one after another; all on the same bases.",
        "",
        f"| split | bases | this model | accuracy | Markov chain of order {settings.markov_order} | uniform |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for split, verdict in results["splits"].items():
        m = verdict["metrics"]
        cells = [m["nats"]["value"], m["accuracy"]["value"], verdict["markov"]["nats"], verdict["uniform"]]
        text = " | ".join("undefined" if cell is None else f"{cell:.4f}" for cell in cells)
        lines.append(f"| {split} | {verdict['n']:,} | {text} |")
    if recipe.source is not None:
        lines += ["", f"Source: {recipe.source.paper} {recipe.source.table}".rstrip(), "", recipe.source.notes]
    lines += ["", "Rebuild: `basewise pretrain recipe.toml --genome FASTA -o RUN` with the recipe.toml in this run's folder.", ""]
    return "\n".join(lines)
