"""Integrated gradients beside captum's on one core: the same model, windows, baseline; 1,000 windows of ours for the completeness error.

The model has the shape of hyenadna-tiny-1k (its published weights where BASEWISE_TEST_DATA is set, a fresh start otherwise) and a random
head; windows are 101 bases of the shipped megabase of chr22. Captum takes 50 steps, as in the papers, window by window and in batches.
Rounds alternate, so that a busy machine slows all of them.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from basewise.backbones import hyenadna
from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.genome.alphabet import to_str
from basewise.genome.fasta import open_genome
from basewise.interpretation.attribute import Settings, attribute

EXAMPLE = Path(__file__).parent.parent / "examples" / "chr22_20-21Mb.fa.gz"
WINDOWS, COMPARED, ROUNDS, BATCH, STEPS = 1000, 16, 3, 8, 50
TOLERANCE, TARGET_RATIO = 1e-3, 3


def make_model() -> tuple[Classifier, str]:
    torch.manual_seed(0)
    real = Path(os.environ.get("BASEWISE_TEST_DATA", "/nowhere")) / "golden" / "real" / "hyenadna-tiny-1k"
    if real.is_dir():
        from basewise.backbones.checkpoints import load_official

        backbone, source = load_official(real)[0], "hyenadna-tiny-1k, published weights"
    else:
        config = hyenadna.Config(d_model=128, n_layer=2, d_inner=512, l_max=1026)
        backbone, source = hyenadna.Model(config), "shape of hyenadna-tiny-1k, fresh weights"
    classifier = Classifier(ClassifierConfig(task="benchmark"), backbone, CharacterTokenizer())
    torch.nn.init.normal_(classifier.head.linear.weight)
    return classifier.eval(), source


def windows() -> list[str]:
    with open_genome(EXAMPLE) as genome:
        chrom, length = next(iter(genome.contigs.items()))
        starts = np.random.default_rng(0).integers(0, length - 101, 2 * WINDOWS)
        texts = [to_str(genome.fetch(chrom, int(start), int(start) + 101)).upper() for start in starts]
    return [text for text in texts if "N" not in text][:WINDOWS]


def captum_scores(classifier: Classifier, texts: list[str], batch: int, steps: int = STEPS) -> tuple[np.ndarray, np.ndarray]:
    from captum.attr import IntegratedGradients

    scores, deltas = [], []
    for low in range(0, len(texts), batch):
        tokens = classifier.tokenize(texts[low : low + batch])

        def forward(embedded: torch.Tensor, tokens: Tokens = tokens) -> torch.Tensor:
            times = len(embedded) // len(tokens.ids)
            many = Tokens(*(part.repeat(times, *[1] * (part.dim() - 1)) for part in tokens))
            return classifier(many, embedded)[:, 0]

        embedded = classifier.embed(tokens).detach()
        one, delta = IntegratedGradients(forward).attribute(
            embedded, torch.zeros_like(embedded), n_steps=steps, return_convergence_delta=True
        )
        scores.append(one.sum(-1)[:, :101].detach().numpy())
        deltas.append(delta.abs().detach().numpy())
    return np.concatenate(scores), np.concatenate(deltas)


def captum_steps(classifier: Classifier, texts: list[str]) -> int:
    """Return the fewest steps, doubled from 16, that bring every window of `texts` below the tolerance (512 at most)."""
    change = np.array([abs(one.logit - one.baseline_logit) for one in attribute(classifier, texts, settings=Settings(steps=1))])
    steps = 16
    while steps < 512 and (captum_scores(classifier, texts, 1, steps)[1] / change).max() > TOLERANCE:
        steps *= 2
    return steps


def main() -> dict[str, Any]:
    torch.set_num_threads(1)
    classifier, source = make_model()
    texts = windows()
    compared = texts[:COMPARED]
    enough = captum_steps(classifier, compared)
    ways = {
        f"captum, {STEPS} steps, one window at a time": lambda: captum_scores(classifier, compared, 1),
        f"captum, {STEPS} steps, {BATCH} windows at a time": lambda: captum_scores(classifier, compared, BATCH),
        f"captum, {enough} steps: the error of auto": lambda: captum_scores(classifier, compared, 1, enough),
        f"basewise, {STEPS} steps": lambda: attribute(classifier, compared, settings=Settings(steps=STEPS)),
        "basewise, auto": lambda: attribute(classifier, compared, settings=Settings(tolerance=TOLERANCE)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.process_time()
            way()
            times[name].append(time.process_time() - begun)
    rate = {name: COMPARED / min(values) for name, values in times.items()}
    first = list(ways)[2]
    theirs, delta = captum_scores(classifier, compared, BATCH)
    ours = attribute(classifier, compared, settings=Settings(steps=STEPS))
    apart = max(float(np.abs(one - other.scores).max()) for one, other in zip(theirs, ours, strict=True))
    every = attribute(classifier, texts, settings=Settings(tolerance=TOLERANCE))
    change = np.array([abs(one.logit - one.baseline_logit) for one in every])
    errors = np.array([one.completeness_error for one in every]) / change
    captum_error = float((delta / change[:COMPARED]).max())
    worst = dict.fromkeys(ways, captum_error)
    worst |= {first: float((captum_scores(classifier, compared, 1, enough)[1] / change[:COMPARED]).max())}
    worst |= {"basewise, auto": float(errors.max())}
    rows = [
        {
            "method": name,
            "windows/s": rate[name],
            "times captum": rate[name] / rate[next(iter(ways))],
            "times captum at the error of auto": rate[name] / rate[first],
            "largest completeness error / difference": f"{worst[name]:.1e}",
        }
        for name in ways
    ]
    steps, counts = np.unique([one.steps for one in every], return_counts=True)
    spread = ", ".join(f"{step}: {count}" for step, count in zip(steps.tolist(), counts.tolist(), strict=True))
    note = f"{len(every):,} windows with auto, {int((errors > TOLERANCE).sum())} above {TOLERANCE:g}; windows by steps {spread}"
    rows.append(
        {
            "method": note,
            "windows/s": "",
            "times captum": "",
            "times captum at the error of auto": "",
            "largest completeness error / difference": "",
        }
    )
    for row in rows:
        print(row)
    print(f"largest difference of a score from captum's: {apart:.1e}; target: {TARGET_RATIO} times captum")
    return {"title": f"Integrated gradients, 101-bp windows, one core ({source})", "rows": rows}


if __name__ == "__main__":
    main()
