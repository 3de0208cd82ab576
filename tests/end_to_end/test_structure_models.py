"""The embedded models of structures and promoters: small, calibrated, offline, and right about sequences whose answer is known."""

import json

import numpy as np
import pytest

from basewise import zoo
from basewise.backbones.classifier import load_classifier
from basewise.evaluation.scoring import score_logits
from basewise.genome.alphabet import reverse_complement
from basewise.genome.quadruplexes import quadruplex_scores
from basewise.inference.predict import predict_sequences

RNG = np.random.default_rng(0)


def _random(length, letters="ACGT"):
    return "".join(RNG.choice(list(letters), length))


@pytest.mark.parametrize(("name", "task"), [("zdna", "zdna"), ("g4", "g4"), ("endoquad", "g4"), ("promoter", "promoter")])
def test_the_model_folder_is_whole_and_small(name, task) -> None:
    folder = zoo.folder(name)
    assert sum(f.stat().st_size for f in folder.rglob("*.safetensors")) < 4_000_000
    results, card = json.loads((folder / "results.json").read_text()), (folder / "README.md").read_text()
    classifier = load_classifier(name)
    assert classifier.config.task == task
    assert classifier.config.threshold == results["threshold"]
    assert classifier.config.calibration.model_dump() == results["calibration"]
    assert sum(p.numel() for p in classifier.parameters()) == results["parameters"]
    assert f"| auprc | {results['splits']['val']['metrics']['auprc']['value']:.4f}" in card


def _without_runs(length):
    """Random bases none of which is like the next: no run of G or C, so no part of a quadruplex."""
    bases = "A"
    while len(bases) < length:
        bases += RNG.choice([base for base in "ACGT" if base != bases[-1]])
    return bases


def _per_base(name, sequences):
    classifier = load_classifier(name)
    return [classifier.answers(logits) for logits in score_logits(classifier, sequences)]


def test_alternating_cg_is_z_dna_and_poly_a_is_not() -> None:
    flank = _random(100, "AATT")
    (planted,), (plain,) = (_per_base("zdna", [flank + middle + flank]) for middle in ("CG" * 12, "AAAATTTT" * 3))
    assert planted[100:124].mean() > 5 * planted[:80].mean()
    assert planted[100:124].mean() > 5 * plain[100:124].mean()


@pytest.mark.parametrize("name", ["g4", "endoquad"])
def test_four_runs_of_g_are_a_quadruplex_on_either_strand(name) -> None:
    text = _without_runs(400) + "GGGTTAGGGTTAGGGTTAGGG" + _without_runs(400)
    forward, reverse, broken = _per_base(name, [text, reverse_complement(text), text.replace("GGG", "GCG")])
    assert forward[400:421].mean() > 5 * forward[200:380].mean()
    assert reverse[400:421].mean() > 5 * reverse[200:380].mean()
    assert forward[400:421].mean() > 5 * broken[400:421].mean()


def test_endoquad_calls_potential_quadruplexes_and_nothing_beside_them() -> None:
    """Runs with a bulge and a mismatch, which no pattern of whole runs finds. Near the ends, where one may be cut off, there is no call."""
    text = _without_runs(399) + "T" + "GGGGCGGGAGGGGCTGGTGGGAGGGG" + "T" + _without_runs(399)
    inside = quadruplex_scores(np.frombuffer(text.encode(), np.uint8) == ord("G")) > 0
    assert 15 < inside.sum() < 27
    (p,) = _per_base("endoquad", [text])
    assert p[inside].min() > 5 * p[200:-200][~inside[200:-200]].max()
    assert p.max() < load_classifier("endoquad").config.threshold  # alone, outside all it has seen, it is not one seen in cells either


def test_blocks_of_random_bases_spoil_a_core_promoter() -> None:
    """What GUE asks: the adenovirus major late promoter, -49 to +20, and the same with three of its blocks of 15 replaced."""
    natural = "TGTTGGCCGCGGGGCTATAAAAGGGGGTGGGGGCGCGTTCGTCCTCACTCTCTTCCGCATCGCTGTCTGC"
    assert len(natural) == 70
    spoilt = [natural[:9] + _random(15) + natural[24:39] + _random(15) + _random(15) + natural[69:] for _ in range(20)]
    p = predict_sequences(load_classifier("promoter"), [natural, *spoilt])
    assert p[0] > np.quantile(p[1:], 0.8)
