"""What the attention of a transformer looks at: the tokens that get most of it, and whether that is more than their share.

The attention a token gets is the mean over all queries of the row (special tokens included) of the probability they give it; a head
each, or the mean over heads. Rows are ranked among tokens that cover bases. What attention looks at is no proof of what the model uses.

Sources: poly(A) GLM paper, section 2.4 and figure 5; rollout: Abnar & Zuidema 2020, arXiv:2005.00928.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from basewise.backbones.base import Tokens
from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError
from basewise.genome.alphabet import Bases, as_bases, codes
from basewise.interpretation.attribute import check_rows
from basewise.interpretation.base import studying

MEAN = "mean"  # the head that is the mean over all heads
_CELLS_A_BATCH = 1 << 24  # attention probabilities of all layers held at a time
_LETTERS = np.frombuffer(b"ACGTN", dtype=np.uint8)


class Attended(NamedTuple):
    """Attention got by the tokens that cover bases, of one sequence.

    Attributes
    ----------
    kmers : list of str
        The bases of each token, upper case (n tokens).
    starts : int64 (n,)
        Its first base.
    received : float32 (H + 1, n)
        Attention got in each head, the mean over heads last. With rollout, or one head: (1, n), the mean.
    """

    kmers: list[str]
    starts: npt.NDArray[np.int64]
    received: npt.NDArray[np.float32]


def attended(
    classifier: Classifier,
    sequences: Sequence[str | Bases],
    *,
    layer: int = -1,
    rollout: bool = False,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    advance: Callable[[int], None] | None = None,
) -> list[Attended]:
    """Return the attention each sequence's tokens get in `layer` (negative: from the last), order kept.

    With `rollout`, the attention of the layers up to `layer` multiplied through, heads averaged, half of every step the token itself:
    how much of a token of the input is in the others after that layer.

    Raises BasewiseError for a family without attention, a layer that is not there, or an empty sequence.
    """
    backbone: Any = classifier.backbone
    if not hasattr(backbone, "attentions"):
        raise BasewiseError(
            f"{backbone.family} has no attention to look at; take a Nucleotide Transformer, DNABERT-2 or GENA-LM, or `explain`"
        )
    layers = len(backbone.layers)
    if not -layers <= layer < layers:
        raise BasewiseError(f"layer {layer} is not there: this model has layers 0 to {layers - 1}, or -1 to {-layers} from the last")
    rows = [as_bases(sequence) for sequence in sequences]
    check_rows(rows)
    out: list[Attended | None] = [None] * len(rows)
    with studying(classifier, device):
        for places, tokens in _batches(classifier, rows, batch_size, layers):
            weights = backbone.attentions(classifier.embed(tokens), tokens.mask)
            received = _received(weights, tokens.mask, layer % layers, rollout)
            for i, place in enumerate(places):
                out[place] = _of_row(rows[place], tokens, i, received[i])
            if advance is not None:
                advance(len(places))
    return [one for one in out if one is not None]


def attention_table(groups: Mapping[str, Sequence[Attended]], *, top: int = 50) -> pd.DataFrame:
    """Return a row a group, head and k-mer, the most frequent among the `top` first.

    Columns: group, head ("0" ... or "mean"), kmer, top1 (sequences in which it is the most attended token), top1_share, top (how often
    it is among the `top` most attended tokens of a sequence), top_share, background (its share of all tokens), enrichment =
    top_share / background, top1_enrichment. Ties in attention go to the token that stands first. Shares are of the group and head.
    """
    if top < 1:
        raise BasewiseError(f"top is {top}, expected 1 or more")
    parts = []
    for group, answers in groups.items():
        if not answers:
            continue
        names, first = np.unique(np.concatenate([np.array(one.kmers, dtype=object) for one in answers]).astype(str), return_inverse=True)
        ends = np.cumsum([len(one.kmers) for one in answers])
        numbers = np.split(first, ends[:-1])
        background = np.bincount(first, minlength=len(names)) / len(first)
        heads = len(answers[0].received)
        for head in range(heads):
            best, among = np.zeros(len(names), dtype=np.int64), np.zeros(len(names), dtype=np.int64)
            for one, kmer in zip(answers, numbers, strict=True):
                order = np.argsort(-one.received[head], kind="stable")[:top]
                np.add.at(among, kmer[order], 1)
                best[kmer[order[0]]] += 1
            table = pd.DataFrame(
                {
                    "group": group,
                    "head": MEAN if head == heads - 1 else str(head),
                    "kmer": names.astype(object),
                    "top1": best,
                    "top1_share": best / best.sum(),
                    "top": among,
                    "top_share": among / among.sum(),
                    "background": background,
                    "enrichment": among / among.sum() / background,
                    "top1_enrichment": best / best.sum() / background,
                }
            )
            parts.append(table.sort_values(["top", "top1", "kmer"], ascending=[False, False, True], kind="stable"))
    if not parts:
        raise BasewiseError("no sequence to look at")
    return pd.concat(parts, ignore_index=True)


def _batches(classifier: Classifier, rows: list[Bases], batch_size: int, layers: int) -> Iterator[tuple[list[int], Tokens]]:
    heads = int(classifier.backbone.config.num_attention_heads)  # type: ignore[attr-defined]
    order = sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i))
    low = 0
    while low < len(order):
        longest = classifier.tokenize([rows[order[low]]]).ids.shape[1]
        size = max(1, min(batch_size, _CELLS_A_BATCH // (layers * heads * longest**2)))
        places = order[low : low + size]
        tokens = classifier.tokenize([rows[i] for i in places])
        yield places, Tokens(*(part.to(classifier.device) for part in tokens))
        low += size


def _received(weights: Sequence[Tensor], mask: Tensor, layer: int, rollout: bool) -> Tensor:
    """Return (B, H + 1, T) or (B, 1, T): the mean over the real queries of a row of what each token gets."""
    queries = (mask / mask.sum(1, keepdim=True))[:, None, :, None]  # (B, 1, T, 1)
    if not rollout:
        got = (weights[layer].float() * queries).sum(2)  # (B, H, T)
        return torch.cat([got, got.mean(1, keepdim=True)], dim=1)
    T = mask.shape[1]
    itself = torch.eye(T, device=mask.device)
    through = itself.expand(len(mask), T, T)
    for one in weights[: layer + 1]:
        through = (0.5 * one.float().mean(1) + 0.5 * itself) @ through
    return (through[:, None] * queries).sum(2)


def _of_row(bases: Bases, tokens: Tokens, row: int, received: Tensor) -> Attended:
    spans = tokens.spans[row].cpu().numpy()
    covering = tokens.mask[row].cpu().numpy() & (spans[:, 1] > spans[:, 0])
    text = _LETTERS[codes(bases)].tobytes().decode("ascii")
    kmers = [text[start:end] for start, end in spans[covering].tolist()]
    return Attended(kmers, spans[covering, 0].astype(np.int64), received.cpu().numpy()[:, covering].astype(np.float32))
