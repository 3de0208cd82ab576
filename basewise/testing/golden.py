"""Run golden cases: `python -m basewise.testing.golden FOLDER [--tolerance 1e-5]`.

FOLDER is laid out as a golden set: <family>/<case>/{config.json, model.safetensors, io.safetensors, case.json} and, if it has them,
tokenizers/<name>.json and <name>.batch.json, whose files lie in ../tokenizer_files/<name>. Models are built from config.json and weights only.
Prints a line a case with its largest scaled difference; exits 1 when one is over the tolerance or ids differ.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from basewise.backbones.base import Tokens
from basewise.backbones.checkpoints import Official, read_official
from basewise.backbones.heads import PoolerHead, SequenceHead
from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.backbones.tokenizers.character import CharacterTokenizer, Dialect
from basewise.backbones.tokenizers.kmer import KmerTokenizer
from basewise.backbones.weights import assign_weights
from basewise.errors import BasewiseError


class Result(NamedTuple):
    """What a case gave: its path, how many outputs were compared, the largest scaled difference and where it was."""

    case: str
    compared: int
    difference: float
    worst: str


def run_model_case(folder: Path) -> Result:
    """Compare every output of a model case; a difference is scaled by max(1, largest absolute value of the golden output).

    Positions whose mask is 0 are left out, as rows of the attentions and along the tokens of every other output.
    """
    facts = json.loads((folder / "case.json").read_text())
    official = read_official(folder, folder / facts["weights_file"] if "weights_file" in facts else None)
    golden = load_file(folder / "io.safetensors")
    worst, where, compared = 0.0, "", 0
    for name, spec in facts["inputs"].items():
        ids = golden[f"{name}/input_ids"]
        mask = golden.get(f"{name}/attention_mask", torch.ones_like(ids)).bool()
        with torch.inference_mode():
            outputs = compute(official, ids, mask)
        for output in spec["outputs"]:
            want = golden[f"{name}/{output}"]
            difference = (outputs[output] - want).abs()
            if output.startswith("attentions"):
                difference = difference.masked_fill(~mask[:, None, :, None], 0.0)
            elif difference.dim() == 3:
                difference = difference.masked_fill(~mask[..., None], 0.0)
            scaled = difference.max().item() / max(1.0, want.abs().max().item())
            compared += 1
            if not scaled <= worst:  # not a number counts as worse, too
                worst, where = scaled, f"{name}/{output}"
    return Result(f"{folder.parent.name}/{folder.name}", compared, worst, where)


def compute(official: Official, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return every output a case may ask for, by the name it has there."""
    model: Any = official.backbone
    embedded = model.embed(ids)
    hidden, layers = model.encode(embedded, mask, layers=True)
    outputs = {"embeddings": embedded, "last_hidden_state": hidden, **{f"layers.{i}": x for i, x in enumerate(layers)}}
    if hasattr(model, "attentions"):
        outputs["attentions_last"] = model.attentions(embedded, mask)[-1]
    if official.head:
        tokens = Tokens(ids, mask, ids.new_zeros((*ids.shape, 2), dtype=torch.int32))
        head = _head(official, model.width)
        outputs["logits" if official.classifies else "seq_relationship_logits"] = head(hidden, tokens)
        if isinstance(head, PoolerHead):
            outputs["pooler_output"] = head.dense(hidden[torch.arange(len(ids)), mask.int().argmax(1)]).tanh()
    if not official.classifies and getattr(model, "lm_head", None) is not None or official.family == "hyenadna" and not official.head:
        outputs["logits"] = model.lm_logits(hidden)
    return outputs


def _head(official: Official, width: int) -> SequenceHead | PoolerHead:
    classes = official.head["linear.weight"].shape[0]
    head: SequenceHead | PoolerHead
    if official.family == "hyenadna":
        head = SequenceHead(width, classes, "official-pool" if "linear.bias" in official.head else "official")
    else:
        head = PoolerHead(width, classes)
    assign_weights(head, official.head, "the head")
    return head.eval()


def run_tokenizer_case(file: Path, files: Path) -> Result:
    """Compare ids, and offsets where the case has them; the difference is the number of strings that differ."""
    name = file.name.removesuffix(".json").removesuffix(".batch")
    tokenizer, dialect = _tokenizer(name, files / name)
    content = json.loads(file.read_text())
    if file.name.endswith(".batch.json"):
        wrong, compared = _batch(tokenizer, dialect, content), 2
        return Result(f"tokenizers/{file.stem}", compared, float(len(wrong)), ", ".join(wrong))
    wrong = []
    for case in content:
        tokens = tokenizer.tokenize([case["sequence"]], special_tokens=dialect, policy="official")
        offsets = case.get("offsets", tokens.spans[0].tolist())
        if getattr(tokenizer, "run_id", None) is not None:
            offsets = [_whole_run(case["sequence"], pair) for pair in offsets]
        bare = tokenizer.tokenize([case["sequence"]], special_tokens=False, policy="official").ids[0].tolist()
        same = tokens.ids[0].tolist() == case["ids"] and tokens.spans[0].tolist() == offsets
        if not same or bare != case.get("ids_no_special", bare):
            wrong.append(f"{case['tag']} {case['sequence'][:20]!r}")
    return Result(f"tokenizers/{file.stem}", len(content), float(len(wrong)), "; ".join(wrong[:3]))


def _tokenizer(name: str, files: Path) -> tuple[Any, bool | Dialect]:
    if name.startswith("hyenadna"):
        dialect: Dialect = "standalone" if name.endswith("standalone") else "hub"
        return CharacterTokenizer(dialect), dialect
    kind: Any = KmerTokenizer if (files / "vocab.txt").is_file() else BpeTokenizer
    return kind.from_official(files), True


def _batch(tokenizer: Any, dialect: bool | Dialect, batch: dict[str, Any]) -> list[str]:
    options = {"special_tokens": dialect, "policy": "official", "pad_side": batch["padding_side"]}
    wrong = []
    for key, more in (("padding_longest", {}), ("padding_max_length_truncation", None)):
        if key in batch:
            want = batch[key]
            limits = {"max_length": want["max_length"], "pad_to": want["max_length"]} if more is None else more
            got = tokenizer.tokenize(batch["sequences"], **options, **limits)
            if got.ids.tolist() != want["input_ids"] or got.mask.int().tolist() != want.get("attention_mask", got.mask.int().tolist()):
                wrong.append(key)
    return wrong


def _whole_run(sequence: str, pair: list[int]) -> list[int]:
    """Return the span of a run of ten or more N where `pair` is its last N, which is what the published tokenizer of GENA-LM t2t gives."""
    runs = {run.end(): run.start() for run in re.finditer("N{10,}", sequence)}
    return [runs[pair[1]], pair[1]] if pair[1] in runs and pair[0] == pair[1] - 1 else pair


def run_folder(folder: Path) -> Iterator[Result]:
    """Yield a result for every case of a golden set."""
    cases = sorted(file.parent for file in folder.glob("*/*/case.json"))
    tokenizers = sorted(file for file in folder.glob("tokenizers/*.json") if file.name != "index.json")
    if not cases and not tokenizers:
        raise BasewiseError(f"no golden cases in {folder}; expected <family>/<case>/case.json or tokenizers/<name>.json")
    for case in cases:
        yield run_model_case(case)
    for file in tokenizers:
        yield run_tokenizer_case(file, folder.parent / "tokenizer_files")


def main(arguments: list[str] | None = None) -> int:
    """Run a folder and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m basewise.testing.golden", description="Compare with golden fixtures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    options = parser.parse_args(arguments)
    over = 0
    try:
        for result in run_folder(options.folder):
            good = result.difference <= options.tolerance
            over += not good
            line = f"{'ok  ' if good else 'OVER'}  {result.case}  {result.difference:.2e}  {result.compared} compared  {result.worst}"
            sys.stdout.write(line.rstrip() + "\n")
    except BasewiseError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.write(f"{over} over {options.tolerance:g}\n")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
