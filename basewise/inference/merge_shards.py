"""From the folders of `scan --shard 1/n` to `n/n` to the files a scan in one piece would have written, byte for byte."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from basewise.errors import BasewiseError
from basewise.files import read_json
from basewise.inference.plan import PARTS, PLAN, SHARD, Facts, Plan, claim, differences, finish, make_tiles, parse_shard, tidy
from basewise.inference.scan import SUMMARY, ScanOptions, ScanSummary, open_inputs, record_of, write_files
from basewise.inference.watcher import Silent, Watcher
from basewise.inference.work import OF_WORK
from basewise.provenance import provenance


def merge_shards(
    shards: Sequence[str | Path],
    out: str | Path,
    *,
    moved: Mapping[str, Path | str] | None = None,
    force: bool = False,
    watcher: Watcher | None = None,
    report: Callable[[Path, ScanOptions], object] | None = None,
) -> ScanSummary:
    """Merge the folders of all shards of one scan, in any order, into `out`; they are left as they are.

    Parameters
    ----------
    moved
        Where an input of the scan is now: keys genome, model, regions, genes; by default where the shards found it. Its checksum must
        be the one the shards saw.
    report
        Called with the folder and the options of the whole scan; writes report.html.

    Raises
    ------
    BasewiseError
        A folder is no finished shard, shards are of different scans, missing or given twice, an input has changed, or a write failed:
        then the same call begins the merge anew.
    """
    watcher = watcher or Silent()
    begun = time.time()
    folders, stored = _complete(shards)
    options = _options(stored, Path(out), dict(moved or {}), force=force)
    inputs = open_inputs(options)
    facts: Facts = {**inputs.facts, "device": stored["facts"]["device"]}  # merging needs no device
    whole = {key: value for key, value in stored["facts"].items() if key != "shard"}
    if changed := differences(whole, facts):
        raise BasewiseError(f"what the shards were made from has changed ({'; '.join(changed)}); name the right files, or scan again")
    options = replace(options, device=stored["facts"]["device"])
    inputs = replace(inputs, about={**inputs.about, "device": options.device})
    plan = Plan(facts, make_tiles(inputs.genome.contigs, inputs.tile_size, inputs.regions))
    parts = [folder / PARTS for folder in folders]
    lost = [tile for tile in plan.tiles if not (parts[tile.index % len(parts)] / tile.part).exists()]
    if lost:
        where = folders[lost[0].index % len(parts)]
        raise BasewiseError(
            f"{where} lacks {len(lost)} of its parts, the first {lost[0].part} ({lost[0]}); scan that shard again with --force"
        )
    with inputs.genome, claim(options.out, plan, force=force) as claimed:
        if claimed.merged:
            watcher.say(f"{claimed.folder}: all files were there, only tidied up")
            tidy(claimed.folder)
            return ScanSummary(claimed.folder, read_json(claimed.folder / SUMMARY))
        clock = {"begun": begun, "tiles": time.time(), "workers": len(folders)}
        summary = write_files(inputs, plan, parts, claimed.folder, watcher, clock)
        if report is not None:
            watcher.stage("report")
            report(claimed.folder, options)
        finish(claimed, plan, provenance(**record_of(options, inputs), shards=len(folders), timing=summary["timing"]))
    return ScanSummary(claimed.folder, summary)


def _complete(shards: Sequence[str | Path]) -> tuple[list[Path], dict[str, Any]]:
    """Return the folders in the order of their shards and what the first says; refuse all but one whole set."""
    if not shards:
        raise BasewiseError("no shard to merge; name the folders that scan --shard i/n wrote")
    found: dict[int, Path] = {}
    first: dict[str, Any] = {}
    for folder in map(Path, shards):
        if not (folder / SHARD).exists():
            hint = "its scan is not finished, run it again" if (folder / PLAN).exists() else "expected the output of scan --shard i/n"
            raise BasewiseError(f"{folder} is no finished shard: {hint}")
        stored = read_json(folder / SHARD)
        number, count = parse_shard(str(stored["facts"].get("shard")))
        first = first or stored
        mine = {**stored["facts"], "shard": f"{parse_shard(first['facts']['shard'])[0]}/{count}"}
        if changed := differences(first["facts"], mine):
            raise BasewiseError(f"{folder} is a shard of another scan than {Path(shards[0])} ({'; '.join(changed)})")
        if number in found:
            raise BasewiseError(f"{found[number]} and {folder} are both shard {number}/{count}; name each once")
        found[number] = folder
    count = parse_shard(first["facts"]["shard"])[1]
    if missing := [f"{number}/{count}" for number in range(1, count + 1) if number not in found]:
        raise BasewiseError(f"{len(found)} of {count} shards are here, missing {', '.join(missing)}; scan them and name all folders")
    return [found[number] for number in sorted(found)], first


def _options(stored: Mapping[str, Any], out: Path, moved: dict[str, Path | str], *, force: bool) -> ScanOptions:
    paths = {**stored["paths"], **{key: value for key, value in moved.items() if value is not None}}
    regions, genes = (None if paths[key] is None else Path(paths[key]) for key in ("regions", "genes"))
    asked = stored["options"]
    return ScanOptions(
        Path(paths["genome"]),
        out,
        str(paths["model"]),
        regions,
        genes,
        stored["facts"]["threshold"],
        force=force,
        tile_size=stored["facts"]["tile size"],
        batch_size=asked["batch_size"],
        **{name: asked[name] for name in (*OF_WORK, "precision", "exact") if name in asked},
    )
