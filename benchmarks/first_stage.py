"""Scoring candidates with the first stage, in bf16, and with the full model alone, side by side on one core.

The embedded `polya` on the shipped megabase of chr22, which neither it nor its first stage was trained on; with BASEWISE_BENCH_MODEL
another model folder, such as a fine-tuned HyenaDNA to which `basewise first-stage` gave one.
"""

import os
import sys
from typing import Any

from benchmarks._parts import HUMAN, agreement, score_ways

BASES, ROUNDS, TARGET = 1 << 20, 2, 5


def main(quick: bool = False) -> dict[str, Any]:
    model = os.environ.get("BASEWISE_BENCH_MODEL", "polya")
    ways = {"full model": ("fp32", True), "first stage": ("fp32", False), "full model, bf16 + fp32 again": ("bf16", True)}
    bases = 1 << 17 if quick else BASES
    took, answers, threshold = score_ways(model, ways, bases, 1 if quick else ROUNDS)
    agreed = agreement(answers, "full model", threshold)
    rows = [
        {
            "one core": name,
            "candidates/s": len(answers[name].probability) / took[name],
            "ratio": took["full model"] / took[name],
            "dropped": f"{answers[name].dropped.mean():.1%}",
            "scored again": answers[name].rescored,
            "share of the full model's calls": f"{agreed[name][0]:.4f}",
            "their probabilities": "the same bits" if agreed[name][1] else "differ",
            "core hours, human genome": took[name] / bases * HUMAN / 3600,
        }
        for name in ways
    ]
    for row in rows:
        print(row)
    print(f"target: >= {TARGET}x with the first stage")
    return {
        "title": f"Stages of scoring ({model if model == 'polya' else 'a model of ours'}, {bases / 1e6:.2f} Mb, both strands)",
        "rows": rows,
    }


if __name__ == "__main__":
    main("--quick" in sys.argv)
