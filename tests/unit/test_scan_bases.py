"""Scans that answer every base: what the files say, and that no way of working shows in them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from basewise.backbones import convnet
from basewise.backbones.classifier import Classifier, ClassifierConfig, save_classifier
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.evaluation.scoring import score_logits
from basewise.genome.alphabet import N_CODE, codes, reverse_complement
from basewise.genome.fasta import open_genome
from basewise.genome.tracks import read_bigwig
from basewise.inference import engine, scan
from basewise.inference.base_answers import Windows
from basewise.inference.base_merge import INTERVAL_COLUMNS, join_runs
from basewise.inference.inputs import open_inputs
from basewise.inference.merge_shards import merge_shards
from basewise.inference.predict import predict_file, predict_sequences
from basewise.inference.scan import ScanOptions
from basewise.testing.families import tiny_family
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

CONTIGS = {"gi|1|x": 4000, "empty": 0, "short": 40, "chr2": 2100}
DENSE = {"kind": "base", "task": "zdna", "window": 31, "threshold": 0.6}
LONG = {"kind": "base", "task": "zdna", "window": 60, "threshold": 0.5}


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 256)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
    monkeypatch.setattr(scan, "_TILE", {"small": 2048})


MODELS = {
    "dense": lambda: tiny_classifier(**DENSE),
    "windows": lambda: tiny_classifier(family="hyenadna", **LONG),
    "both strands": lambda: tiny_classifier(family="hyenadna", **LONG, strands="both", special_tokens=False),
    "words": lambda: tiny_family("dnabert2", **LONG),
    "sequences": lambda: tiny_classifier(family="hyenadna", task="promoter", window=50),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a genome (N runs, soft-masked, an empty and a short contig) and models."""
    folder = tmp_path_factory.mktemp("bases")
    write_fasta(folder / "g.fa", random_genome(7, CONTIGS, n_runs=3, soft_mask=0.3, at=0.6, iupac=0.01))
    (folder / "r.bed").write_text("gi|1|x\t700\t1900\nchr2\t0\t2100\nchr2\t10\t20\n")
    for name, make in MODELS.items():
        save_classifier(make(), folder / name)
    return folder


def options(place, out, model="dense", **settings):
    return ScanOptions(**{"genome": place / "g.fa", "out": out, "model": str(place / model), "workers": 1, "track_floor": 0.0, **settings})


def contents(out):
    names = [path.name for path in out.iterdir() if path.suffix in (".bw", ".gz", ".tbi")]
    return {name: (out / name).read_bytes() for name in names}, {**json.loads((out / "summary.json").read_text()), "timing": 0}


def track(path):
    """Return {contig: probabilities, NaN where absent}."""
    with_values = {chrom: np.full(length, np.nan, np.float32) for chrom, length in CONTIGS.items()}
    for chrom, positions, values in read_bigwig(path):
        with_values.setdefault(chrom, np.full(positions[-1] + 1, np.nan, np.float32))
        with_values[chrom][positions] = values
    return with_values


def read_intervals(out):
    table = pd.read_csv(out / "intervals.bed.gz", sep="\t")
    assert table.columns.tolist() == ["#chrom", *INTERVAL_COLUMNS[1:]]
    return table.rename(columns={"#chrom": "chrom"})


def reference(classifier, bases, window, stride, strand=1):
    """Return the probability of each base by the plainest way there is: the window in which it stands most centrally, by `score_logits`."""
    earlier = classifier.config.kind == "sequence" and strand > 0  # its base window // 2, as the strand reads
    starts = sorted({*range(0, max(len(bases) - window, 0), stride), max(len(bases) - window, 0)})
    windows = [bases[start : start + window] for start in starts]
    turned = windows if strand > 0 else [reverse_complement(w) for w in windows]
    answers = [classifier.probabilities(logits) for logits in score_logits(classifier, turned)]
    result = np.empty(len(bases), np.float32)
    for base in range(len(bases)):
        away = [abs(base + 0.5 - (start + window / 2)) for start in starts]
        row = int(np.argmin(away)) if earlier else len(away) - 1 - int(np.argmin(away[::-1]))  # else of equally central ones the later
        within = base - starts[row]
        p = np.atleast_1d(answers[row])
        result[base] = p[0] if len(p) == 1 else p[within if strand > 0 else len(windows[row]) - 1 - within]
    return result


@pytest.mark.parametrize("name", ["windows", "both strands", "words", "sequences"])
@pytest.mark.parametrize("strand", ["+", "-"])
def test_windows_answer_the_bases_at_their_center(place, tmp_path, name, strand):
    classifier = MODELS[name]()
    window = classifier.config.window
    scan.scan(options(place, tmp_path / "out", name, strands="each"))
    found = track(tmp_path / "out" / ("plus.bw" if strand == "+" else "minus.bw"))
    stride = window // 2 if classifier.config.kind == "base" else window // 8
    with open_genome(place / "g.fa") as genome:
        for chrom in ("gi|1|x", "short", "chr2"):
            bases = genome.fetch(chrom, 0, CONTIGS[chrom])
            expected = reference(classifier, bases, window, stride, 1 if strand == "+" else -1)
            expected[codes(bases) == N_CODE] = np.nan
            np.testing.assert_allclose(found[chrom], expected, atol=0.0005 + 1e-5)  # the track is written in steps of 0.001


@pytest.mark.parametrize("strand", ["+", "-"])
def test_every_base_of_a_model_of_sequences_is_what_predict_says_of_it(place, tmp_path, strand):
    """An even window has no middle base: base window // 2 of it, as the strand reads, is the one that predict asks about."""
    scan.scan(options(place, tmp_path / "out", "sequences", strands="each", stride=1))
    found = track(tmp_path / "out" / ("plus.bw" if strand == "+" else "minus.bw"))["chr2"]
    asked = np.flatnonzero(~np.isnan(found))
    asked = asked[(asked >= 25) & (asked < CONTIGS["chr2"] - 25)][::7]  # else predict has N beyond the contig, a scan a window inside it
    assert len(asked) > 20
    (tmp_path / "bases.bed").write_text("".join(f"chr2\t{base}\t{base + 1}\tx\t0\t{strand}\n" for base in asked))
    classifier = MODELS["sequences"]()
    predict_file(classifier, open_inputs(tmp_path / "bases.bed", place / "g.fa", 50), tmp_path / "p.parquet")
    said = pd.read_parquet(tmp_path / "p.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(found[asked], said, atol=0.0005 + 1e-5)
    assert np.abs(np.roll(said, 1) - said).max() > 0.01  # a neighbour's answer would be another one


@pytest.mark.parametrize("strands", ["forward", "mean", "each"])
def test_dense_answers_are_those_of_windows_and_of_predict(place, tmp_path, strands):
    classifier = MODELS["dense"]()
    scan.scan(options(place, tmp_path / "out", strands=strands))
    names = {"each": {"plus.bw": 1, "minus.bw": -1}}.get(strands, {"probability.bw": 1})
    rng = np.random.default_rng(0)
    with open_genome(place / "g.fa") as genome:
        for name, strand in names.items():
            found = track(tmp_path / "out" / name)
            for chrom in ("gi|1|x", "chr2"):
                bases = genome.fetch(chrom, 0, CONTIGS[chrom])
                known = np.flatnonzero(codes(bases) != N_CODE)
                assert np.array_equal(np.flatnonzero(~np.isnan(found[chrom])), known)
                for base in rng.choice(known, 20):  # seams of tiles, cells and chunks lie between
                    low, high = max(base - 60, 0), min(base + 61, len(bases))
                    forward, reverse = bases[low:high], reverse_complement(bases[low:high])
                    logits = score_logits(classifier, [forward, reverse])
                    p = [classifier.probabilities(logits[0])[base - low], classifier.probabilities(logits[1])[high - 1 - base]]
                    expected = np.mean(p) if strands == "mean" else p[0 if strand > 0 else 1]
                    assert found[chrom][base] == pytest.approx(expected, abs=0.0005 + 1e-5)
                    if strands == "forward" and 15 <= base < len(bases) - 15:
                        asked = predict_sequences(classifier, [bases[base - 15 : base + 16]])[0]
                        assert found[chrom][base] == pytest.approx(asked, abs=0.0005 + 1e-5)


@pytest.mark.parametrize("name", ["dense", "windows"])
@pytest.mark.parametrize("extra", [{}, {"regions": True, "strands": "mean"}, {"gap": 3, "min_length": 4, "strands": "each"}])
def test_no_way_of_working_shows(place, tmp_path, name, extra):
    extra = {**extra, **({"regions": place / "r.bed"} if "regions" in extra else {})}
    scan.scan(options(place, tmp_path / "plain", name, **extra))
    files, summary = contents(tmp_path / "plain")
    assert summary["totals"]["intervals"] > 5
    for number, settings in enumerate(({"tile_size": 1}, {"tile_size": 1100, "batch_size": 7})):
        scan.scan(options(place, tmp_path / str(number), name, **extra, **settings))
        assert contents(tmp_path / str(number)) == (files, summary)
    for number in (1, 2, 3):
        scan.scan(options(place, tmp_path / f"part{number}", name, shard=f"{number}/3", tile_size=1, **extra))
    merge_shards([tmp_path / f"part{number}" for number in (3, 1, 2)], tmp_path / "merged")
    assert contents(tmp_path / "merged") == (files, summary)


def test_worker_processes_write_the_same(place, tmp_path, monkeypatch):
    monkeypatch.undo()  # fresh processes have the grid of the package
    write_fasta(tmp_path / "g.fa", random_genome(3, {"a": 150_000, "b": 70_000}, n_runs=4))
    for name in ("dense", "sequences"):
        for workers in (1, 2):
            scan.scan(options(place, tmp_path / f"{name}{workers}", name, genome=tmp_path / "g.fa", workers=workers, tile_size=1))
        assert contents(tmp_path / f"{name}1") == contents(tmp_path / f"{name}2")


def test_regions_bound_what_is_answered_and_nothing_else(place, tmp_path):
    scan.scan(options(place, tmp_path / "whole", threshold=0.6))
    scan.scan(options(place, tmp_path / "inside", threshold=0.6, regions=place / "r.bed"))
    whole, inside = track(tmp_path / "whole" / "probability.bw"), track(tmp_path / "inside" / "probability.bw")
    expected = whole["gi|1|x"].copy()
    expected[:700], expected[1900:] = np.nan, np.nan
    np.testing.assert_array_equal(inside["gi|1|x"], expected)
    np.testing.assert_array_equal(inside["chr2"], whole["chr2"])
    assert np.isnan(inside["short"]).all()
    assert json.loads((tmp_path / "inside" / "summary.json").read_text())["totals"]["bases"] == 1200 + 2100


def test_the_other_strand_is_the_mirror_image(place, tmp_path):
    with open_genome(place / "g.fa") as genome:
        turned = {name: reverse_complement(genome.fetch(name, 0, length)).tobytes() for name, length in genome.contigs.items()}
    write_fasta(tmp_path / "rc.fa", turned)
    for strands, pairs in {"mean": [("probability", "probability")], "each": [("plus", "minus"), ("minus", "plus")]}.items():
        scan.scan(options(place, tmp_path / f"there-{strands}", strands=strands))
        scan.scan(options(place, tmp_path / f"back-{strands}", strands=strands, genome=tmp_path / "rc.fa"))
        for here, there in pairs:
            found, mirrored = (track(tmp_path / f"{way}-{strands}" / f"{n}.bw") for way, n in (("there", here), ("back", there)))
            for chrom in found:
                np.testing.assert_allclose(found[chrom], mirrored[chrom][::-1], atol=0.00101)  # a rounding may fall on either side
        rows = [read_intervals(tmp_path / f"{way}-{strands}") for way in ("there", "back")]
        other = {"+": "-", "-": "+", ".": "."}
        here = {(r.chrom, r.start, r.end, r.strand) for r in rows[0].itertuples()}
        assert here == {(r.chrom, CONTIGS[r.chrom] - r.end, CONTIGS[r.chrom] - r.start, other[r.strand]) for r in rows[1].itertuples()}
        assert len(here) > 5


def a_caller():
    """Return a convnet that calls the center of AAAAA and nothing else: p = sigmoid(20 * (number of A among five - 4) - 10) or less."""
    model = convnet.Model(convnet.Config(width=1, stem_kernel=5, blocks=(), activation="relu"))
    config = ClassifierConfig(task="runs", kind="base", special_tokens=False, threshold=0.5, window=5)
    classifier = Classifier(config, model, CharacterTokenizer("none")).eval()
    stem = model.members[0].stem
    with torch.no_grad():
        stem.conv.weight.zero_()
        stem.conv.weight[0, 0] = 1.0
        stem.norm.bias.fill_(-4.0)
        classifier.head.linear.weight.fill_(20.0)
        classifier.head.linear.bias.fill_(-10.0)
    return classifier


def planted(runs, length=3000):
    bases = np.random.default_rng(1).choice(np.frombuffer(b"CGT", np.uint8), length)
    for start, end in runs:
        bases[start:end] = ord("A")
    return bases


def test_planted_signals_are_called_to_the_base(tmp_path):
    save_classifier(a_caller(), tmp_path / "caller")
    # at a contig's ends, over seams of chunks (256), cells (512) and tiles (1024), two runs that a gap of 6 joins, one too short
    runs = [(0, 9), (250, 262), (500, 530), (1020, 1032), (1500, 1506), (1508, 1520), (2000, 2004), (2990, 3000)]
    bases = planted(runs)
    bases[510] = ord("N")  # splits the run into 500-510 and 511-530
    bases[1022] = ord("a")
    write_fasta(tmp_path / "g.fa", {"c": bases.tobytes()})
    base = ScanOptions(tmp_path / "g.fa", tmp_path / "out", str(tmp_path / "caller"), workers=1, tile_size=1)
    scan.scan(base)
    found = read_intervals(tmp_path / "out")
    expected = [(2, 7), (252, 260), (502, 508), (513, 528), (1022, 1030), (1502, 1504), (1510, 1518), (2992, 2998)]
    assert list(zip(found["start"], found["end"], strict=True)) == expected
    assert (found["called_bases"] == found["end"] - found["start"]).all()
    np.testing.assert_allclose(found["max_probability"], 1 / (1 + np.exp(-10)), atol=1e-5)
    np.testing.assert_allclose(found["mean_probability"], found["max_probability"], atol=1e-5)
    assert set(found["strand"]) == {"."}
    assert found["score"].tolist() == [1000] * len(found)
    assert found.loc[found["name"] == "interval_1", "start"].tolist() == [513]  # equally probable, the longest
    values = track(tmp_path / "out" / "probability.bw")["c"]
    assert np.flatnonzero(~np.isnan(values)).tolist() == [b for a, e in expected for b in range(a, e)]  # below the floor: absent
    scan.scan(ScanOptions(tmp_path / "g.fa", tmp_path / "gap", str(tmp_path / "caller"), workers=1, gap=6, min_length=7, tile_size=1))
    joined = read_intervals(tmp_path / "gap")
    assert list(zip(joined["start"], joined["end"], joined["called_bases"], strict=True)) == [
        *((252, 260, 8), (502, 528, 21), (1022, 1030, 8), (1502, 1518, 10))
    ]


def test_join_runs():
    runs = {"start": np.array([2, 10, 20, 40]), "end": np.array([5, 12, 21, 41]), "highest": np.array([0.6, 0.9, 0.7, 0.8], np.float32)}
    runs["total"] = np.array([3, 2, 1, 1])
    joined = join_runs(runs, 8, 2)
    assert {name: values.tolist() for name, values in joined.items()} == {
        "start": [2],
        "end": [21],
        "highest": [pytest.approx(0.9)],
        "total": [6],
        "called": [6],
    }
    assert join_runs(runs, 4, 1)["start"].tolist() == [2, 10, 20, 40]
    assert join_runs(runs, 5, 1)["start"].tolist() == [2, 20, 40]
    assert {len(values) for values in join_runs({name: values[:0] for name, values in runs.items()}, 5, 1).values()} == {0}


@pytest.mark.parametrize(
    ("length", "window", "stride"), [(1, 5, 2), (5, 5, 5), (6, 5, 5), (100, 10, 3), (97, 10, 10), (64, 8, 4), (11, 10, 1)]
)
@pytest.mark.parametrize("earlier", [False, True])
def test_windows_answer_every_base_once_and_most_centrally(length, window, stride, earlier):
    windows = Windows(length, window, stride, earlier=earlier)
    number = np.arange(windows.count)
    lower, upper = windows.lower(number), windows.lower(number + 1)
    assert lower[0] == 0
    assert upper[-1] == length
    assert (lower[1:] == upper[:-1]).all()
    centers = windows.start(number) + window / 2
    for base in range(length):
        mine = int(np.flatnonzero((lower <= base) & (base < upper))[0])
        assert windows.over(base, base + 1) == (mine, mine + 1)
        assert abs(base + 0.5 - centers[mine]) == np.abs(base + 0.5 - centers).min()
    assert windows.over(0, length) == (0, windows.count)


def test_a_contig_of_n_has_nothing_to_say(place, tmp_path):
    write_fasta(tmp_path / "n.fa", {"n": b"N" * 3000, "iupac": b"RYK" * 100})
    for name in ("dense", "windows"):
        scan.scan(options(place, tmp_path / name, name, genome=tmp_path / "n.fa", threshold=0.0))
        totals = json.loads((tmp_path / name / "summary.json").read_text())["totals"]
        assert totals == {"bases": 3300, "scored": 0, "called": 0, "intervals": 0}
        assert list(read_bigwig(tmp_path / name / "probability.bw")) == []
        assert read_intervals(tmp_path / name).empty


def test_summary_counts_what_the_files_hold(place, tmp_path):
    scan.scan(options(place, tmp_path / "out", strands="each", gap=2, min_length=3, threshold=0.6005))
    summary, intervals = json.loads((tmp_path / "out" / "summary.json").read_text()), read_intervals(tmp_path / "out")
    tracks = {"+": track(tmp_path / "out" / "plus.bw"), "-": track(tmp_path / "out" / "minus.bw")}
    assert summary["kind"] == "bases"
    assert summary["totals"]["bases"] == sum(CONTIGS.values())
    assert (
        summary["totals"]["intervals"]
        == len(intervals)
        == sum(summary["lengths"]["intervals"])
        == sum(summary["probabilities"]["intervals"])
    )
    assert [(row["chrom"], row["strand"]) for row in summary["contigs"]] == [(chrom, strand) for chrom in CONTIGS for strand in "+-"]
    for row in summary["contigs"]:
        values = tracks[row["strand"]][row["chrom"]]
        assert row["scored"] == np.count_nonzero(~np.isnan(values))
        assert row["called"] == np.count_nonzero(values > 0.6007)  # what is at least 0.6005 is written as 0.601 or more
        assert row["intervals"] == len(intervals.query("chrom == @row['chrom'] and strand == @row['strand']"))
    assert summary["totals"]["scored"] * 2 == sum(summary["probabilities"]["bases"]) == sum(row["scored"] for row in summary["contigs"])


def test_the_floor_leaves_low_probabilities_out(place, tmp_path):
    scan.scan(options(place, tmp_path / "all"))
    scan.scan(options(place, tmp_path / "some", track_floor=0.5))
    everything, some = (track(tmp_path / name / "probability.bw")["chr2"] for name in ("all", "some"))
    kept = ~np.isnan(some)
    assert 0 < kept.sum() < (~np.isnan(everything)).sum()
    np.testing.assert_array_equal(some[kept], everything[kept])
    assert np.nanmax(everything[~kept]) <= 0.5
    assert (tmp_path / "all" / "intervals.bed.gz").read_bytes() == (tmp_path / "some" / "intervals.bed.gz").read_bytes()


SCRIPT = """
import sys
from pathlib import Path
from basewise.inference.scan import ScanOptions, scan
if __name__ == "__main__":
    scan(ScanOptions(Path(sys.argv[1]), Path(sys.argv[3]), sys.argv[2], workers=2, tile_size=1, track_floor=0.0))
"""


def test_killed_and_resumed(place, tmp_path, monkeypatch):
    monkeypatch.undo()
    write_fasta(tmp_path / "g.fa", random_genome(5, {"a": 500_000, "b": 100, "c": 200_000}, n_runs=5))
    (tmp_path / "run.py").write_text(SCRIPT)
    out = tmp_path / "out"
    running = subprocess.Popen([sys.executable, tmp_path / "run.py", tmp_path / "g.fa", place / "dense", out])
    deadline = time.monotonic() + 300
    while len(list((out / ".parts").glob("0*"))) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert not (out / "run.json").exists()
    said = []
    settings = ScanOptions(tmp_path / "g.fa", out, str(place / "dense"), workers=1, tile_size=1, track_floor=0.0)
    with pytest.raises(BasewiseError, match=r"another plan \(gap was 0, is 5\)"):
        scan.scan(ScanOptions(tmp_path / "g.fa", out, str(place / "dense"), workers=1, tile_size=1, track_floor=0.0, gap=5))

    class Ear(scan.Silent):
        def say(self, text):
            said.append(text)

    scan.scan(settings, Ear())
    assert said[0].startswith("resuming ")
    scan.scan(options(place, tmp_path / "straight", genome=tmp_path / "g.fa"))
    assert contents(out) == contents(tmp_path / "straight")
    assert {path.name for path in out.rglob("*")} == {
        *("intervals.bed.gz", "intervals.bed.gz.tbi", "probability.bw", "summary.json", "run.json", ".basewise")
    }


def test_a_causal_model_is_told_of(place, tmp_path):
    said = []

    class Ear(scan.Silent):
        def say(self, text):
            said.append(text)

    scan.scan(options(place, tmp_path / "out", "windows"), Ear())
    assert any("reads forward only" in text for text in said)
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["reading"]["causal"] is True
    said.clear()
    scan.scan(options(place, tmp_path / "both", "both strands"), Ear())
    assert said == []


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        ("dense", {"window": 50}, "reads 23 bases around every base of the genome and needs no windows"),
        ("dense", {"gap": -1}, "--gap is -1"),
        ("dense", {"exact": True}, "--exact is about the first stage"),
        ("dense", {"track_floor": 1.5}, "--track-floor 1.5"),
        ("dense", {"strands": "minus"}, "--strands is 'minus', expected one of forward, mean, each"),
        ("dense", {"rule": "pas"}, "--rule is 'pas', expected one of polya, none"),
        ("windows", {"window": 130}, "a window of 130 bases makes 131 tokens, .*/windows takes at most 130"),
        ("windows", {"stride": 61}, "--window is 60, --stride 61: expected 1 <= stride <= window"),
        ("windows", {"window": 0}, "--window is 0"),
        ("no window", {}, "was trained without a window; say with --window"),
        ("polya", {"gap": 3}, "--gap belongs to scans that answer every base"),
        ("three", {}, r"\(kind 'base', labels a, b, c\) cannot answer bases"),
        ("individual", {}, "answers about individuals"),
    ],
)
def test_what_cannot_be_is_one_line(place, tmp_path, model, settings, message):
    made = {
        "no window": lambda: tiny_classifier(family="hyenadna", kind="base", task="zdna"),
        "polya": lambda: tiny_classifier(window=101),
        "three": lambda: tiny_classifier(**DENSE, labels=("a", "b", "c")),
        "individual": lambda: tiny_classifier(family="hyenadna", kind="individual", task="sex"),
    }
    folder = save_classifier(made[model](), tmp_path / "m") if model in made else place / model
    with pytest.raises(BasewiseError, match=message) as caught:
        scan.scan(options(place, tmp_path / "out", track_floor=settings.pop("track_floor", None), **settings, model=str(folder)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_genes_are_refused(place, tmp_path):
    (tmp_path / "genes.bed").write_text("chr2\t0\t400\tABC\t0\t+\n")
    with pytest.raises(BasewiseError, match="--genes classes poly"):
        scan.scan(options(place, tmp_path / "out", genes=tmp_path / "genes.bed"))


def test_the_rule_is_that_of_the_task_or_the_one_asked_for(place, tmp_path):
    scan.scan(options(place, tmp_path / "rule", rule="polya", track_floor=None))
    assert (tmp_path / "rule" / "sites.bed.gz").exists()
    save_classifier(tiny_classifier(window=101), tmp_path / "polya")
    scan.scan(options(place, tmp_path / "none", rule="none", model=str(tmp_path / "polya")))
    assert (tmp_path / "none" / "intervals.bed.gz").exists()
    trained = tiny_classifier(kind="base", task="custom", window=101, provenance={"dataset": "polya"})
    save_classifier(trained, tmp_path / "custom")
    scan.scan(options(place, tmp_path / "known", model=str(tmp_path / "custom"), track_floor=None))
    assert (tmp_path / "known" / "sites.bed.gz").exists()
