"""Training in less memory: what a layer computed is thrown away and computed again when its gradient is asked for."""

from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from basewise.backbones.classifier import Classifier
from basewise.errors import BasewiseError


def checkpoint_layers(classifier: Classifier) -> None:
    """Let every layer of the backbone keep only its input in training; answers and gradients stay the same, dropout included.

    Raises BasewiseError for families without a stack of layers, and for layers with batch statistics, which would count twice.
    """
    layers = getattr(classifier.backbone, "layers", None)
    if layers is None or any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in layers.modules()):  # noqa: SLF001
        raise BasewiseError(f"{classifier.backbone.family} cannot be trained with gradient_checkpointing; leave it out")
    for layer in layers:
        layer.forward = _again(layer)


def _again(layer: nn.Module) -> Any:
    plain = layer.forward

    def forward(*inputs: Any, **settings: Any) -> Any:
        if not layer.training:
            return plain(*inputs, **settings)
        return checkpoint(plain, *inputs, use_reentrant=False, **settings)

    return forward
