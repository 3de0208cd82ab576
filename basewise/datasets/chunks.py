"""Chunks of genomes, drawn as a sequencer would: a copy of a chromosome by its length, a stretch of it at random.

Every number comes from a counter-based generator keyed by (seed, species, individual) and counted by (draw, chunk, attempt): the same chunk
whoever asks, in whatever order, in however many processes. Nothing is stored between draws.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from basewise.errors import BasewiseError, did_you_mean
from basewise.genome.alphabet import Bases, codes
from basewise.genome.contigs import plain_name

if TYPE_CHECKING:
    from basewise.datasets.cohort import Cohort, IndividualGenome

Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]  # 32-bit values
Placer = Callable[[npt.NDArray[np.float64], Integers], tuple[Integers, Integers]]

ATTEMPTS = 4096  # draws of a chunk that is mostly N before the genome is called unusable: a contig with 1 % of bases known is usable
ATTEMPTS_AT_ONCE = 32
N_BYTE = ord("N")


@dataclass(frozen=True)
class ChunkSettings:
    """What a draw is. The defaults are those of the GENA-LM sex paper: 16 chunks of 3,072 bases.

    Attributes
    ----------
    count, length
        N chunks a group, L bases a chunk.
    max_n
        Chunks with a larger share of N (anything but A, C, G, T) are drawn again, so that chunks are uniform over the rest; 1.0 takes all,
        as published. Below 1 a contig that is mostly N, like an assembled Y, gives no chunks that tell it apart by their N alone.
    short
        Contigs or reads shorter than L: "pad" takes them whole with N up to L, "keep" takes them whole, "drop" leaves them out.
    force
        Contigs (patterns) of which the first chunk of every group is drawn, in individuals that have them: forced Y in males.
    drop
        Contigs (patterns) left out: ablation.

    """

    count: int = 16
    length: int = 3072
    max_n: float = 1.0
    short: Literal["pad", "keep", "drop"] = "pad"
    force: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()


class Chunks(NamedTuple):
    """B groups of N chunks of one individual."""

    copy: Integers  # (B, N) index into the genome's copies
    start: Integers  # (B, N) first base, in the copy's own positions
    bases: Bases  # (B, N, L) as in the genome, N behind short ones
    lengths: Integers  # (B, N) bases that count: L, or fewer with short="keep"

    def sequences(self) -> list[Bases]:
        """Return the B * N chunks, group after group."""
        flat = self.bases.reshape(-1, self.bases.shape[-1])
        return [row[:n] for row, n in zip(flat, self.lengths.ravel().tolist(), strict=True)]


def philox(counter: npt.NDArray[np.uint32], key: tuple[int, int]) -> npt.NDArray[np.uint32]:
    """Return Philox4x32-10 of counters (..., 4) under a key of two 32-bit words: four random words a counter.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", and the known answers of its library.
    """
    c = [counter[..., i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(b >> shift) ^ c[1] ^ np.uint64(k0), b & low, (a >> shift) ^ c[3] ^ np.uint64(k1), a & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=-1).astype(np.uint32)


def key_of(*names: object) -> tuple[int, int]:
    """Return the generator key of anything printable: two words of its sha256."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")


def uniforms(draws: Integers, places: npt.ArrayLike, attempt: npt.ArrayLike, key: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Return two numbers in [0, 1), of 53 bits, for every (draw, place, attempt), which broadcast: (..., 2)."""
    draw, place, again = np.broadcast_arrays(np.asarray(draws, np.int64), np.asarray(places, np.int64), np.asarray(attempt, np.int64))
    counter = np.stack([draw & 0xFFFFFFFF, draw >> 32, place, again], axis=-1).astype(np.uint32)
    words = philox(counter, key).astype(np.uint64)
    high, low = words[..., 0::2] >> np.uint64(5), words[..., 1::2] >> np.uint64(6)
    return (high * np.uint64(1 << 26) + low).astype(np.float64) / float(1 << 53)


def matching(patterns: Sequence[str], contigs: Sequence[str], option: str) -> set[str]:
    """Return the contigs that patterns name: exactly, in another style (X, chrX), or with wildcards (chrUn_*); each must match one."""
    found: set[str] = set()
    for pattern in patterns:
        hits = {c for c in contigs if c == pattern or fnmatchcase(c, pattern)} or {
            c for c in contigs if plain_name(c) == plain_name(pattern)
        }
        if not hits:
            names = list(dict.fromkeys(contigs))
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more." if len(names) > 5 else ".")
            raise BasewiseError(f"{option} {pattern!r} matches no contig; there are {shown}{did_you_mean(pattern, contigs)}")
        found |= hits
    return found


def draw_chunks(genome: "IndividualGenome", settings: ChunkSettings, seed: int, draws: npt.ArrayLike) -> Chunks:
    """Return groups number `draws` (B,) of one individual; a group depends on its number alone.

    A copy is drawn with the chance of its length, the start uniformly. Raises BasewiseError when nothing can be drawn.
    """
    draws = np.asarray(draws, np.int64)
    B, N, L = len(draws), settings.count, settings.length
    out = Chunks(np.empty((B, N), np.int64), np.empty((B, N), np.int64), np.full((B, N, L), N_BYTE, np.uint8), np.empty((B, N), np.int64))
    place, key = _placer(genome, settings), key_of(seed, genome.species, genome.sample)
    wanted = np.argwhere(np.ones((B, N), bool))
    rows, places = wanted[:, 0], wanted[:, 1]
    chosen, first = place(uniforms(draws[rows], places, 0, key), places)
    out.copy[rows, places], out.start[rows, places] = chosen, first
    _read(genome, wanted, chosen, first, out.bases, out.lengths)
    if settings.max_n < 1:
        size = out.lengths[rows, places]
        unknown = (codes(out.bases[rows, places]) == 4).sum(1) - (L - size)
        wanted = wanted[unknown > settings.max_n * size]
        for low in range(1, ATTEMPTS, ATTEMPTS_AT_ONCE):
            if not len(wanted):
                break
            u = uniforms(draws[wanted[:, :1]], wanted[:, 1:], low + np.arange(ATTEMPTS_AT_ONCE), key)
            wanted = _redraw(genome, settings, wanted, place(u, wanted[:, 1:]), out)
        if len(wanted):
            raise BasewiseError(
                f"{genome.sample}: {ATTEMPTS} draws gave nothing but chunks with more than {settings.max_n:.0%} N; raise chunks.max_n or "
                "leave out contigs that are N (chunks.drop, chunks.force)"
            )
    if settings.short != "keep":
        out.lengths[:] = L
    return out


def _placer(genome: "IndividualGenome", settings: ChunkSettings) -> Placer:
    """Return what makes copies and starts (...) of random numbers (..., 2) and the places (...) of chunks in their groups."""
    lengths = genome.lengths
    usable = np.array([copy.contig not in settings.drop for copy in genome.copies], bool)
    if settings.short == "drop":
        usable &= lengths >= settings.length
    weights = _cumulative(lengths * usable, genome, settings)
    forced = np.isin(genome.contigs, settings.force) & usable
    forced_weights = np.cumsum(lengths * forced) if forced.any() else None

    def place(u: npt.NDArray[np.float64], places: Integers) -> tuple[Integers, Integers]:
        chosen = _pick(u[..., 0], weights)
        if forced_weights is not None:
            chosen = np.where(places == 0, _pick(u[..., 0], forced_weights), chosen)
        room = np.maximum(lengths[chosen] - settings.length, 0) + 1
        return chosen, np.minimum((u[..., 1] * room).astype(np.int64), room - 1)

    return place


def _redraw(
    genome: "IndividualGenome", settings: ChunkSettings, wanted: Integers, where: tuple[Integers, Integers], out: Chunks
) -> Integers:
    """Write into `out`, for each of `wanted` (W, 2), the first stretch in `where` (W, attempts) that is not mostly N; return the rest."""
    left = []
    for at, (row, place) in enumerate(wanted.tolist()):
        for copy, start in zip(where[0][at].tolist(), where[1][at].tolist(), strict=True):
            piece = genome.read(copy, start, settings.length)
            if (codes(piece) == 4).sum() <= settings.max_n * len(piece):
                out.copy[row, place], out.start[row, place], out.lengths[row, place] = copy, start, len(piece)
                out.bases[row, place, : len(piece)], out.bases[row, place, len(piece) :] = piece, N_BYTE
                break
        else:
            left.append(at)
    return wanted[left]


def _cumulative(weights: Integers, genome: "IndividualGenome", settings: ChunkSettings) -> Integers:
    total: Integers = np.cumsum(weights)
    if not len(total) or not total[-1]:
        raise BasewiseError(
            f"{genome.sample} has nothing to draw from: no contig or read is left (short = {settings.short!r}, L = {settings.length}, "
            f"dropped: {', '.join(settings.drop) or 'none'})"
        )
    return total


def _pick(u: npt.NDArray[np.float64], cumulative: Integers) -> Integers:
    point = np.minimum((u * cumulative[-1]).astype(np.int64), cumulative[-1] - 1)
    return np.searchsorted(cumulative, point, side="right")


def _read(genome: "IndividualGenome", wanted: Integers, chosen: Integers, first: Integers, bases: Bases, size: Integers) -> None:
    L = bases.shape[-1]
    order = np.lexsort((first, chosen))  # neighbours after one another: kind to memory maps and bgzip blocks
    for (row, place), which, start in zip(wanted[order].tolist(), chosen[order].tolist(), first[order].tolist(), strict=True):
        piece = genome.read(which, start, L)
        bases[row, place, : len(piece)] = piece
        bases[row, place, len(piece) :] = N_BYTE
        size[row, place] = len(piece)


def choose_individuals(cohort: "Cohort", members: npt.ArrayLike, seed: int, draws: npt.ArrayLike) -> Integers:
    """Return the individual (index into cohort.samples) of draws (B,): a species with equal chance, then one of its `members`."""
    index = np.asarray(members, np.int64)
    species = cohort.samples["species"].to_numpy(dtype=object)[index]
    names = sorted(set(species.tolist()))
    by_species = [index[species == name] for name in names]
    u = uniforms(np.asarray(draws, np.int64), 0, 0, key_of(seed, "who"))
    which = np.minimum((u[:, 0] * len(names)).astype(np.int64), len(names) - 1)
    sizes = np.array([len(part) for part in by_species])[which]
    place = np.minimum((u[:, 1] * sizes).astype(np.int64), sizes - 1)
    return np.array([by_species[w][p] for w, p in zip(which, place, strict=True)], np.int64)
