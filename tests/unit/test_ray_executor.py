"""Ray: the same bytes as one process, workers that die are replaced, errors are one line. One local Ray for the whole file."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from basewise.backbones.classifier import save_classifier
from basewise.errors import BasewiseError
from basewise.inference.executors import TileResult
from basewise.inference.plan import Tile
from basewise.inference.ray_executor import TRIES, connect, run_ray
from basewise.inference.scan import ScanOptions, scan
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.killing import processes
from basewise.testing.models import tiny_classifier

pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")]

TILES = tuple(Tile(index, "x", 100 * index, 100 * index + 100) for index in range(7))
COMPARED = ("candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw")


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    import ray

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [before])])  # workers import this file
    assert connect(None, 2) == 2
    yield
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@contextmanager
def touch_parts(folder: Path, trouble: str = ""):
    def do_tile(tile):
        (folder / f"pid-{os.getpid()}").touch()
        if tile.index == 3 and trouble == "error":
            raise BasewiseError("the model is damaged; get another")
        if tile.index == 3 and trouble == "disk":
            raise OSError(28, "No space left on device")
        if tile.index == 3 and trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if tile.index == 3 and trouble == "die once" and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / tile.part).touch(exist_ok=False)
        return TileResult(tile.index, 100, tile.index, {})

    yield do_tile


@contextmanager
def cannot_open():
    raise ValueError("no such model")
    yield


@pytest.mark.parametrize("trouble", ["", "die once"])
def test_every_tile_is_done_once(tmp_path, trouble):
    results = list(run_ray(partial(touch_parts, tmp_path, trouble), TILES, 2))
    assert sorted(result.tile for result in results) == list(range(7))
    assert sorted(path.name for path in tmp_path.glob("*.parquet")) == [tile.part for tile in TILES]
    assert (tmp_path / "died").exists() == bool(trouble)
    assert not (tmp_path / f"pid-{os.getpid()}").exists()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("error", "^the model is damaged; get another$"),
        ("disk", "^scanning x:300-400 failed: OSError: .*No space left on device; what is done is kept"),
        ("die", f"^{TRIES} Ray workers died on x:300-400, perhaps for lack of memory; what is done is kept"),
    ],
)
def test_trouble_in_a_worker_is_one_line(tmp_path, trouble, message):
    with pytest.raises(BasewiseError, match=message) as caught:
        list(run_ray(partial(touch_parts, tmp_path, trouble), TILES, 2))
    assert "\n" not in str(caught.value)


def test_a_worker_that_cannot_start_is_one_line():
    with pytest.raises(BasewiseError, match="a worker could not start: ValueError"):
        list(run_ray(cannot_open, TILES, 2))


def test_no_tile_needs_no_worker(tmp_path):
    assert list(run_ray(partial(touch_parts, tmp_path), (), 2)) == []


def test_a_gpu_that_is_not_there_is_refused():
    import ray

    if ray.cluster_resources().get("GPU"):
        pytest.skip("there is one")
    with pytest.raises(BasewiseError, match="has no GPU"):
        connect(None, 2, gpu=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    write_fasta(folder / "g.fa", random_genome(5, {"a": 500_000, "b": 100, "c": 200_000}, n_runs=5, at=0.65))
    save_classifier(tiny_classifier(window=101), folder / "model")
    scan(ScanOptions(folder / "g.fa", folder / "straight", str(folder / "model"), workers=1, tile_size=1))
    return folder


def ray_workers():
    """Return the workers of this process's Ray: other users of the machine keep theirs."""
    return list(processes(os.getpid(), b"ray::_Worker"))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers by /proc")
@pytest.mark.parametrize("kills", [0, 1, TRIES - 1])  # more could hit one tile TRIES times
def test_a_scan_on_ray_writes_the_same_whoever_is_killed(place, tmp_path, kills):
    out, stop = tmp_path / "out", threading.Event()
    killed = []

    def kill():
        while len(killed) < kills and not stop.wait(0.01):
            for pid in [pid for pid in ray_workers() if pid not in killed][:1]:
                time.sleep(0.02 * len(killed))
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        scan(ScanOptions(place / "g.fa", out, str(place / "model"), workers=2, tile_size=1, engine="ray"))
    finally:
        stop.set()
        killer.join()
    assert len(killed) >= min(kills, 1)
    for name in COMPARED:
        assert (place / "straight" / name).read_bytes() == (out / name).read_bytes(), name
    assert {path.name for path in out.rglob("*")} == {*COMPARED, "summary.json", "run.json", ".basewise"}


def test_a_scan_of_bases_on_ray_writes_the_same(place, tmp_path):
    save_classifier(tiny_classifier(kind="base", task="zdna"), tmp_path / "model")
    for name, settings in {"straight": {"workers": 1}, "ray": {"workers": 2, "engine": "ray"}}.items():
        scan(ScanOptions(place / "g.fa", tmp_path / name, str(tmp_path / "model"), tile_size=1, track_floor=0.0, **settings))
    for name in ("intervals.bed.gz", "intervals.bed.gz.tbi", "probability.bw"):
        assert (tmp_path / "straight" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes(), name


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers by /proc")
@pytest.mark.parametrize("kind", ["candidates", "bases"])
def test_twenty_kills_of_drivers_and_workers(place, tmp_path, kind):
    import ray

    save_classifier(tiny_classifier(kind="base", task="zdna", window=31), tmp_path / "bases")
    files = COMPARED if kind == "candidates" else ("intervals.bed.gz", "intervals.bed.gz.tbi", "probability.bw")
    settings = {"workers": 2, "engine": "ray", "address": ray.get_runtime_context().gcs_address}
    rounds = {"genome": place / "g.fa", "model": place / "model" if kind == "candidates" else tmp_path / "bases", "out": tmp_path / "out"}
    rounds |= {"seed": 3, "kills": 20, "settings": settings, "victims": ("parent", "ray"), "ray_owner": os.getpid()}
    command = [sys.executable, "-m", "basewise.testing.killing", json.dumps(rounds, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert {one["victim"] for one in told} == {"parent", "ray"}, told
    assert any(one["state"] != "finished" for one in told), told
    straight = {**settings, "engine": "local", "address": None, "workers": 1}
    scan(ScanOptions(place / "g.fa", tmp_path / "straight", str(rounds["model"]), tile_size=1, **straight))
    for out in (tmp_path / "out").glob("[0-9]*"):
        assert {path.name for path in out.rglob("*")} == {*files, "summary.json", "run.json", ".basewise"}
        for name in files:
            assert (tmp_path / "straight" / name).read_bytes() == (out / name).read_bytes(), name
