"""HyenaDNA-tiny's forward at L = 103 on one core: plain form, mean-pool and last-token readers of the fast one in fp32 and bf16.

Plain: the filter evaluated at every call and applied by FFT of size 2 L. Random weights, windows as a scan cuts them. Rounds alternate.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from basewise.backbones import hyenadna
from basewise.inference.asking import one_thread
from basewise.inference.fast_hyena import FastHyena

WINDOWS, TOKENS, ROUNDS = 32, 103, 9
TARGETS = {"mean": 2.0, "last": 3.5, "mean, bf16": 4.0}


def plain(model: hyenadna.Model, ids: Tensor) -> Tensor:
    for layer in model.layers:
        layer.mixer.filter_fn._cache.clear()  # noqa: SLF001
    return model.encode(model.embed(ids), torch.ones_like(ids, dtype=torch.bool))


def seconds(runs: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Return the CPU time of the fastest round of each, one thread, rounds alternating: a busy machine slows all of them."""
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.thread_time()
            run()
            times[name].append(time.thread_time() - begin)
    return {name: min(each) for name, each in times.items()}


def main(quick: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    model = hyenadna.Model(hyenadna.Config(d_model=128, n_layer=2, d_inner=512, l_max=1026)).eval()
    ids = torch.randint(7, 11, (WINDOWS, TOKENS))
    weight = torch.randn(128) / 128**0.5
    with one_thread(), torch.inference_mode():
        fast, half = FastHyena(model), FastHyena(model, torch.bfloat16)
        readers = {
            "plain": lambda: plain(model, ids),
            "fast, mean-pool head": lambda: fast.hidden(ids).mean(1) @ weight,
            "fast, last-token head": lambda: fast.last(ids) @ weight,
            "fast, mean-pool head, bf16": lambda: half.hidden(ids).float().mean(1) @ weight,
            "fast, last-token head, bf16": lambda: half.last(ids).float() @ weight,
        }
        expected = plain(model, ids)
        read = {name: expected[:, -1] @ weight if "last" in name else expected.mean(1) @ weight for name in readers}
        away = {name: float((run() - read[name]).abs().max()) for name, run in readers.items() if name != "plain"} | {"plain": 0.0}
        took = seconds(readers, 2 if quick else ROUNDS)
    if max(value for name, value in away.items() if "bf16" not in name) > 1e-5:
        raise AssertionError(f"logits differ by more than 1e-5: {away}")
    rows = [
        {
            "forward": name,
            "windows/s": WINDOWS / took[name],
            "ratio to plain": took["plain"] / took[name],
            "largest logit difference": f"{away[name]:.1e}",
        }
        for name in readers
    ]
    for row in rows:
        print(row)
    print(f"targets: {', '.join(f'{name} >= {ratio}x' for name, ratio in TARGETS.items())}")
    return {"title": "HyenaDNA-tiny forward, windows of 101 bases, one core", "rows": rows}


if __name__ == "__main__":
    main()
