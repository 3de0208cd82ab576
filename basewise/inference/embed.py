"""Hidden states of sequences as numbers to keep: one vector a sequence or a base, batched by length, order kept, memory bounded."""

import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from basewise import zoo
from basewise.backbones import catalog
from basewise.backbones.base import Backbone, Policy, Tokenizer, Tokens
from basewise.backbones.checkpoints import load_official, load_pretrained
from basewise.backbones.classifier import FORMAT, find_model, load_classifier
from basewise.backbones.heads import pool_hidden, token_of_base
from basewise.errors import BasewiseError
from basewise.files import atomic_path, read_json
from basewise.genome.alphabet import Bases, as_bases
from basewise.inference.asking import answering, check_device, check_tokens
from basewise.inference.batches import batches_by_length
from basewise.inference.inputs import SEQUENCE, Inputs

Level = Literal["sequence", "base"]
EMBEDDING, LENGTH = "embedding", "length"
TOKENS_A_BATCH = 1 << 16  # padded tokens given to the model at a time
VALUES_A_PIECE = 1 << 24  # numbers held at a time before they are written (64 MiB)


class Embedder(NamedTuple):
    """A backbone and how sequences are put to it."""

    backbone: Backbone
    tokenizer: Tokenizer
    special_tokens: bool | str = True
    policy: Policy = "normalize"


def load_embedder(model: str | Path) -> Embedder:
    """Return the backbone of MODEL, which is one of these.

    An embedded model, run or model folder (as it was trained to see sequences), the run folder of a pretraining, the folder of a
    checkpoint, or a name of the catalog whose files are on this disk.
    """
    folder = Path(model)
    if not folder.exists() and str(model) in catalog.entries():
        return Embedder(*load_pretrained(str(model)))
    if str(model) not in zoo.names():
        for place in (folder / "model", folder):
            if (place / "config.json").is_file() and read_json(place / "config.json").get("format") != FORMAT:
                return Embedder(*load_official(place))
    classifier = load_classifier(find_model(model))
    return Embedder(classifier.backbone, classifier.tokenizer, classifier.config.special_tokens, classifier.config.policy)


def embed_sequences(
    embedder: Embedder,
    sequences: Sequence[str | Bases],
    *,
    level: Level = "sequence",
    layer: int | None = None,
    batch_size: int = 64,
    device: str | torch.device = "cpu",
) -> list[npt.NDArray[np.float32]]:
    """Return one array a sequence, order kept: (D,) at level "sequence", the mean over its bases; (L, D) at level "base".

    A token of several bases gives its state to each of them, at both levels. Bases are those of the sequence as given, 5' to 3'.

    Parameters
    ----------
    layer
        None: the last hidden state, after the final norm. 0: the input embedding. k: the output of layer k, before the final norm.
    batch_size
        Sequences at a time, fewer when they are long.

    Raises
    ------
    BasewiseError
        An empty sequence (its row, counted from 1), one of more tokens than the backbone takes, a layer there is none of.
    """
    if batch_size < 1:
        raise BasewiseError(f"batch size is {batch_size}, expected 1 or more")
    rows = [as_bases(sequence) for sequence in sequences]
    if any(not len(row) for row in rows):
        at = next(i for i, row in enumerate(rows) if not len(row))
        raise BasewiseError(f"sequence {at + 1} is empty, expected at least one base; leave it out")
    module: nn.Module = embedder.backbone  # type: ignore[assignment]
    where = torch.device(device)
    answers: list[npt.NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(rows)
    with answering(module, where):
        for index in batches_by_length([len(row) for row in rows], batch_size, TOKENS_A_BATCH):
            tokens = embedder.tokenizer.tokenize([rows[i] for i in index], special_tokens=embedder.special_tokens, policy=embedder.policy)
            what = f"a sequence of up to {max(len(rows[i]) for i in index)} bases"
            check_tokens(embedder.backbone, tokens.ids.shape[1], what, "cut it up")
            hidden = hidden_of(embedder.backbone, Tokens(*(part.to(where) for part in tokens)), layer).float().cpu()
            for i, value in zip(index, _reduce(hidden, tokens, [len(rows[i]) for i in index], level), strict=True):
                answers[i] = value
    return answers


def hidden_of(backbone: Backbone, tokens: Tokens, layer: int | None) -> Tensor:
    """Return hidden states (B, T, D) of a layer; see `embed_sequences`."""
    embedded = backbone.embed(tokens.ids)
    if layer is None:
        return backbone.encode(embedded, tokens.mask)
    if layer == 0:
        return embedded
    model: Any = backbone
    if "layers" not in signature(model.encode).parameters:
        raise BasewiseError(f"{backbone.family} gives its last hidden state only; leave out --layer, or ask for layer 0")
    _, outputs = model.encode(embedded, tokens.mask, layers=True)
    if not 0 < layer <= len(outputs):
        raise BasewiseError(f"layer {layer} of {backbone.family}: expected 0 (input embedding) to {len(outputs)}")
    state: Tensor = outputs[layer - 1]
    return state


def _reduce(hidden: Tensor, tokens: Tokens, lengths: Sequence[int], level: Level) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the answer of each row."""
    if level == "sequence":
        yield from pool_hidden(hidden, tokens, "mean").numpy()
        return
    token = token_of_base(tokens)  # (B, L)
    for row, states, length in zip(token, hidden, lengths, strict=True):
        yield states[row[:length]].numpy()


class Embedded(NamedTuple):
    """What `embed_file` wrote: sequences, and numbers a vector."""

    rows: int
    width: int


def embed_file(
    embedder: Embedder,
    inputs: Inputs,
    out: str | Path,
    *,
    level: Level = "sequence",
    layer: int | None = None,
    batch_size: int = 64,
    device: str = "cpu",
) -> Embedded:
    """Write the embeddings of `inputs` to `out`, .parquet or .npz, whole or not at all; see `embed_sequences`.

    Parquet: the columns of the input but the sequence, and `embedding`, a list of D float32; at level "base" a list of L x D, base after
    base, with `length` L (int64); a row group a piece. npz: `embedding` float32, (N, D) or, at level "base", (sum of lengths, D) with
    `offset` int64 (N + 1,), sequence i in rows offset[i] to offset[i + 1]; `id` where the input has that column.
    """
    out = Path(out)
    if out.suffix not in (".parquet", ".npz"):
        raise BasewiseError(f"output {out} ends in {out.suffix or 'nothing'!r}, expected .parquet or .npz")
    taken = [column for column in (EMBEDDING, LENGTH) if column in inputs.columns]
    if taken and out.suffix == ".parquet":
        raise BasewiseError(f"{inputs.path} already has a column {taken[0]!r}; rename it first")
    where = check_device(device)
    width = embedder.backbone.width
    done = 0
    writer = _parquet if out.suffix == ".parquet" else _npz
    with atomic_path(out) as temporary, writer(temporary, level) as write:
        for piece in _pieces(inputs, width, level):
            texts = [str(text) for text in piece[SEQUENCE]]
            try:
                values = embed_sequences(embedder, texts, level=level, layer=layer, batch_size=batch_size, device=where)
            except BasewiseError as error:
                raise BasewiseError(f"{inputs.path}, rows {done + 1} to {done + len(texts)}: {error}") from error
            write(piece.drop(columns=SEQUENCE), values)
            done, width = done + len(texts), values[0].shape[-1]
    return Embedded(done, width)


def _pieces(inputs: Inputs, width: int, level: Level) -> Iterator[pd.DataFrame]:
    """Yield pieces of the input whose embeddings fit in memory."""
    for piece in inputs.pieces():
        if level == "sequence":
            step = max(1, VALUES_A_PIECE // width)
            yield from (piece.iloc[low : low + step].reset_index(drop=True) for low in range(0, len(piece), step))
            continue
        low = held = 0
        for i, text in enumerate(piece[SEQUENCE]):
            held += len(str(text)) * width
            if held > VALUES_A_PIECE and i > low:
                yield piece.iloc[low:i].reset_index(drop=True)
                low, held = i, len(str(text)) * width
        yield piece.iloc[low:].reset_index(drop=True)


Write = Callable[[pd.DataFrame, list[npt.NDArray[np.float32]]], None]


@contextmanager
def _parquet(path: Path, level: Level) -> Iterator[Write]:
    """Yield a function that appends a row group."""
    writer: pq.ParquetWriter | None = None

    def write(facts: pd.DataFrame, values: list[npt.NDArray[np.float32]]) -> None:
        nonlocal writer
        flat = np.concatenate([value.reshape(-1) for value in values])
        lengths = np.array([value.size for value in values], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        table = pa.Table.from_pandas(facts, schema=None if writer is None else _head(writer.schema), preserve_index=False)
        table = table.replace_schema_metadata(None)
        if level == "base":
            table = table.append_column(LENGTH, pa.array([len(value) for value in values], type=pa.int64()))
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, type=pa.int64()), pa.array(flat))
        table = table.append_column(EMBEDDING, lists)
        if writer is None:
            writer = pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=max(1, len(values)))

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


def _head(schema: Any) -> Any:
    """Return the schema of the input's own columns."""
    return pa.schema([field for field in schema if field.name not in (EMBEDDING, LENGTH)])


@contextmanager
def _npz(path: Path, level: Level) -> Iterator[Write]:
    """Yield a function that appends; vectors go through a raw file beside `path`, so that memory stays bounded."""
    raw = path.with_name(path.name + ".raw")
    lengths: list[int] = []
    names: list[Any] = []
    has_names, width = False, 0
    try:
        with raw.open("wb") as stream:

            def write(facts: pd.DataFrame, values: list[npt.NDArray[np.float32]]) -> None:
                nonlocal has_names, width
                has_names = "id" in facts
                names.extend(map(str, facts["id"]) if has_names else [])
                for value in values:
                    stream.write(np.ascontiguousarray(value, dtype="<f4").tobytes())
                    lengths.append(1 if level == "sequence" else len(value))
                    width = value.shape[-1]

            yield write
        shape = (sum(lengths), width)
        vectors = np.memmap(raw, dtype="<f4", mode="r", shape=shape) if sum(lengths) else np.empty(shape, dtype="<f4")
        arrays: dict[str, Any] = {EMBEDDING: vectors}
        if level == "base":
            arrays["offset"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        if has_names:
            arrays["id"] = np.array(names)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    finally:
        raw.unlink(missing_ok=True)
