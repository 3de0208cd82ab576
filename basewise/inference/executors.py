"""Who does the tiles: this process, or several on this machine. The answers are the same bytes.

An executor takes `open_worker` (picklable, called once a process; it loads genome and model and returns the function that does
one tile) and the tiles, and yields results as tiles end, in any order. `ray_executor` is another such function.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from basewise.errors import BasewiseError
from basewise.inference.plan import Tile


class TileResult(NamedTuple):
    """What is told about a tile that is done; the candidates are in its part."""

    tile: int
    bases: int
    candidates: int
    seconds: dict[str, float]


GO_ON = "what is done is kept, run the same command again to go on"

DoTile = Callable[[Tile], TileResult]
OpenWorker = Callable[[], AbstractContextManager[DoTile]]


def run_serial(open_worker: OpenWorker, tiles: Sequence[Tile]) -> Iterator[TileResult]:
    """Do the tiles here, one after the other, in order."""
    if not tiles:
        return
    with open_worker() as do_tile:
        for tile in tiles:
            try:
                result = do_tile(tile)
            except (OSError, MemoryError) as error:
                raise BasewiseError(_failed(tile, error)) from error
            yield result


def run_processes(open_worker: OpenWorker, tiles: Sequence[Tile], workers: int) -> Iterator[TileResult]:
    """Do the tiles in `workers` fresh processes; when one fails or dies the others are stopped and the error says which tile.

    Workers end when this process ends, whatever ended it.
    """
    context = multiprocessing.get_context("spawn")
    todo = list(reversed(tiles))
    hired: dict[Connection, SpawnProcess] = {}
    doing: dict[Connection, Tile] = {}
    try:
        for _ in range(min(workers, len(tiles))):
            here, there = context.Pipe()
            process = context.Process(target=_work, args=(open_worker, there), daemon=True)
            process.start()
            there.close()
            hired[here] = process
        for connection in hired:
            _hand_out(connection, todo, doing)
        while doing:
            for ready in wait(list(doing)):
                assert isinstance(ready, Connection)
                tile = doing.pop(ready)
                result = _receive(ready, hired[ready], tile)
                _hand_out(ready, todo, doing)
                yield result
    finally:
        for connection in hired:
            connection.close()
        for process in hired.values():
            process.terminate()
            process.join()


def _hand_out(connection: Connection, todo: list[Tile], doing: dict[Connection, Tile]) -> None:
    if not todo:
        return
    doing[connection] = tile = todo.pop()
    with suppress(OSError):  # a worker that is gone: reading from its pipe, which comes next, says so
        connection.send(tile)


def _receive(connection: Connection, process: SpawnProcess, tile: Tile) -> TileResult:
    try:
        answer = connection.recv()
    except (EOFError, ConnectionError):
        process.join()
        raise BasewiseError(
            f"a worker died (exit code {process.exitcode}) on {tile}, perhaps for lack of memory; "
            f"{GO_ON}, with fewer --workers or a smaller --tile-size"
        ) from None
    return judged(answer)


def judged(answer: TileResult | tuple[str, str]) -> TileResult:
    """Return what a worker sent, or raise the error it tells (see `failed`)."""
    if isinstance(answer, TileResult):
        return answer
    kind, message = answer
    raise BasewiseError(message if kind == "BasewiseError" else f"{message}; {GO_ON}")


def failed(tile: Tile | None, error: Exception) -> tuple[str, str]:
    """Return kind and text of an error of a worker, picklable whatever the error holds; `tile` None: it could not start."""
    if isinstance(error, BasewiseError):
        return "OSError" if isinstance(error.__cause__, OSError) else "BasewiseError", str(error)  # a failed write can be tried again
    return type(error).__name__, _failed(tile, error) if tile else f"a worker could not start: {error!r}"


def _failed(tile: Tile, error: BaseException) -> str:
    return f"scanning {tile} failed: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _work(open_worker: OpenWorker, connection: Connection) -> None:
    """Do tiles until the other end hangs up. Errors travel as text: not every exception survives pickling."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tile: Any = None
    try:
        with open_worker() as do_tile:
            while True:
                try:
                    tile = connection.recv()
                except EOFError:
                    return
                connection.send(do_tile(tile))
    except Exception as error:
        connection.send(failed(tile, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
