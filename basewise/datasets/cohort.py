"""A cohort is a folder that describes individuals: whose genome, which copies of which contigs, which edits. Genomes are never written.

COHORT/samples.tsv (sample species sex label split) · haplotypes/SAMPLE.npz (edits, from a VCF) or reads/SAMPLE.bases.npy and .offsets.npy
(from FASTQ) · cohort.json, written last.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from basewise.errors import BasewiseError
from basewise.files import atomic_path, prepare_output_folder, read_json, write_json
from basewise.genome.alphabet import Bases
from basewise.genome.fasta import Genome, open_genome
from basewise.genome.fasta_index import is_bgzip
from basewise.genome.haplotypes import Edits, Haplotype

COHORT_FILE = "cohort.json"
FORMAT = "basewise cohort 1"
SAMPLE_COLUMNS = ("sample", "species", "sex", "label", "split")
UNKNOWN = -1


@dataclass(frozen=True)
class CopyPlan:
    """One copy of a stretch of a contig that an individual has; `edits` None is the reference itself. Ends are those of the reference."""

    contig: str
    number: int  # 0, 1
    start: int
    end: int
    edits: Edits | None = None


@dataclass(frozen=True)
class IndividualPlan:
    """An individual to be written into a cohort: by `copies` of `genome` (a FASTA), or by `reads` (bases, offsets)."""

    genome: Path | None = None
    copies: tuple[CopyPlan, ...] = ()
    reads: tuple[Bases, npt.NDArray[np.int64]] | None = None


class Copy(NamedTuple):
    """One copy that draws may hit: positions `start` to `end` of `sequence`, which are the copy's own 0 to end - start."""

    contig: str
    number: int
    sequence: Haplotype
    start: int
    end: int


class IndividualGenome:
    """What one individual's chunks are drawn from."""

    def __init__(self, sample: str, species: str, copies: Sequence[Copy], reads: tuple[Bases, npt.NDArray[np.int64]] | None = None) -> None:
        self.sample, self.species = sample, species
        self._copies, self._reads = tuple(copies), reads
        if reads is None:
            self.lengths = np.array([copy.end - copy.start for copy in self._copies], np.int64)
            self.contigs = np.array([copy.contig for copy in self._copies], dtype=object)
            self.copies: Sequence[Copy] = self._copies
        else:
            self.lengths = np.diff(reads[1])
            self.contigs = np.full(len(self.lengths), ".", dtype=object)
            self.copies = [Copy(".", 0, _NOTHING, 0, 0)] * len(self.lengths)

    @property
    def mapped(self) -> bool:
        """True where it is known which contig a chunk comes from."""
        return self._reads is None

    def read(self, copy: int, start: int, length: int) -> Bases:
        """Return at most `length` bases of a copy (or read) from its own position `start` on."""
        end = min(start + length, int(self.lengths[copy]))
        if self._reads is not None:
            begin = int(self._reads[1][copy])
            return self._reads[0][begin + start : begin + end]
        piece = self._copies[copy]
        return piece.sequence.fetch(piece.start + start, piece.start + end)

    def reference_positions(self, copy: npt.ArrayLike, start: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Return where positions `start` of copies `copy` lie on the reference contigs; -1 for reads."""
        which, at = np.asarray(copy, np.int64), np.asarray(start, np.int64)
        answer = np.full(at.shape, -1, np.int64)
        if self._reads is None:
            for i in np.unique(which):
                piece, here = self._copies[i], which == i
                answer[here] = piece.sequence.reference_positions(at[here] + piece.start)
        return answer


_NOTHING = Haplotype(lambda start, end: np.empty(end - start, np.uint8), 0)


@dataclass
class Cohort:
    """An opened cohort folder; `samples` has one row an individual, in file order."""

    path: Path
    manifest: dict[str, Any]
    samples: pd.DataFrame
    _genomes: dict[str, Genome] = field(default_factory=dict)
    _contigs: dict[tuple[str, str], Bases] = field(default_factory=dict)
    _individuals: dict[int, IndividualGenome] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of labels 0, 1, ..."""
        return tuple(self.manifest["labels"])

    @property
    def contigs(self) -> list[str]:
        """All contigs that some individual has, in the genomes' order."""
        return list(dict.fromkeys(piece["contig"] for one in self.manifest["individuals"] for piece in one["copies"]))

    def members(self, split: str, *, labelled: bool = True) -> npt.NDArray[np.int64]:
        """Return the rows of a split ("all": every one), by default those with a label; BasewiseError when there is none."""
        chosen = np.ones(len(self.samples), bool) if split == "all" else (self.samples["split"] == split).to_numpy()
        if labelled:
            chosen = chosen & (self.samples["label"].to_numpy(np.int64) != UNKNOWN)
        if not chosen.any():
            have = ", ".join(repr(name) for name in dict.fromkeys(self.samples["split"]))
            raise BasewiseError(f"cohort {self.path} has no {'labelled ' if labelled else ''}individual in split {split!r}; splits: {have}")
        return np.flatnonzero(chosen)

    def genome(self, row: int) -> IndividualGenome:
        """Return the genome of an individual, opened once."""
        if row not in self._individuals:
            self._individuals[row] = self._open(row)
        return self._individuals[row]

    def _open(self, row: int) -> IndividualGenome:
        entry = self.manifest["individuals"][row]
        sample, species = entry["sample"], str(self.samples["species"].iloc[row])
        if entry["genome"] is None:
            stem = self.path / "reads" / entry["file"]
            return IndividualGenome(sample, species, (), (_load(f"{stem}.bases.npy"), _load(f"{stem}.offsets.npy")))
        stored: Mapping[str, Any] = {}
        if entry["file"] is not None:
            stored = _load(f"{self.path / 'haplotypes' / entry['file']}.npz")
        copies = []
        for piece in entry["copies"]:
            contig, number = piece["contig"], piece["copy"]
            name = f"{contig}/{number}"
            edits = (
                Edits(*(stored[f"{name}/{part}"] for part in ("starts", "ends", "offsets", "text"))) if f"{name}/starts" in stored else None
            )
            haplotype = Haplotype(self._fetcher(entry["genome"], contig), self._length(entry["genome"], contig), edits)
            whole = piece["end"] == haplotype.reference_length
            end = haplotype.length if whole else haplotype.position_of(piece["end"])
            copies.append(Copy(contig, number, haplotype, haplotype.position_of(piece["start"]) if piece["start"] else 0, end))
        return IndividualGenome(sample, species, copies)

    def _opened(self, path: str) -> Genome:
        if path not in self._genomes:
            self._genomes[path] = open_genome(path)
        return self._genomes[path]

    def _length(self, path: str, contig: str) -> int:
        contigs = self._opened(path).contigs
        if contig not in contigs:
            raise BasewiseError(f"cohort {self.path} was made with another {path}: contig {contig!r} is gone; make the cohort again")
        return contigs[contig]

    def _fetcher(self, path: str, contig: str) -> Callable[[int, int], Bases]:
        """Return a reader of a reference contig: a plain FASTA by its memory map, a packed one unpacked in memory, contig by contig."""
        genome = self._opened(path)
        if not is_bgzip(genome.path):
            return lambda start, end: genome.fetch(contig, start, end)

        def fetch(start: int, end: int) -> Bases:
            key = (path, contig)
            if key not in self._contigs:
                self._contigs[key] = genome.fetch(contig, 0, genome.contigs[contig])
            return self._contigs[key][start:end].copy()

        return fetch


def _load(path: str) -> Any:
    try:
        return np.load(path, mmap_mode="r" if path.endswith(".npy") else None)
    except (OSError, ValueError, EOFError) as error:
        raise BasewiseError(f"cannot read {path}: {error}; make the cohort again") from error


def write_cohort(
    folder: str | Path, samples: pd.DataFrame, plans: Sequence[IndividualPlan], manifest: Mapping[str, Any], *, force: bool = False
) -> Cohort:
    """Write a cohort folder and return it opened; cohort.json comes last, so a folder with one is whole.

    `samples` has SAMPLE_COLUMNS and any others, one row a plan; `manifest` at least `labels`, the names of labels 0, 1, ...
    """
    if len(samples) != len(plans):
        raise BasewiseError(f"{len(samples)} samples but {len(plans)} genomes to write")
    folder = prepare_output_folder(folder, force=force)
    (folder / "haplotypes").mkdir()
    (folder / "reads").mkdir()
    entries = []
    for number, (sample, plan) in enumerate(zip(samples["sample"].tolist(), plans, strict=True)):
        entries.append(_write_individual(folder, f"{number:05d}", sample, plan))
    full = {"format": FORMAT, "kind": "individual", "counts": count_labels(samples), **manifest, "individuals": entries}
    with atomic_path(folder / "samples.tsv") as path:
        samples.to_csv(path, sep="\t", index=False)
    write_json(folder / COHORT_FILE, full)
    return open_cohort(folder)


def _write_individual(folder: Path, name: str, sample: str, plan: IndividualPlan) -> dict[str, Any]:
    entry: dict[str, Any] = {"sample": sample, "genome": None, "file": None, "copies": []}
    if plan.reads is not None:
        entry["file"] = name
        np.save(folder / "reads" / f"{name}.bases.npy", plan.reads[0])
        np.save(folder / "reads" / f"{name}.offsets.npy", plan.reads[1])
        return entry
    entry["genome"] = str(plan.genome)
    arrays: dict[str, Any] = {}
    for copy in plan.copies:
        entry["copies"].append({"contig": copy.contig, "copy": copy.number, "start": copy.start, "end": copy.end})
        if copy.edits is not None and len(copy.edits):
            arrays |= {f"{copy.contig}/{copy.number}/{part}": getattr(copy.edits, part) for part in ("starts", "ends", "offsets", "text")}
    if arrays:
        entry["file"] = name
        np.savez_compressed(folder / "haplotypes" / f"{name}.npz", **arrays)
    return entry


def join_cohorts(cohorts: Sequence[Cohort], folder: str | Path, *, force: bool = False) -> Cohort:
    """Write one cohort of several with the same labels; samples of one name and species may not come twice."""
    first = cohorts[0]
    for other in cohorts[1:]:
        if other.labels != first.labels:
            raise BasewiseError(
                f"{other.path} has labels {', '.join(other.labels)}, {first.path} has {', '.join(first.labels)}; labels must agree"
            )
    samples = pd.concat([cohort.samples for cohort in cohorts], ignore_index=True).fillna("")
    twice = samples[["sample", "species"]].duplicated()
    if twice.any():
        raise BasewiseError(
            f"sample {samples['sample'][twice].iloc[0]!r} comes twice among the cohorts; an individual belongs to one split"
        )
    folder = prepare_output_folder(folder, force=force)
    entries: list[dict[str, Any]] = []
    for cohort in cohorts:
        for entry in cohort.manifest["individuals"]:
            new = f"{len(entries):05d}"
            for kind in ("haplotypes", "reads"):
                (folder / kind).mkdir(exist_ok=True)
                for part in (cohort.path / kind).glob(f"{entry['file']}.*"):
                    shutil.copyfile(part, folder / kind / part.name.replace(entry["file"], new, 1))
            entries.append({**entry, "file": new if entry["file"] is not None else None})
    with atomic_path(folder / "samples.tsv") as path:
        samples.to_csv(path, sep="\t", index=False)
    about = {key: first.manifest.get(key) for key in ("format", "kind", "task", "labels", "seed")}
    joined = [{k: v for k, v in cohort.manifest.items() if k != "individuals"} for cohort in cohorts]
    write_json(folder / COHORT_FILE, {**about, "counts": count_labels(samples), "joined": joined, "individuals": entries})
    return open_cohort(folder)


def count_labels(samples: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Return {split: {label: n}}; individuals of no split count as "none"."""
    counts: dict[str, dict[str, int]] = {}
    for split, label in zip(samples["split"].tolist(), samples["label"].tolist(), strict=True):
        at = counts.setdefault(split or "none", {})
        at[str(label)] = at.get(str(label), 0) + 1
    return counts


def write_fasta(genome: IndividualGenome, path: str | Path, line: int = 60) -> None:
    """Write an individual's copies as FASTA, named CONTIG_1, CONTIG_2 (a part of a contig: CONTIG_2:START-END, 1-based, its own bases)."""
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        for copy in genome.copies:
            part = "" if (copy.start, copy.end) == (0, copy.sequence.length) else f":{copy.start + 1}-{copy.end}"
            stream.write(f">{copy.contig}_{copy.number + 1}{part}\n".encode())
            for begin in range(copy.start, copy.end, line << 14):
                bases = copy.sequence.fetch(begin, min(begin + (line << 14), copy.end)).tobytes()
                stream.writelines(bases[i : i + line] + b"\n" for i in range(0, len(bases), line))


def is_cohort(folder: str | Path) -> bool:
    """Tell whether `folder` is a cohort, not a dataset of sequences."""
    return (Path(folder) / COHORT_FILE).is_file()


def refuse_cohort(path: str | Path, expected: str) -> None:
    """Raise BasewiseError, naming the verbs that take it, when `path` is a cohort where something else is `expected`."""
    if is_cohort(path):
        raise BasewiseError(
            f"{path} is a cohort of individuals, expected {expected}; train on it with `basewise train RECIPE --data {path}`, ask a run "
            f"about it with `basewise trait predict RUN {path}`, `trait curve` or `trait evidence`"
        )


def open_cohort(folder: str | Path) -> Cohort:
    """Open a cohort folder made by `basewise individuals`; BasewiseError when it is missing, half-written or not a cohort."""
    folder = Path(folder)
    if not is_cohort(folder):
        raise BasewiseError(
            f"{folder} holds no {COHORT_FILE}: not a cohort, or its making was interrupted; make one with `basewise individuals`"
        )
    manifest = read_json(folder / COHORT_FILE)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise BasewiseError(f"{folder / COHORT_FILE} is not a {FORMAT!r}; make the cohort again")
    samples = pd.read_csv(folder / "samples.tsv", sep="\t", dtype=str, keep_default_na=False)
    samples["label"] = samples["label"].astype(np.int64)
    if samples["sample"].tolist() != [one["sample"] for one in manifest["individuals"]]:
        raise BasewiseError(f"{folder / 'samples.tsv'} does not list the individuals of {COHORT_FILE}, in order; make the cohort again")
    return Cohort(folder, manifest, samples)
