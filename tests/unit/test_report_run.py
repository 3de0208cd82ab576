"""The page of a run: values as in results.json, curves from predictions.parquet, both kinds, and torn folders."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from basewise.errors import BasewiseError
from basewise.evaluation.judge import judge
from basewise.report.compare import compare_chapter
from basewise.report.page import render_page
from basewise.report.run import read_predictions, write_run_report

RECIPE = """name = "{name}"
task = "polya"
[data]
split = "random"
variant = "clean"
[backbone]
name = "convnet"
[train]
epochs = 3
lr = 1e-3
"""


def write_run(folder, name="toy", kind="sequence", n=400, seed=0, flip=False):
    """Write the files of a finished run, with verdicts computed from its predictions."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    tables, splits = [], {}
    for split in ("val", "test"):
        y = rng.integers(0, 2, n)
        p = 1 / (1 + np.exp(-rng.normal(2 * y - 1, 1.5)))
        splits[split] = judge(y, p, 0.5, bootstrap=20)
        label, probability = y, p.astype(np.float32)
        if kind == "base":  # rows of 4 bases, of which a fifth is not scored
            label = [[*map(int, row), -1] for row in y.reshape(-1, 4)]
            probability = [[*map(float, row), 0.5] for row in p.reshape(-1, 4)]
        tables.append(pd.DataFrame({"split": split, "label": list(label), "probability": list(probability)}))
    results = {
        "recipe": name,
        "kind": kind,
        "parameters": 12_345,
        "steps": 300,
        "stopped_early": True,
        "best": {"step": 200, "metric": "auroc", "value": 0.9},
        "threshold": 0.5,
        "splits": splits,
        "expected": [{"metric": "auroc", "value": 0.5, "tolerance": 0.01, "source": "Table <1>", "status": "", "reached": 0.9}],
    }
    lines = [{"step": s, "epoch": s / 100, "loss": 0.7 - s / 1000, "lr": 1e-3, "seconds": 1} for s in (100, 200, 300)]
    lines += [{"step": s, "epoch": s / 100, "best_step": s, "validation": {"auroc": 0.8, "loss": 0.4}} for s in (200, 300)]
    pd.concat(tables, ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)
    (folder / "results.json").write_text(json.dumps(results))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.toml").write_text(RECIPE.format(name=name))
    (folder / "run.json").write_text(
        json.dumps({"command": "basewise train <toy>", "basewise": "9.9", "libraries": {}, "model_sha256": "f" * 64})
    )
    return results


@pytest.mark.parametrize("kind", ["sequence", "base"])
def test_values_are_those_of_results_json(tmp_path, kind):
    results = write_run(tmp_path / "run", kind=kind)
    path = write_run_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    page = path.read_text(encoding="utf-8")
    test = results["splits"]["test"]
    auroc = test["metrics"]["auroc"]
    assert f"reaches AUROC {auroc['value']:.3f} ({auroc['low']:.3f}–{auroc['high']:.3f}) on 400 test examples" in page
    tables = [json.loads(text)["rows"] for text in re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)]
    metrics = {row[0]: row[1:4] for row in tables[0]}
    assert metrics["AUPRC"] == [round(test["metrics"]["auprc"][key], 4) for key in ("value", "low", "high")]
    assert metrics["Precision at recall 10 %"][0] == round(test["metrics"]["precision_at_recall_0.1"]["value"], 4)
    assert page.count("<figure") == 8  # three curves a split, loss, validation
    assert page.index('id="test"') < page.index('id="val"')
    assert "Table &lt;1&gt;" in page
    assert "basewise train &lt;toy&gt;" in page
    assert "relatives of test examples were seen in training" in page


def test_predictions_of_bases_are_flattened_without_unscored_ones(tmp_path):
    write_run(tmp_path / "run", kind="base", n=8)
    labels, probabilities = read_predictions(tmp_path / "run" / "predictions.parquet", "test")
    assert labels.shape == probabilities.shape == (8,)
    assert set(labels) <= {0, 1}


def test_one_class_gives_a_note_and_no_curve(tmp_path):
    write_run(tmp_path / "run")
    table = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    table.assign(label=0).to_parquet(tmp_path / "run" / "predictions.parquet", index=False)
    page = write_run_report(tmp_path / "run").read_text(encoding="utf-8")
    assert page.count("one class only") == 2
    assert page.count("<figure") == 2


def test_several_classes_have_a_table_and_no_binary_curve(tmp_path):
    write_run(tmp_path / "run")
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 3, 60), rng.dirichlet([1, 1, 1], 60)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    results["splits"] = {"test": judge(y, p, 0.5, bootstrap=0)}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    pd.DataFrame({"split": "test", "label": y, "probability": p.tolist()}).to_parquet(tmp_path / "run" / "predictions.parquet")
    page = write_run_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "F1, mean of classes" in page
    assert page.count("<figure") == 2


def test_a_run_without_steps_says_so(tmp_path):
    write_run(tmp_path / "run")
    (tmp_path / "run" / "log.jsonl").unlink()
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    results["best"] = {"step": None, "metric": "auroc", "value": None}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    page = write_run_report(tmp_path / "run").read_text(encoding="utf-8")
    assert "left no log of steps" in page
    assert "the only fit" in page


def test_runs_are_compared_on_their_test_data(tmp_path):
    one, two = write_run(tmp_path / "a", "<a>"), write_run(tmp_path / "b", "b", seed=1)
    page = render_page((compare_chapter([tmp_path / "a", tmp_path / "b"]),))
    rows = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])["rows"]
    assert [row[0] for row in rows] == ["<a>", "b"]
    assert [row[4] for row in rows] == [round(r["splits"]["test"]["metrics"]["auroc"]["value"], 4) for r in (one, two)]
    assert "tested on different data" in page  # the numbers of positives differ
    write_run(tmp_path / "c", "c")
    assert "tested on different data" not in render_page((compare_chapter([tmp_path / "a", tmp_path / "c"]),))
    assert compare_chapter([tmp_path / "a"]) is None


TORN = {
    "no results": (lambda run: (run / "results.json").unlink(), "results.json does not exist"),
    "other results": (lambda run: (run / "results.json").write_text('{"overall": 1}'), "recipe: missing; kind: missing"),
    "no predictions": (lambda run: (run / "predictions.parquet").unlink(), "predictions.parquet does not exist"),
    "other columns": (lambda run: pd.DataFrame({"a": [1]}).to_parquet(run / "predictions.parquet"), "lacks one of the columns"),
    "a split is missing": (
        lambda run: pd.DataFrame({"split": ["val"], "label": [1], "probability": [0.5]}).to_parquet(run / "predictions.parquet"),
        "holds no predictions of split 'test'",
    ),
    "a torn log": (lambda run: (run / "log.jsonl").write_text('{"step": 1}\n{"ste'), "line 2 of .*log.jsonl is not valid JSON"),
    "a foreign log": (lambda run: (run / "log.jsonl").write_text("[]\n"), "line 1 of .* has no step"),
    "no recipe": (lambda run: (run / "recipe.toml").unlink(), "recipe.toml does not exist"),
    "a torn recipe": (lambda run: (run / "recipe.toml").write_text("name ="), "is not valid TOML"),
}


@pytest.mark.parametrize(("tear", "message"), TORN.values(), ids=TORN.keys())
def test_a_torn_run_is_refused_in_one_line(tmp_path, tear, message):
    write_run(tmp_path / "run", n=40)
    tear(tmp_path / "run")
    with pytest.raises(BasewiseError, match=message) as caught:
        write_run_report(tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "report.html").exists()
