"""How rare may a signal be? Cohorts with a Y-like contig of a given share: accuracy against K, ceiling, ablation, shuffled labels.

python benchmarks/planted_traits.py [share | shuffled ...]      default 0.01 0.005 0.001 shuffled; some minutes on two cores
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basewise.backbones.classifier import load_classifier
from basewise.inference.trait import ablated, chunk_settings, curve, curve_inputs
from basewise.recipes.schema import Recipe, apply_overrides, load_recipe
from basewise.testing.cohorts import planted_cohort
from basewise.training.individuals import train_individuals

DEPTHS = (10, 30, 100, 300, 1000)
POOL = 16_384  # chunks of an individual: 1,000 groups of 16 are within it; a quarter of it where nothing can be found
REPEATS = 200


def recipe(*, shuffled: bool) -> Recipe:
    labels = ["head.labels=['black', 'white']", "train.steps=150"] if shuffled else []
    return apply_overrides(load_recipe("gena_lm_sex/small"), ['chunks.force=["chrY"]', "evaluate.bootstrap=0", "chunks.pool=1024", *labels])


def measure(folder: Path, share: float, *, shuffled: bool = False) -> list[dict[str, Any]]:
    cohort = planted_cohort(folder, share=share, autosome=400_000, people=32, shuffle=shuffled)
    wall, cpu = time.perf_counter(), time.process_time()
    results = train_individuals(recipe(shuffled=shuffled), cohort, folder / "run", force=True)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    classifier, settings = load_classifier(folder / "run"), chunk_settings(recipe(shuffled=shuffled), cohort)
    variants = {"whole": settings, "without chrY": ablated(settings, cohort, ["chrY"])}
    rows = []
    for name, these in variants.items():
        if shuffled and these is not settings:
            continue
        inputs = curve_inputs(classifier, cohort, these, pool=POOL if these is settings else POOL // 4, groups=10_000, seed=1)
        table = curve(inputs, DEPTHS, REPEATS, 1)
        for line in table[table["species"] == "all"].itertuples():
            row = {"planted share": f"{share:.1%}", "labels": "shuffled" if shuffled else "true", "genome": name, "K": line.K}
            row |= {"accuracy": round(line.mean, 4), "sd": round(line.sd, 4), "oracle": round(line.oracle, 4)}
            row |= {"read depth": round(line.baseline, 4), "repeats": line.banked, "steps": results["steps"]}
            rows.append(row | {"validation loss": round(results["best"]["value"], 4), "s of training": round(wall), "CPU s": round(cpu)})
            print(rows[-1], flush=True)
    return rows


def main(cases: Sequence[str] = ("0.01", "0.005", "0.001", "shuffled")) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for case in cases:
            shuffled = case == "shuffled"
            rows += measure(Path(folder) / case, 0.01 if shuffled else float(case), shuffled=shuffled)
    return {"title": "How rare may a signal be: a planted Y-like contig, 32 individuals (16 train, 8 val, 8 test)", "rows": rows}


if __name__ == "__main__":
    main(*([sys.argv[1:]] if sys.argv[1:] else []))
