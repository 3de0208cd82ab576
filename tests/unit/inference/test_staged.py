"""First stages and half precision: what is dropped and scored again, that calls stay, and that no way of working shows."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from basewise.backbones import pyramid
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier, save_classifier
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.genome.tracks import read_bigwig
from basewise.inference import engine, staged
from basewise.inference.first_stage import FOLDER, Config, FirstStage, Measured, code_windows, load_first_stage, save_first_stage
from basewise.inference.merge_shards import merge_shards
from basewise.inference.scan import ScanOptions, scan
from basewise.inference.watcher import Silent
from basewise.report.scan import write_scan_report
from basewise.report.scan_summary import read_summary
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import randomize, tiny_classifier
from basewise.training import first_stage as training
from basewise.training.first_stage import Settings, train_first_stage

FILES = ("candidates.parquet", "sites.bed.gz", "plus.bw", "minus.bw")
SMALL = {"width": 6, "stem_kernel": 5, "kernel": 3, "dilations": (1, 2), "join": 1, "coarse_widths": (4, 5), "coarse_dilations": (1, 2)}


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 512)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
    monkeypatch.setattr(training, "CHUNK", 512)
    monkeypatch.setattr(training, "_LEAST_CALLS", 10)


def tiny_pyramid():
    config = pyramid.Config.model_validate({**SMALL, "spread": 3, "members": 2})
    settings = ClassifierConfig(task="polya", kind="base", window=2 * config.reach + 1, special_tokens=False)
    classifier = Classifier(settings, randomize(pyramid.Model(config), 1), CharacterTokenizer("none"))
    randomize(classifier.head, 2)
    return classifier.eval()


MODELS = {
    "hyenadna": lambda: tiny_classifier(family="hyenadna", window=101),
    "convnet": lambda: tiny_classifier(window=101),
    "pyramid": tiny_pyramid,
}


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    write_fasta(path, random_genome(3, {"a": 9000, "b": 6000, "c": 6000, "short": 50}, n_runs=3, at=0.7))
    return path


@pytest.fixture(params=list(MODELS))
def model(request, genome, tmp_path):
    """A model folder whose threshold calls about one candidate in ten."""
    classifier = MODELS[request.param]()
    save_classifier(classifier, tmp_path / "model")
    scan(options(genome, tmp_path / "model", tmp_path / "first"))
    probability = table(tmp_path / "first")["probability"].to_numpy()
    classifier.config = classifier.config.model_copy(update={"threshold": float(np.quantile(probability, 0.9))})
    shutil.rmtree(tmp_path / "first")
    return save_classifier(classifier, tmp_path / "model")


def options(genome, model, out, **settings):
    return ScanOptions(genome, out, str(model), workers=1, **settings)


def table(out):
    return pq.read_table(out / "candidates.parquet")


def contents(out):
    return {name: (out / name).read_bytes() for name in FILES}


def first_stage(model, *, recall=1.0, context=0, **settings):
    """Give the model a random first stage that keeps about half of all candidates."""
    measured = Measured(contigs=("c",), candidates=100, calls=10, recall=recall, kept=0.5)
    classifier = load_classifier(model)
    values = {"threshold": classifier.config.threshold, "model_sha256": classifier.sha256, "held_out": measured, **settings}
    stage = FirstStage(Config(window=61, context=context, **values))
    generator = torch.Generator().manual_seed(1)
    for name, parameter in stage.named_parameters():
        torch.nn.init.normal_(parameter, std=0.01 if name.startswith(("around", "direct")) else 0.3, generator=generator)
    with torch.no_grad():
        guesses = stage(torch.randint(0, 4, (512, 61), generator=generator), torch.zeros(512, context) if context else None)
    stage.config = stage.config.model_copy(update={"cut": float(guesses.median())})
    save_first_stage(stage, model)
    return stage


def test_bf16_calls_what_fp32_calls(model, genome, tmp_path):
    plain = scan(options(genome, model, tmp_path / "fp32"))
    half = scan(options(genome, model, tmp_path / "bf16", precision="bf16"))
    assert (tmp_path / "fp32" / "sites.bed.gz").read_bytes() == (tmp_path / "bf16" / "sites.bed.gz").read_bytes()
    first, second = (table(tmp_path / name)["probability"].to_numpy() for name in ("fp32", "bf16"))
    called = first >= np.float32(plain.summary["threshold"])
    assert 0.05 < called.mean() < 0.15
    np.testing.assert_array_equal(first[called], second[called])
    assert (first != second).any()
    told = half.summary["precision"]
    assert called.sum() <= told["rescored"] < len(called)
    assert 0 < told["largest_difference"] <= staged.MARGIN / 2
    assert plain.summary["precision"] == {"name": "fp32", "margin": None}
    again = scan(options(genome, model, tmp_path / "again", precision="bf16", tile_size=1, batch_size=1))
    assert contents(tmp_path / "again") == contents(tmp_path / "bf16")
    assert again.summary["precision"] == told


def test_bf16_that_is_too_far_off_stops_the_scan(genome, tmp_path, monkeypatch):
    save_classifier(tiny_classifier(window=101, threshold=0.0), tmp_path / "model")
    monkeypatch.setattr(staged, "MARGIN", 1e-5)
    with pytest.raises(BasewiseError, match=r"logits in bf16 are off by .*leave out --precision bf16"):
        scan(options(genome, tmp_path / "model", tmp_path / "out", precision="bf16"))


def test_precisions_are_checked(genome, tmp_path):
    save_classifier(tiny_classifier(family="hyenadna", window=101, strands="both"), tmp_path / "model")
    with pytest.raises(BasewiseError, match=r"no faster form in bfloat16.*use --precision fp32"):
        scan(options(genome, tmp_path / "model", tmp_path / "out", precision="bf16"))
    with pytest.raises(BasewiseError, match=r"--precision is 'fp8', expected fp32 or bf16"):
        scan(options(genome, tmp_path / "model", tmp_path / "out", precision="fp8"))
    assert not (tmp_path / "out").exists()


def test_a_resumed_scan_keeps_its_precision(genome, tmp_path):
    save_classifier(tiny_classifier(window=101), tmp_path / "model")

    class StopError(Exception):
        pass

    class Watcher(Silent):
        def advance(self, bases, candidates):
            raise StopError

    with pytest.raises(StopError):
        scan(options(genome, tmp_path / "model", tmp_path / "out", tile_size=1), Watcher())
    with pytest.raises(BasewiseError, match="precision was none, is bf16"):
        scan(options(genome, tmp_path / "model", tmp_path / "out", tile_size=1, precision="bf16"))


@pytest.mark.parametrize("name", ["hyenadna", "pyramid"])
def test_a_first_stage_drops_candidates_and_changes_no_other(name, genome, tmp_path):
    model = save_classifier(MODELS[name](), tmp_path / "model")
    context = 12 if name == "pyramid" else 0
    first_stage(model, context=context)
    exact = scan(options(genome, model, tmp_path / "exact", exact=True))
    done = scan(
        options(genome, model, tmp_path / "out"), report=lambda folder: write_scan_report(folder, genome=genome, model_folder=model)
    )
    everything, kept = table(tmp_path / "exact"), table(tmp_path / "out")
    assert everything.drop_columns("probability").equals(kept.drop_columns("probability"))
    scored = kept["probability"].is_valid().to_numpy(zero_copy_only=False)
    assert 0.05 < scored.mean() < 0.95
    np.testing.assert_array_equal(everything["probability"].to_numpy()[scored], kept["probability"].to_numpy()[scored])
    told = done.summary["first_stage"]
    assert told == {"used": True, "recall": 1.0, "calls": 10, "contigs": ["c"], "dropped": int((~scored).sum())}
    assert exact.summary["first_stage"] == {"used": False, "why": "asked for --exact"}
    assert sum(done.summary["probabilities"]["candidates"]) == scored.sum()
    on_plus = scored & (np.array(kept["strand"].to_pylist()) == "+") & (np.array(kept["chrom"].to_pylist()) == "a")
    (_, positions, _), *_ = read_bigwig(tmp_path / "out" / "plus.bw", "a")
    np.testing.assert_array_equal(positions, kept["position"].to_numpy()[on_plus])
    assert "first stage" in (tmp_path / "out" / "report.html").read_text()
    assert read_summary(tmp_path / "out").first_stage == told
    for number, settings in enumerate([{"tile_size": 1}, {"batch_size": 1, "tile_size": 4096}]):
        scan(options(genome, model, tmp_path / str(number), **settings))
        assert contents(tmp_path / str(number)) == contents(tmp_path / "out")
    for shard in ("1/2", "2/2"):
        scan(options(genome, model, tmp_path / f"part{shard[0]}", shard=shard, tile_size=1))
    merged = merge_shards([tmp_path / "part1", tmp_path / "part2"], tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "out")
    assert merged.summary["first_stage"] == told


def test_a_first_stage_before_bf16(genome, tmp_path):
    model = save_classifier(MODELS["hyenadna"](), tmp_path / "model")
    first_stage(model)
    plain, half = (scan(options(genome, model, tmp_path / name, precision=name)) for name in ("fp32", "bf16"))
    assert plain.summary["first_stage"] == half.summary["first_stage"]
    assert (tmp_path / "fp32" / "sites.bed.gz").read_bytes() == (tmp_path / "bf16" / "sites.bed.gz").read_bytes()


@pytest.mark.parametrize(
    ("change", "settings", "why"),
    [
        ({"recall": 0.99}, {}, "kept 0.99 of the calls on held-out contigs, 0.995 are wanted"),
        ({"held_out": None}, {}, "kept None of the calls"),
        ({}, {"threshold": 0.4}, "threshold 0.4 is below 0.5, at which it was measured"),
        ({}, {"exact": True}, "asked for --exact"),
    ],
)
def test_when_a_first_stage_is_left_out(genome, tmp_path, change, settings, why):
    model = save_classifier(tiny_classifier(family="hyenadna", window=101), tmp_path / "model")
    first_stage(model, **change)
    done = scan(options(genome, model, tmp_path / "out", **settings))
    assert done.summary["first_stage"]["why"].startswith(why)
    assert table(tmp_path / "out")["probability"].null_count == 0


def test_first_stages_that_do_not_fit_are_refused(genome, tmp_path):
    model = save_classifier(tiny_classifier(family="hyenadna", window=101), tmp_path / "model")
    first_stage(model, model_sha256="0" * 64)
    with pytest.raises(BasewiseError, match=r"was made for weights 000000000000, the model has .*--exact"):
        scan(options(genome, model, tmp_path / "out"))
    path = model / FOLDER / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": "other"}))
    with pytest.raises(BasewiseError, match="make it anew with basewise first-stage"):
        load_first_stage(model, None)
    model = save_classifier(tiny_pyramid(), tmp_path / "pyramid")
    first_stage(model, context=12)
    with pytest.raises(BasewiseError, match="leave out --precision bf16, or add --exact"):
        scan(options(genome, model, tmp_path / "out", precision="bf16"))
    scan(options(genome, model, tmp_path / "out", precision="bf16", exact=True))


def test_nan_of_a_model_is_not_taken_for_dropped(genome, tmp_path, monkeypatch):
    model = save_classifier(tiny_classifier(family="hyenadna", window=101), tmp_path / "model")
    first_stage(model)
    monkeypatch.setattr(Classifier, "probabilities", lambda self, logits: np.full(len(logits), np.nan, np.float32))
    with pytest.raises(BasewiseError, match="not a number"):
        scan(options(genome, model, tmp_path / "out"))


def test_windows_read_their_strand():
    bases = np.frombuffer(b"ACGTNacgtTTTGGGCCCAAA", np.uint8)
    windows = code_windows(bases, np.array([3, 10, 17]), np.array([1, -1, 1], np.int8), 7)
    assert windows.tolist() == [[0, 1, 2, 3, 4, 0, 1], [1, 1, 0, 0, 0, 0, 1], [2, 1, 1, 1, 0, 0, 0]]


@pytest.mark.parametrize("name", ["hyenadna", "pyramid"])
def test_a_first_stage_is_learnt_from_its_model(name, genome, tmp_path):
    classifier = MODELS[name]()
    model = save_classifier(classifier, tmp_path / "model")
    scan(options(genome, model, tmp_path / "all"))
    threshold = float(np.quantile(table(tmp_path / "all")["probability"].to_numpy(), 0.8))
    classifier.config = classifier.config.model_copy(update={"threshold": threshold})
    save_classifier(classifier, model)
    lines: list[str] = []
    settings = Settings(steps=60, window=61, aim=0.95)
    stage = train_first_stage(str(model), open_genome(genome), choose=["b"], hold_out=["c"], settings=settings, say=lines.append)
    again = train_first_stage(str(model), open_genome(genome), choose=["b"], hold_out=["c"], settings=settings)
    assert stage.config == again.config
    assert stage.config.context == (12 if name == "pyramid" else 0)
    chosen, held_out = stage.config.chosen_on, stage.config.held_out
    assert chosen.contigs == ("b",)
    assert chosen.recall >= 0.95
    if name == "pyramid":
        assert chosen.kept < 0.9  # it learnt something, chance would keep 95 %; random filters of a HyenaDNA are no short question
    stored = load_first_stage(model, classifier.sha256)
    assert stored.config == stage.config
    # what it was measured to keep is what a scan keeps
    stored.config = stored.config.model_copy(update={"held_out": held_out.model_copy(update={"recall": 1.0})})
    save_first_stage(stored, model)
    exact, done = (scan(options(genome, model, tmp_path / name, exact=name == "exact")) for name in ("exact", "out"))
    rows = np.array(table(tmp_path / "out")["chrom"].to_pylist()) == "c"
    kept = table(tmp_path / "out")["probability"].is_valid().to_numpy(zero_copy_only=False)[rows]
    called = table(tmp_path / "exact")["probability"].to_numpy()[rows] >= np.float32(threshold)
    assert (rows.sum(), called.sum()) == (held_out.candidates, held_out.calls)
    assert kept.mean() == pytest.approx(held_out.kept)
    assert kept[called].mean() == pytest.approx(held_out.recall)
    assert done.summary["first_stage"]["dropped"] < exact.summary["totals"]["candidates"]
    assert len(lines) == 4


def test_training_refuses_in_one_line(genome, tmp_path):
    model = str(save_classifier(tiny_classifier(family="hyenadna", window=101, threshold=1.0), tmp_path / "model"))
    settings = Settings(steps=1, window=61)
    with pytest.raises(BasewiseError, match="every contig may be in one of"):
        train_first_stage(model, open_genome(genome), choose=["b"], hold_out=["b"], settings=settings)
    with pytest.raises(BasewiseError, match="calls 0 candidates on b, expected at least"):
        train_first_stage(model, open_genome(genome), choose=["b"], hold_out=["c"], settings=settings)
    with pytest.raises(BasewiseError, match="there is no candidate on short"):
        train_first_stage(model, open_genome(genome), choose=["b"], hold_out=["c"], train=["short"], settings=settings)
    dense = str(save_classifier(tiny_classifier(window=101), tmp_path / "dense"))
    with pytest.raises(BasewiseError, match="reads whole stretches at once"):
        train_first_stage(dense, open_genome(genome), choose=["b"], hold_out=["c"], settings=settings)
