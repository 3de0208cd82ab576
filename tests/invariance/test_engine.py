"""Scores of positions: the two ways agree, and neither tile, batch, strand nor mode leaves a trace."""

from functools import partial

import numpy as np
import pytest
import torch

from basewise.backbones import pyramid
from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.errors import BasewiseError
from basewise.genome.alphabet import as_bases, reverse_complement
from basewise.inference import engine
from basewise.inference.asking import answering, base_tokens, check_device, one_thread
from basewise.inference.engine import score_positions, scorer
from basewise.inference.predict import predict_sequences
from basewise.testing.genomes import random_genome
from basewise.testing.models import randomize, tiny_classifier

CONTIG = as_bases(random_genome(3, {"x": 3000}, n_runs=4, soft_mask=0.3, iupac=0.02)["x"])
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    monkeypatch.setattr(engine, "CHUNK", 512)
    monkeypatch.setattr(engine, "_CHUNKS_A_CELL", {"cpu": 2})


def fetch(start, end, contig=CONTIG):
    """As Genome.window: N beyond the ends."""
    window = np.full(end - start, ord("N"), np.uint8)
    low, high = max(start, 0), min(end, len(contig))
    if low < high:
        window[low - start : high - start] = contig[low:high]
    return window


def some_positions(count=200):
    rng = np.random.default_rng(1)
    inside = rng.integers(0, len(CONTIG), count)
    positions = np.sort(np.concatenate([np.arange(15), inside, len(CONTIG) - 1 - np.arange(15)]))
    return positions, rng.choice(np.array([-1, 1], np.int8), len(positions))


def from_the_definition(classifier, positions, strands, window):
    """Cut every window by hand and ask one at a time."""
    answers = []
    for position, strand in zip(positions.tolist(), strands.tolist(), strict=True):
        before = window // 2 if strand > 0 else window - 1 - window // 2
        bases = fetch(position - before, position - before + window)
        answers.append(predict_sequences(classifier, [bases if strand > 0 else reverse_complement(bases)])[0])
    return np.array(answers)


SETTINGS = [{}, {"window": 40}, {"kind": "base"}, {"pool": "mean"}, {"pool": "mean", "window": 30}]


@pytest.mark.parametrize("settings", SETTINGS)
def test_both_ways_equal_the_definition(settings):
    classifier = tiny_classifier(**settings)
    positions, strands = some_positions(40)
    expected = from_the_definition(classifier, positions, strands, classifier.config.window)
    assert expected.std() > 0.01
    for dense in [False, True] if classifier.dense else [False]:
        answers = score_positions(classifier, fetch, positions, strands, dense=dense)
        assert (answers.shape, answers.dtype) == (positions.shape, np.float32)
        np.testing.assert_allclose(answers, expected, atol=1e-5, rtol=0)


def test_without_a_window_the_reach_is_the_window():
    classifier = tiny_classifier(window=None)
    positions, strands = some_positions(40)
    expected = from_the_definition(classifier, positions, strands, 2 * classifier.backbone.reach + 1)
    np.testing.assert_allclose(score_positions(classifier, fetch, positions, strands), expected, atol=1e-5, rtol=0)


def test_a_tokenizer_without_a_table_gives_the_same(monkeypatch):
    classifier = tiny_classifier()
    positions, strands = some_positions(40)
    expected = score_positions(classifier, fetch, positions, strands, dense=False)
    monkeypatch.setattr(engine, "base_tokens", lambda _: None)
    np.testing.assert_array_equal(score_positions(classifier, fetch, positions, strands), expected)
    with pytest.raises(BasewiseError, match="cannot read hidden states of long stretches"):
        score_positions(classifier, fetch, positions, strands, dense=True)


@pytest.mark.parametrize("dense", [False, True])
def test_bits_do_not_depend_on_tile_or_batch(dense):
    classifier = tiny_classifier()
    positions, strands = some_positions()
    with one_thread(), answering(classifier, CPU):
        whole = scorer(classifier, device=CPU, dense=dense).score(fetch, positions, strands)
        cell = engine.cell_size(CPU)
        for batch_size, tile in ((1, cell), (33, 2 * cell), (10_000, 3 * cell)):
            ready = scorer(classifier, device=CPU, batch_size=batch_size, dense=dense)
            pieces = [positions // tile == number for number in np.unique(positions // tile)]
            parts = [ready.score(fetch, positions[piece], strands[piece]) for piece in pieces]
            np.testing.assert_array_equal(np.concatenate(parts).view(np.int32), whole.view(np.int32))


def test_the_other_strand_of_the_other_strand_is_the_same():
    classifier = tiny_classifier()
    positions, strands = some_positions()
    turned = reverse_complement(CONTIG)
    mirrored = (len(CONTIG) - 1 - positions)[::-1], -strands[::-1]
    answers = score_positions(classifier, lambda start, end: fetch(start, end, turned), *mirrored)
    np.testing.assert_allclose(answers[::-1], score_positions(classifier, fetch, positions, strands), atol=1e-6)


def test_a_known_contig_length_saves_work_and_changes_nothing():
    classifier = tiny_classifier()
    positions, strands = some_positions()
    with answering(classifier, CPU):
        ready = scorer(classifier, device=CPU)
        with_length = ready.score(fetch, positions, strands, len(CONTIG))
        np.testing.assert_allclose(with_length, ready.score(fetch, positions, strands), atol=1e-6)


def test_no_position_no_answer():
    answers = score_positions(tiny_classifier(), fetch, np.empty(0, np.int64), np.empty(0, np.int8))
    assert (answers.shape, answers.dtype) == ((0,), np.float32)


def test_modes_gradients_and_threads_are_as_before_also_after_an_error():
    classifier = tiny_classifier().train()
    classifier.head.eval()
    before = {name: module.training for name, module in classifier.named_modules()}
    weights = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    positions, strands = some_positions(5)
    score_positions(classifier, fetch, positions, strands)

    def broken(start, end):
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        score_positions(classifier, broken, positions, strands)
    assert {name: module.training for name, module in classifier.named_modules()} == before
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in classifier.state_dict().items())
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"labels": ("a", "b", "c")}, "expected a binary question"),
        ({"kind": "individual", "pool": "mean"}, "answers about individuals"),
    ],
)
def test_models_that_cannot_scan_are_refused(settings, message):
    with pytest.raises(BasewiseError, match=message):
        score_positions(tiny_classifier(**settings), fetch, np.array([5]), np.array([1], np.int8))


def test_a_table_is_found_only_for_one_token_a_base():
    layout = base_tokens(tiny_classifier())
    assert layout is not None
    assert layout.table[list(b"ACGTNacgtnRU")].tolist() == [7, 8, 9, 10, 11, 7, 8, 9, 10, 11, 11, 10]
    hub = base_tokens(tiny_classifier(special_tokens="standalone", pool="mean"))
    assert hub is not None
    assert (len(hub.prefix), len(hub.suffix)) == (1, 1)
    assert base_tokens(tiny_classifier(policy="official")) is None  # lower case is [UNK] there: no table of bases


def test_special_tokens_are_kept_by_the_table():
    classifier = tiny_classifier(special_tokens="standalone", pool="mean")
    positions, strands = some_positions(20)
    expected = from_the_definition(classifier, positions, strands, classifier.config.window)
    np.testing.assert_allclose(score_positions(classifier, fetch, positions, strands), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tpu9", "meta"])
def test_unknown_devices_are_refused(name):
    with pytest.raises(BasewiseError, match=f"unknown device '{name}'"):
        check_device(name)


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(BasewiseError, match="is not there"):
        check_device("cuda:99")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", SETTINGS)
def test_cuda_equals_cpu(settings, monkeypatch):
    monkeypatch.undo()
    classifier = tiny_classifier(**settings)
    positions, strands = some_positions()
    on_cpu = score_positions(classifier, fetch, positions, strands)
    on_cuda = score_positions(classifier, fetch, positions, strands, device="cuda")
    np.testing.assert_allclose(on_cuda, on_cpu, atol=1e-4)
    assert classifier.device == CPU


def test_a_grid_lies_at_multiples_of_itself_in_the_contig_whoever_asks() -> None:
    shape = {
        "width": 4,
        "stem_kernel": 5,
        "kernel": 3,
        "dilations": [1, 2],
        "join": 1,
        "coarse_widths": [4, 4],
        "coarse_dilations": [1],
        "spread": 2,
    }
    backbone = randomize(pyramid.Model(pyramid.Config.model_validate(shape)), 3)
    config = ClassifierConfig(task="toy", kind="base", special_tokens=False, window=2 * backbone.reach + 1)
    classifier = Classifier(config, backbone, CharacterTokenizer("none"))
    randomize(classifier.head, 4)
    classifier.eval()
    contig = as_bases(random_genome(5, {"c": 20_011})["c"])

    positions = np.sort(np.random.default_rng(6).choice(len(contig), 300, replace=False)).astype(np.int64)
    with torch.inference_mode():
        logits = classifier(classifier.tokenize([contig]))[0]
        padded = np.concatenate([contig, np.full(-len(contig) % backbone.grid, ord("N"), np.uint8)])  # the other strand's grid starts here
        turned = classifier(classifier.tokenize([reverse_complement(padded)]))[0].flip(0)[: len(contig)]
    for strand, wanted in ((1, logits), (-1, turned)):
        got = score_positions(classifier, partial(fetch, contig=contig), positions, np.full(300, strand, np.int8))
        np.testing.assert_allclose(got, classifier.probabilities(wanted[positions]), rtol=0, atol=1e-5)
        few = score_positions(classifier, partial(fetch, contig=contig), positions[150:160], np.full(10, strand, np.int8))
        assert np.array_equal(few, got[150:160])
