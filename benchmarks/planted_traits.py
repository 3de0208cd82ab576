"""How rare may a signal be? Cohorts with a Y-like contig of a given share: accuracy against K, ceiling, ablation.

python benchmarks/planted_traits.py [share ...]      default 0.01 0.005 0.001; minutes on one core
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from basewise.backbones.classifier import load_classifier
from basewise.inference.asking import one_thread
from basewise.inference.trait import ablated, chunk_settings, curve, curve_inputs
from basewise.recipes.schema import Recipe, apply_overrides, load_recipe
from basewise.testing.cohorts import planted_cohort
from basewise.training.individuals import train_individuals

DEPTHS = (50, 100, 300, 1000, 3000)
SETTINGS = [
    "backbone.config.width=16",
    "backbone.config.blocks=[{kernel = 3, dilation = 2}]",
    "chunks.length=128",
    "chunks.pool=2048",
    "chunks.validation_groups=32",
    'chunks.force=["chrY"]',
    "chunks.force_train=true",
    "train.steps=400",
    "train.lr=1e-2",
    "evaluate.bootstrap=0",
]


def recipe() -> Recipe:
    return apply_overrides(load_recipe("gena_lm_sex/small"), SETTINGS)


def measure(folder: Path, share: float) -> list[dict[str, Any]]:
    begun = time.process_time()
    cohort = planted_cohort(folder, share=share, autosome=400_000, people=32)
    results = train_individuals(recipe(), cohort, folder / "run", force=True)
    trained = time.process_time() - begun
    classifier, settings = load_classifier(folder / "run"), chunk_settings(recipe(), cohort)
    rows = []
    for name, these in (("whole genome", settings), ("without chrY", ablated(settings, cohort, ["chrY"]))):
        inputs = curve_inputs(classifier, cohort, these, pool=8192, groups=10_000, seed=1)
        table = curve(inputs, DEPTHS, 200, 1, "midpoint")
        for line in table[table["species"] == "all"].itertuples():
            row = {"planted share": f"{share:.2%}", "genome": name, "K": line.K, "accuracy": round(line.mean, 4), "sd": round(line.sd, 4)}
            row |= {"oracle": round(line.oracle, 4), "read depth": round(line.baseline, 4), "repeats": line.banked}
            rows.append(row | {"validation AUROC": round(results["best"]["value"], 4), "CPU s of training": round(trained)})
            print(rows[-1], flush=True)
    return rows


def main(shares: Sequence[float] = (0.01, 0.005, 0.001)) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, one_thread():
        rows = [row for share in shares for row in measure(Path(folder) / str(share), share)]
    return {"title": "How rare may a signal be: a planted Y-like contig, 32 individuals", "rows": rows}


if __name__ == "__main__":
    main([float(share) for share in sys.argv[1:]] or (0.01, 0.005, 0.001))
