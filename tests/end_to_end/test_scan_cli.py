"""`basewise scan` and `basewise predict` as a user runs them: files, words, exit codes."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from basewise.backbones.classifier import load_classifier, save_classifier
from basewise.cli.main import app
from basewise.errors import BasewiseError
from basewise.genome.tracks import read_bigwig
from basewise.inference.predict import predict_sequences
from basewise.testing.genomes import bgzip_fasta, random_genome, write_fasta
from basewise.testing.models import tiny_classifier


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    genome = random_genome(11, {"chr1": 4000, "chr2": 1500}, soft_mask=0.3, at=0.7)
    bgzip_fasta(write_fasta(folder / "g.fa", genome))
    save_classifier(tiny_classifier(window=101, threshold=0.55), folder / "model")
    (folder / "regions.bed").write_text("chr1\t0\t1000\n")
    (folder / "genes.bed").write_text("chr1\t0\t4000\tABC\t0\t+\n")
    return folder


THRESHOLD = 0.3


def run(*arguments):
    """Run in this process; a BasewiseError comes out as such."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, BasewiseError):
        raise result.exception
    return result


def test_scan_names_its_files_and_writes_run_json_last(basewise, place, tmp_path):
    out = tmp_path / "out"
    done = basewise("scan", place / "g.fa.gz", "-o", out, "-m", place / "model")
    sites = pd.read_csv(out / "sites.bed.gz", sep="\t")
    candidates = pq.read_metadata(out / "candidates.parquet").num_rows
    assert f"{out}/sites.bed.gz\t{len(sites):,} sites\n" in done.stdout
    assert f"{out}/candidates.parquet\t{candidates:,} candidates\n" in done.stdout
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {
        f"{out}/{name}" for name in ("sites.bed.gz", "candidates.parquet", "plus.bw", "minus.bw", "summary.json", "report.html")
    }
    assert done.stderr == ""
    assert "basewise scan" in json.loads((out / "run.json").read_text())["command"]
    assert max(out.iterdir(), key=lambda path: path.stat().st_mtime_ns).name == "run.json"
    assert "<html" in (out / "report.html").read_text()
    again = basewise("scan", place / "g.fa.gz", "-o", out, "-m", place / "model", code=1)
    assert again.stdout == ""
    assert again.stderr == f"error: output folder {out} holds a finished scan; choose another -o or add --force to replace it\n"


@pytest.fixture(scope="module")
def plain(place):
    """A scan without any flag."""
    run("scan", place / "g.fa", "-o", place / "plain", "-m", place / "model")
    return place / "plain"


def read_json(path):
    return json.loads(path.read_text())


def test_flags_that_ask_for_something_else_change_the_files(place, plain, tmp_path):
    save_classifier(tiny_classifier(seed=9, window=101, threshold=0.4), tmp_path / "other")
    flags = {"-m": tmp_path / "other", "--threshold": THRESHOLD, "--regions": place / "regions.bed", "--genes": place / "genes.bed"}
    run("scan", place / "g.fa", "-o", tmp_path / "out", *(word for flag in flags.items() for word in flag))
    before, after = read_json(plain / "summary.json"), read_json(tmp_path / "out" / "summary.json")
    assert (before["threshold"], after["threshold"]) == (0.55, THRESHOLD)
    assert (before["regions"], after["regions"]["bases"]) == (None, 1000)
    assert (before["genes"], after["genes"]["genes"]) == (None, 1)
    assert (before["model"]["name"], after["model"]["name"]) == ("model", "other")
    whole, inside = (pq.read_table(out / "candidates.parquet").to_pandas() for out in (plain, tmp_path / "out"))
    expected = whole.query("chrom == 'chr1' and position < 1000")
    assert inside["position"].tolist() == expected["position"].tolist()
    assert inside["probability"].tolist() != pytest.approx(expected["probability"].tolist(), abs=1e-3)
    sites = pd.read_csv(tmp_path / "out" / "sites.bed.gz", sep="\t", keep_default_na=False)
    assert sites["probability"].min() >= THRESHOLD
    assert set(sites[["strand", "gene"]].itertuples(index=False, name=None)) == {("+", "ABC"), ("-", ".")}


def test_flags_that_say_how_change_only_what_run_json_tells(place, plain, tmp_path):
    flags = {"--workers": 1, "--batch-size": 77, "--tile-size": 131072, "--device": "cpu"}
    run("scan", place / "g.fa", "-o", tmp_path / "out", "-m", place / "model", *(word for flag in flags.items() for word in flag))
    for name in ("sites.bed.gz", "candidates.parquet", "plus.bw", "minus.bw"):
        assert (plain / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    asked = read_json(tmp_path / "out" / "run.json")["options"]
    assert {key: asked[key] for key in ("workers", "batch_size", "tile_size", "device")} == {
        "workers": 1, "batch_size": 77, "tile_size": 131072, "device": "cpu"
    }  # fmt: skip
    assert read_json(plain / "run.json")["options"]["tile_size"] != 131072


def test_a_model_of_bases_writes_intervals(basewise, place, tmp_path):
    save_classifier(tiny_classifier(kind="base", task="zdna", window=31, threshold=0.6, labels=("other", "Z-DNA")), tmp_path / "zdna")
    out = tmp_path / "plain"
    done = basewise("scan", place / "g.fa.gz", "-o", out, "-m", tmp_path / "zdna")
    intervals = pd.read_csv(out / "intervals.bed.gz", sep="\t")
    totals = read_json(out / "summary.json")["totals"]
    assert f"{out}/intervals.bed.gz\t{len(intervals):,} intervals, {totals['called']:,} called bases\n" in done.stdout
    names = ("intervals.bed.gz", "probability.bw", "summary.json", "report.html")
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {f"{out}/{name}" for name in names}
    assert done.stderr == ""
    flags = {"--gap": 4, "--min-length": 6, "--track-floor": 0.5, "--strands": "mean", "--threshold": 0.55}
    words = [word for flag in flags.items() for word in flag]
    run("scan", place / "g.fa", "-o", tmp_path / "other", "-m", tmp_path / "zdna", "--workers", 1, *words)
    other = pd.read_csv(tmp_path / "other" / "intervals.bed.gz", sep="\t")
    assert (other["end"] - other["start"]).min() >= 6 > (intervals["end"] - intervals["start"]).min()
    assert (other["called_bases"] < other["end"] - other["start"]).any()
    lowest = [min(float(values.min()) for _, _, values in read_bigwig(folder / "probability.bw")) for folder in (out, tmp_path / "other")]
    assert lowest[0] < 0.5 <= lowest[1]
    assert read_json(tmp_path / "other" / "summary.json")["reading"]["strands"] == "mean"
    asked = read_json(tmp_path / "other" / "run.json")["options"]
    assert {key: asked[key] for key in ("rule", "gap", "min_length", "track_floor", "strands")} == {
        "rule": "none", "gap": 4, "min_length": 6, "track_floor": 0.5, "strands": "mean"
    }  # fmt: skip


def test_a_model_of_sequences_is_asked_window_by_window(place, tmp_path):
    save_classifier(tiny_classifier(family="hyenadna", task="promoter", window=70), tmp_path / "promoter")
    few = ("--workers", 1)
    run("scan", place / "g.fa", "-o", tmp_path / "wide", "-m", tmp_path / "promoter", "--window", 100, "--stride", 25, *few)
    reading = read_json(tmp_path / "wide" / "summary.json")["reading"]
    assert (reading["of"], reading["window"], reading["stride"]) == ("sequence", 100, 25)
    run("scan", place / "g.fa", "-o", tmp_path / "rule", "-m", tmp_path / "promoter", "--rule", "polya", *few)
    assert (tmp_path / "rule" / "sites.bed.gz").exists()


def test_force_replaces_only_what_basewise_wrote(place, tmp_path):
    out = tmp_path / "out"
    run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--threshold", 1)
    run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--threshold", 0.9, "--force")
    assert read_json(out / "summary.json")["threshold"] == 0.9
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(BasewiseError, match="not made by basewise"):
        run("scan", place / "g.fa", "-o", tmp_path / "mine", "-m", place / "model", "--force")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_help_is_quick_and_shows_examples(place):
    for verb in ("scan", "predict"):
        text = run(verb, "--help").stdout
        assert f"basewise {verb}" in text


def test_predict(basewise, place, tmp_path):
    (tmp_path / "s.fa").write_text(">a\nACGTTAGCATTAGCATTACG\n>b\nTTTT\n")
    done = basewise("predict", place / "model", tmp_path / "s.fa", "-o", tmp_path / "out.tsv")
    table = pd.read_csv(tmp_path / "out.tsv", sep="\t")
    classifier = load_classifier(place / "model")
    assert table["probability"].tolist() == pytest.approx(predict_sequences(classifier, table["sequence"].tolist()).tolist(), abs=1e-6)
    assert done.stdout == f"{tmp_path}/out.tsv\t2 sequences\n"


def test_predict_at_candidates_equals_scan(place, plain, tmp_path):
    table = pq.read_table(plain / "candidates.parquet").to_pandas()
    bed = pd.DataFrame({"chrom": table["chrom"], "start": table["position"], "end": table["position"] + 1, "name": "x", "score": 0})
    bed.assign(strand=table["strand"]).to_csv(tmp_path / "c.bed", sep="\t", header=False, index=False)
    run("predict", place / "model", tmp_path / "c.bed", "-g", place / "g.fa", "-o", tmp_path / "p.parquet", "--batch-size", 5)
    answers = pq.read_table(tmp_path / "p.parquet").to_pandas()
    assert list(answers.columns) == ["chrom", "start", "end", "name", "score", "strand", "probability"]
    assert len(answers) > 50
    assert answers["probability"].tolist() == pytest.approx(table["probability"].tolist(), abs=1e-5)


def test_shards_are_merged(basewise, place, plain, tmp_path):
    for number in (2, 1):
        done = run("scan", place / "g.fa", "-o", tmp_path / f"part{number}", "-m", place / "model", "--shard", f"{number}/2")
        assert done.stdout == f"{tmp_path}/part{number}\tshard {number}/2 of 1 tiles, for basewise merge\n"
    run("merge", tmp_path / "part1", tmp_path / "part2", "-o", tmp_path / "out")
    for name in ("sites.bed.gz", "candidates.parquet", "plus.bw", "minus.bw"):
        assert (plain / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert "<html" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(BasewiseError, match="1 of 2 shards are here, missing 2/2"):
        run("merge", tmp_path / "part1", "-o", tmp_path / "other")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard", "3/2"), "--shard is '3/2', expected i/n"),
        (("--engine", "slurm"), "--engine is 'slurm', expected local or ray"),
        (("--address", "auto"), "add --engine ray"),
    ],
)
def test_flags_of_engines_and_shards_are_checked(place, tmp_path, flags, message):
    with pytest.raises(BasewiseError, match=message):
        run("scan", place / "g.fa", "-o", tmp_path / "out", "-m", place / "model", *flags)
    assert not (tmp_path / "out").exists()


def test_no_resume_begins_anew(place, plain, tmp_path):
    out = tmp_path / "out"
    run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--shard", "1/1")
    (out / "shard.json").rename(out / "plan.json")  # as if interrupted before the end
    before = {path.name: path.stat().st_ino for path in (out / ".parts").iterdir()}
    run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--shard", "1/1")
    assert {path.name: path.stat().st_ino for path in (out / ".parts").iterdir()} == before  # kept
    (out / "shard.json").rename(out / "plan.json")
    with pytest.raises(BasewiseError, match=r"another plan .threshold was 0.55, is 0.3; .*--no-resume"):
        run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--threshold", THRESHOLD)
    run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--threshold", THRESHOLD, "--no-resume")
    assert read_json(out / "summary.json")["threshold"] == THRESHOLD
    with pytest.raises(BasewiseError, match="finished scan"):
        run("scan", place / "g.fa", "-o", out, "-m", place / "model", "--no-resume")
