"""The catalog: parameter counts against the published ones, verification, names; the verbs that show it import nothing heavy."""

import json
import subprocess
import sys

import pytest
import torch

from basewise.backbones import catalog
from basewise.backbones.checkpoints import load_official, load_pretrained
from basewise.backbones.fetch import wanted
from basewise.backbones.registry import build_backbone
from basewise.backbones.tokenizers import tokenizer_kind
from basewise.errors import BasewiseError
from basewise.files import write_json
from basewise.testing.published import write_published


def unused(name):
    """Parameters in the published file that no output needs: the contact head, and the position table of the rotary models."""
    shape = catalog.entry(name).shape
    table = shape["max_position_embeddings"] * shape["hidden_size"] if shape["positions"] == "rotary" else 0
    return table + shape["num_hidden_layers"] * shape["num_attention_heads"] + 1


def on_meta(name):
    with torch.device("meta"):
        return build_backbone(catalog.family_of(name), catalog.config_of(name), name)


@pytest.mark.parametrize("name", catalog.entries())
def test_parameters_of_every_shape(name):
    backbone = on_meta(name)
    assert all(p.is_meta for p in backbone.parameters())
    assert sum(p.numel() for p in backbone.parameters()) == catalog.entry(name).parameters


@pytest.mark.parametrize(
    ("name", "published", "within"),
    [  # counts of the published checkpoints: exact where the exact number is known
        ("nt-2.5b-multi-species", 2_547_801_226, 0),
        ("nt-v2-50m", 55_904_972, 0),
        ("nt-500m-human-ref", 485_700_000, 50_000),
        ("nt-v2-100m", 97_900_000, 50_000),
        ("nt-v2-250m", 235_100_000, 50_000),
        ("nt-v2-500m", 498_300_000, 50_000),
    ],
)
def test_published_counts(name, published, within):
    assert abs(catalog.entry(name).parameters + unused(name) - published) <= within


def test_published_counts_of_the_others():
    hyena = {"tiny-1k": 436_096, "small-32k": 3_280_000, "medium-160k": 6_550_000, "large-1m": 6_550_000}
    for size, trainable in hyena.items():
        entry = catalog.entry(f"hyenadna-{size}")
        head = 16 * entry.shape["d_model"]  # published counts tie it to the embedding
        assert abs(entry.parameters - head - trainable) <= (0 if size == "tiny-1k" else 5_000)
    # file size / 4 bytes, less the tied decoder stored twice (4096 x 768, its bias twice in DNABERT-2's case) and the pickle around it
    assert abs(catalog.entry("dnabert2-117m").parameters - (468_354_983 / 4)) < 4096 * 768
    tensors = {
        "dnabert2-117m": 142 - 1,
        "gena-lm-bert-base-t2t": 205 - 3,
        "gena-lm-bert-large-t2t": 399 - 3,
    }  # less copies and position_ids
    for name, count in tensors.items():
        assert len(on_meta(name).state_dict()) == count


def test_names():
    assert catalog.entry("zhihan1996/DNABERT-2-117M") is catalog.entry("dnabert2-117m")
    with pytest.raises(BasewiseError, match=r"Did you mean 'dnabert2-117m'"):
        catalog.entry("dnabert2")
    for entry in catalog.entries().values():
        assert entry.non_commercial == (entry.family == "nucleotide_transformer") == ("NON-COMMERCIAL" in entry.notice)


@pytest.mark.data
def test_known_tokenizer_checksums(shared):
    files = {
        "dnabert2": "dnabert2-117m",
        "gena_bert_base": "gena-lm-bert-base",
        "gena_t2t": "gena-lm-bert-large-t2t",
        "nt_v1": "nt-500m-1000g",
    }
    for folder, name in {**files, "nt_v2": "nt-v2-50m"}.items():
        assert len(catalog.verify(shared / "golden/tokenizer_files" / folder, name)) == 1
    with pytest.raises(BasewiseError, match=r"is not nt-v2-50m: vocab.txt has sha256"):
        catalog.verify(shared / "golden/tokenizer_files/nt_v1", "nt-v2-50m")


def test_other_checksum_size_or_revision_is_refused(tmp_path):
    folder = write_published(tmp_path / "a", "dnabert2")
    load_official(folder)
    with pytest.raises(BasewiseError, match=r"is not dnabert2-117m: tokenizer.json has \d+ bytes, expected 167908"):
        load_official(folder, name="dnabert2-117m")
    write_json(folder / "source.json", {"name": "dnabert2-117m", "revision": "0" * 40})
    with pytest.raises(BasewiseError, match=r"revision 0000.* the catalog pins 7bce263b"):
        load_official(folder)
    write_json(folder / "source.json", {"name": "gena-lm-bert-large-t2t"})
    with pytest.raises(BasewiseError, match=r"tokenizer.json has sha256"):
        load_official(folder)


def test_pretrained_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("BASEWISE_MODELS", str(tmp_path))
    with pytest.raises(BasewiseError, match=r"not on disk.*basewise models fetch hyenadna-tiny-1k.*LongSafari/hyenadna-tiny-1k-seqlen-hf"):
        load_pretrained("hyenadna-tiny-1k")
    write_published(tmp_path / "hyenadna-tiny-1k", "hyenadna")
    backbone, tokenizer = load_pretrained("hyenadna-tiny-1k")
    assert (backbone.family, tokenizer_kind(tokenizer)) == ("hyenadna", "character")


def test_files_to_download():
    both = [
        "config.json",
        "model.safetensors",
        "pytorch_model.bin",
        "modeling_esm.py",
        "tf_model.h5",
        "vocab.txt",
        ".gitattributes",
        "a/model.bin",
    ]
    assert wanted(both) == ("config.json", "model.safetensors", "vocab.txt")
    sharded = ["config.json", "pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "training_args.bin"]
    assert wanted(sharded) == tuple(sorted(sharded[:3]))
    assert wanted(["weights.ckpt", "config.json"]) == ("config.json", "weights.ckpt")
    with pytest.raises(BasewiseError, match=r"no weights we read, only tf_model.h5"):
        wanted(["tf_model.h5"])


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "--help"], ["models", "show", "nt-v2-50m"], ["--help"]])
def test_light_verbs_import_nothing_heavy(arguments):
    code = (
        "import sys\n"
        "from basewise.cli.main import app\n"
        f"try: app({arguments!r})\n"
        "except SystemExit as done: assert not done.code, done.code\n"
        "heavy = {'torch', 'numba', 'matplotlib', 'sklearn', 'pandas', 'huggingface_hub', 'transformers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_list_as_json(basewise, tmp_path, monkeypatch):
    monkeypatch.setenv("BASEWISE_MODELS", str(tmp_path))
    write_published(tmp_path / "dnabert2-117m", "dnabert2")
    rows = {row["name"]: row for row in json.loads(basewise("models", "list", "--json").stdout)}
    assert rows.keys() == catalog.entries().keys()
    assert rows["dnabert2-117m"]["on_disk"] == str(tmp_path / "dnabert2-117m")
    assert rows["nt-v2-50m"]["on_disk"] is None
