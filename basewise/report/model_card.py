"""What is known about a model from data it was not trained on, for pages that show its answers."""

from pathlib import Path

from basewise.errors import BasewiseError
from basewise.files import sha256_of
from basewise.report.page import Block, Note, Prose
from basewise.report.results import METRICS, Results, metric_table, read_results
from basewise.zoo import folder as zoo_folder
from basewise.zoo import names as zoo_names

_SHOWN = ("auroc", "auprc", "precision", "recall", "precision_at_recall_0.1", "precision_at_recall_0.3", "precision_at_recall_0.5", "ece")


def held_out_blocks(name: str, sha256: str | None, model_folder: str | Path | None = None) -> tuple[Block, ...]:
    """Return the held-out results of model `name` as blocks, or a note that none are known.

    They are read from results.json beside the model's weights, or one folder above (a run). The weights must have the checksum
    `sha256`: results of other weights of that name are not shown.
    """
    results = find_results(name, sha256, model_folder)
    if results is None or "test" not in results.splits:
        return (
            Note(
                f"No held-out results were found beside the model {name}: this page cannot say how often its calls are right. "
                "Evaluate it on labelled data of the same species (basewise evaluate) before relying on them."
            ),
        )
    test = results.splits["test"]
    precision, recall = test.metrics.get("precision"), test.metrics.get("recall")
    said = ""
    if precision and recall and precision.value is not None and recall.value is not None and test.threshold is not None:
        said = (
            f" At the model's own threshold ({test.threshold:.3g}) {100 * precision.value:.0f} % of its calls were annotated "
            f"sites, and it found {100 * recall.value:.0f} % of the sites that were there to be found."
        )
    share = (
        f", {test.n_positive:,} of them positive ({100 * test.prevalence:.2g} %)" if test.n_positive is not None and test.prevalence else ""
    )
    shown = test.model_copy(update={"metrics": {key: test.metrics[key] for key in METRICS if key in test.metrics and key in _SHOWN}})
    return (
        Prose(f"On test data that neither training nor any choice saw ({test.n:,} examples{share}) the model was judged as follows.{said}"),
        metric_table(
            shown, f"Model {name} on its test data, with 95 % bootstrap intervals. They hold for such data and that share of positives."
        ),
    )


def find_results(name: str, sha256: str | None, model_folder: str | Path | None = None) -> Results | None:
    """Return the results that belong to the weights with `sha256`, or None where there are none."""
    if model_folder is None:
        if name not in zoo_names():
            return None
        model_folder = zoo_folder(name)
    model = Path(model_folder)
    weights = next((path for path in (model / "model.safetensors", model / "model" / "model.safetensors") if path.is_file()), None)
    if weights is None:
        raise BasewiseError(f"{model} holds no model.safetensors, expected a model folder or a run folder")
    if sha256 is not None and sha256_of(weights) != sha256:
        return None
    places = (
        (weights.parent / "results.json", weights.parent.parent / "results.json")
        if weights.parent.name == "model"
        else (model / "results.json",)
    )
    found = next((path for path in places if path.is_file()), None)
    return None if found is None else read_results(found)
