"""Reading published configs and weights: which keys matter, what they are called here, which copies may be left out."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from pydantic import BaseModel
from torch import Tensor

from basewise.errors import BasewiseError

LmHead = Literal["none", "tied", "separate"]


def pick(schema: type[BaseModel], values: Mapping[str, Any], must: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the entries of a published config that `schema` knows.

    `must` names settings for which only one value is implemented: another one is a BasewiseError, an absent one means that value.
    """
    wrong = [f"{key} = {values[key]!r}, only {wanted!r} is known" for key, wanted in must.items() if values.get(key, wanted) != wanted]
    if wrong:
        raise BasewiseError(f"{source}: {'; '.join(wrong)}")
    return {key: value for key, value in values.items() if key in schema.model_fields}


def rename(state: Mapping[str, Tensor], names: Mapping[str, str], drop: Iterable[str] = ()) -> dict[str, Tensor]:
    """Return `state` under new names: the first pattern of `names` that matches the start of a name replaces that part.

    A target of ``""`` or a new name in `drop` leaves the tensor out. Names that no pattern knows are kept, to show up as left over.
    Raises BasewiseError when two tensors that ought to be copies of one differ.
    """
    patterns = [(re.compile(pattern), new) for pattern, new in names.items()]
    out_of_use = set(drop)
    renamed: dict[str, Tensor] = {}
    origin: dict[str, str] = {}
    for name, tensor in state.items():
        new_name = name
        for pattern, new in patterns:
            if pattern.match(name):
                new_name = pattern.sub(new, name, count=1) if new else ""
                break
        if not new_name or new_name in out_of_use:
            continue
        if new_name in renamed and not torch.equal(renamed[new_name], tensor):
            raise BasewiseError(
                f"weights {origin[new_name]} and {name} ought to be copies of one another and differ; take the published file"
            )
        renamed[new_name] = tensor
        origin[new_name] = name
    return renamed


def lm_head_form(renamed: Mapping[str, Tensor]) -> LmHead:
    """Return which masked-language head the weights (our names) have: none, one tied to the word embeddings, or one of its own."""
    if "lm_head.dense.weight" not in renamed:
        return "none"
    decoder = renamed.get("lm_head.decoder.weight")
    tied = decoder is None or torch.equal(decoder, renamed["words.weight"])
    return "tied" if tied else "separate"
