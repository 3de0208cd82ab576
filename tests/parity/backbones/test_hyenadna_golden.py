"""HyenaDNA equals the official implementation on every golden case: all key forms, both config forms, both published heads."""

import json

import pytest
import torch
from safetensors.torch import load_file

from basewise.backbones import hyenadna
from basewise.backbones.base import Tokens
from basewise.backbones.heads import SequenceHead
from basewise.backbones.weights import assign_weights

pytestmark = pytest.mark.data
CASES = (
    "tiny_hf",
    "tiny_ckpt",
    "tiny_ckpt_checkpointed",
    "tiny_bare",
    "seqcls",
    "standalone_pool_head",
    "config_variant",
    "real_tiny1k",
)


def outputs(model, head, ids):
    """Every output the fixtures may hold, computed as the official code does: padding is a token as any other."""
    mask = torch.ones_like(ids, dtype=torch.bool)
    embedded = model.embed(ids)
    hidden, layers = model.encode(embedded, mask, layers=True)
    tokens = Tokens(ids, mask, torch.zeros((*ids.shape, 2), dtype=torch.int32))
    logits = model.lm_logits(hidden) if head is None else head(hidden, tokens)
    return {"embeddings": embedded, "last_hidden_state": hidden, "logits": logits, **{f"layers.{i}": x for i, x in enumerate(layers)}}


@pytest.mark.parametrize("case", CASES)
def test_equals_official(shared, case):
    folder = shared / "golden/dev/hyenadna" / case
    facts = json.loads((folder / "case.json").read_text())
    state = load_file(folder / facts.get("weights_file", "model.safetensors"))
    config = hyenadna.from_official(json.loads((folder / "config.json").read_text()))
    state = hyenadna.rename_official(state, config)
    head_state = {name.removeprefix("head."): state.pop(name) for name in list(state) if name.startswith("head.")}
    model = hyenadna.Model(config).eval()
    assign_weights(model, state, case)
    head = None
    if head_state:
        pool = "official-pool" if "linear.bias" in head_state else "official"
        head = SequenceHead(config.d_model, len(head_state["linear.weight"]), pool).eval()
        assign_weights(head, head_state, case)
    golden = load_file(folder / "io.safetensors")
    for name, spec in facts["inputs"].items():
        with torch.inference_mode():
            got = outputs(model, head, golden[f"{name}/input_ids"])
        assert spec["outputs"]
        for output in spec["outputs"]:
            want = golden[f"{name}/{output}"]
            difference = (got[output] - want).abs().max().item()
            assert difference <= 1e-5 * max(1.0, facts["scale"][name][output]), (name, output)
