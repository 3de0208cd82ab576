"""A whole genome in, sites or intervals out: plan, tiles, merge. Killed at any moment, the same command goes on where it was.

The model never sees the genome as a whole: memory is bounded by the tile.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from basewise.errors import BasewiseError
from basewise.files import read_json, sha256_of, write_json
from basewise.genome.contigs import check_contigs
from basewise.genome.fasta import Genome, open_genome
from basewise.genome.genes import read_genes
from basewise.genome.intervals import read_bed
from basewise.inference.base_merge import base_files
from basewise.inference.executors import TileResult, run_processes, run_serial
from basewise.inference.merge import CANDIDATES, SITES, TRACKS
from basewise.inference.plan import Claim, Plan, claim, finish, finish_shard, make_tiles, parse_shard, shard_tiles, tidy
from basewise.inference.ray_executor import connect, run_ray
from basewise.inference.regions import Regions, merge_regions
from basewise.inference.tiles import ScanJob
from basewise.inference.watcher import Silent, Watcher
from basewise.inference.work import Asked, Work, choose_work
from basewise.provenance import provenance, version

SUMMARY = "summary.json"
_LARGE_GENOME = 1 << 25
_TILE = {"large": 1 << 20, "small": 1 << 18}  # about ten seconds of scoring; small genomes still give every core a tile


@dataclass(frozen=True)
class ScanOptions:
    """What a scan is asked for; the command line's flags.

    ``threshold`` None: the model's own. ``workers`` None: one a core on the CPU, one on CUDA. ``tile_size`` None: chosen from the
    genome's size; always rounded up to whole cells of the engine. ``tile_size``, ``workers`` and ``batch_size`` change no result.
    ``resume`` False begins an interrupted scan anew. ``shard`` "i/n": the i-th of n parts, for `merge_shards`. ``engine`` "ray": tiles
    are done on the Ray at ``address``, or on one started on this machine.

    ``rule``: "polya" scores the candidates of the poly(A) rule, "none" answers every base; None: by the model's task. What follows is for
    scans of every base, None standing for the default: ``gap`` (0) and ``min_length`` (1) of intervals, ``track_floor`` (0.01), ``strands``
    ("forward"), ``window`` (the model's) and ``stride``, the central bases that a window answers for.

    ``precision`` "bf16" and ``exact`` (no first stage) are about candidates, see `staged`; sites are the same in either precision.
    """

    genome: Path
    out: Path
    model: str = "polya"
    regions: Path | None = None
    genes: Path | None = None
    threshold: float | None = None
    workers: int | None = None
    device: str = "cpu"
    force: bool = False
    tile_size: int | None = None
    batch_size: int = 4096
    resume: bool = True
    shard: str | None = None
    engine: str = "local"
    address: str | None = None
    rule: str | None = None
    gap: int | None = None
    min_length: int | None = None
    track_floor: float | None = None
    strands: str | None = None
    window: int | None = None
    stride: int | None = None
    precision: str = "fp32"
    exact: bool = False


@dataclass(frozen=True)
class ScanSummary:
    """Where the files are and what summary.json says."""

    folder: Path
    summary: Mapping[str, Any]

    @property
    def files(self) -> dict[Path, str]:
        """Files with what they hold, as text."""
        totals = self.summary["totals"]
        if "shard" in self.summary:
            return {self.folder: f"{self.summary['shard']} of {totals['tiles']:,} tiles, for basewise merge"}
        if self.summary.get("kind") == "bases":
            lines = base_files(totals)
            return {self.folder / name: text for name, text in lines.items() if (self.folder / name).exists()}
        lines = {
            SITES: f"{totals['sites']:,} sites",
            CANDIDATES: f"{totals['candidates']:,} candidates",
            TRACKS[1]: "probability at each candidate base, plus strand",
            TRACKS[-1]: "probability at each candidate base, minus strand",
            SUMMARY: "counts and settings",
            "report.html": "figures, open in a browser",
        }
        return {self.folder / name: text for name, text in lines.items() if (self.folder / name).exists()}


@dataclass(frozen=True)
class ScanInputs:
    """The opened inputs of a scan, checked against one another."""

    genome: Genome
    regions: Regions | None
    work: Work
    threshold: float
    tile_size: int
    facts: dict[str, str | int | float | None]
    about: dict[str, Any]  # the head of summary.json


def scan(options: ScanOptions, watcher: Watcher | None = None, report: Callable[[Path], object] | None = None) -> ScanSummary:
    """Scan a genome and return what was found; the files are listed in docs/file_formats.md.

    Parameters
    ----------
    options
        See `ScanOptions`.
    watcher
        Told about progress; None: nobody is.
    report
        Called with the folder when all other files but run.json are there; writes report.html.

    Raises
    ------
    BasewiseError
        Bad inputs (before anything is written), a folder that may not be used, or a failure on the way: then the same call resumes.
    """
    watcher = watcher or Silent()
    begun = time.time()
    inputs = open_inputs(options)
    tiles = make_tiles(inputs.genome.contigs, inputs.tile_size, inputs.regions)
    if options.shard is not None:
        tiles = shard_tiles(tiles, parse_shard(options.shard))
    plan = Plan(inputs.facts, tiles)
    with inputs.genome, claim(options.out, plan, force=options.force, resume=options.resume) as claimed:
        if claimed.merged:
            watcher.say(f"{claimed.folder}: all files were there, only tidied up")
            tidy(claimed.folder)
            return ScanSummary(claimed.folder, read_json(claimed.folder / SUMMARY))
        for note in inputs.work.notes:
            watcher.say(note)
        if claimed.done:
            watcher.say(f"resuming {claimed.folder}: {len(claimed.done)} of {len(plan.tiles)} tiles are kept")
        workers = 0 if claimed.shard_done else _do_tiles(options, inputs, plan, claimed, watcher)
        if options.shard is not None:
            if not claimed.shard_done:
                finish_shard(claimed, plan, provenance(**record_of(options, inputs), paths=_paths(options)))
            return ScanSummary(claimed.folder, {"shard": f"shard {options.shard}", "totals": {"tiles": len(plan.tiles)}})
        clock = {"begun": begun, "tiles": time.time(), "workers": workers}
        summary = write_files(inputs, plan, [claimed.parts], claimed.folder, watcher, clock)
        if report is not None:
            watcher.stage("report")
            report(claimed.folder)
        finish(claimed, plan, provenance(**record_of(options, inputs), timing=summary["timing"]))
    return ScanSummary(claimed.folder, summary)


def _do_tiles(options: ScanOptions, inputs: ScanInputs, plan: Plan, claimed: Claim, watcher: Watcher) -> int:
    """Do the tiles that are not done yet; return how many processes did it."""
    todo = [tile for tile in plan.tiles if tile.index not in claimed.done]
    workers = min(_workers(options), max(len(todo), 1)) if todo else 1
    job = ScanJob(inputs.genome, options.model, claimed.parts, inputs.regions, options.device, options.batch_size)
    open_one = partial(inputs.work.open_worker, job)
    if options.engine == "ray":
        results: Iterator[TileResult] = run_ray(open_one, todo, workers, gpu=options.device != "cpu")
    else:
        results = run_serial(open_one, todo) if workers == 1 else run_processes(open_one, todo, workers)
    size = {tile.index: tile.end - tile.start for tile in todo}
    watcher.begin(sum(size.values()))
    for result in results:
        watcher.advance(size[result.tile], result.candidates)
    return workers


def _workers(options: ScanOptions) -> int:
    if options.engine == "ray":
        return connect(options.address, options.workers, gpu=options.device != "cpu")
    if options.workers is not None:
        return options.workers
    return len(os.sched_getaffinity(0)) if options.device == "cpu" else 1


def write_files(
    inputs: ScanInputs, plan: Plan, parts: Sequence[Path], folder: Path, watcher: Watcher, clock: Mapping[str, float]
) -> dict[str, Any]:
    """Write all final files but report.html and run.json from the folders of parts (see `read_parts`); return the summary."""
    counts, seconds = inputs.work.write(parts, plan.tiles, folder, watcher)
    wall = time.time() - clock["begun"]
    timing = {
        "total_s": round(wall, 3),
        "tiles_s": round(clock["tiles"] - clock["begun"], 3),
        "merge_s": round(time.time() - clock["tiles"], 3),
        "stages": {stage: round(spent, 3) for stage, spent in seconds.items()},  # summed over processes, kept tiles included
        "workers": int(clock["workers"]),
    }
    summary = {**inputs.about, **counts, "timing": timing}
    write_json(folder / SUMMARY, summary)
    return summary


def open_inputs(options: ScanOptions) -> ScanInputs:
    """Open and check everything a scan reads, before anything is written."""
    from basewise.backbones.classifier import find_model, load_classifier
    from basewise.inference.asking import check_device
    from basewise.inference.engine import cell_size

    _check_numbers(options)
    device = check_device(options.device)
    genome = open_genome(options.genome)
    if not any(genome.contigs.values()):
        raise BasewiseError(f"{options.genome} holds no base: all its contigs are empty")
    regions, genes = _open_regions(options.regions, genome), _open_genes(options.genes, genome)
    classifier = load_classifier(options.model)
    threshold = classifier.config.threshold if options.threshold is None else options.threshold
    work = choose_work(Asked(options, classifier, device, threshold, genome.contigs, genes))
    bases, cell = sum(genome.contigs.values()), cell_size(device)
    wanted = options.tile_size or max(_TILE["large" if bases > _LARGE_GENOME else "small"], work.least_tile)
    tile_size = -(-wanted // cell) * cell
    sha256 = {name: sha256_of(path) if path else None for name, path in (("regions", options.regions), ("genes", options.genes))}
    facts: dict[str, str | int | float | None] = {
        "basewise version": version(),
        "genome sha256": genome.sha256(),
        "model weights sha256": classifier.sha256,
        "model config sha256": sha256_of(find_model(options.model) / "config.json"),
        "regions sha256": sha256["regions"],
        "genes sha256": sha256["genes"],
        "threshold": threshold,
        "device": device.type,
        "tile size": tile_size,
        **work.facts,
        **({} if options.shard is None else {"shard": options.shard}),
    }
    window = classifier.config.window
    about = {
        "task": classifier.config.task,
        "genome": {"name": genome.name, "sha256": genome.sha256(), "bases": bases, "contigs": len(genome.contigs)},
        "model": {"name": Path(options.model).name, "sha256": classifier.sha256, "window": window},
        "regions": _about_regions(options.regions, regions, genome, sha256["regions"]),
        "genes": None
        if genes is None or options.genes is None
        else {"name": options.genes.name, "sha256": sha256["genes"], "genes": len(genes)},
        "threshold": threshold,
        **work.about,
        "device": device.type,
    }
    return ScanInputs(genome, regions, work, threshold, tile_size, facts, about)


def record_of(options: ScanOptions, inputs: ScanInputs) -> dict[str, Any]:
    """Return what run.json tells beside versions and the plan."""
    return {
        "verb": "scan",
        "genome": inputs.about["genome"],
        "model": inputs.about["model"],
        "options": {
            "threshold": inputs.threshold,
            "regions": None if options.regions is None else options.regions.name,
            "genes": None if options.genes is None else options.genes.name,
            "device": options.device,
            "workers": options.workers,
            "tile_size": inputs.tile_size,
            "batch_size": options.batch_size,
            "engine": options.engine,
            **inputs.work.options,
        },
    }


def _paths(options: ScanOptions) -> dict[str, str | None]:
    """Return where the inputs are, absolute, so that shards can be merged from anywhere."""
    from basewise.backbones.classifier import find_model

    files = {"genome": options.genome, "regions": options.regions, "genes": options.genes}
    model = options.model if find_model(options.model) != Path(options.model) else str(Path(options.model).absolute())
    return {**{name: None if path is None else str(Path(path).absolute()) for name, path in files.items()}, "model": model}


def _check_numbers(options: ScanOptions) -> None:
    if options.engine not in ("local", "ray"):
        raise BasewiseError(f"--engine is {options.engine!r}, expected local or ray")
    if options.address is not None and options.engine != "ray":
        raise BasewiseError("--address is where a Ray cluster is; add --engine ray")
    if options.shard is not None:
        parse_shard(options.shard)
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise BasewiseError(f"--threshold is {options.threshold}, expected a probability between 0 and 1")
    for flag, value in (("--workers", options.workers), ("--tile-size", options.tile_size), ("--batch-size", options.batch_size)):
        if value is not None and value < 1:
            raise BasewiseError(f"{flag} is {value}, expected 1 or more")


def _open_regions(path: Path | None, genome: Genome) -> Regions | None:
    if path is None:
        return None
    table = read_bed(path)
    check_contigs(table["chrom"].unique().tolist(), genome, str(path))
    beyond = table[table["end"].to_numpy() > table["chrom"].map(dict(genome.contigs)).to_numpy()]
    if len(beyond):
        first = beyond.iloc[0]
        raise BasewiseError(
            f"{path}: {first['chrom']}:{first['start']}-{first['end']} reaches beyond its contig of "
            f"{genome.contigs[first['chrom']]} bases; is the file of another assembly?"
        )
    return merge_regions(table)


def _open_genes(path: Path | None, genome: Genome) -> pd.DataFrame | None:
    if path is None:
        return None
    genes = read_genes(path)
    known = genes["chrom"].isin(list(genome.contigs)).to_numpy()
    if not known.any():  # an annotation usually covers more contigs than one file holds, but one that shares none is the wrong one
        check_contigs(genes["chrom"].unique().tolist(), genome, str(path))
    return genes[known].reset_index(drop=True)


def _about_regions(path: Path | None, regions: Regions | None, genome: Genome, sha256: str | None) -> dict[str, Any] | None:
    if path is None or regions is None:
        return None
    return {"name": path.name, "sha256": sha256, "bases": sum(regions.bases(chrom, 0, length) for chrom, length in genome.contigs.items())}
