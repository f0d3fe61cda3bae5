"""The optimisation loop that the recipe and every incremental round share."""

from __future__ import annotations

import copy
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ..models import Network
from .crops import CropSampler
from .objective import Losses, Objective
from .targets import Targets

__all__ = ["FitSettings", "Step", "fit", "follow"]

_Net = TypeVar("_Net", bound=nn.Module)
_FLOOR = 0.02  # share of the peak rates that is left at the end


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How long and how fast.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    seconds : float or None
        Stop earlier, with the learning rate brought down in time, after so many seconds.
    rate, backbone_rate : float
        Peak learning rates of the new parts and of the backbone.
    progress : tuple of float
        Where the exclusive schedule starts and ends (0 to 1).
    average : float
        Decay of the running average of the weights, which is what comes out.
    frozen : int
        So many parts of the backbone, from the stem on, keep their weights: they see edges and blobs, which ImageNet
        has taught them, and cost the most time to train.
    freeze_norm : bool
        Whether batch normalisation keeps its statistics everywhere, for short rounds on few fields.
    epoch : int
        Steps after which the balance of gradients is told and begun anew: crops are drawn, so that there is no other
        end to an epoch.
    """

    steps: int
    batch: int = 4
    seconds: float | None = None
    rate: float = 1e-3
    backbone_rate: float = 4e-4
    weight_decay: float = 0.02
    progress: tuple[float, float] = (0.0, 1.0)
    average: float = 0.998
    frozen: int = 3
    freeze_norm: bool = False
    epoch: int = 100


@dataclass(frozen=True, slots=True)
class Step:
    """What is reported after every step; at the end of an epoch with the balance of gradients of each class."""

    step: int
    done: float
    losses: Losses
    seconds: float
    balance: tuple[float, ...] | None = None


def fit(
    network: _Net,
    sampler: CropSampler,
    objective: Objective,
    settings: FitSettings,
    on_step: Callable[[Step, _Net], None] | None = None,
) -> _Net:
    """Train `network` in place and return the average of its weights as a new network in evaluation mode.

    It is a `Network`, or what answers as one to what `sampler` draws; of the latter nothing can be `frozen`.

    `on_step` may raise to stop. Raises FloatingPointError where the loss, or at the end a weight, is no longer a
    number; then nothing that is returned elsewhere has been touched. It trains on the device that `network` is on;
    `objective` holds its numbers and its generator there too.
    """
    device = next(network.parameters()).device
    network.train()
    _freeze(network, settings)
    averaged = copy.deepcopy(network).eval()
    optimiser = _optimiser(network, settings)
    start = time.monotonic()
    warm = min(0.05, 100 / settings.steps)  # of the whole, whether steps or seconds end it
    for step, (images, targets) in enumerate(_prefetched(sampler, settings)):
        done = step / settings.steps
        if settings.seconds is not None:
            done = max(done, (time.monotonic() - start) / settings.seconds)
        if done >= 1:
            break
        factor = min(1.0, (done + 1 / settings.steps) / warm) * (
            _FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * done))
        )
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * factor
        first, last = settings.progress
        there = Targets(*(part.to(device) for part in targets))
        losses = objective(network(images.to(device)), there, first + (last - first) * done)
        if not torch.isfinite(losses.total):
            raise FloatingPointError("the training loss is no longer a number")
        optimiser.zero_grad()
        losses.total.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        # a young average should follow at once
        follow(averaged, network, min(settings.average, (step + 1) / (step + 10)))
        balance = None
        if (step + 1) % settings.epoch == 0:
            balance = tuple(objective.balance.ratios())
            objective.balance.reset()
        if on_step is not None:
            on_step(Step(step, done, losses, time.monotonic() - start, balance), averaged)
    if not all(torch.isfinite(part).all() for part in averaged.state_dict().values()):  # by the last step
        raise FloatingPointError("the weights are no longer numbers")
    return averaged


def _freeze(network: nn.Module, settings: FitSettings) -> None:
    if isinstance(network, Network):
        for part in network.backbone.first(settings.frozen):
            part.eval().requires_grad_(False)
    if settings.freeze_norm:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def _optimiser(network: nn.Module, settings: FitSettings) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.backbone_rate if name.startswith("backbone.") else settings.rate
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": p, "lr": rate, "peak": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]
    )


@torch.no_grad()
def follow(averaged: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the weights and statistics of `averaged` towards `network`'s: `decay` old, the rest new."""
    for a, b in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if a.is_floating_point():
            a.lerp_(b, 1 - decay)
        else:
            a.copy_(b)


def _prefetched(sampler: CropSampler, settings: FitSettings) -> Iterator[tuple[Tensor, Targets]]:
    """Cut the next batches in a thread while the network is busy; one thread, so that the draws keep their order."""
    ready: queue.Queue[tuple[Tensor, Targets] | BaseException] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def hand_over(item: tuple[Tensor, Targets] | BaseException) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def work() -> None:
        try:
            for _ in range(settings.steps):
                if stop.is_set():
                    return
                hand_over(sampler.batch(settings.batch))
        except BaseException as error:  # handed to the caller's thread
            hand_over(error)

    thread = threading.Thread(target=work, name="cervcell-crops", daemon=True)
    thread.start()
    try:
        for _ in range(settings.steps):
            item = ready.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
