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

COMPARED = ("candidates.parquet", "sites.bed.gz", "sites.bed.gz.tbi", "plus.bw", "minus.bw")

# Forks a scan a round, so that the imports are paid for once; the last argument is the number of kills.
ROUNDS = """
import json, os, random, signal, sys, time
from pathlib import Path
from basewise.inference.scan import ScanOptions, scan
from basewise.tasks.pas_rule import find_candidates
import basewise.backbones.classifier, basewise.inference.engine

genome, model, straight, out, seed, kills = sys.argv[1:]
find_candidates("A" * 200)  # compiled once, inherited by the forks

def run(folder):
    pid = os.fork()
    if not pid:
        scan(ScanOptions(Path(genome), Path(folder), model, workers=1, tile_size=1))
        os._exit(0)
    return pid

begun = time.monotonic()
assert os.waitpid(run(straight), 0)[1] == 0
lasts = time.monotonic() - begun
chance = random.Random(int(seed))
states, folder = [], 0
for _ in range(int(kills)):
    here = Path(out) / str(folder)
    pid = run(here)
    time.sleep(chance.uniform(0, lasts))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    states.append("finished" if (here / "run.json").exists() else len(list(here.glob(".parts/0*"))))
    folder += states[-1] == "finished"
if states[-1] != "finished":
    assert os.waitpid(run(here), 0)[1] == 0
print(json.dumps(states))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    write_fasta(folder / "g.fa", random_genome(5, {"a": 500_000, "b": 100, "c": 200_000}, n_runs=5, at=0.65))
    save_classifier(tiny_classifier(window=101), folder / "model")
    return folder


def check(straight: Path, out: Path):
    for name in COMPARED:
        assert (straight / name).read_bytes() == (out / name).read_bytes(), name
    names = {path.name for path in out.rglob("*")}
    assert names == {*COMPARED, "summary.json", "run.json", ".basewise"}
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (straight, out))
    assert {**first, "timing": 0} == {**second, "timing": 0}


@pytest.mark.parametrize(("seed", "kills"), [(1, 5), pytest.param(2, 20, marks=[pytest.mark.slow, pytest.mark.data])])
def test_killed_at_random_moments(place, tmp_path, seed, kills):
    arguments = [place / "g.fa", place / "model", tmp_path / "straight", tmp_path / "out", str(seed), str(kills)]
    done = subprocess.run([sys.executable, "-c", ROUNDS, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    states = json.loads(done.stdout)
    assert len(states) == kills
    assert any(state != "finished" for state in states), states
    for out in (tmp_path / "out").iterdir():
        check(tmp_path / "straight", out)


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
    command = [sys.executable, tmp_path / "run.py", place / "g.fa", place / "model"]
    running = subprocess.Popen([*command, tmp_path / "out", "2"], stderr=subprocess.PIPE, text=True)
    parts = tmp_path / "out" / ".parts"
    deadline = time.monotonic() + 60
    while not (parts.is_dir() and any(parts.glob("0*"))) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert running.poll() is None
    time.sleep(random.Random(victim).uniform(0, 0.1))
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(running.pid if victim == "parent" else int(children[-1]), signal.SIGKILL)
    _, errors = running.communicate(timeout=60)
    if victim == "worker" and running.returncode:
        assert "BasewiseError: a worker died" in errors
    if (tmp_path / "out" / "run.json").exists():  # the scan was over before the kill
        pytest.skip("killed too late")
    for out in ("out", "straight"):
        scan(ScanOptions(place / "g.fa", tmp_path / out, str(place / "model"), workers=1, tile_size=1))
    check(tmp_path / "straight", tmp_path / "out")
