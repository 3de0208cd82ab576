"""A 160-kb token-level forward, plain and fast, each in its own process: time and peak memory.

The shape of hyenadna-medium-160k (8 layers, width 256), random weights. The window has 160,000 tokens; BASEWISE_BENCH_TOKENS and
BASEWISE_BENCH_LAYERS make it smaller.
"""

import os
import resource
import subprocess
import sys
import time
from typing import Any

TOKENS, LAYERS = int(os.environ.get("BASEWISE_BENCH_TOKENS", "160000")), int(os.environ.get("BASEWISE_BENCH_LAYERS", "8"))
TARGET_RATIO, TARGET_MEMORY = 3.5, 0.5


def child(form: str) -> None:
    import torch

    from basewise.backbones import hyenadna
    from basewise.inference.fast_hyena import FastHyena

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = hyenadna.Model(hyenadna.Config(d_model=256, n_layer=LAYERS, d_inner=1024, l_max=160_002)).eval()
    ids = torch.randint(7, 11, (1, TOKENS))
    with torch.inference_mode():
        fast = FastHyena(model)
        fast.hidden(ids[:, :1000])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.perf_counter()
        hidden = fast.hidden(ids) if form == "fast" else model.encode(model.embed(ids), torch.ones_like(ids, dtype=torch.bool))
        took = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(took, (after - before) / 1024, hidden.double().abs().sum().item())


def main(quick: bool = False) -> dict[str, Any]:
    found = {}
    smaller = {"BASEWISE_BENCH_TOKENS": "16000", "BASEWISE_BENCH_LAYERS": "1"} if quick else {}
    for form in ("plain", "fast"):
        command = [sys.executable, "-m", "benchmarks.hyena_long", form]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **smaller})
        found[form] = [float(word) for word in done.stdout.split()]
    sums = [values[2] for values in found.values()]
    if abs(sums[0] - sums[1]) > 1e-5 * sums[0]:
        raise AssertionError(f"the two forms disagree: {found}")
    rows = [
        {
            "forward": form,
            "s": found[form][0],
            "peak memory, MiB": found[form][1],
            "times faster": found["plain"][0] / found[form][0],
            "share of the memory": found[form][1] / found["plain"][1],
        }
        for form in found
    ]
    for row in rows:
        print(row)
    print(f"targets: >= {TARGET_RATIO}x, <= {TARGET_MEMORY} of the memory")
    return {"title": f"HyenaDNA of {LAYERS} layers, width 256: a window of {TOKENS:,} tokens, fp32, one core", "rows": rows}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        child(sys.argv[1])
    else:
        main()
