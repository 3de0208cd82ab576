"""Scans killed by SIGKILL at random moments, round after round, each going on where the last one stopped: for tests of resuming (Linux).

``python -m basewise.testing.killing JSON`` takes the fields of `Rounds` and writes to OUT/rounds.json what happened in every round. The
scans are forks of this process, so that imports are paid for once; ``OUT/straight`` is the one that nobody kills, ``OUT/0``, ``OUT/1``,
... are the others: a scan that ends before it is killed makes room for a next one, and what is left at the end is resumed and ends.
"""

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from basewise.errors import BasewiseError
from basewise.inference.scan import ScanOptions, scan


class Rounds(BaseModel):
    """What to do.

    settings
        Of `ScanOptions`, beside genome, out, model and a `tile_size` as small as can be.
    victims
        Of whom one is drawn each round: "parent", "worker" (any of its processes; the parent where it has none yet) or "ray" (any
        worker that descends from `ray_owner`, the process that started Ray).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    genome: Path
    model: str
    out: Path
    seed: int
    kills: int
    settings: dict[str, Any] = {}
    victims: tuple[str, ...] = ("parent",)
    ray_owner: int | None = None


def kill_scans(rounds: Rounds) -> list[dict[str, Any]]:
    """Do the rounds and return of each the `moment` (seconds after its begin), the `victim` and the `state` that followed: the number of
    parts that were kept, or "finished"."""
    begun = time.monotonic()
    if _ended(_begin(rounds, rounds.out / "straight")):
        raise AssertionError("the scan that nobody kills failed")
    lasts = time.monotonic() - begun
    chance, told, folder = random.Random(rounds.seed), [], 0
    for _ in range(rounds.kills):
        here, moment, wanted = rounds.out / str(folder), chance.uniform(0, lasts), chance.choice(rounds.victims)
        parent = _begin(rounds, here)
        time.sleep(moment)
        prey = sorted(_prey(parent, wanted, rounds.ray_owner))
        with suppress(ProcessLookupError):  # a worker that has just ended
            os.kill(chance.choice(prey) if prey else parent, signal.SIGKILL)
        _ended(parent)
        state = "finished" if (here / "run.json").exists() else len(list(here.glob(".parts/0*")))
        folder += state == "finished"
        told.append({"moment": round(moment / lasts, 2), "victim": wanted if prey else "parent", "state": state})
    if told[-1]["state"] != "finished" and _ended(_begin(rounds, rounds.out / str(folder))):
        raise AssertionError("the last scan could not be resumed")
    return told


def processes(ancestor: int, words: bytes) -> Iterator[int]:
    """Yield the processes that descend from `ancestor` and have `words` in their command line."""
    parents, found = {}, []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command, state = path.read_bytes(), (path.parent / "stat").read_text()
        except OSError:  # gone meanwhile
            continue
        pid = int(path.parent.name)
        parents[pid] = int(state.rpartition(")")[2].split()[1])
        if words in command:
            found.append(pid)
    for pid in found:
        above = parents[pid]
        while above != ancestor and above in parents:
            above = parents[above]
        if above == ancestor:
            yield pid


def _prey(parent: int, wanted: str, ray_owner: int | None) -> Iterator[int]:
    if wanted == "parent":
        yield parent
    elif wanted == "worker":
        yield from processes(parent, b"--multiprocessing-fork")
    elif ray_owner is not None:
        yield from processes(ray_owner, b"ray::_Worker")


def _begin(rounds: Rounds, folder: Path) -> int:
    pid = os.fork()
    if not pid:
        try:
            scan(ScanOptions(rounds.genome, folder, rounds.model, tile_size=1, **rounds.settings))
        except BasewiseError as error:
            sys.stderr.write(f"{error}\n")
            sys.stderr.flush()
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            os._exit(2)
        os._exit(0)
    return pid


def _ended(pid: int) -> bool:
    """Wait for a scan; return whether it did not end well. Raises AssertionError where it was neither killed nor said why."""
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1, -signal.SIGKILL):
        raise AssertionError(f"a scan ended with status {os.waitstatus_to_exitcode(status)}")
    return bool(status)


if __name__ == "__main__":
    import basewise.backbones.classifier
    import basewise.inference.engine  # noqa: F401  inherited by the forks
    from basewise.tasks.pas_rule import find_candidates

    find_candidates("A" * 200)  # compiled once
    asked = Rounds.model_validate_json(sys.argv[1])
    (asked.out / "rounds.json").write_text(json.dumps(kill_scans(asked)))
