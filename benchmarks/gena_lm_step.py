"""The published setting of the sex paper on two CPU cores: how long is a training step, and how much memory does it take?

python benchmarks/gena_lm_step.py [FOLDER of a published tokenizer]

16 chunks of 3,072 bases a group, 4 queries, a GENA-LM of 12 layers with random weights, adapters of rank 8 on attention and MLP, bf16.
A batch of 128 groups is 128 micro-batches of one group: memory is that of one, time is 128 times one (seconds are of all
cores together). Without a tokenizer folder a
byte-pair vocabulary of 32,000 is learned from random DNA, which gives about as many tokens a chunk as the published one does of human DNA.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from basewise.backbones.classifier import Classifier, ClassifierConfig, save_classifier
from basewise.backbones.gena_lm import Config, Model
from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.recipes.schema import Recipe, apply_overrides, load_recipe
from basewise.testing.cohorts import planted_cohort
from basewise.training import loop
from basewise.training.batches import phase_at
from basewise.training.individuals import GroupSource
from basewise.training.losses import LossSettings
from basewise.training.placement import Placement
from basewise.training.train import beginner

SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "-"]
SETTINGS = [
    'backbone.name="gena_lm"',
    'lora={placements = ["attention", "mlp"], rank = 8}',
    "train.batch_size=1",
    'chunks.force=["chrY"]',
]


def learned_vocabulary(size: int = 32_000) -> str:
    """Return a tokenizer.json in the way of GENA-LM t2t, learned from random DNA."""
    rng = np.random.default_rng(0)
    words = rng.choice(np.frombuffer(b"ACGT", np.uint8), (20_000, 100))
    engine = Tokenizer(models.BPE(unk_token="[UNK]"))
    engine.train_from_iterator(
        (word.tobytes().decode() for word in words),
        trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=list("ACGTN"), show_progress=False),
    )
    engine.normalizer = normalizers.Sequence([normalizers.Strip(), normalizers.Replace(Regex("N{10,}"), "-")])
    engine.pre_tokenizer = pre_tokenizers.Split("-", "isolated")
    return str(engine.to_str())


def random_checkpoint(folder: Path, vocabulary: str) -> Path:
    """Write a GENA-LM of the published base shape with random weights."""
    torch.manual_seed(0)
    tokenizer = BpeTokenizer(vocabulary)
    config = Config(last_layer_norm=True, lm_head="none", vocab_size=max(32_000, tokenizer.vocabulary_size), pad_token_id=tokenizer.pad_id)
    return save_classifier(Classifier(ClassifierConfig(task="none", pool="cls"), Model(config), tokenizer), folder)


def recipe(checkpoint: str, accumulation: int, saving: bool) -> Recipe:
    more = [f"backbone.init={json.dumps(checkpoint)}", f"train.accumulation={accumulation}"]
    more.append(f"train.gradient_checkpointing={str(saving).lower()}")
    return apply_overrides(load_recipe("gena_lm_sex/published"), [*SETTINGS, *more])


def measure(folder: str, accumulation: int, saving: bool) -> dict[str, Any]:
    """Take one step of one group and one of `accumulation` groups; meant for a process of its own, whose peak memory it returns."""
    cohort = planted_cohort(Path(folder) / f"cohort{int(saving)}", share=0.01, autosome=400_000, people=8)
    begin = recipe(f"{folder}/checkpoint", 1, saving)
    placement = Placement("cpu", begin.train.precision)
    classifier, total = beginner(begin, begin.chunks.length)
    source = GroupSource(begin, cohort, classifier, placement.device)
    run = Path(folder) / f"run{int(saving)}"
    run.mkdir()
    trainer = loop.start(begin, classifier, cohort.samples, run, placement, source)
    call = loop._begin(trainer, phase_at(trainer.plan, 0))  # noqa: SLF001
    seconds: dict[int, float] = {}
    for number in sorted({1, accumulation}):
        trainer.recipe = source.recipe = recipe(f"{folder}/checkpoint", number, saving)
        begun = time.process_time()
        loss = loop._optimizer_step(trainer, call, LossSettings("bce"))  # noqa: SLF001
        seconds[number] = time.process_time() - begun
        assert torch.isfinite(loss)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
        print(f"{number} groups: {seconds[number]:.1f} CPU s, peak {peak:.2f} GiB", file=sys.stderr, flush=True)
    tokens = int(classifier.tokenize(source.batches(0)[0].sequences).mask.sum())
    trained = sum(p.numel() for p in trainer.parameters)
    return {
        "checkpointing": "on" if saving else "off",
        "parameters": total,
        "trained": trained,
        "tokens a group": tokens,
        "CPU s, step of 1 group": round(seconds[1], 1),
        f"CPU s, step of {accumulation} groups": round(seconds[accumulation], 1),
        "peak GiB": round(peak, 2),
        "threads": torch.get_num_threads(),
    }


def main(tokenizer: str | None = None) -> dict[str, Any]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        text = learned_vocabulary() if tokenizer is None else (Path(tokenizer) / "tokenizer.json").read_text(encoding="utf-8")
        random_checkpoint(Path(folder) / "checkpoint", text)
        for saving, accumulation in ((True, 2), (False, 1)):
            arguments = [sys.executable, __file__, "--measure", folder, str(accumulation), str(int(saving))]
            done = subprocess.run(arguments, check=True, stdout=subprocess.PIPE, text=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
    return {"title": "A training step of the published sex model: 16 x 3,072 bases, 12 layers, adapters, bf16", "rows": rows}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")))
    else:
        main(*sys.argv[1:2])
