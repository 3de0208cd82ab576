"""A scan killed by SIGKILL at random moments, again and again, ends with the same bytes and nothing left behind."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from basewise.backbones.classifier import save_classifier
from basewise.inference.scan import ScanOptions, scan
from basewise.testing.genomes import random_genome, write_fasta
from basewise.testing.models import tiny_classifier

FILES = {
    "candidates": {"candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw"},
    "bases": {"intervals.bed.gz", "intervals.bed.gz.tbi", "probability.bw"},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_fasta(folder / "g.fa", random_genome(5, {"a": 500_000, "b": 100, "c": 200_000}, n_runs=5, at=0.65))
    save_classifier(tiny_classifier(window=101), folder / "candidates")
    save_classifier(tiny_classifier(kind="base", task="zdna", window=31), folder / "bases")
    return folder


def check(straight: Path, out: Path, files: set[str]):
    assert {path.name for path in out.rglob("*")} == {*files, "summary.json", "run.json", ".basewise"}
    for name in files:
        assert (straight / name).read_bytes() == (out / name).read_bytes(), name
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (straight, out))
    assert {**first, "timing": 0} == {**second, "timing": 0}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("kind", "workers", "kills"),
    [
        *(("candidates", 1, 5), ("bases", 1, 3)),
        *(pytest.param(kind, workers, 20, marks=SLOW) for kind in ("candidates", "bases") for workers in (1, 2)),
    ],
)
def test_killed_at_random_moments(place, tmp_path, kind, workers, kills):
    rounds = {"genome": place / "g.fa", "model": place / kind, "out": tmp_path / "out", "seed": kills, "kills": kills}
    rounds |= {"settings": {"workers": workers}, "victims": ("parent",) if workers == 1 else ("parent", "worker")}
    command = [sys.executable, "-m", "basewise.testing.killing", json.dumps(rounds, default=str)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "rounds.json").read_text())
    assert len(told) == kills
    assert any(one["state"] != "finished" for one in told), told
    assert workers == 1 or {one["victim"] for one in told} == {"parent", "worker"}
    folders = sorted((tmp_path / "out").glob("[0-9]*"))
    assert folders
    for out in folders:
        check(tmp_path / "out" / "straight", out, FILES[kind])


SCRIPT = """
import sys
from pathlib import Path
from basewise.inference.scan import ScanOptions, scan
if __name__ == "__main__":
    scan(ScanOptions(Path(sys.argv[1]), Path(sys.argv[3]), sys.argv[2], workers=int(sys.argv[4]), tile_size=1))
"""


@pytest.mark.parametrize("victim", ["parent", "worker"])
def test_killed_with_worker_processes(place, tmp_path, victim):
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "run.py", place / "g.fa", place / "candidates"]
    running = subprocess.Popen([*command, tmp_path / "out", "2"], stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "out" / ".parts"
    deadline = time.monotonic() + 300
    while not (parts.is_dir() and any(parts.glob("0*"))) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert running.poll() is None
    time.sleep(random.Random(victim).uniform(0, 0.1))
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(running.pid if victim == "parent" else int(children[-1]), signal.SIGKILL)
    _, errors = running.communicate(timeout=300)
    if victim == "worker" and running.returncode:
        assert "BasewiseError: a worker died" in errors
    if (tmp_path / "out" / "run.json").exists():  # the scan was over before the kill
        pytest.skip("killed too late")
    for out in ("out", "straight"):
        scan(ScanOptions(place / "g.fa", tmp_path / out, str(place / "candidates"), workers=1, tile_size=1))
    check(tmp_path / "straight", tmp_path / "out", FILES["candidates"])
