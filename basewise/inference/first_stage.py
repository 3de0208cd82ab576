"""A small network in front of a large one: it drops candidates that the large one would hardly call, before the large one sees them.

It stands beside the full model, in ``first_stage/`` of the model folder, and was trained to say what the full model says
(`training.first_stage`). It reads a short window around a candidate; in front of a pyramid also the states of the pyramid's coarse
towers there, which cost little of the whole, so that it judges with the context of kilobases as well. What it was measured to be
worth, on contigs that it never saw, is stored with it.
"""

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from basewise.backbones.configs import parse_config
from basewise.backbones.weights import assign_weights, read_safetensors
from basewise.errors import BasewiseError
from basewise.files import atomic_path, read_json, write_json
from basewise.genome.alphabet import Bases, codes, reverse_complement

FOLDER, FORMAT = "first_stage", "basewise first stage 1"
WANTED = 0.995  # of the full model's calls must survive, on contigs that neither training nor the cut have seen
GROUP = 256  # windows judged at a time: products of one shape, so that a position gets the same bits whatever is asked beside it
_POOL = 4

Positive = Annotated[int, Field(ge=1)]


class Measured(BaseModel):
    """What a cut does on some contigs.

    ``calls`` of the full model at its threshold, the share of them kept (None without any), the share of all candidates kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    contigs: tuple[str, ...]
    candidates: int
    calls: int
    recall: float | None
    kept: float


class Config(BaseModel):
    """Shape of the network, its cut, and for what it holds.

    ``window`` bases around a candidate (odd: it stands in the middle); ``context``: numbers a candidate from the full model's coarse
    towers, 0 without. It guesses the full model's log-odds; candidates at or above ``cut`` are kept. ``model_sha256`` is that of the
    full model's weights, ``threshold`` the probability its calls were counted at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Annotated[int, Field(ge=61)] = 161
    channels: Positive = 24
    hidden: Positive = 64
    context: Annotated[int, Field(ge=0)] = 0
    cut: float = 0.0
    threshold: float = 0.5
    model_sha256: str | None = None
    chosen_on: Measured | None = None
    held_out: Measured | None = None

    @property
    def holds(self) -> bool:
        """Whether it keeps what a scan must keep: `WANTED` of the calls on held-out contigs."""
        return self.held_out is not None and self.held_out.recall is not None and self.held_out.recall >= WANTED


class FirstStage(nn.Module):
    """Windows of base codes, and context, to a guess of the full model's logit."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Conv1d(4, config.channels, 9)
        self.second = nn.Conv1d(config.channels, config.channels, 5)
        places = (config.window - 8) // _POOL - 4
        self.local = nn.Linear(places * config.channels, config.hidden)
        if config.context:
            self.around = nn.Linear(config.context, config.hidden)
            self.direct = nn.Linear(config.context, 1)
            self.register_buffer("mean", torch.zeros(config.context))
            self.register_buffer("scale", torch.ones(config.context))
        self.inner = nn.Linear(config.hidden, config.hidden // 2)
        self.out = nn.Linear(config.hidden // 2, 1)

    def forward(self, windows: Tensor, context: Tensor | None = None) -> Tensor:
        """Return logits (N,) of windows (N, window) of codes 0-3 and 4 for N, 5' to 3', and context (N, context)."""
        x = F.embedding(windows.long(), torch.eye(5, 4, device=windows.device))  # N is zeros
        x = _convolve(self.first, x)
        places = x.shape[1] // _POOL
        x = F.relu(x[:, : places * _POOL].unflatten(1, (places, _POOL)).amax(2))
        x = self.local(F.relu(_convolve(self.second, x)).transpose(1, 2).flatten(1))
        if context is None:
            local: Tensor = self.out(F.relu(self.inner(F.relu(x))))
            return local[:, 0]
        known = (context - self.mean) * self.scale
        logits: Tensor = self.out(F.relu(self.inner(F.relu(x + self.around(known))))) + self.direct(known)
        return logits[:, 0]

    def keeps(self, windows: npt.NDArray[np.uint8], context: Tensor | None, device: torch.device) -> npt.NDArray[np.bool_]:
        """Return bool (N,): which candidates the full model must see, for windows (N, window) of codes."""
        kept = np.empty(len(windows), dtype=bool)
        for low in range(0, len(windows), GROUP):
            part = slice(low, low + GROUP)
            rows = torch.from_numpy(windows[part]).to(device)
            logits = self(*(None if x is None else _filled(x) for x in (rows, None if context is None else context[part])))
            kept[part] = (logits >= self.config.cut)[: len(rows)].cpu().numpy()
        return kept


def _convolve(layer: nn.Conv1d, rows: Tensor) -> Tensor:
    """Return the valid convolution (N, L - taps + 1, out) of rows (N, L, channels).

    All rows end to end as one sequence: what is mixed over a seam is cut away, and oneDNN is several times faster than on short rows.
    """
    N, L, channels = rows.shape
    taps = layer.kernel_size[0]
    image = F.pad(rows.reshape(1, 1, N * L, channels), (0, 0, 0, taps - 1)).permute(0, 3, 1, 2)  # channels-last
    weight = layer.weight[:, :, None].contiguous(memory_format=torch.channels_last)
    if rows.device.type == "cpu" and torch.backends.mkldnn.is_available():
        y = torch.mkldnn_convolution(image, weight, layer.bias, [0, 0], [1, 1], [1, 1], 1)
    else:
        y = F.conv2d(image, weight, layer.bias)
    return y.permute(0, 2, 3, 1).reshape(N, L, -1)[:, : L - taps + 1]


def _filled(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows[:1].expand(GROUP - len(rows), -1)]) if len(rows) < GROUP else rows


def code_windows(stretch: Bases, offsets: npt.NDArray[np.int64], strands: npt.NDArray[np.int8], window: int) -> npt.NDArray[np.uint8]:
    """Return base codes (N, window), 5' to 3' on each strand, around the bases `offsets` of a stretch that holds all of every window."""
    plus, minus = (np.lib.stride_tricks.sliding_window_view(codes(row), window) for row in (stretch, reverse_complement(stretch)))
    windows = np.empty((len(offsets), window), dtype=np.uint8)
    half, is_plus = window // 2, strands > 0
    windows[is_plus] = plus[offsets[is_plus] - half]
    windows[~is_plus] = minus[len(stretch) - 1 - offsets[~is_plus] - half]
    return windows


def save_first_stage(stage: FirstStage, model: Path) -> Path:
    """Write `stage` into the model folder, in place of an older one, and return where; its config.json, which makes it one, comes last."""
    folder = model / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").unlink(missing_ok=True)
    except OSError as error:
        raise BasewiseError(f"cannot write {folder}: {error.strerror or error}; choose a model in a writable folder") from error
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file({name: tensor.detach().contiguous() for name, tensor in stage.state_dict().items()}, temporary)
    write_json(folder / "config.json", {"format": FORMAT, **stage.config.model_dump(mode="json")})
    return folder


def load_first_stage(model: Path, sha256: str | None) -> FirstStage | None:
    """Return the first stage of the model folder `model`, whose weights have `sha256`; None where there is none.

    Raises BasewiseError when it is damaged, or was made for other weights.
    """
    folder = model / FOLDER
    if not (folder / "config.json").is_file():
        return None
    raw: dict[str, Any] = read_json(folder / "config.json")
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise BasewiseError(f"{folder}/config.json is not of format {FORMAT!r}; make it anew with basewise first-stage, or delete {folder}")
    config = parse_config(Config, raw, f"{folder}/config.json")
    if config.model_sha256 != sha256:
        raise BasewiseError(
            f"{folder} was made for weights {(config.model_sha256 or 'unknown')[:12]}, the model has {(sha256 or 'unknown')[:12]}; "
            "make it anew with basewise first-stage, delete it, or add --exact"
        )
    stage = FirstStage(config)
    assign_weights(stage, read_safetensors(folder / "model.safetensors"), folder)
    return stage.eval()
