"""Published folders in every layout; damaged, foreign and hostile ones refused in one line; what is in memory while loading."""

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load_file, save_file

from basewise.backbones import catalog
from basewise.backbones.checkpoints import load_official, load_official_classifier, read_official, read_weights
from basewise.backbones.classifier import load_classifier
from basewise.backbones.folders import save_backbone
from basewise.backbones.importing import import_official
from basewise.backbones.pickles import read_pickled
from basewise.errors import BasewiseError
from basewise.testing.published import KINDS, published, write_published

PROBE = ["ACGTNACGTTTACAGGT", "TTTTTTNNNNNNNNNNNNACGT", "GATTACA"]
every = pytest.mark.parametrize("kind", KINDS)


def refused(call, *arguments, match):
    """The error is ours, one line, and says what is wrong."""
    with pytest.raises(BasewiseError, match=match) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def answer(folder):
    backbone, tokenizer = load_official(folder)
    assert not backbone.training
    tokens = tokenizer.tokenize(PROBE)
    with torch.inference_mode():
        return backbone.encode(backbone.embed(tokens.ids), tokens.mask)


def shards(folder, kind, form):
    """Replace the weights of a folder by two shards and their index."""
    _, state = published(kind)
    names = sorted(state)
    parts = {f"{form}-0000{i}-of-00002": names[i - 1 :: 2] for i in (1, 2)}
    suffix = ".safetensors" if form == "model" else ".bin"
    for part, held in parts.items():
        content = {name: state[name] for name in held}
        if form == "model":
            save_file(content, folder / (part + suffix))
        else:
            torch.save(content, folder / (part + suffix))
    where = {name: part + suffix for part, held in parts.items() for name in held}
    (folder / f"{form}{suffix}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))


@every
def test_all_layouts_hold_the_same_model(kind, tmp_path):
    want = answer(write_published(tmp_path / "safetensors", kind))
    assert want.abs().max() > 0.5
    for weights in ("pytorch_model.bin", "weights.ckpt"):
        assert torch.equal(answer(write_published(tmp_path / weights, kind, weights=weights)), want)
    for form in ("model", "pytorch_model"):
        folder = write_published(tmp_path / form, kind)
        (folder / "model.safetensors").unlink()
        shards(folder, kind, form)
        assert torch.equal(answer(folder), want)


@every
def test_half_precision_strided_and_prefixless_weights(kind, tmp_path):
    folder = write_published(tmp_path / "a", kind)
    want = answer(folder)
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    strided = {name: t.T.contiguous().T if t.dim() == 2 else t for name, t in state.items()}
    torch.save(strided, folder / "pytorch_model.bin")
    assert (answer(folder) - want).abs().max() < 1e-5
    assert all(p.is_contiguous() for p in load_official(folder)[0].parameters())
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    torch.save({name: t.float() if t.is_floating_point() else t for name, t in half.items()}, folder / "pytorch_model.bin")
    rounded = answer(folder)
    torch.save(half, folder / "pytorch_model.bin")
    assert torch.equal(answer(folder), rounded)
    assert {p.dtype for p in load_official(folder)[0].parameters()} == {torch.float32}
    prefix = {"dnabert2": "bert.", "gena_lm": "bert.", "hyenadna": "hyena."}.get(kind, "esm.")
    torch.save({name.removeprefix(prefix): t for name, t in state.items()}, folder / "pytorch_model.bin")
    assert (answer(folder) - want).abs().max() < 1e-5


@every
def test_every_weight_is_accounted_for(kind, tmp_path):
    folder = write_published(tmp_path / "a", kind)
    state = load_file(folder / "model.safetensors")
    first = next(name for name in state if ".0." in name and name.endswith("weight") and "filter" not in name)
    save_file({name: t for name, t in state.items() if name != first}, folder / "model.safetensors")
    refused(load_official, folder, match="1 missing: layers.0")
    save_file({**state, "bert.encoder.surprise.weight": torch.zeros(2)}, folder / "model.safetensors")
    refused(load_official, folder, match=r"1 left over: .*surprise")
    save_file({**state, first: torch.zeros(3, 5)}, folder / "model.safetensors")
    refused(load_official, folder, match=r"wrong shape: .*\(3, 5\)")


def test_copies_that_differ_are_refused(tmp_path):
    folder = write_published(tmp_path / "a", "gena_lm")
    state = load_file(folder / "model.safetensors")
    save_file({**state, "cls.predictions.bias": state["cls.predictions.bias"] + 1}, folder / "model.safetensors")
    refused(load_official, folder, match="copies of one another")
    save_file({**state, "bert.embeddings.position_ids": state["bert.embeddings.position_ids"].flip(1)}, folder / "model.safetensors")
    refused(load_official, folder, match="position_ids")
    folder = write_published(tmp_path / "b", "nucleotide_transformer_v2")
    state = load_file(folder / "model.safetensors")
    wrong = {name: t * 2 if name.endswith("inv_freq") else t for name, t in state.items()}
    save_file(wrong, folder / "model.safetensors")
    refused(load_official, folder, match="frequencies")


def test_last_norm_must_be_where_the_config_says(tmp_path):
    folder = write_published(tmp_path / "a", "gena_lm")
    config = json.loads((folder / "config.json").read_text())
    assert load_official(folder)[0].config.last_layer_norm  # absent from the config: as pre_layer_norm
    (folder / "config.json").write_text(json.dumps({**config, "last_layer_norm": False}))
    refused(load_official, folder, match="last_layer_norm False, but the weights have one")
    state = {name: t for name, t in load_file(folder / "model.safetensors").items() if "last_layer_ln" not in name}
    save_file(state, folder / "model.safetensors")
    assert not load_official(folder)[0].config.last_layer_norm


def test_a_head_of_its_own_is_kept(tmp_path):
    folder = write_published(tmp_path / "a", "dnabert2")
    state = load_file(folder / "model.safetensors")
    assert load_official(folder)[0].config.lm_head == "tied"
    decoder = state["cls.predictions.decoder.weight"] + 1
    save_file({**state, "cls.predictions.decoder.weight": decoder}, folder / "model.safetensors")
    backbone, _ = load_official(folder)
    assert backbone.config.lm_head == "separate"
    assert torch.equal(backbone.lm_head.decoder.weight, decoder)
    del state["cls.predictions.decoder.weight"]  # safetensors leaves out a tied copy
    save_file(state, folder / "model.safetensors")
    assert load_official(folder)[0].config.lm_head == "tied"


@every
def test_wrong_family(kind, tmp_path):
    other = "gena_lm" if kind != "gena_lm" else "dnabert2"
    folder = write_published(tmp_path / "a", kind)
    write_published(tmp_path / "b", other)
    (folder / "config.json").write_bytes((tmp_path / "b/config.json").read_bytes())
    refused(load_official, folder, match="config.json is of .*, the weights are of")
    save_file({"transformer.h.0.weight": torch.zeros(1)}, folder / "model.safetensors")
    refused(load_official, folder, match="no family known here; known: hyenadna")


def test_settings_we_do_not_implement_are_refused(tmp_path):
    for kind, key, value in (("dnabert2", "hidden_act", "relu"), ("gena_lm", "position_embedding_type", "relative_key")):
        folder = write_published(tmp_path / kind, kind)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        refused(load_official, folder, match=f"{key} = '{value}'")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin", "weights.ckpt"])
def test_damaged_files(weights, tmp_path):
    folder = write_published(tmp_path / "a", "dnabert2", weights=weights)
    whole = (folder / weights).read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:10], b"", b"<html>404</html>" * 40):
        (folder / weights).write_bytes(damaged)
        refused(load_official, folder, match=f"{weights}.*(damaged|no PyTorch checkpoint)")
    corrupted = bytearray(whole)
    corrupted[4:60] = b"\xff" * 56
    (folder / weights).write_bytes(bytes(corrupted))
    refused(load_official, folder, match=weights)


def test_missing_and_ambiguous_files(tmp_path):
    refused(load_official, tmp_path / "nowhere", match="is no folder")
    folder = write_published(tmp_path / "a", "dnabert2", weights="one.ckpt")
    (folder / "two.ckpt").write_bytes((folder / "one.ckpt").read_bytes())
    refused(load_official, folder, match="one.ckpt, two.ckpt")
    for file in folder.glob("*.ckpt"):
        file.unlink()
    refused(load_official, folder, match="no weights in")
    shards(folder, "dnabert2", "model")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(load_official, folder, match="lacks 1 of 2 shards: model-00002-of-00002")
    shards(folder, "dnabert2", "model")
    part = load_file(folder / "model-00001-of-00002.safetensors")
    save_file(dict(list(part.items())[1:]), folder / "model-00001-of-00002.safetensors")
    refused(load_official, folder, match="disagree about")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../secret"}}))
    refused(load_official, folder, match="no usable weight_map")
    write_published(folder, "dnabert2")
    (folder / "config.json").write_text("{")
    refused(load_official, folder, match="not valid JSON")
    write_published(folder, "dnabert2")
    (folder / "tokenizer.json").unlink()
    refused(load_official, folder, match=r"no tokenizer\.json")
    other = write_published(tmp_path / "other", "gena_lm")
    (folder / "tokenizer.json").write_bytes((other / "tokenizer.json").read_bytes())
    refused(load_official, folder, match="has 16 tokens, the weights have 14")


class Bomb:
    """Harmless: when executed it would write a file."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.system, (f"echo was here > {self.target}",)


class BuiltinBomb(Bomb):
    def __reduce__(self):
        return exec, (f"open({self.target!r}, 'w').close()",)


class Lightning:
    """Stands for the configuration objects of a training framework."""

    def __init__(self):
        self.lr = 1e-3


@pytest.mark.parametrize("bomb", [Bomb, BuiltinBomb])
@pytest.mark.parametrize("weights", ["pytorch_model.bin", "weights.ckpt"])
def test_a_pickle_bomb_does_not_go_off(bomb, weights, tmp_path):
    folder = write_published(tmp_path / "a", "dnabert2", weights=weights)
    _, state = published("dnabert2")
    target = tmp_path / "was_here"
    torch.save({"state_dict": state, "callbacks": [bomb(target)]}, folder / weights)
    refused(load_official, folder, match="refused: its pickle names (posix.system|nt.system|builtins.exec|__builtin__.exec)")
    torch.save({"state_dict": state, "callbacks": [bomb(target)]}, folder / weights, _use_new_zipfile_serialization=False)
    refused(load_official, folder, match="refused: it holds more than tensors")
    (folder / weights).write_bytes(pickle.dumps(bomb(target), protocol=2))
    refused(load_official, folder, match="refused|damaged")
    assert not target.exists()
    torch.save([bomb(target)], tmp_path / "armed")
    torch.load(tmp_path / "armed", weights_only=False)  # the bomb is a real one
    assert target.exists()


def test_training_checkpoint_with_foreign_objects(tmp_path):
    """Objects of a framework are passed over, tensors come through exactly, shared and strided ones too."""
    base = torch.arange(24.0).reshape(4, 6)
    state = OrderedDict(
        a=base,
        b=base[1:, ::2],
        c=base.T,
        d=torch.nn.Parameter(torch.ones(3)),
        e=torch.tensor(7),
        f=torch.zeros(0, 2),
        g=torch.ones(2).bfloat16(),
    )
    content = {
        "state_dict": state,
        "hyper_parameters": Lightning(),
        "epoch": 3,
        "mode": {"set": {1, 2}},
        "more": [Lightning(), OrderedDict(x=1)],
    }
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(pickle.UnpicklingError):  # so it is our reader that reads it
        torch.load(tmp_path / "x.ckpt", weights_only=True)
    read = read_pickled(tmp_path / "x.ckpt")
    assert read.keys() == state.keys()
    for name, tensor in state.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach())
    assert not any(t.requires_grad for t in read.values())


def test_tensor_that_leaves_its_storage_is_refused(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(64)}, "x": Lightning()}, tmp_path / "x.ckpt")
    with zipfile.ZipFile(tmp_path / "x.ckpt") as old, zipfile.ZipFile(tmp_path / "y.ckpt", "w") as new:
        for item in old.namelist():
            raw = old.read(item)
            new.writestr(item, raw[:16] if item.endswith("data/0") else raw)
    refused(read_pickled, tmp_path / "y.ckpt", match="cannot be read as tensors")


def test_entries_that_are_no_tensors(tmp_path):
    for content, match in (([1, 2], "holds a list"), ({"a": 1}, "no tensors: a"), ({}, "expected weights by name")):
        torch.save(content, tmp_path / "x.bin")
        refused(read_pickled, tmp_path / "x.bin", match=match)


@every
def test_published_classification_head(kind, tmp_path):
    folder = write_published(tmp_path / "a", kind, classes=3)
    classifier = load_official_classifier(folder)
    assert classifier.config.labels == ("class 0", "class 1", "class 2")
    with torch.inference_mode():
        logits = classifier(classifier.tokenize(PROBE))
    assert logits.shape == (3, 3)
    assert import_official(folder, tmp_path / "out") == "classifier"
    again = load_classifier(tmp_path / "out")
    with torch.inference_mode():
        assert torch.equal(again(again.tokenize(PROBE)), logits)
    refused(import_official, folder, tmp_path / "out", match="exists")
    refused(load_official_classifier, write_published(tmp_path / "b", kind), match="no classification head")


@every
def test_import_and_load_again(kind, tmp_path):
    folder = write_published(tmp_path / "a", kind, weights="pytorch_model.bin")
    assert import_official(folder, tmp_path / "out") == "backbone"
    assert torch.equal(answer(folder), answer(tmp_path / "out"))
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (
        config["source"]["licence"]
        == catalog.entries()[next(n for n, e in catalog.entries().items() if e.family == config["backbone"]["family"])].licence
    )
    refused(import_official, tmp_path / "out", tmp_path / "again", match="already")
    state = load_file(tmp_path / "out/model.safetensors")
    save_file(dict(list(state.items())[1:]), tmp_path / "out/model.safetensors")
    refused(load_official, tmp_path / "out", match="1 missing")


def test_saved_backbone_of_changed_weights(tmp_path):
    backbone, tokenizer = load_official(write_published(tmp_path / "a", "gena_lm"))
    with torch.no_grad():
        backbone.words.weight.add_(0.5)
    save_backbone(backbone, tokenizer, tmp_path / "out", {"note": "changed"})
    again, _ = load_official(tmp_path / "out")
    assert all(torch.equal(a, b) for a, b in zip(backbone.state_dict().values(), again.state_dict().values(), strict=True))
    assert (tmp_path / "out/tokenizer.json").read_text() == (tmp_path / "a/tokenizer.json").read_text()


def test_weights_are_assigned_not_copied(tmp_path):
    """So that loading needs the memory of the weights once: the parameters are the tensors of the (mapped) file."""
    folder = write_published(tmp_path / "a", "nucleotide_transformer_v1")
    state = read_weights(folder)
    assert state["esm.embeddings.word_embeddings.weight"].data_ptr() != 0
    official = read_official(folder)
    assert not any(p.is_meta for p in official.backbone.parameters())


MEASURE = """
import json, resource, sys
import torch
from safetensors.torch import save_file
from basewise.backbones import catalog
from basewise.backbones.checkpoints import read_official
from basewise.backbones.registry import build_backbone
folder, name, kind = sys.argv[1:]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
official = read_official(folder)
total = sum(float(p.sum()) for p in official.backbone.parameters())  # touch every weight
weights = sum(p.numel() * p.element_size() for p in official.backbone.parameters())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"weights": weights, "peak": peak - before}))
"""


def write_random_nt(folder, layers, d, inner, form):
    """A Nucleotide Transformer v1 of the given shape under its published names, random weights, written in pieces."""
    config, _ = published("nucleotide_transformer_v1")
    config |= {"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 20, "intermediate_size": inner}
    config |= {"vocab_size": 4105, "max_position_embeddings": 1002}
    state = {}

    def add(name, *shape):
        state[name] = torch.rand(shape)

    def linear(name, a, b):
        add(f"{name}.weight", a, b)
        add(f"{name}.bias", a)

    add("esm.embeddings.word_embeddings.weight", 4105, d)
    add("esm.embeddings.position_embeddings.weight", 1002, d)
    for norm in ("esm.encoder.emb_layer_norm_after", "lm_head.layer_norm"):
        add(f"{norm}.weight", d)
        add(f"{norm}.bias", d)
    linear("lm_head.dense", d, d)
    add("lm_head.decoder.weight", 4105, d)
    add("lm_head.bias", 4105)
    for n in range(layers):
        at = f"esm.encoder.layer.{n}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{at}.attention.{part}", d, d)
        for norm in ("attention.LayerNorm", "LayerNorm"):
            add(f"{at}.{norm}.weight", d)
            add(f"{at}.{norm}.bias", d)
        linear(f"{at}.intermediate.dense", inner, d)
        linear(f"{at}.output.dense", d, inner)
    (folder / "config.json").write_text(json.dumps(config))
    if form == "model.safetensors":
        save_file(state, folder / form)
    else:
        torch.save(state, folder / form)


def peak_of_loading(folder):
    done = subprocess.run([sys.executable, "-c", MEASURE, str(folder), "x", "y"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_memory_of_loading(form, tmp_path):
    """At most 1.2 times the weights, every one of them touched; 100 MB of them, so that the interpreter's own does not matter."""
    write_random_nt(tmp_path, 4, 640, 2560, form)
    used = peak_of_loading(tmp_path)
    assert used["weights"] > 90e6
    assert used["peak"] <= 1.2 * used["weights"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.skipif(not os.environ.get("BASEWISE_TEST_LARGE"), reason="writes 2 GB; set BASEWISE_TEST_LARGE=1")
@pytest.mark.parametrize("form", ["model.safetensors", "pytorch_model.bin"])
def test_memory_of_loading_the_500m_shape(form, tmp_path):
    write_random_nt(tmp_path, 24, 1280, 5120, form)
    used = peak_of_loading(tmp_path)
    assert used["weights"] == 4 * catalog.entry("nt-500m-human-ref").parameters
    assert used["peak"] <= 1.2 * used["weights"]
