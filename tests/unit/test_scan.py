"""Scans of tiny genomes: what the files say, and that no way of working shows in them."""

import gzip
import json
import os
import resource
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from basewise.backbones.classifier import save_classifier
from basewise.errors import BasewiseError
from basewise.genome.fasta import open_genome
from basewise.genome.tracks import read_bigwig
from basewise.inference import candidate_work, engine, merge, scan
from basewise.inference.calls import call_sites
from basewise.inference.engine import score_positions
from basewise.inference.plan import PARTS, PLAN, RUN
from basewise.inference.scan import ScanOptions
from basewise.tasks.pas_rule import HEXAMERS, describe, find_candidates
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

COMPARED = ("candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw")
CONTIGS = {"gi|1|x": 6000, "empty": 0, "short": 60, "chr2": 3000}
SITE_COLUMNS = [
    *("chrom", "start", "end", "name", "score", "strand"),
    *("probability", "hexamer", "hexamer_offset", "n_in_cluster", "region", "gene"),
]


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 256)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
    monkeypatch.setattr(scan, "_TILE", {"small": 2048})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a genome (N runs, soft-masked, an empty and a short contig) and a model."""
    folder = tmp_path_factory.mktemp("scan")
    write_fasta(folder / "g.fa", random_genome(7, CONTIGS, n_runs=3, soft_mask=0.3, at=0.7))
    save_classifier(tiny_classifier(window=101, threshold=0.55), folder / "model")
    return folder


def options(place, out, **settings):
    return ScanOptions(**{"genome": place / "g.fa", "out": out, "model": str(place / "model"), "workers": 1, **settings})


def contents(out):
    return {name: (out / name).read_bytes() for name in COMPARED}


def read_sites(out):
    with gzip.open(out / "sites.bed.gz", "rt") as stream:
        header = stream.readline()
        table = pd.read_csv(stream, sep="\t", names=SITE_COLUMNS, dtype={"region": str, "gene": str}, keep_default_na=False)
    assert header == "#" + "\t".join(SITE_COLUMNS) + "\n"
    return table


@pytest.fixture(scope="module")
def done(place):
    """One scan by the real grid, to read from."""
    scan.scan(options(place, place / "done"))
    return place / "done"


def test_candidates_are_those_of_the_rule_scored_by_the_model(place, done):
    schema = pq.read_schema(done / "candidates.parquet")
    assert [(field.name, str(field.type)) for field in schema] == [
        ("chrom", "string"),
        ("position", "int64"),
        ("strand", "string"),
        ("hexamer", "string"),
        ("hexamer_offset", "int8"),
        ("probability", "float"),
    ]
    table = pq.read_table(done / "candidates.parquet").to_pandas()
    assert table["chrom"].unique().tolist() == ["gi|1|x", "chr2"]
    classifier = tiny_classifier(window=101)
    with open_genome(place / "g.fa") as genome:
        for chrom, rows in table.groupby("chrom"):
            bases = genome.fetch(chrom, 0, genome.contigs[chrom])
            expected = find_candidates(bases)
            assert len(expected.position) > 50
            assert rows["position"].tolist() == expected.position.tolist()
            assert rows["strand"].tolist() == ["+" if sign > 0 else "-" for sign in expected.strand]
            hexamer, offset = describe(bases, expected.position, expected.strand)
            assert rows["hexamer"].tolist() == [HEXAMERS[rank] for rank in hexamer]
            assert rows["hexamer_offset"].tolist() == offset.tolist()
            scores = score_positions(
                classifier, lambda start, end, c=chrom: genome.window(c, start, end), expected.position, expected.strand, dense=False
            )
            np.testing.assert_allclose(rows["probability"], scores, atol=1e-5)


def test_sites_are_called_from_candidates(done):
    candidates, sites = pq.read_table(done / "candidates.parquet").to_pandas(), read_sites(done)
    expected = call_sites(candidates, 0.55)
    assert len(sites) > 10
    assert sites["n_in_cluster"].max() > 1
    for column in ("chrom", "start", "end", "score", "strand", "hexamer", "hexamer_offset", "n_in_cluster"):
        assert sites[column].tolist() == expected[column].tolist(), column
    np.testing.assert_allclose(sites["probability"], expected["probability"], atol=1e-6)
    assert sites.sort_values("probability", ascending=False, kind="stable")["name"].iloc[0] == "site_1"
    assert set(sites["name"]) == {f"site_{number}" for number in range(1, len(sites) + 1)}
    assert set(sites["region"]) == set(sites["gene"]) == {"."}


def test_tabix_finds_sites(done):
    import pysam

    sites = read_sites(done)
    with pysam.TabixFile(str(done / "sites.bed.gz")) as index:
        rows = [row.split("\t") for row in index.fetch("chr2", 0, 1500)]
    assert [int(row[1]) for row in rows] == sites.query("chrom == 'chr2' and start < 1500")["start"].tolist()


@pytest.mark.parametrize(("name", "strand"), [("plus.bw", "+"), ("minus.bw", "-")])
def test_tracks_hold_the_candidates_of_their_strand(done, name, strand):
    table = pq.read_table(done / "candidates.parquet").to_pandas().query("strand == @strand")
    found = {chrom: (positions, values) for chrom, positions, values in read_bigwig(done / name)}
    assert set(found) == set(table["chrom"])
    for chrom, rows in table.groupby("chrom"):
        np.testing.assert_array_equal(found[chrom][0], rows["position"])
        np.testing.assert_array_equal(found[chrom][1], rows["probability"])


def test_summary_counts_what_the_files_hold(place, done):
    summary = json.loads((done / "summary.json").read_text())
    candidates, sites = pq.read_table(done / "candidates.parquet").to_pandas(), read_sites(done)
    totals = summary["totals"]
    assert (totals["candidates"], totals["sites"], totals["bases"]) == (len(candidates), len(sites), 9060)
    assert totals["genic"] is totals["intergenic"] is totals["candidates_in_genes"] is None
    assert [(row["chrom"], row["strand"]) for row in summary["contigs"]] == [(chrom, strand) for chrom in CONTIGS for strand in "+-"]
    for row in summary["contigs"]:
        here = candidates.query("chrom == @row['chrom'] and strand == @row['strand']")
        assert (row["bases"], row["candidates"]) == (CONTIGS[row["chrom"]], len(here))
        assert row["sites"] == len(sites.query("chrom == @row['chrom'] and strand == @row['strand']"))
    for entry in summary["hexamers"]:
        assert entry["candidates"] == (candidates["hexamer"] == entry["hexamer"]).sum()
        assert entry["sites"] == (sites["hexamer"] == entry["hexamer"]).sum()
    assert [entry["offset"] for entry in summary["offsets"]] == list(range(10, 36))
    assert [entry["sites"] for entry in summary["offsets"]] == [int((sites["hexamer_offset"] == d).sum()) for d in range(10, 36)]
    assert sum(summary["probabilities"]["candidates"]) == len(candidates)
    assert len(summary["probabilities"]["edges"]) == 21
    assert summary["genome"]["name"] == "g"
    assert summary["threshold"] == 0.55
    run = json.loads((done / RUN).read_text())
    assert run["genome"]["sha256"] == summary["genome"]["sha256"]
    assert sorted(path.name for path in done.iterdir()) == sorted([*COMPARED, "summary.json", RUN, ".basewise"])


@pytest.mark.parametrize("settings", [{"tile_size": 1}, {"tile_size": 100_000}, {"batch_size": 1}, {"tile_size": 1025, "batch_size": 40}])
@pytest.mark.parametrize("pool", ["center", "mean"])
def test_no_way_of_working_shows_in_the_files(place, tmp_path, settings, pool, monkeypatch):
    save_classifier(tiny_classifier(window=101, threshold=0.52, pool=pool), tmp_path / "model")
    monkeypatch.setattr(merge, "_ROW_GROUP", 100)  # several row groups, cut inside tiles
    model = {"model": str(tmp_path / "model")}
    reports = []
    first = scan.scan(options(place, tmp_path / "one", **model), report=lambda folder: reports.append((folder, (folder / RUN).exists())))
    assert reports == [(tmp_path / "one", False)]
    assert pq.ParquetFile(tmp_path / "one" / "candidates.parquet").num_row_groups > 2
    second = scan.scan(options(place, tmp_path / "two", **model, **settings))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert json.loads((tmp_path / "two" / RUN).read_text())["options"]["batch_size"] == settings.get("batch_size", 4096)
    drop = {key: value for key, value in first.summary.items() if key != "timing"}
    assert drop == {key: value for key, value in second.summary.items() if key != "timing"}
    assert drop["totals"]["sites"] > 5


def test_processes_write_the_same(place, done, tmp_path):
    # workers are fresh processes with the real grid: compare to a scan by the real grid
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path; from basewise.inference.scan import ScanOptions, scan\n"
        "if __name__ == '__main__':\n"
        "    for workers in (1, 2):\n"
        "        options = ScanOptions(Path(sys.argv[1]), Path(sys.argv[3]) / str(workers), sys.argv[2], workers=workers)\n"
        "        scan(options)\n"
    )
    script = tmp_path / "run.py"
    script.write_text(code)
    subprocess.run([sys.executable, script, place / "g.fa", place / "model", tmp_path], check=True)
    assert contents(tmp_path / "1") == contents(tmp_path / "2")
    np.testing.assert_allclose(
        pq.read_table(tmp_path / "1" / "candidates.parquet")["probability"],
        pq.read_table(done / "candidates.parquet")["probability"],
        atol=1e-6,
    )


def test_threshold_zero_and_one(place, tmp_path):
    scan.scan(options(place, tmp_path / "all", threshold=0.0))
    assert read_sites(tmp_path / "all")["n_in_cluster"].sum() == pq.read_metadata(tmp_path / "all" / "candidates.parquet").num_rows
    scan.scan(options(place, tmp_path / "none", threshold=1.0))
    assert len(read_sites(tmp_path / "none")) == 0


def test_regions_keep_the_candidates_inside(place, done, tmp_path):
    (tmp_path / "r.bed").write_text("chr2\t500\t900\t.\t0\t+\nchr2\t800\t1000\t.\t0\t.\ngi|1|x\t0\t200\t.\t0\t-\n")
    result = scan.scan(options(place, tmp_path / "out", regions=tmp_path / "r.bed"))
    whole = pq.read_table(done / "candidates.parquet").to_pandas()
    expected = whole.query("(chrom == 'chr2' and 500 <= position < 1000) or (chrom == 'gi|1|x' and position < 200)")
    assert 0 < len(expected) < len(whole)
    got = pq.read_table(tmp_path / "out" / "candidates.parquet").to_pandas()
    pd.testing.assert_frame_equal(got, expected.reset_index(drop=True))
    assert result.summary["regions"]["bases"] == result.summary["totals"]["bases"] == 700


def test_genes_class_sites(place, done, tmp_path):
    (tmp_path / "genes.bed").write_text("chr2\t0\t1500\tABC\t0\t+\nchr2\t1000\t2000\tDEF\t0\t-\nchrUn\t0\t10\tG\t0\t+\n")
    result = scan.scan(options(place, tmp_path / "out", genes=tmp_path / "genes.bed"))
    sites = read_sites(tmp_path / "out")
    plus = (sites["chrom"] == "chr2") & (sites["strand"] == "+") & (sites["start"] < 1500)
    minus = (sites["chrom"] == "chr2") & (sites["strand"] == "-") & sites["start"].between(1000, 1999)
    assert plus.any()
    assert minus.any()
    assert sites["gene"].tolist() == np.where(plus, "ABC", np.where(minus, "DEF", ".")).tolist()
    assert sites["region"].tolist() == np.where(plus | minus, "genic", "intergenic").tolist()
    totals = result.summary["totals"]
    assert (totals["genic"], totals["intergenic"]) == (int((plus | minus).sum()), int((~(plus | minus)).sum()))
    whole = pq.read_table(done / "candidates.parquet").to_pandas()
    inside = whole.query("chrom == 'chr2' and ((strand == '+' and position < 1500) or (strand == '-' and 1000 <= position < 2000))")
    assert totals["candidates_in_genes"] == len(inside)
    assert result.summary["genes"]["genes"] == 2


def test_a_genome_without_candidates_gives_valid_empty_files(place, tmp_path):
    write_fasta(tmp_path / "g.fa", {"a": "G" * 500, "b": "A" * 30})
    result = scan.scan(options(place, tmp_path / "out", genome=tmp_path / "g.fa"))
    assert result.summary["totals"]["candidates"] == 0
    assert pq.read_table(tmp_path / "out" / "candidates.parquet").num_rows == 0
    assert len(read_sites(tmp_path / "out")) == 0
    assert list(read_bigwig(tmp_path / "out" / "plus.bw")) == []
    assert (tmp_path / "out" / "sites.bed.gz.tbi").exists()


class InterruptedScanError(Exception):
    pass


def test_an_interrupted_scan_goes_on_and_says_so(place, tmp_path):
    class Watcher(scan.Silent):
        def __init__(self, stop_after=None):
            self.said, self.tiles, self.stop_after = [], 0, stop_after

        def say(self, text):
            self.said.append(text)

        def advance(self, bases, candidates):
            self.tiles += 1
            if self.tiles == self.stop_after:
                raise InterruptedScanError

    out = tmp_path / "out"
    with pytest.raises(InterruptedScanError):
        scan.scan(options(place, out), Watcher(stop_after=2))
    assert {PLAN, PARTS} <= {path.name for path in out.iterdir()}
    with pytest.raises(BasewiseError, match=r"another plan .threshold was 0.55, is 0.6"):
        scan.scan(options(place, out, threshold=0.6))
    watcher = Watcher()
    scan.scan(options(place, out), watcher)
    assert watcher.said == [f"resuming {out}: 2 of 6 tiles are kept"]
    assert watcher.tiles == 4
    scan.scan(options(place, tmp_path / "straight"))
    assert contents(out) == contents(tmp_path / "straight")
    with pytest.raises(BasewiseError, match="finished scan"):
        scan.scan(options(place, out))
    scan.scan(options(place, out, force=True, threshold=0.6))
    assert json.loads((out / "summary.json").read_text())["threshold"] == 0.6


@pytest.mark.parametrize("step", ["write_sites", "write_tracks", "write_json", "finish"])
def test_a_failure_while_merging_is_resumed(place, done, tmp_path, step, monkeypatch):
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(candidate_work if hasattr(candidate_work, step) else scan, step, full)
        with pytest.raises(BasewiseError, match="No space left on device; what is done is kept, run the same command again"):
            scan.scan(options(place, tmp_path / "out"))
    assert not (tmp_path / "out" / RUN).exists()
    scan.scan(options(place, tmp_path / "out"))
    scan.scan(options(place, tmp_path / "straight"))
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


@contextmanager
def no_file_larger_than(size):
    """As on a full disk, the system refuses to write on."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("step", [".parts/0000000.parquet", *COMPARED])
def test_a_full_disk_stops_every_writer_in_one_line_and_is_resumed(place, tmp_path, step, monkeypatch):
    scan.scan(options(place, tmp_path / "straight"))
    out = tmp_path / "out"
    name = step.removesuffix(".tbi")
    functions = {
        "candidates.parquet": "merge_candidates",
        "sites.bed.gz": "write_sites",
        "plus.bw": "write_tracks",
        "minus.bw": "write_tracks",
    }
    size = 500 if step.startswith(".parts") else (tmp_path / "straight" / name).stat().st_size - 30
    function = functions.get(name, "_do_tiles")
    home = scan if function == "_do_tiles" else candidate_work
    real = getattr(home, function)

    def limited(*arguments):
        with no_file_larger_than(size):
            return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(home, function, limited)
        with pytest.raises(BasewiseError, match=r"cannot write .*; what is done is kept, run the same command again to go on") as caught:
            scan.scan(options(place, out))
    assert "\n" not in str(caught.value)
    assert not list(out.rglob(".partial-*"))
    scan.scan(options(place, out))
    assert contents(out) == contents(tmp_path / "straight")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_made_read_only_midway_is_one_line_and_resumed(place, tmp_path):
    class Watcher(scan.Silent):
        def advance(self, bases, candidates):
            (tmp_path / "out" / PARTS).chmod(0o555)

    with pytest.raises(BasewiseError, match=r"cannot write .*Permission denied.*run the same command again"):
        scan.scan(options(place, tmp_path / "out"), Watcher())
    (tmp_path / "out" / PARTS).chmod(0o755)
    scan.scan(options(place, tmp_path / "out"))


def test_a_kill_while_tidying_is_tidied(place, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def killed(_):
            raise InterruptedScanError

        patch.setattr("basewise.inference.plan.tidy", killed)
        with pytest.raises(InterruptedScanError):
            scan.scan(options(place, tmp_path / "out"))
    result = scan.scan(options(place, tmp_path / "out"))
    assert result.summary["totals"]["bases"] == 9060
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*COMPARED, "summary.json", RUN, ".basewise"])
    assert json.loads((tmp_path / "out" / RUN).read_text())["verb"] == "scan"


def test_a_genome_changed_between_runs_is_refused(place, tmp_path, monkeypatch):
    genome = write_fasta(tmp_path / "g.fa", random_genome(1, {"a": 3000}))
    job = options(place, tmp_path / "out", genome=genome)
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(candidate_work, "write_sites", full)
        with pytest.raises(BasewiseError, match="No space"):
            scan.scan(job)
    write_fasta(genome, random_genome(2, {"a": 3000}))
    with pytest.raises(BasewiseError, match=r"another plan .genome sha256 was"):
        scan.scan(job)


def bad_model(folder: Path) -> Path:
    save_classifier(tiny_classifier(window=101), folder / "bad")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "bad" / "model.safetensors")
    weights.pop("head.linear.weight")
    save_file(weights, folder / "bad" / "model.safetensors")
    return folder / "bad"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"genome": "none.fa"}, "none.fa"),
        ({"genome": "empty.fa"}, "holds no base"),
        ({"genome": "cut.fa"}, "truncated|does not fit|changed"),
        ({"regions": "wrong.bed"}, r"wrong\.bed.*chr2"),
        ({"regions": "beyond.bed"}, "chr2:10-99999 reaches beyond its contig of 3000 bases"),
        ({"genes": "wrong.bed6"}, "wrong.bed6"),
        ({"model": "none"}, "none"),
        ({"model": "bad"}, "head.linear.weight"),
        ({"threshold": 1.5}, "--threshold is 1.5"),
        ({"workers": 0}, "--workers is 0"),
        ({"tile_size": 0}, "--tile-size is 0"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"device": "tpu9"}, "unknown device 'tpu9'"),
    ],
)
def test_bad_inputs_are_one_line_and_write_nothing(place, tmp_path, settings, message):
    bad_model(tmp_path)
    write_fasta(tmp_path / "empty.fa", {"a": "", "b": ""})
    cut = write_fasta(tmp_path / "cut.fa", {"a": "ACGT" * 100, "b": "ACGT" * 100})
    with open_genome(cut) as genome:
        assert len(genome.contigs) == 2
    cut.write_bytes(cut.read_bytes()[:-300])
    (tmp_path / "wrong.bed").write_text("2\t1\t5\n")
    (tmp_path / "wrong.bed6").write_text("2\t1\t5\tA\t0\t+\n")
    (tmp_path / "beyond.bed").write_text("chr2\t10\t99999\n")
    paths = {key: tmp_path / value for key, value in settings.items() if key in ("genome", "regions", "genes")}
    if settings.get("model") == "bad":
        paths["model"] = str(tmp_path / "bad")
    with pytest.raises(BasewiseError, match=message) as caught:
        scan.scan(replace(options(place, tmp_path / "out"), **{**settings, **paths}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", ["crlf", "upper", "iupac"])
def test_the_shape_of_the_fasta_does_not_matter(place, done, tmp_path, form):
    contigs = random_genome(7, CONTIGS, n_runs=3, soft_mask=0.3, at=0.7)
    if form == "upper":
        contigs = {name: bases.upper() for name, bases in contigs.items()}
    if form == "iupac":
        contigs = {name: bases.replace(b"N", b"R").replace(b"n", b"y") for name, bases in contigs.items()}
    named = {f"{name} a description": bases for name, bases in contigs.items()}
    genome = write_fasta(tmp_path / "g.fa", named, line=77, crlf=form == "crlf")
    scan.scan(options(place, tmp_path / "out", genome=genome))
    scan.scan(options(place, tmp_path / "same"))
    assert contents(tmp_path / "out") == contents(tmp_path / "same")


def test_damaged_weights_are_named(place, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.Scorer, "score", lambda self, fetch, position, *_: np.full(len(position), np.nan, np.float32))
    with pytest.raises(BasewiseError, match="not a number in"):
        scan.scan(options(place, tmp_path / "out"))


def test_progress_is_told(place, tmp_path):
    class Watcher(scan.Silent):
        def __init__(self):
            self.events = []

        def begin(self, bases):
            self.events.append(("begin", bases))

        def advance(self, bases, candidates):
            self.events.append(("bases", bases, candidates))

        def stage(self, name):
            self.events.append((name,))

    watcher = Watcher()
    result = scan.scan(options(place, tmp_path / "out"), watcher, report=lambda _: None)
    tiles = [event for event in watcher.events if event[0] == "bases"]
    assert watcher.events[0] == ("begin", 9060)
    assert sum(event[1] for event in tiles) == 9060
    assert sum(event[2] for event in tiles) == result.summary["totals"]["candidates"]
    assert watcher.events[-3:] == [("merge",), ("tracks",), ("report",)]
