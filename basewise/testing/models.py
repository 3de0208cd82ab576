"""Tiny models with random, non-trivial weights: milliseconds to build and run, every code path of the large ones."""

from typing import Any, TypeVar

import torch
from torch import nn

from basewise.backbones import convnet, hyenadna
from basewise.backbones.classifier import Classifier, ClassifierConfig
from basewise.backbones.tokenizers.character import CharacterTokenizer

Module = TypeVar("Module", bound=nn.Module)


def tiny_convnet(seed: int = 0, **settings: Any) -> convnet.Model:
    """Return a convolution network of width 8 and reach 11, batch-norm statistics included in the randomness, in eval mode."""
    blocks = [{"kernel": 3, "dilation": 1}, {"kernel": 3, "dilation": 2}, {"kernel": 5, "dilation": 3}]
    model = convnet.Model(convnet.Config.model_validate({"width": 8, "stem_kernel": 5, "blocks": blocks, **settings}))
    return randomize(model, seed)


def tiny_hyenadna(seed: int = 0, **settings: Any) -> hyenadna.Model:
    """Return a HyenaDNA of 2 layers, width 8 and 130 tokens at most, in eval mode."""
    shape = {"d_model": 8, "n_layer": 2, "d_inner": 16, "l_max": 130, "filter_order": 12}
    model = randomize(hyenadna.Model(hyenadna.Config.model_validate({**shape, **settings})), seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("freq"):
                parameter.add_(1.0)  # around 0 the filter would be flat, around the published 10 random weights make it chaotic
    return model


def tiny_classifier(seed: int = 0, family: str = "convnet", **settings: Any) -> Classifier:
    """Return a classifier on a tiny backbone, in eval mode; `settings` of its ClassifierConfig, whose task is "polya" so that
    scans score the candidates of its rule.

    family
        "convnet": reads the center base of windows of 23. "hyenadna": mean over the bases, [SEP] appended.
    """
    if family == "hyenadna":
        classifier = Classifier(ClassifierConfig.model_validate({"task": "polya", **settings}), tiny_hyenadna(seed), CharacterTokenizer())
        randomize(classifier.head, seed + 1)
        return classifier.eval()
    backbone = tiny_convnet(seed)
    config = ClassifierConfig.model_validate({"task": "polya", "pool": "center", "window": 2 * backbone.reach + 1, **settings})
    classifier = Classifier(config, backbone, CharacterTokenizer("none"))
    randomize(classifier.head, seed + 1)
    return classifier.eval()


def randomize(module: Module, seed: int) -> Module:
    """Give every parameter and running statistic a random, non-trivial value and return the module, in eval mode.

    Names are taken in sorted order from one seed. Matrices keep the size of signals (std 1 / sqrt(fan in)), scales lie around 1,
    variances are positive.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()]):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(0.5 + noise.abs())
            elif tensor.dim() > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.2 * noise + (1.0 if name.endswith("weight") else 0.0))
    return module.eval()
