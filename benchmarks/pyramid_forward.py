"""The embedded model's shape on dense chunks, one core: plain forward in chunks of 8,192 bases beside the fast one in those of the engine.

Random weights; states are read at one position in 42 (candidates of one strand). The projection is for 3.1 Gb, both strands.
"""

from typing import Any

import torch

from basewise.backbones import pyramid
from basewise.inference.asking import one_thread
from basewise.inference.engine import CHUNK
from basewise.inference.fast_pyramid import FastPyramid
from basewise.testing.models import randomize
from benchmarks.hyena_forward import seconds

MEMBERS, ROUNDS, APART, HUMAN = 4, 3, 42, 3.1e9


def main() -> dict[str, Any]:
    model = randomize(pyramid.Model(pyramid.Config(members=MEMBERS)), 0)
    torch.manual_seed(0)
    with one_thread(), torch.inference_mode():
        fast = FastPyramid(model)
        chunks = {size: model.embed(torch.randint(7, 11, (1, size + 2 * model.reach))) for size in (8192, CHUNK)}
        asked = {size: torch.arange(0, size, APART) for size in chunks}
        runs = {
            ("plain", 8192): lambda: model.encode_valid(chunks[8192])[0, asked[8192]],
            ("plain", CHUNK): lambda: model.encode_valid(chunks[CHUNK])[0, asked[CHUNK]],
            ("fast", CHUNK): lambda: fast.states(chunks[CHUNK], asked[CHUNK]),
        }
        expected, got = runs["plain", CHUNK](), runs["fast", CHUNK]()
        away = float((expected - got).abs().max() / expected.abs().max())
        took = seconds({f"{name}, chunks of {size}": run for (name, size), run in runs.items()}, ROUNDS)
    if away > 1e-5:
        raise AssertionError(f"states differ by {away} of the largest")
    rows = []
    for (name, size), spent in zip(runs, took.values(), strict=True):
        each = 2 * spent / size  # seconds a base, both strands
        rows.append(
            {
                "forward": f"{name}, chunks of {size:,}",
                "s a Mb, both strands": each * 1e6,
                "ratio to plain": took["plain, chunks of 8192"] / 8192 / (spent / size),
                "core hours, human genome": each * HUMAN / 3600,
            }
        )
    for row in rows:
        print(row)
    return {"title": f"Pyramid of {MEMBERS} members (the shape of the embedded model), fp32, one core", "rows": rows}


if __name__ == "__main__":
    main()
