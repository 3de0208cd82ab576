"""A tiny classifier of every backbone family, with a tokenizer of its kind: for tests that must hold for all of them."""

from typing import Any

from basewise.backbones import dnabert2, gena_lm, nucleotide_transformer
from basewise.backbones.base import Tokenizer
from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.bpe import BpeTokenizer
from basewise.backbones.tokenizers.character import CharacterTokenizer
from basewise.backbones.tokenizers.kmer import KmerTokenizer
from basewise.testing.models import randomize, tiny_convnet, tiny_hyenadna

FAMILIES = ("convnet", "hyenadna", "dnabert2", "nucleotide_transformer", "gena_lm")
_SHAPE = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "lm_head": "none"}


def tiny_family(family: str, seed: int = 0, **settings: Any) -> Classifier:
    """Return a classifier of `family`, random and in eval mode; `settings` of its ClassifierConfig."""
    backbone: Any
    tokenizer: Tokenizer
    if family == "convnet":
        backbone, tokenizer = tiny_convnet(seed), CharacterTokenizer("none")
    elif family == "hyenadna":
        backbone, tokenizer = tiny_hyenadna(seed), CharacterTokenizer()
    elif family == "nucleotide_transformer":
        tokenizer = KmerTokenizer("v2", k=3)
        shape = {"vocab_size": tokenizer.vocabulary_size, "max_position_embeddings": 200, "positions": "rotary", "token_dropout": False}
        config = nucleotide_transformer.Config.model_validate({**_SHAPE, **shape, "gated": True})
        backbone = randomize(nucleotide_transformer.Model(config), seed)
    else:
        tokenizer = BpeTokenizer(toy_bpe())
        shape = {"vocab_size": tokenizer.vocabulary_size}
        if family == "dnabert2":
            backbone = randomize(dnabert2.Model(dnabert2.Config.model_validate({**_SHAPE, **shape})), seed)
        else:
            shape |= {"max_position_embeddings": 200, "pad_token_id": tokenizer.pad_id}
            backbone = randomize(gena_lm.Model(gena_lm.Config.model_validate({**_SHAPE, **shape})), seed)
    classifier = Classifier(ClassifierConfig.model_validate({"task": "tiny", **settings}), backbone, tokenizer)
    randomize(classifier.head, seed + 1)
    return classifier.eval()


def toy_bpe() -> str:
    """Return a tokenizer.json of five merges, in the manner of DNABERT-2 ([UNK] for N, [CLS] and [SEP] added by the caller)."""
    from tokenizers import Tokenizer, models

    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    merges = [("A", "C"), ("G", "T"), ("AC", "GT"), ("T", "T"), ("TT", "A")]
    pieces = [*special, *"ACGT", *(a + b for a, b in merges)]
    engine = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="[UNK]"))  # noqa: S106
    engine.add_special_tokens(special)
    text: str = engine.to_str()
    return text
