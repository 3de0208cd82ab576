"""A whole scan by the command: 1 and 2 worker processes, the share of each stage, peak memory of a worker, and what a human genome costs.

Scans the hg19 pieces (50 Mb) where BASEWISE_TEST_DATA is set, else the shipped megabase repeated; --quick: a few hundred kilobases.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from basewise.genome.fasta import open_genome
from benchmarks._parts import EXAMPLE, HUMAN

COPIES, TARGET, MEMORY = 8, 1.9, 2.0
CHILD = """
import resource, sys
from pathlib import Path
from basewise.inference.scan import ScanOptions, scan
if __name__ == "__main__":
    genome, out, workers, exact = sys.argv[1:]
    scan(ScanOptions(Path(genome), Path(out), workers=int(workers), exact=exact == "exact"))
    # its own peak since it began: ru_maxrss of a process counts what the one that started it held
    (own,) = (line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(max(int(own), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


def genome_for(folder: Path, quick: bool) -> tuple[Path, str]:
    data = Path(os.environ.get("BASEWISE_TEST_DATA", "/nowhere")) / "data" / "genome" / "hg19_pieces.fa.gz"
    if data.is_file() and not quick:
        return data, "the hg19 pieces"
    with open_genome(EXAMPLE) as example:
        (chrom, length), *_ = example.contigs.items()
        text = bytes(example.fetch(chrom, 0, 3 << 17 if quick else length)).decode()
    path = folder / "genome.fa"
    with path.open("w") as stream:
        for copy in range(2 if quick else COPIES):
            stream.write(f">copy{copy}\n" + "\n".join(text[at : at + 60] for at in range(0, len(text), 60)) + "\n")
    return path, "the shipped megabase, repeated"


def run(script: Path, genome: Path, out: Path, workers: int, how: str) -> dict[str, Any]:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    command = [sys.executable, script, genome, out, str(workers), how]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads((out / "summary.json").read_text())
    return {"wall": wall, "cpu": spent, "memory": int(done.stdout) / 1024**2, **summary}


def main(quick: bool = False) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        genome, name = genome_for(Path(folder), quick)
        script = Path(folder) / "scan.py"
        script.write_text(CHILD)
        ways = {(1, "first stage"): "first", (2, "first stage"): "first", **({} if quick else {(2, "full model alone"): "exact"})}
        done = {key: run(script, genome, Path(folder) / f"out{n}", key[0], how) for n, (key, how) in enumerate(ways.items())}
    bases = done[1, "first stage"]["totals"]["bases"]
    one = done[1, "first stage"]["timing"]["tiles_s"]
    rows = []
    for (workers, how), told in done.items():
        stages = told["timing"]["stages"]
        total = sum(stages.values())
        rows.append(
            {
                "workers": workers,
                "scoring": how,
                "s": told["wall"],
                "tiles, times faster than 1 worker": one / told["timing"]["tiles_s"],
                **{f"{stage} %": 100 * seconds / total for stage, seconds in stages.items()},
                "merge s": told["timing"]["merge_s"],
                "peak of a process, GiB": told["memory"],
                "candidates a Mb": told["totals"]["candidates"] / bases * 1e6,
                "CPU hours, human genome": told["cpu"] / bases * HUMAN / 3600,
            }
        )
    for row in rows:
        print(row)
    print(f"targets: 2 workers >= {TARGET}x, < {MEMORY} GiB a worker")
    return {"title": f"Scan of {name} ({bases / 1e6:.1f} Mb, both strands, model polya)", "rows": rows}


if __name__ == "__main__":
    main("--quick" in sys.argv)
