"""Semi-supervised metric learning with dual alignment (ISBI 2022): unlabelled cells drawn to what labels taught.

The paper is known by its abstract: proposals of unlabelled images are aligned to learnable class proxies, mini-batch
prototypes of both kinds of data to each other, and a memory bank of labelled prototypes stands in for large batches.
Every formula, threshold and weight here is RECONSTRUCTED to fit that.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prototypes import PrototypeBank, prototypes

__all__ = ["Aligned", "DualAlignment", "accept", "prototype_loss", "proxy_loss", "ramp"]


def proxy_loss(f: Tensor, proxies: Tensor, label: Tensor, scale: float) -> Tensor:
    r"""Return :math:`-\ln \mathrm{softmax}_c(s \langle f, w_c \rangle)[y]`, float (n,). RECONSTRUCTED.

    `f` (n, d) and `proxies` (C, d) are brought to unit length; `label` is int64 (n,).
    """
    return F.cross_entropy(scale * F.normalize(f, dim=1) @ F.normalize(proxies, dim=1).T, label, reduction="none")


def accept(probability: Tensor, theta: float, background: int) -> tuple[Tensor, Tensor]:
    """Return the pseudo-labels int64 (n,) of `probability` (n, C), and bool (n,): which are sure enough to be used.

    RECONSTRUCTED: those of at least `theta`; of `background` the surest, no more than there are others.
    """
    sure, label = probability.max(1)
    taken = sure >= theta
    empty = taken & (label == background)
    rest = taken & ~empty
    excess = int(empty.sum()) - int(rest.sum())
    if excess > 0:
        at = torch.nonzero(empty).flatten()
        rest[at[sure[at].argsort(descending=True, stable=True)[: len(at) - excess]]] = True
        return label, rest
    return label, taken


def prototype_loss(mu: Tensor, present: Tensor, anchors: Tensor, anchor_label: Tensor, temperature: float) -> Tensor:
    r"""Align unlabelled prototypes to labelled ones of the same class. RECONSTRUCTED.

    .. math:: -\ln \frac{\sum_{b \in c} e^{\langle \mu_c, b \rangle / T}}{\sum_b e^{\langle \mu_c, b \rangle / T}}

    averaged over the classes that have both; 0 where there is none.

    Parameters
    ----------
    mu : float (C, d), present : bool (C,)
        Prototypes of the unlabelled part of the batch, and which classes have one.
    anchors : float (k, d), anchor_label : int64 (k,)
        Labelled prototypes, those of the batch and the bank's; no gradient flows into them.
    """
    own = anchor_label[None] == torch.arange(len(mu), device=mu.device)[:, None]
    present = present & own.any(1)
    if not present.any():
        return mu.new_zeros(())
    closeness = mu[present] @ anchors.detach().T / temperature
    same = closeness.masked_fill(~own[present], -math.inf)
    return (closeness.logsumexp(1) - same.logsumexp(1)).mean()


def ramp(progress: float, start: float, end: float) -> float:
    """Return the weight of what is learnt from unlabelled data: 0 up to `start`, then ``exp(-5 (1 - t)²)`` to `end`."""
    if progress < start:
        return 0.0
    t = min(1.0, (progress - start) / (end - start))
    return math.exp(-5 * (1 - t) ** 2)


class Aligned(NamedTuple):
    """The parts of the loss; `total` has the gradient. `accepted` pseudo-labels took part."""

    total: Tensor
    supervised: float
    proposal: float
    prototype: float
    accepted: int


class DualAlignment(nn.Module):
    """Embedding, proxies and bank; RECONSTRUCTED throughout.

    Classes are those of the taxonomy, then `background` (location without a cell), then `mimic` (place that a reviewer
    rejected): what looks like a cell and is none forms a cluster of its own instead of spoiling the background.

    Parameters
    ----------
    features : int
        Width of what comes in: a detector's features at a location or in a box.
    theta : float
        Probability from which a pseudo-label is used.
    keep : int
        Prototypes that the bank holds for each class: enough to stand for a large batch, few enough to be up to date.
    start, end : float
        Share of training before unlabelled data count at all, and from which they count in full.
    """

    def __init__(
        self,
        features: int,
        n_classes: int,
        *,
        width: int = 128,
        scale: float = 12.0,
        theta: float = 0.9,
        temperature: float = 0.1,
        keep: int = 64,
        start: float = 0.05,
        end: float = 0.3,
    ) -> None:
        super().__init__()
        self.background, self.mimic = n_classes, n_classes + 1
        self.scale, self.theta, self.temperature = scale, theta, temperature
        self.start, self.end = start, end
        self.embed = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, width))
        self.proxies = nn.Parameter(F.normalize(torch.randn(n_classes + 2, width), dim=1))
        self.bank = PrototypeBank(n_classes + 2, width, keep)

    def probabilities(self, features: Tensor) -> Tensor:
        """Return what the proxies say of `features` (n, F), float (n, classes + 2), without gradient."""
        with torch.no_grad():
            f = F.normalize(self.embed(features), dim=1)
            return torch.softmax(self.scale * f @ F.normalize(self.proxies, dim=1).T, 1)

    def resemblance(self, features: Tensor) -> Tensor:
        """Return float (n,): cosine to the nearest labelled cell's prototype less that to the nearest rejection's.

        From the bank alone, so that it answers to new corrections before any training; a side that is empty counts 0.
        """
        with torch.no_grad():
            f = F.normalize(self.embed(features), dim=1)
            anchors, label = self.bank.all()
            closeness = f @ anchors.T
            cell, mimic = label < self.background, label == self.mimic
            return _highest(closeness[:, cell]) - _highest(closeness[:, mimic])

    def forward(
        self, labelled: Tensor, label: Tensor, unlabelled: Tensor, probability: Tensor, progress: float
    ) -> Aligned:
        """Return the loss of a batch and, in training mode, remember its labelled prototypes.

        Parameters
        ----------
        labelled : float (n, F), label : int64 (n,)
            Features of known cells, known background and rejections, and their classes.
        unlabelled : float (m, F), probability : float (m, classes + 2)
            Features of proposals where nobody looked, strongly augmented, and what the detector says of them when
            weakly augmented.
        progress : float
            Share of training done, 0 to 1, carried on from round to round.

        Rows that are not all numbers take no part. Raises ValueError for a label that there is no proxy for.
        """
        n_classes = len(self.proxies)
        if len(label) and not (int(label.min()) >= 0 and int(label.max()) < n_classes):
            raise ValueError(f"a label lies outside the {n_classes - 2} classes, background and mimic that are known")
        sound = labelled.isfinite().all(1)
        labelled, label = labelled[sound], label[sound]
        sound = unlabelled.isfinite().all(1) & probability.isfinite().all(1)
        unlabelled, probability = unlabelled[sound], probability[sound]

        supervised = self.proxies.new_zeros(())
        f = F.normalize(self.embed(labelled), dim=1)
        if len(label):
            supervised = proxy_loss(f, self.proxies, label, self.scale).mean()
        own, known = prototypes(f.detach(), label, n_classes)

        proposal = prototype = self.proxies.new_zeros(())
        weight = ramp(progress, self.start, self.end)
        pseudo, sure = accept(probability, self.theta, self.background)
        if weight and sure.any():
            g = F.normalize(self.embed(unlabelled[sure]), dim=1)
            # detached, so that a wrong pseudo-label moves a feature and never a proxy
            proposal = proxy_loss(g, self.proxies.detach(), pseudo[sure], self.scale).mean()
            anchors, of = self.bank.all()
            anchors = torch.cat([anchors, own[known]])
            of = torch.cat([of, torch.nonzero(known).flatten()])
            prototype = prototype_loss(*prototypes(g, pseudo[sure], n_classes), anchors, of, self.temperature)
        if self.training:
            self.bank.push(own, known)
        return Aligned(
            supervised + weight * (proposal + prototype),
            float(supervised.detach()),
            float(proposal.detach()),
            float(prototype.detach()),
            int(sure.sum()) if weight else 0,
        )


def _highest(closeness: Tensor) -> Tensor:
    return closeness.amax(1) if closeness.shape[1] else closeness.new_zeros(len(closeness))
