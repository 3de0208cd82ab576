"""What several benchmarks share: pieces of the shipped megabase, and the rate of a way of scoring."""

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from basewise.backbones.classifier import load_classifier
from basewise.genome.fasta import open_genome
from basewise.inference.asking import answering, one_thread
from basewise.inference.staged import Staged, StageOptions, make_stages
from basewise.tasks.pas_rule import candidates_of_block

EXAMPLE = Path(__file__).parent.parent / "examples" / "chr22_20-21Mb.fa.gz"
HUMAN = 3.1e9  # bases


def score_ways(
    model: str, ways: dict[str, tuple[str, bool]], bases: int, rounds: int, genome: Path = EXAMPLE
) -> tuple[dict[str, float], dict[str, Staged], float]:
    """Score the candidates of the first `bases` of the first contig on one core in several ways (name: precision, exact).

    Returns CPU seconds of the fastest round of each (rounds alternate), the answers, and the threshold in logits' probability.
    """
    classifier = load_classifier(model)
    threshold, device = classifier.config.threshold, torch.device("cpu")
    with open_genome(genome) as opened, one_thread(), answering(classifier, device):
        chrom, length = next(iter(opened.contigs.items()))
        end = min(bases, length)
        positions, strands = candidates_of_block(opened.fetch(chrom, 0, length), 0, length, 0, end)
        whole = opened.window(chrom, -(1 << 17), length + (1 << 17))
        fetch = lambda low, high: whole[low + (1 << 17) : high + (1 << 17)]  # noqa: E731
        ready = {name: make_stages(model, classifier, device, 4096, StageOptions(*way, threshold)) for name, way in ways.items()}
        runs = {name: partial(stages.score, fetch, positions, strands, length) for name, stages in ready.items()}
        answers = {name: run() for name, run in runs.items()}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(rounds):
            for name, run in runs.items():
                begin = time.thread_time()
                run()
                times[name].append(time.thread_time() - begin)
    return {name: min(each) for name, each in times.items()}, answers, threshold


def agreement(answers: dict[str, Staged], exact: str, threshold: float) -> dict[str, tuple[float, bool]]:
    """Return for each way the share of the exact way's calls that it calls, and whether those have the same probabilities to the bit."""
    called = answers[exact].probability >= np.float32(threshold)
    told = {}
    for name, answer in answers.items():
        both = called & (answer.probability >= np.float32(threshold))
        same = np.array_equal(answer.probability[both], answers[exact].probability[both])
        told[name] = (float(both.sum() / max(called.sum(), 1)), same)
    return told
