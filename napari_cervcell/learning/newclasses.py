"""Classes that the model has never seen: a first guess from a handful of examples, before any training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import Network
from ..models.heads import Head
from .crops import CropSampler
from .features import HeadAlone

__all__ = ["imprint"]

_BATCHES, _BATCH = 4, 8
_OVER, _UNDER = 2.0, 4.0  # logits by which an example stands over, and other cells under, the classes known already


@torch.no_grad()
def imprint(network: Network | HeadAlone, sampler: CropSampler, known: int) -> None:
    """Set what `network` says of the classes from `known` on by the mean of their examples, in place.

    After weight imprinting (Qi et al. 2018), with the mean of all other cells as what an example differs from:
    ``w = s (m - r) / |m - r|²`` for the mean features m of the examples and r of the others, with scale and bias such
    that m is named the new class and r is not. A class without an example stays unlikely. The batches of `sampler` are
    the network's input.
    """
    # in a network that may be turned it lies in what first takes each feature in its strongest orientation
    layers = [part for head in _heads(network) for part in head.classes.modules() if isinstance(part, nn.Conv2d)]
    if known == layers[0].weight.shape[0]:
        return
    seen: dict[nn.Module, Tensor] = {}

    def keep(layer: nn.Module, args: tuple[Tensor]) -> None:
        seen[layer] = args[0]

    hooks = [layer.register_forward_pre_hook(keep) for layer in layers]
    features: dict[nn.Module, list[Tensor]] = {layer: [] for layer in layers}
    labels, best = [], []
    network.eval()
    try:
        for _ in range(_BATCHES):
            x, targets = sampler.batch(_BATCH)
            dense = network(x)
            at = targets.label >= 0
            for layer in layers:
                named = F.interpolate(seen[layer], size=at.shape[-2:], mode="nearest")
                features[layer].append(named.permute(0, 2, 3, 1)[at])
            best.append(dense.classes[:, :known].amax(1)[at])
            labels.append(targets.label[at])
    finally:
        for hook in hooks:
            hook.remove()
    label, top = torch.cat(labels), torch.cat(best)
    for layer in layers:
        _set_new(layer, torch.cat(features[layer]), label, top, known)


def _heads(network: Network | HeadAlone) -> list[Head]:
    """The head of a network, or all of an ensemble's."""
    return [part for part in network.head.modules() if isinstance(part, Head)]


def _set_new(layer: nn.Conv2d, feature: Tensor, label: Tensor, top: Tensor, known: int) -> None:
    """Set what `layer` says of the classes from `known` on, by cells' features (n, c), classes and best logits."""
    assert layer.bias is not None
    for new in range(known, layer.weight.shape[0]):
        mine, others = label == new, label < known
        if not mine.any() or not others.any():
            continue
        mean, rest = feature[mine].mean(0), feature[others].mean(0)
        step = mean - rest
        over, under = top[mine].mean() + _OVER, top[others].mean() - _UNDER
        weight = (over - under) * step / step.square().sum().clamp_min(1e-6)
        layer.weight[new, :, 0, 0] = weight
        layer.bias[new] = over - weight @ mean
