"""Executors: every tile once, and one clear line when a worker fails or dies."""

import os
import signal
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from basewise.errors import BasewiseError
from basewise.inference.executors import TileResult, run_processes, run_serial
from basewise.inference.plan import Tile

TILES = tuple(Tile(index, "x", 100 * index, 100 * index + 100) for index in range(7))


@contextmanager
def count_bases(folder: Path, trouble: str = ""):
    (folder / f"worker-{os.getpid()}").touch()

    def do_tile(tile):
        if tile.index == 3 and trouble == "error":
            raise BasewiseError("the model is damaged; get another")
        if tile.index == 3 and trouble == "bug":
            raise ZeroDivisionError("by zero\nsecond line")
        if tile.index == 3 and trouble == "disk":
            raise OSError(28, "No space left on device")
        if tile.index == 3 and trouble == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        (folder / tile.part).touch(exist_ok=False)
        return TileResult(tile.index, tile.end - tile.start, tile.index, {})

    yield do_tile


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_every_tile_is_done_once(tmp_path, workers):
    open_worker = partial(count_bases, tmp_path)
    results = list(run_processes(open_worker, TILES, workers) if workers else run_serial(open_worker, TILES))
    assert sorted(result.tile for result in results) == list(range(7))
    assert len(list(tmp_path.glob("*.parquet"))) == 7
    assert len(list(tmp_path.glob("worker-*"))) == max(workers, 1)
    assert (tmp_path / f"worker-{os.getpid()}").exists() == (workers == 0)


def test_no_tile_needs_no_worker(tmp_path):
    open_worker = partial(count_bases, tmp_path)
    assert list(run_serial(open_worker, ())) == list(run_processes(open_worker, (), 2)) == []
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        ("error", "^the model is damaged; get another$"),
        ("bug", "^scanning x:300-400 failed: ZeroDivisionError: by zero; what is done is kept"),
        ("disk", "^scanning x:300-400 failed: OSError: .*No space left on device; what is done is kept"),
        ("kill", r"^a worker died \(exit code -9\) on x:300-400, perhaps for lack of memory; what is done is kept"),
    ],
)
def test_trouble_in_a_worker_is_one_line(tmp_path, trouble, message):
    with pytest.raises(BasewiseError, match=message) as caught:
        for result in run_processes(partial(count_bases, tmp_path, trouble), TILES, 2):
            assert (tmp_path / TILES[result.tile].part).exists()
    assert "\n" not in str(caught.value)


def test_trouble_in_this_process_is_one_line(tmp_path):
    with pytest.raises(BasewiseError, match="scanning x:300-400 failed: OSError"):
        list(run_serial(partial(count_bases, tmp_path, "disk"), TILES))
    with pytest.raises(ZeroDivisionError):  # a bug keeps its traceback
        list(run_serial(partial(count_bases, tmp_path, "bug"), TILES[3:]))


@contextmanager
def cannot_open():
    raise ValueError("no such model")
    yield


def test_a_worker_that_cannot_start_is_one_line():
    with pytest.raises(BasewiseError, match="could not start: ValueError"):
        list(run_processes(cannot_open, TILES, 2))


@contextmanager
def slow(folder: Path):
    def do_tile(tile):
        (folder / f"pid-{os.getpid()}").touch()
        time.sleep(60)

    yield do_tile


def _parent(folder):
    list(run_processes(partial(slow, folder), TILES, 2))


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z" if Path("/proc/self/stat").exists() else True


def test_workers_end_when_their_parent_is_killed(tmp_path):
    import multiprocessing

    parent = multiprocessing.get_context("spawn").Process(target=_parent, args=(tmp_path,))
    parent.start()
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    pids = [int(path.name.split("-")[1]) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    parent.kill()
    parent.join()
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(alive, pids))


def test_a_consumer_that_stops_early_leaves_no_worker(tmp_path):
    results = run_processes(partial(count_bases, tmp_path), TILES, 2)
    next(results)
    results.close()
    pids = [int(path.name.split("-")[1]) for path in tmp_path.glob("worker-*")]
    assert not any(map(alive, pids))
