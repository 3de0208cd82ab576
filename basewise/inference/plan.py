"""What a scan will do, written down before it starts: tiles, the facts its answers depend on, and whether OUT may be used.

An output folder is in one of five states, told by its files alone:

=============  =======================================================================================
new            nothing but basewise's marker: start
interrupted    plan.json, no run.json: same plan -> the parts in .parts/ are kept and the rest is done
merged         plan.json says so: all final files are there, only the tidying is left
finished       run.json: refused without --force
shard done     shard.json: the parts wait in .parts/ for `basewise merge`; asked again, nothing is done
=============  =======================================================================================

Every step is a rename, so a process killed at any moment leaves one of these states and at most some ``.partial-*`` files.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError
from basewise.files import MARKER, prepare_output_folder, read_json, write_json
from basewise.inference.regions import Regions

PLAN, RUN, SHARD, PARTS, PARTIAL = "plan.json", "run.json", "shard.json", ".parts", ".partial-*"
_GO_ON = "what is done is kept, run the same command again to go on"
_ORPHANS_WAIT = 60.0  # seconds a new run waits for the workers of a killed one to notice and stop

Facts = Mapping[str, str | int | float | None]


@dataclass(frozen=True)
class Tile:
    """The unit of work: the candidates whose cleavage base lies in ``[start, end)`` of `chrom`."""

    index: int
    chrom: str
    start: int
    end: int

    @property
    def part(self) -> str:
        """Name of the tile's part in ``OUT/.parts``."""
        return f"{self.index:07d}.parquet"

    def __str__(self) -> str:
        return f"{self.chrom}:{self.start}-{self.end}"


@dataclass(frozen=True)
class Plan:
    """Tiles in contig order and the facts (genome, model, options) that decide what is written for them."""

    facts: Facts
    tiles: tuple[Tile, ...]

    @property
    def sha256(self) -> str:
        """Hash of the facts: two scans with the same hash write the same bytes."""
        return hashlib.sha256(json.dumps(dict(self.facts), sort_keys=True).encode()).hexdigest()


def make_tiles(contigs: Mapping[str, int], tile_size: int, regions: Regions | None = None) -> tuple[Tile, ...]:
    """Cut `contigs` (name to length, file order) into tiles on a grid anchored at base 0 of each; tiles outside `regions` are left out."""
    tiles: list[Tile] = []
    for chrom, length in contigs.items():
        for start in range(0, length, tile_size):
            end = min(start + tile_size, length)
            if regions is None or regions.overlaps(chrom, start, end):
                tiles.append(Tile(len(tiles), chrom, start, end))
    return tuple(tiles)


def parse_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of "i/n", 1 <= i <= n; BasewiseError for anything else."""
    first, slash, last = text.partition("/")
    if slash and first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last):
        return int(first), int(last)
    raise BasewiseError(f"--shard is {text!r}, expected i/n with 1 <= i <= n, as in 2/10")


def shard_tiles(tiles: Sequence[Tile], shard: tuple[int, int]) -> tuple[Tile, ...]:
    """Return every n-th tile from the i-th on, for shard (i, n): all shards see all parts of the genome, so they take alike long."""
    number, count = shard
    return tuple(tile for tile in tiles if tile.index % count == number - 1)


def differences(then: Facts, now: Facts) -> list[str]:
    """Return one phrase for each fact that is not the same, in the order of `now`."""
    keys = [*now, *(key for key in then if key not in now)]
    return [f"{key} was {_short(then.get(key))}, is {_short(now.get(key))}" for key in keys if then.get(key) != now.get(key)]


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text[:12] + "..." if len(text) == 64 and not text.strip("0123456789abcdef") else text


@dataclass(frozen=True)
class Claim:
    """An output folder that is ours to write: tiles already done, and whether even the final files (or a shard's parts) all are."""

    folder: Path
    done: frozenset[int]
    merged: bool
    shard_done: bool = False

    @property
    def parts(self) -> Path:
        """Where the parts of the tiles are."""
        return self.folder / PARTS


@contextmanager
def claim(folder: str | Path, plan: Plan, *, force: bool = False, resume: bool = True) -> Iterator[Claim]:
    """Take `folder` for this plan: begin, resume, or refuse in one line; nobody else can take it meanwhile.

    Without `resume` an interrupted scan, of this or another plan, is begun anew; `force` does so with a finished one too.

    Raises
    ------
    BasewiseError
        `folder` holds a finished scan, an interrupted scan of another plan (the differences are listed), files of somebody
        else, or is being written by another process.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise BasewiseError(f"output {folder} is a file, expected a folder; choose another -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BasewiseError(f"cannot create output folder {folder}: {error.strerror or error}; choose a writable place") from error
    with _locked(folder):
        try:
            yield _open(folder, plan, force=force, resume=resume)
        except OSError as error:
            raise BasewiseError(f"cannot write in {folder}: {error.strerror or error}; {_GO_ON}") from error
        except BasewiseError as error:
            if isinstance(error.__cause__, OSError) and (folder / PLAN).exists():  # a write that failed on the way
                raise BasewiseError(f"{error}; {_GO_ON}") from error
            raise


def _open(folder: Path, plan: Plan, *, force: bool, resume: bool) -> Claim:
    if not force and (folder / RUN).exists():
        raise BasewiseError(f"output folder {folder} holds a finished scan; choose another -o or add --force to replace it")
    if not force and (folder / SHARD).exists():
        changed = differences(read_json(folder / SHARD).get("facts", {}), plan.facts)
        if changed:
            raise BasewiseError(
                f"output folder {folder} holds a finished shard of another plan ({'; '.join(changed)}); "
                "choose another -o or add --force to replace it"
            )
        return Claim(folder, frozenset(tile.index for tile in plan.tiles), merged=False, shard_done=True)
    if force or not resume or not (folder / PLAN).exists():
        _start(folder, plan, force=force or (folder / PLAN).exists())
        return Claim(folder, frozenset(), merged=False)
    stored = read_json(folder / PLAN)
    changed = differences(stored.get("facts", {}), plan.facts)
    if changed:
        raise BasewiseError(
            f"output folder {folder} holds an interrupted scan of another plan ({'; '.join(changed)}); "
            "repeat its options to go on, or add --no-resume to start anew"
        )
    (folder / PARTS).mkdir(exist_ok=True)
    _wait_for_orphans(folder / PARTS)
    _sweep(folder)
    merged = bool(stored.get("merged"))
    return Claim(folder, frozenset() if merged else _done(folder / PARTS, plan.tiles), merged)


def _start(folder: Path, plan: Plan, *, force: bool) -> None:
    ours = (folder / MARKER).exists() and all(
        child.name in (MARKER, PARTS) or child.match(PARTIAL) for child in folder.iterdir()
    )  # killed before plan.json was there
    if (folder / PARTS).is_dir():
        _wait_for_orphans(folder / PARTS)
    prepare_output_folder(folder, force=force or ours)
    (folder / PARTS).mkdir()
    write_json(folder / PLAN, {"merged": False, "sha256": plan.sha256, "facts": dict(plan.facts), "tiles": len(plan.tiles)})


def _sweep(folder: Path) -> None:
    """Remove what a killed writer left half-written."""
    for leftover in (*folder.glob(PARTIAL), *(folder / PARTS).glob(PARTIAL)):
        leftover.unlink()


def _done(parts: Path, tiles: Sequence[Tile]) -> frozenset[int]:
    """Return the tiles whose part is there and whole; a part cut short by a power failure is removed and done again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    there = {entry.name for entry in os.scandir(parts)}
    done = set()
    for tile in tiles:
        if tile.part not in there:
            continue
        try:
            pq.read_metadata(parts / tile.part)
            done.add(tile.index)
        except pa.ArrowInvalid:
            (parts / tile.part).unlink()
    return frozenset(done)


def finish(claimed: Claim, plan: Plan, record: Mapping[str, Any]) -> None:
    """Say that the final files are there, drop the parts, then let plan.json become run.json by one rename."""
    write_json(
        claimed.folder / PLAN,
        {**record, "merged": True, "sha256": plan.sha256, "facts": dict(plan.facts), "tiles": len(plan.tiles)},
    )
    tidy(claimed.folder)


def finish_shard(claimed: Claim, plan: Plan, record: Mapping[str, Any]) -> None:
    """Say that the parts of a shard are all there: plan.json becomes shard.json by one rename."""
    write_json(
        claimed.folder / PLAN, {**record, "merged": False, "sha256": plan.sha256, "facts": dict(plan.facts), "tiles": len(plan.tiles)}
    )
    os.replace(claimed.folder / PLAN, claimed.folder / SHARD)


def tidy(folder: Path) -> None:
    """Remove the parts of a merged scan and write run.json; doing it again after a kill ends the same."""
    shutil.rmtree(folder / PARTS)
    os.replace(folder / PLAN, folder / RUN)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an exclusive lock on the folder itself: no lock file to be left behind, gone with the process whatever ends it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        if not _try_lock(handle, fcntl.LOCK_EX):
            raise BasewiseError(f"another basewise is writing to {folder}; wait for it or choose another -o")
        yield
    finally:
        os.close(handle)


@contextmanager
def share_parts(parts: str | Path) -> Iterator[None]:
    """Tell later runs, as long as this worker lives, that somebody may still write a part."""
    handle = os.open(parts, os.O_RDONLY)
    try:
        if not _try_lock(handle, fcntl.LOCK_SH):
            raise BasewiseError(f"another basewise is tidying {parts}; wait for it")
        yield
    finally:
        os.close(handle)


def _wait_for_orphans(parts: Path) -> None:
    handle = os.open(parts, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _ORPHANS_WAIT
        while not _try_lock(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise BasewiseError(f"workers of an earlier scan still write to {parts}; end them, or wait for them")
            time.sleep(0.05)
    finally:
        os.close(handle)


def _try_lock(handle: int, kind: int) -> bool:
    """Return whether the lock was had; a file system without locks always says yes."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
            raise
    return True
