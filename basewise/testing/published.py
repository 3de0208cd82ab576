"""Tiny folders in the form of published checkpoints, random weights: config.json, model.safetensors or pytorch_model.bin, tokenizer files.

The names and shapes of the weights are written out from the published layouts, not derived from our modules.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor

from basewise.backbones.tokenizers.kmer import KmerTokenizer

Shapes = dict[str, tuple[int, ...]]
KINDS = ("dnabert2", "nucleotide_transformer_v1", "nucleotide_transformer_v2", "gena_lm", "hyenadna")
D, INNER, LAYERS, HEADS, KMER = 24, 32, 2, 3, 2


def write_published(folder: Path, kind: str, seed: int = 0, *, classes: int = 0, weights: str = "model.safetensors") -> Path:
    """Write a folder of `kind` (see `KINDS`) and return it; `classes` adds the published classification head."""
    folder.mkdir(parents=True, exist_ok=True)
    config, state = published(kind, seed, classes=classes)
    (folder / "config.json").write_text(json.dumps(config))
    if weights.endswith(".safetensors"):
        save_file(state, folder / weights, metadata={"format": "pt"})
    else:
        torch.save({"state_dict": state} if weights.endswith(".ckpt") else state, folder / weights)
    if kind.startswith("nucleotide"):
        KmerTokenizer("v1" if kind.endswith("v1") else "v2", k=KMER).save(folder)
    elif kind != "hyenadna":
        (folder / "tokenizer.json").write_text(tiny_bpe(runs=kind == "gena_lm"))
    return folder


def published(kind: str, seed: int = 0, *, classes: int = 0) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return config.json and weights under their published names."""
    makers = {"dnabert2": _dnabert2, "gena_lm": _gena_lm, "hyenadna": _hyenadna}
    config, shapes = makers[kind](classes) if kind in makers else _nucleotide_transformer(kind.endswith("v1"), classes)
    generator = torch.Generator().manual_seed(seed)
    state = {name: _values(name, shape, generator) for name, shape in sorted(shapes.items())}
    words = next((tensor for name, tensor in state.items() if name.endswith("word_embeddings.weight")), None)
    if "cls.predictions.decoder.weight" in state and words is not None:  # tied, stored twice
        state["cls.predictions.decoder.weight"] = words.clone()
        state["cls.predictions.decoder.bias"] = state["cls.predictions.decoder.bias"]
    if "cls.predictions.bias" in state:
        state["cls.predictions.bias"] = state["cls.predictions.decoder.bias"].clone()
    return config, state


def tiny_bpe(*, runs: bool) -> str:
    """Return a small tokenizer.json: with `runs` in the way of GENA-LM t2t, else in that of DNABERT-2."""
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *(["-"] if runs else [])]
    merges = [("A", "C"), ("G", "T"), ("AC", "GT"), ("T", "T"), ("TT", "A")]
    pieces = [*special, *("ACGTN" if runs else "ACGT"), *(a + b for a, b in merges)]
    engine = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="[UNK]"))  # noqa: S106
    engine.add_special_tokens(special)
    if runs:
        engine.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")])
        engine.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
    else:
        engine.pre_tokenizer = pre_tokenizers.Whitespace()
    text: str = engine.to_str()
    return text


def _values(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Return random weights; what is a constant in the published files is that constant."""
    if name.endswith("position_ids"):
        return torch.arange(shape[-1])[None]
    if name.endswith("inv_freq"):
        return 1.0 / 10000 ** (torch.arange(shape[0]) / shape[0])
    noise = torch.randn(shape, generator=generator)
    if name.endswith("freq"):
        return torch.full(shape, 10.0)
    if len(shape) > 1:
        return noise / shape[-1] ** 0.5
    return 0.2 * noise + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)


def _linear(name: str, outputs: int, inputs: int, *, bias: bool = True) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}


def _norm(name: str, width: int = D) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _bert_heads(vocabulary: int, classes: int) -> Shapes:
    if classes:
        return {**_linear("bert.pooler.dense", D, D), **_linear("classifier", classes, D)}
    transform = {**_linear("cls.predictions.transform.dense", D, D), **_norm("cls.predictions.transform.LayerNorm")}
    return {**transform, **_linear("cls.predictions.decoder", vocabulary, D)}


def _dnabert2(classes: int) -> tuple[dict[str, Any], Shapes]:
    vocabulary = 14
    shapes: Shapes = {"bert.embeddings.word_embeddings.weight": (vocabulary, D), "bert.embeddings.token_type_embeddings.weight": (2, D)}
    shapes |= {**_norm("bert.embeddings.LayerNorm"), **_bert_heads(vocabulary, classes)}
    for n in range(LAYERS):
        at = f"bert.encoder.layer.{n}"
        shapes |= _linear(f"{at}.attention.self.Wqkv", 3 * D, D) | _linear(f"{at}.attention.output.dense", D, D)
        shapes |= _norm(f"{at}.attention.output.LayerNorm") | _norm(f"{at}.mlp.layernorm")
        shapes |= _linear(f"{at}.mlp.gated_layers", 2 * INNER, D, bias=False) | _linear(f"{at}.mlp.wo", D, INNER)
    config = {"alibi_starting_size": 512, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2, **_sizes(vocabulary)}
    return config | _labels(classes), shapes


def _gena_lm(classes: int) -> tuple[dict[str, Any], Shapes]:
    vocabulary, positions = 16, 40
    shapes: Shapes = {
        "bert.embeddings.word_embeddings.weight": (vocabulary, D),
        "bert.embeddings.token_type_embeddings.weight": (2, D),
        "bert.embeddings.position_embeddings.weight": (positions, D),
        "bert.embeddings.position_ids": (1, positions),
        **_norm("bert.embeddings.LayerNorm"),
        **_norm("bert.encoder.last_layer_ln"),
        **_bert_heads(vocabulary, classes),
    }
    if not classes:
        shapes["cls.predictions.bias"] = (vocabulary,)
    for n in range(LAYERS):
        at = f"bert.encoder.layer.{n}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{at}.attention.self.{part}", D, D)
        shapes |= _linear(f"{at}.attention.output.dense", D, D) | _norm(f"{at}.pre_attention_ln") | _norm(f"{at}.post_attention_ln")
        shapes |= _linear(f"{at}.intermediate.dense", INNER, D) | _linear(f"{at}.output.dense", D, INNER)
    config = {"model_type": "bert", "pre_layer_norm": True, "pad_token_id": 3, "layer_norm_eps": 1e-5, **_sizes(vocabulary)}
    return config | {"max_position_embeddings": positions} | _labels(classes), shapes


def _nucleotide_transformer(first: bool, classes: int) -> tuple[dict[str, Any], Shapes]:
    d = D if first else 2 * HEADS * 4  # an even width a head for the rotary version: the same number
    vocabulary, positions = (4 if first else 6) + 4**KMER + 5, 42
    shapes: Shapes = {
        "esm.embeddings.word_embeddings.weight": (vocabulary, d),
        "esm.embeddings.position_embeddings.weight": (positions, d),
        **_norm("esm.encoder.emb_layer_norm_after", d),
        **_linear("esm.contact_head.regression", 1, LAYERS * HEADS),
    }
    if classes:
        shapes |= _linear("classifier.dense", d, d) | _linear("classifier.out_proj", classes, d)
    else:
        shapes |= _linear("lm_head.dense", d, d) | _norm("lm_head.layer_norm", d) | {"lm_head.decoder.weight": (vocabulary, d)}
        shapes["lm_head.bias"] = (vocabulary,)
    for n in range(LAYERS):
        at = f"esm.encoder.layer.{n}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{at}.attention.self.{part}", d, d)
        shapes |= _linear(f"{at}.attention.output.dense", d, d) | _norm(f"{at}.attention.LayerNorm", d) | _norm(f"{at}.LayerNorm", d)
        shapes |= _linear(f"{at}.intermediate.dense", INNER if first else 2 * INNER, d, bias=first)
        shapes |= _linear(f"{at}.output.dense", d, INNER, bias=first)
        if not first:
            shapes[f"{at}.attention.self.rotary_embeddings.inv_freq"] = (d // HEADS // 2,)
    config = {"model_type": "esm", "position_embedding_type": "absolute" if first else "rotary", "token_dropout": first, "pad_token_id": 1}
    more = {"mask_token_id": 2, "emb_layer_norm_before": False, "max_position_embeddings": positions, "layer_norm_eps": 1e-12}
    return config | more | _sizes(vocabulary) | _labels(classes), shapes


def _hyenadna(classes: int) -> tuple[dict[str, Any], Shapes]:
    d, longest = 16, 66
    shapes: Shapes = {"hyena.backbone.embeddings.word_embeddings.weight": (16, d), **_norm("hyena.backbone.ln_f", d)}
    shapes |= _linear("score", classes, d, bias=False) if classes else _linear("lm_head", 16, d, bias=False)
    for n in range(LAYERS):
        at, filters = f"hyena.backbone.layers.{n}", f"hyena.backbone.layers.{n}.mixer.filter_fn"
        shapes |= _linear(f"{at}.mixer.in_proj", 3 * d, d) | _linear(f"{at}.mixer.out_proj", d, d)
        shapes |= {f"{at}.mixer.short_filter.weight": (3 * d, 1, 3), f"{at}.mixer.short_filter.bias": (3 * d,), f"{filters}.bias": (d,)}
        shapes |= _linear(f"{filters}.implicit_filter.0", 64, 5) | {f"{filters}.implicit_filter.1.freq": (1, 64)}
        shapes |= _linear(f"{filters}.implicit_filter.2", 64, 64) | _linear(f"{filters}.implicit_filter.4", 64, 64)
        shapes |= _linear(f"{filters}.implicit_filter.6", d, 64, bias=False)
        shapes |= _linear(f"{at}.mlp.fc1", INNER, d) | _linear(f"{at}.mlp.fc2", d, INNER)
        shapes |= _norm(f"{at}.norm1", d) | _norm(f"{at}.norm2", d)
    config = {"model_type": "hyenadna", "d_model": d, "n_layer": LAYERS, "d_inner": INNER, "max_seq_len": longest, "emb_dim": 5}
    return config | {"activation_freq": 10, "tie_word_embeddings": False} | _labels(classes), shapes


def _sizes(vocabulary: int) -> dict[str, Any]:
    sizes = {"hidden_size": D, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
    return {"vocab_size": vocabulary, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, **sizes}


def _labels(classes: int) -> dict[str, Any]:
    return {"id2label": {str(i): f"class {i}" for i in range(classes)}} if classes else {}
