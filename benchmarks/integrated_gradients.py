"""Integrated gradients beside captum's on one core: the same model, windows, baseline; 1,000 windows of ours for the completeness error.

The model has the shape of hyenadna-tiny-1k (its published weights where BASEWISE_TEST_DATA is set, a fresh start otherwise) and a random
head; windows are 101 bases of the shipped megabase of chr22. Captum takes 50 steps, as in the papers; then as many as the hardest of the
compared windows needs for the error of auto; then for each window the fewest it needs, as if somebody had told it. Steps are from a ladder
of half octaves, Gauss-Legendre, captum's default (its trapezoid is checked to be worse at those). Beside it the embedded Z-DNA model, whose
rectifiers bend the path everywhere. Rounds alternate, so that a busy machine slows all of them.
"""

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from basewise.backbones import hyenadna
from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier, ClassifierConfig, load_classifier
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.genome.alphabet import to_str
from basewise.genome.fasta import open_genome
from basewise.interpretation.attribute import Settings, attribute
from basewise.interpretation.base import Attribution

EXAMPLE = Path(__file__).parent.parent / "examples" / "chr22_20-21Mb.fa.gz"
WINDOWS, COMPARED, BENT, ROUNDS, STEPS = 1000, 16, 4, 2, 50
TOLERANCE, TARGET_RATIO = 1e-3, 3
LADDER = [int(16 * 2 ** (i / 2)) for i in range(13)]  # 16 to 1,024


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


def captum_scores(
    classifier: Classifier, texts: list[str], steps: list[int], method: str = "gausslegendre"
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (n, 101) and completeness errors (n,) of texts one at a time, each with its own number of steps."""
    from captum.attr import IntegratedGradients

    scores, deltas = [], []
    for text, count in zip(texts, steps, strict=True):
        tokens = classifier.tokenize([text])

        def forward(embedded: torch.Tensor, tokens: Tokens = tokens) -> torch.Tensor:
            many = Tokens(*(part.expand(len(embedded), *part.shape[1:]) for part in tokens))
            logits = classifier(many, embedded)
            return logits[:, logits.shape[1] // 2, 0] if classifier.config.kind == "base" else logits[:, 0]

        embedded = classifier.embed(tokens).detach()
        one, delta = IntegratedGradients(forward).attribute(
            embedded, torch.zeros_like(embedded), n_steps=count, method=method, internal_batch_size=64, return_convergence_delta=True
        )
        scores.append(one.sum(-1)[:, :101].detach().numpy())
        deltas.append(delta.abs().detach().numpy())
    return np.concatenate(scores), np.concatenate(deltas)


def relative_errors(answers: list[Attribution | None]) -> np.ndarray:
    return np.array([one.completeness_error / abs(one.logit - one.baseline_logit) for one in answers if one is not None])


def fewest_steps(classifier: Classifier, texts: list[str]) -> list[int]:
    """Return for each text the fewest steps of the ladder that bring it below the tolerance (by our sum, which is captum's to 1e-6)."""
    fewest: dict[str, int] = {}
    for steps in LADDER:
        left = [text for text in texts if text not in fewest]
        if left:
            errors = relative_errors(attribute(classifier, left, settings=Settings(steps=steps)))
            fewest |= {text: steps for text, error in zip(left, errors, strict=True) if error <= TOLERANCE}
    return [fewest.get(text, LADDER[-1]) for text in texts]


def timed(ways: dict[str, Any], rounds: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the best CPU seconds and the last answer of each way."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    answers = {}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.process_time()
            answers[name] = way()
            times[name].append(time.process_time() - begun)
    return {name: min(values) for name, values in times.items()}, answers


def row(name: str, points: Any, rate: Any = "", fifty: Any = "", same: Any = "", error: Any = "") -> dict[str, Any]:
    return {
        "method": name,
        "points, mean": points,
        "windows/s": rate,
        "times captum, 50 steps": fifty,
        "times captum at the error of auto": same,
        "largest completeness error / difference": error if error == "" else f"{error:.1e}",
    }


def main() -> dict[str, Any]:
    torch.set_num_threads(1)
    classifier, source = make_model()
    texts = windows()
    compared = texts[:COMPARED]
    own = fewest_steps(classifier, compared)
    hardest = [max(own)] * COMPARED
    tolerant = Settings(tolerance=TOLERANCE)
    ways = {
        f"captum, {STEPS} steps": lambda: captum_scores(classifier, compared, [STEPS] * COMPARED),
        f"captum, {max(own)} steps: the error of auto": lambda: captum_scores(classifier, compared, hardest),
        "captum, the fewest steps for each window": lambda: captum_scores(classifier, compared, own),
        f"basewise, {STEPS} steps": lambda: attribute(classifier, compared, settings=Settings(steps=STEPS)),
        "basewise, auto": lambda: attribute(classifier, compared, settings=tolerant),
    }
    seconds, answers = timed(ways, ROUNDS)
    papers, captum, _, ours, auto = ways
    apart = max(float(np.abs(one - other.scores).max()) for one, other in zip(answers[papers][0], answers[ours], strict=True))
    change = np.array([abs(one.logit - one.baseline_logit) for one in answers[ours]])
    points = dict(zip(ways, (STEPS, max(own), np.mean(own), STEPS, np.mean([one.steps for one in answers[auto]])), strict=True))
    rows = []
    for name, answer in answers.items():
        errors = answer[1] / change if isinstance(answer, tuple) else relative_errors(answer)
        same = seconds[captum] / seconds[name]
        rows.append(row(name, points[name], len(compared) / seconds[name], seconds[papers] / seconds[name], same, errors.max()))
    trapezoid = captum_scores(classifier, compared[:4], hardest[:4], "riemann_trapezoid")[1] / change[:4]
    begun = time.process_time()
    every = attribute(classifier, texts, settings=tolerant)
    rate = len(every) / (time.process_time() - begun)
    errors, steps = relative_errors(every), np.array([one.steps for one in every if one is not None])
    few, half, most = np.percentile(steps, [0, 50, 100]).astype(int)
    note = f"{len(every):,} windows with auto: {int((errors > TOLERANCE).sum())} above {TOLERANCE:g}; points {few} to {most}, median {half}"
    rows.append(row(note, steps.mean(), rate, "", "", errors.max()))
    rows += bent_path(texts[:BENT])
    for one in rows:
        print(one)
    print(f"largest difference of a score from captum's: {apart:.1e}; target: {TARGET_RATIO} times captum")
    print(f"captum's trapezoid at {max(own)} steps, 4 windows: {trapezoid.max():.1e}")
    return {"title": f"Integrated gradients, 101-bp windows, one core ({source})", "rows": rows}


def bent_path(texts: list[str]) -> list[dict[str, Any]]:
    """Return rows of the embedded Z-DNA model: auto, and captum at the most points that auto took."""
    classifier = load_classifier("zdna")
    begun = time.process_time()
    answers = attribute(classifier, texts, settings=Settings(tolerance=TOLERANCE))
    between = time.process_time()
    steps = [one.steps for one in answers if one is not None]
    change = np.array([abs(one.logit - one.baseline_logit) for one in answers if one is not None])
    captum = captum_scores(classifier, texts, [max(steps)] * len(texts))[1] / change
    ended = time.process_time()
    ours = row("zdna: basewise, auto", np.mean(steps), len(texts) / (between - begun), error=relative_errors(answers).max())
    return [ours, row("zdna: captum at the most points of auto", max(steps), len(texts) / (ended - between), error=captum.max())]


if __name__ == "__main__":
    main()
