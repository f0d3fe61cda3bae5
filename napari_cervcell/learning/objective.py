"""The one training objective: known elements by Grad-Libra, unknown ones by exclusive cross-entropy; and its rivals."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.heads import Dense
from .alignment import proxy_loss
from .losses import (
    GradientBalance,
    Schedule,
    background_recalibration,
    cross_entropy,
    exclusive_cross_entropy,
    focal,
    grad_libra,
)
from .prototypes import prototypes
from .targets import Targets

__all__ = ["A_POS", "LossName", "Losses", "Objective", "box_loss", "likeness_loss"]

LossName = Literal["exclusive", "ce", "focal", "brl", "ignore"]
"""How it is learnt where cells are. ``exclusive`` is what rounds use: Grad-Libra, and the exclusive branch where nobody
has looked; ``ignore`` learns nothing there; ``ce`` and ``focal`` take all that nobody looked at for background; so does
``brl``, which is ``focal``, but where a cell is all but certain (background recalibration)."""

A_POS = 0.6
"""How strongly positives that are easy already are damped: the setting with the best rare classes in the paper."""

_SCALE = 10.0  # of cosines, for their softmax
_REACH = 3
"""Locations from a cell's centre to the end of what `assignment.RING` leaves out around it."""


class Losses(NamedTuple):
    """The parts of the loss; `total` has the gradient."""

    total: Tensor
    known: float
    unknown: float
    naming: float
    sides: float
    looks: float
    taught: float


@dataclass(slots=True)
class Objective:
    """Known cells and known background take Grad-Libra; unknown locations the exclusive branch (METHODS of ICCV 2021).

    Where a teacher was asked, finding takes ``opinion_weight KL(teacher || model)`` too, known or not: labels miss
    cells and hold what is none, and a network that has seen all of them smooths that out. Where it names cells too,
    naming takes ``names_weight`` times the mean of that, every location by how likely the teacher thinks a cell there.

    Every sum is divided by the number of positive locations of the batch, as dense detectors do. In finding and in
    naming all cells count the same, however many locations they have: a platelet has one where a white cell has twenty,
    and would be left to the end.

    Attributes
    ----------
    counts : float32 (C,)
        Locations of each class drawn lately, as if all cells had equally many, kept up to date batch by batch; to begin
        with, a guess, all above 0. The class logits are trained as ``logits + margin ln(counts / sum)`` (balanced
        softmax where `margin` is 1), so that what they say at inference does not lean to the frequent classes.
    margin : float
        Above 1, rare classes are told apart from frequent ones by more than their counts alone ask for: they are learnt
        by heart from a handful of cells, and what new cells look like is less certain than it seems.
    a_pos, a_neg : float
        Grad-Libra's two dials.
    rejected_weight : float
        Weight of a location at which a reviewer rejected a detection.
    opinion_weight, names_weight : float
    looks_weight : float
        Weight of the embedding's loss: small, for cells are named by their classes' logits.
    loss : LossName
        Of finding cells; the others are what it is measured against.
    grad_libra : bool
        Whether known elements take Grad-Libra, else cross-entropy, where `loss` leaves a choice.
    balance : GradientBalance
        How naming has pushed each class up and down since it was last reset.
    """

    counts: Tensor
    generator: torch.Generator
    a_pos: float = A_POS
    a_neg: float = 0.8
    margin: float = 1.0
    rejected_weight: float = 2.0
    unknown_weight: float = 1.0
    opinion_weight: float = 0.5
    names_weight: float = 4.0
    looks_weight: float = 0.1
    loss: LossName = "exclusive"
    grad_libra: bool = True
    balance: GradientBalance = field(init=False)

    def __post_init__(self) -> None:
        self.balance = GradientBalance(len(self.counts))

    def __call__(self, dense: Dense, target: Targets, progress: float) -> Losses:
        """Return the loss of a batch; `progress` in [0, 1] is where the exclusive schedule stands.

        Raises ValueError for a cell of a class that the model does not name.
        """
        schedule = Schedule()
        epoch = progress * schedule.epochs
        n = target.cell.sum().clamp_min(1.0)
        cell = dense.cell.float()

        counted = target.known | target.unknown if self.loss in ("ce", "focal") else target.known
        weight = counted.float() * torch.where(target.rejected, self.rejected_weight, 1.0)
        positive = target.label >= 0
        even = target.weight[positive] / target.weight[positive].mean()
        weight[positive] *= even
        known = (self._element(cell, target.cell) * weight).sum() / n
        unknown = torch.zeros(())
        if self.loss == "exclusive" and target.unknown.any():
            exclusive = exclusive_cross_entropy(
                cell,
                torch.zeros_like(cell),
                ~target.unknown,
                tau=schedule.tau(epoch),
                sampling=schedule.sampling(epoch),
                generator=self.generator,
                confidence=_around(torch.sigmoid(cell.detach())),
            )
            unknown = self.unknown_weight * exclusive[target.unknown].sum() / n
        elif self.loss == "brl" and target.unknown.any():
            unknown = self.unknown_weight * background_recalibration(cell[target.unknown]).sum() / n

        taught = torch.zeros(())
        asked = target.opinion >= 0
        if asked.any():
            taught = self.opinion_weight * _divergence(target.opinion[asked], cell[asked]).sum() / n
            if target.names.shape[1]:
                taught = taught + self.names_weight * _naming_divergence(target, asked, dense.classes.float())

        image, row, col = torch.nonzero(positive, as_tuple=True)
        naming = sides = looks = torch.zeros(())
        if len(image):
            label = target.label[image, row, col]
            if int(label.max()) >= len(self.counts):
                raise ValueError(f"a cell has class {int(label.max())}, but the model names {len(self.counts)}, from 0")
            self.counts = 0.99 * self.counts + torch.bincount(label, even, minlength=len(self.counts))
            prior = self.margin * (self.counts / self.counts.sum()).log()
            logits = dense.classes.float()[image, :, row, col] + prior
            naming = (even * F.cross_entropy(logits, label, reduction="none")).mean()
            # the gradient of a softmax is that of independent classifiers of the same probabilities
            share = torch.softmax(logits.detach(), 1)
            self.balance.add(torch.logit(share, 1e-6), F.one_hot(label, len(self.counts)).to(share), even[:, None])
            sides = box_loss(dense, target)
            if dense.embedding is not None:
                factor = dense.cell.shape[-1] // dense.embedding.shape[-1]
                f = dense.embedding.float()[image, :, row // factor, col // factor]
                looks = self.looks_weight * likeness_loss(f, label, len(self.counts))
        parts = known, unknown, naming, sides, looks, taught
        return Losses(sum(parts, torch.zeros(())), *(float(part.detach()) for part in parts))

    def _element(self, cell: Tensor, target: Tensor) -> Tensor:
        if self.loss in ("focal", "brl"):
            return focal(cell, target)
        if self.loss == "ce" or not self.grad_libra:
            return cross_entropy(cell, target)
        return grad_libra(cell, target, a_pos=self.a_pos, a_neg=self.a_neg)


def _divergence(probability: Tensor, logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence of a model's `logits` from a teacher's `probability`, unreduced."""
    crossed = F.binary_cross_entropy_with_logits(logits, probability, reduction="none")
    return crossed - F.binary_cross_entropy(probability, probability, reduction="none")


def _naming_divergence(target: Targets, asked: Tensor, logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence of `logits` (n, C, h, w), whose first classes are the teacher's, from its names: the
    mean over locations `asked`, by how likely it thinks a cell there."""
    names, belief = target.names.permute(0, 2, 3, 1)[asked], target.opinion[asked]
    given = F.log_softmax(logits[:, : names.shape[1]].permute(0, 2, 3, 1)[asked], 1)
    divergence = F.kl_div(given, names, reduction="none").sum(1)
    return (belief * divergence).sum() / belief.sum().clamp_min(1e-6)


def box_loss(dense: Dense, target: Targets) -> Tensor:
    """Return the mean generalised IoU loss of the boxes at positive locations, of which there must be one."""
    from torchvision.ops import generalized_box_iou_loss  # slow to import

    image, row, col = torch.nonzero(target.label >= 0, as_tuple=True)
    box = _as_boxes(target.sides[image, :, row, col])

    def of(sides: Tensor) -> Tensor:
        loss: Tensor = generalized_box_iou_loss(_as_boxes(sides[image, :, row, col].float()), box, reduction="mean")
        return loss

    if dense.first_sides is None:
        return of(dense.sides)
    return of(dense.sides) + 0.5 * of(dense.first_sides)  # half as heavy as the guess that counts, as in RepPoints


def likeness_loss(f: Tensor, label: Tensor, n_classes: int, scale: float = _SCALE) -> Tensor:
    """Draw embeddings (n, d) to the mean direction of their class in this batch, away from those of the others.

    `scale` is that of the cosines, for their softmax. The mean over classes, not cells: a rare class must be told from
    the others too. 0 where there is only one class.
    """
    mu, present = prototypes(f, label, n_classes)
    if present.sum() < 2:
        return f.sum() * 0
    of_present = present.cumsum(0)[label] - 1
    loss = proxy_loss(f, mu[present], of_present, scale)
    member = F.one_hot(of_present).to(f)
    return ((member.T @ loss) / member.sum(0)).mean()


def _around(probability: Tensor) -> Tensor:
    """Return the highest probability (n, h, w) within a cell of each location.

    A cell is many locations, and it is the cell that may have been missed: where its centre is believed in, its rim,
    less certain by design, must not be taught to be background either.
    """
    return F.max_pool2d(probability[:, None], 2 * _REACH + 1, 1, _REACH)[:, 0]


def _as_boxes(sides: Tensor) -> Tensor:
    """Distances (n, 4) to left, top, right, bottom, as boxes (n, 4) around the origin."""
    return torch.cat([-sides[:, :2], sides[:, 2:]], 1)
