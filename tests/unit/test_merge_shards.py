"""Shards of a scan, merged, are the scan in one piece; whatever is not one whole set is refused."""

import json
import os
import shutil

import pytest

from basewise.backbones.classifier import save_classifier
from basewise.errors import BasewiseError
from basewise.inference import candidate_work, engine, scan
from basewise.inference.merge_shards import merge_shards
from basewise.inference.plan import PARTS, PLAN, RUN, SHARD, make_tiles, parse_shard, shard_tiles
from basewise.inference.scan import ScanOptions
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

COMPARED = ("candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 256)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
    monkeypatch.setattr(scan, "_TILE", {"small": 2048})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_fasta(folder / "g.fa", random_genome(7, {"a": 9000, "empty": 0, "b": 3000}, n_runs=3, at=0.7))
    (folder / "r.bed").write_text("a\t0\t5000\nb\t100\t3000\n")
    (folder / "genes.bed").write_text("a\t0\t4000\tABC\t0\t+\n")
    save_classifier(tiny_classifier(window=101, threshold=0.55), folder / "model")
    return folder


def options(place, out, **settings):
    return ScanOptions(**{"genome": place / "g.fa", "out": out, "model": str(place / "model"), "workers": 1, **settings})


def scan_shards(place, folder, count, **settings):
    for number in range(1, count + 1):
        scan.scan(options(place, folder / f"part{number}", shard=f"{number}/{count}", **settings))
    return [folder / f"part{number}" for number in range(count, 0, -1)]


@pytest.fixture(scope="module")
def pair(place):
    """The two shards of a scan, last first; tests that spoil them take copies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "CHUNK", 256)
        patch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})
        patch.setattr(scan, "_TILE", {"small": 2048})
        return scan_shards(place, place, 2)


def contents(out):
    return {name: (out / name).read_bytes() for name in COMPARED}


@pytest.mark.parametrize(("count", "inputs"), [(1, ()), (3, ("genes", "regions")), (20, ())])
def test_merged_shards_are_the_scan_in_one_piece(place, tmp_path, count, inputs):
    settings = {name: place / file for name, file in (("genes", "genes.bed"), ("regions", "r.bed")) if name in inputs}
    told = []
    merged = merge_shards(
        scan_shards(place, tmp_path, count, threshold=0.6, **settings), tmp_path / "out", report=lambda *about: told.append(about)
    )
    whole = scan.scan(options(place, tmp_path / "whole", threshold=0.6, **settings))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert {**merged.summary, "timing": 0} == {**whole.summary, "timing": 0}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*COMPARED, "summary.json", RUN, ".basewise"}
    assert json.loads((tmp_path / "out" / RUN).read_text())["shards"] == count
    ((folder, about),) = told
    assert (folder, about.genome) == (tmp_path / "out", place / "g.fa")
    with pytest.raises(BasewiseError, match="finished scan"):
        merge_shards([tmp_path / f"part{number}" for number in range(1, count + 1)], tmp_path / "out")


def test_shards_share_the_tiles_out():
    tiles = make_tiles({"a": 1000}, 100)
    shares = [shard_tiles(tiles, (number, 3)) for number in (1, 2, 3)]
    assert [[tile.index for tile in share] for share in shares] == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/", "/2", "a/b", "-1/2", "1/2/3"])
def test_bad_shards_are_refused(text):
    with pytest.raises(BasewiseError, match="expected i/n with 1 <= i <= n"):
        parse_shard(text)


def test_a_finished_shard_is_kept_and_one_of_another_scan_refused(place, pair):
    before = (pair[1] / SHARD).read_bytes()
    done = scan.scan(options(place, pair[1], shard="1/2"))
    assert (pair[1] / SHARD).read_bytes() == before
    assert done.files == {pair[1]: "shard 1/2 of 4 tiles, for basewise merge"}
    with pytest.raises(BasewiseError, match=r"finished shard of another plan .shard was 1/2, is 2/2"):
        scan.scan(options(place, pair[1], shard="2/2"))
    with pytest.raises(BasewiseError, match=r"finished shard of another plan .shard was 1/2, is none"):
        scan.scan(options(place, pair[1]))


def test_sets_that_are_not_whole_are_refused(place, pair, tmp_path):
    second, first = pair
    with pytest.raises(BasewiseError, match="no shard to merge"):
        merge_shards([], tmp_path / "out")
    with pytest.raises(BasewiseError, match=r"1 of 2 shards are here, missing 2/2"):
        merge_shards([first], tmp_path / "out")
    with pytest.raises(BasewiseError, match=r"are both shard 1/2"):
        merge_shards([first, second, first], tmp_path / "out")
    scan.scan(options(place, tmp_path / "other", shard="2/2", threshold=0.9))
    with pytest.raises(BasewiseError, match=r"shard of another scan than .*threshold was 0.55, is 0.9"):
        merge_shards([first, tmp_path / "other"], tmp_path / "out")
    scan.scan(options(place, tmp_path / "three", shard="2/3"))
    with pytest.raises(BasewiseError, match=r"shard of another scan than .*shard was 1/2, is 1/3"):
        merge_shards([first, tmp_path / "three"], tmp_path / "out")
    shutil.copytree(second, tmp_path / "open")
    os.replace(tmp_path / "open" / SHARD, tmp_path / "open" / PLAN)
    with pytest.raises(BasewiseError, match="open is no finished shard: its scan is not finished"):
        merge_shards([first, tmp_path / "open"], tmp_path / "out")
    with pytest.raises(BasewiseError, match="is no finished shard: expected the output of scan --shard"):
        merge_shards([first, place], tmp_path / "out")
    shutil.copytree(second, tmp_path / "cut")
    (tmp_path / "cut" / PARTS / "0000003.parquet").unlink()
    with pytest.raises(BasewiseError, match=r"cut lacks 1 of its parts, the first 0000003.parquet .a:6144-8192"):
        merge_shards([first, tmp_path / "cut"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_moved_inputs_are_named_and_changed_ones_refused(place, tmp_path):
    genome = write_fasta(tmp_path / "g.fa", random_genome(1, {"a": 5000}, at=0.7))
    folders = scan_shards(place, tmp_path, 2, genome=genome)
    genome.rename(tmp_path / "moved.fa")
    with pytest.raises(BasewiseError, match=r"g\.fa"):
        merge_shards(folders, tmp_path / "out")
    write_fasta(genome, random_genome(2, {"a": 5000}, at=0.7))
    with pytest.raises(BasewiseError, match=r"has changed .genome sha256 was"):
        merge_shards(folders, tmp_path / "out")
    merge_shards(folders, tmp_path / "out", moved={"genome": tmp_path / "moved.fa"})
    scan.scan(options(place, tmp_path / "whole", genome=tmp_path / "moved.fa"))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_merge_that_failed_is_begun_anew(pair, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:

        def full(*_):
            raise OSError(28, "No space left on device")

        patch.setattr(candidate_work, "write_tracks", full)
        with pytest.raises(BasewiseError, match="No space left on device"):
            merge_shards(pair, tmp_path / "out")
    assert not (tmp_path / "out" / RUN).exists()
    merge_shards(pair, tmp_path / "out")
    merge_shards(pair, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_an_interrupted_shard_goes_on(place, pair, tmp_path):
    class StopError(Exception):
        pass

    class Watcher(scan.Silent):
        def __init__(self):
            self.said = []

        def say(self, text):
            self.said.append(text)

        def advance(self, bases, candidates):
            if not self.said:
                raise StopError

    with pytest.raises(StopError):
        scan.scan(options(place, tmp_path / "one", shard="1/2"), Watcher())
    watcher = Watcher()
    watcher.said.append("go")
    scan.scan(options(place, tmp_path / "one", shard="1/2"), watcher)
    assert watcher.said[1:] == [f"resuming {tmp_path}/one: 1 of 4 tiles are kept"]
    merge_shards([tmp_path / "one", pair[0]], tmp_path / "out")
    merge_shards(pair, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
