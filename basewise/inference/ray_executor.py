"""Tiles on a Ray cluster, or on a local Ray: actors that hold genome and model do them; one that dies is replaced and its tile done again.

Every node needs basewise, and the genome, the model and the output folder under the same paths. A part is written by rename and
depends on its tile alone, so a tile done twice leaves the same bytes as one done once.
"""

import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from basewise.errors import BasewiseError
from basewise.inference.executors import GO_ON, OpenWorker, TileResult, failed, judged
from basewise.inference.plan import Tile

TRIES = 4  # a tile that ends so many workers in a row is to blame itself


def connect(address: str | None, workers: int | None, *, gpu: bool = False) -> int:
    """Join the Ray at `address` (None: start one on this machine, ended with this process) and return how many workers to use.

    `workers` None: every CPU (or GPU) that Ray has. A Ray this process has joined already is used as it is.
    Raises BasewiseError when Ray is not installed, cannot be reached, or has no GPU where one is asked for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a Ray begun here: as other worker processes; Ray's own choice is 15
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise BasewiseError("--engine ray needs Ray, which is not installed; install basewise[ray]") from error
    if not ray.is_initialized():
        local: dict[str, Any] = {"num_cpus": workers or len(os.sched_getaffinity(0)), "include_dashboard": False}
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **({} if address else local))
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise BasewiseError(f"cannot join Ray at {address or 'this machine'}: {reason}; check --address and that Ray runs") from error
    kind = "GPU" if gpu else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if not there:
        raise BasewiseError(f"Ray at {address or 'this machine'} has no {kind}, expected at least one; check --device and the cluster")
    return min(workers or there, there)


def run_ray(open_worker: OpenWorker, tiles: Sequence[Tile], workers: int, *, gpu: bool = False) -> Iterator[TileResult]:
    """Do the tiles on `workers` actors (one CPU each, and one GPU with `gpu`) of the Ray that `connect` joined.

    A worker that dies, or whose node does, is replaced; the error of one that fails says which tile, as in `run_processes`.
    """
    import ray
    from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError, WorkerCrashedError

    hire = ray.remote(num_cpus=1, num_gpus=1 if gpu else 0, max_restarts=0)(_Worker).remote
    todo = list(reversed(tiles))
    hired, doing = [hire(open_worker) for _ in range(min(workers, len(tiles)))], {}
    deaths: Counter[int] = Counter()

    def hand_out(worker: Any) -> None:
        if todo:
            tile = todo.pop()
            doing[worker.work.remote(tile)] = (worker, tile)

    try:
        for worker in hired:
            hand_out(worker)
        while doing:
            (ready, *_), _ = ray.wait(list(doing), num_returns=1)
            worker, tile = doing.pop(ready)
            try:
                answer = ray.get(ready)
            except (ActorDiedError, ActorUnavailableError, WorkerCrashedError) as error:
                deaths[tile.index] += 1
                if deaths[tile.index] >= TRIES:
                    raise BasewiseError(
                        f"{TRIES} Ray workers died on {tile}, perhaps for lack of memory; {GO_ON}, with a smaller --tile-size"
                    ) from error
                todo.append(tile)
                ray.kill(worker)
                hired[hired.index(worker)] = worker = hire(open_worker)
                hand_out(worker)
                continue
            except RayError as error:
                raise BasewiseError(f"Ray failed on {tile}: {str(error).splitlines()[0]}; {GO_ON}") from error
            hand_out(worker)
            yield judged(answer)
    finally:
        for worker in hired:
            ray.kill(worker)


class _Worker:
    """Holds an opened worker. Errors travel as text: not every exception survives pickling."""

    def __init__(self, open_worker: OpenWorker) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._stack = ExitStack()
        self._open = open_worker
        self._do_tile: Any = None

    def work(self, tile: Tile) -> TileResult | tuple[str, str]:
        """Return the result of a tile, or the kind and text of what went wrong; genome and model are opened by the first call."""
        try:
            if self._do_tile is None:
                self._do_tile = self._stack.enter_context(self._open())
            result: TileResult = self._do_tile(tile)
        except Exception as error:
            return failed(tile if self._do_tile else None, error)
        return result
