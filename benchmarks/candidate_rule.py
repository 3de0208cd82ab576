"""The candidate rule, plain FASTA to positions on one core: numba and numpy bit-parallel beside a numpy 6-mer table.

The FASTA is the shipped megabase of chr22, repeated; rounds of the engines alternate, so that a busy machine slows all of them.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from basewise.genome.alphabet import Bases, codes, to_str
from basewise.genome.fasta import Genome, open_genome
from basewise.tasks.pas_rule import FIRST, HEXAMERS, LAST, WINDOW, iter_candidates

EXAMPLE = Path(__file__).parent.parent / "examples" / "chr22_20-21Mb.fa.gz"
REPEATS = 48
ROUNDS = 5
TABLE_BLOCK = 1 << 18  # the block size at which the table version is fastest
TARGET_MBP, TARGET_RATIO = 1000, 5

Search = Callable[[Genome, str], int]


def hexamer_table() -> tuple[np.ndarray, np.ndarray]:
    plus, minus = np.zeros(5**6, bool), np.zeros(5**6, bool)
    for hexamer in HEXAMERS:
        word = codes(np.frombuffer(hexamer.encode(), np.uint8)).astype(np.int64)
        plus[word @ 5 ** np.arange(5, -1, -1)] = True
        minus[(3 - word[::-1]) @ 5 ** np.arange(5, -1, -1)] = True
    return plus, minus


PLUS, MINUS = hexamer_table()


def table_positions(bases: Bases) -> tuple[np.ndarray, np.ndarray]:
    """The straightforward vectorised rule: number every 6-mer, look it up, count hits in the 26 offsets by a running sum."""
    letter = codes(bases)
    word = letter[:-5].astype(np.int16)
    for step in range(1, 6):
        word = word * np.int16(5) + letter[step : letter.size - 5 + step]
    half = WINDOW // 2
    at = slice(half, bases.size - half)
    starts, ends = np.cumsum(PLUS[word], dtype=np.int32), np.cumsum(MINUS[word], dtype=np.int32)
    p = np.arange(half, bases.size - half)
    before = (letter[half - 1 : bases.size - half - 1] == 1) | (letter[half - 1 : bases.size - half - 1] == 2)
    after = (letter[half + 1 : bases.size - half + 1] == 1) | (letter[half + 1 : bases.size - half + 1] == 2)
    plus = (letter[at] == 0) & before & (starts[p[0] - FIRST : p[-1] - FIRST + 1] > starts[p[0] - LAST - 1 : p[-1] - LAST])
    minus = (letter[at] == 3) & after & (ends[p[0] + LAST - 5 : p[-1] + LAST - 4] > ends[p[0] + FIRST - 6 : p[-1] + FIRST - 5])
    return np.flatnonzero(plus) + half, np.flatnonzero(minus) + half


def table_search(genome: Genome, chrom: str) -> int:
    half, length, found = WINDOW // 2, genome.contigs[chrom], 0
    for low in range(half, length - half, TABLE_BLOCK):
        plus, minus = table_positions(genome.fetch(chrom, low - half, min(low + TABLE_BLOCK, length - half) + half))
        found += plus.size + minus.size
    return found


def bit_search(engine: str) -> Search:
    return lambda genome, chrom: sum(part.position.size for part in iter_candidates(genome, chrom, engine=engine))


def read_only(genome: Genome, chrom: str) -> int:
    return sum(bases.size * 0 for _, bases in genome.blocks(chrom, 1 << 20))


def write_genome(folder: str) -> Path:
    with open_genome(EXAMPLE) as example:
        (chrom, length), *_ = example.contigs.items()
        text = to_str(example.fetch(chrom, 0, length)) * REPEATS
    path = Path(folder) / "genome.fa"
    path.write_text(">chr\n" + "\n".join(text[start : start + 60] for start in range(0, len(text), 60)) + "\n")
    return path


def main() -> dict[str, Any]:
    searches: dict[str, Search] = {
        "numba bit-parallel": bit_search("numba"),
        "numpy bit-parallel": bit_search("numpy"),
        "numpy 6-mer table": table_search,
        "reading the FASTA alone": read_only,
    }
    with tempfile.TemporaryDirectory() as folder, open_genome(write_genome(folder)) as genome:
        length = genome.contigs["chr"]
        counts = {name: search(genome, "chr") for name, search in searches.items()}  # warms caches, compiles
        times: dict[str, list[float]] = {name: [] for name in searches}
        for _ in range(ROUNDS):
            for name, search in searches.items():
                begin = time.perf_counter()
                search(genome, "chr")
                times[name].append(time.perf_counter() - begin)
    found = {count for name, count in counts.items() if name != "reading the FASTA alone"}
    if len(found) != 1:
        raise AssertionError(f"the engines disagree: {counts}")
    speed = {name: length / 1e6 / float(np.median(seconds)) for name, seconds in times.items()}
    rows = [
        {
            "FASTA to positions, both strands, one core": name,
            "Mbp/s": speed[name],
            "ratio to the 6-mer table": speed[name] / speed["numpy 6-mer table"],
        }
        for name in searches
    ]
    for row in rows:
        print("  ".join(f"{value:,.1f}" if isinstance(value, float) else f"{value:<26}" for value in row.values()))
    best = rows[0]
    print(f"targets: >= {TARGET_MBP} Mbp/s and >= {TARGET_RATIO}x: {best['Mbp/s']:,.0f} Mbp/s, {best['ratio to the 6-mer table']:.1f}x")
    return {"title": f"Candidate rule ({length / 1e6:.0f} Mbp, {found.pop():,} candidates)", "rows": rows}


if __name__ == "__main__":
    main()
