"""The terms of ProCo's loss: the proto-loss, adversarial proto-instances and prototype recalibration (MICCAI 2022).

The paper says what they are for; the loss, the adversarial step and the recalibration were never released. All three
are RECONSTRUCTED, on PaCo's loss (ICCV 2021), whose interface the released network has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .prototypes import prototypes

__all__ = ["Recalibration", "adversarial_instances", "proto_loss"]


def proto_loss(
    logits: Tensor,
    label: Tensor,
    closeness: Tensor,
    same: Tensor,
    *,
    weight: Tensor | None = None,
    temperature: float = 0.07,
    alpha: float = 0.05,
    beta: float = 1.0,
) -> Tensor:
    r"""One softmax over classes and keys, unreduced, float (n,). RECONSTRUCTED on PaCo.

    .. math:: L_i = -\frac{\beta \ln p_{y_i} + \alpha \sum_{j: y_j = y_i} \ln p_j}{\beta + \alpha |\{j: y_j = y_i\}|},
              \quad p \propto \exp(l_c + \ln C w_c) \text{ and } \exp(q \cdot k_j / T)

    PaCo has the classes' frequencies where w is. They are scaled by C, so that even weights leave the classes' balance
    with the keys as it is.

    Parameters
    ----------
    logits : float (n, C), label : int64 (n,)
        What the classifier says of the queries, whose rows are the class prototypes; and the truth.
    closeness : float (n, m), same : bool (n, m)
        q · k with every key (minus infinity for a key that takes no part), and whether it has the query's class.
    weight : float (C,), optional
        w, adding up to 1; even by default. A class of weight 0 takes no part.
    """
    if weight is not None:
        logits = logits + (len(weight) * weight).log()
    everything = torch.cat([logits, closeness / temperature], 1)
    log_p = everything - everything.logsumexp(1, keepdim=True)
    own = log_p.gather(1, label[:, None])[:, 0]
    alike = torch.where(same, log_p[:, logits.shape[1] :], torch.zeros_like(closeness)).sum(1)
    return -(beta * own + alpha * alike) / (beta + alpha * same.sum(1))


@torch.no_grad()
def adversarial_instances(
    q: Tensor,
    label: Tensor,
    keys: Tensor,
    key_label: Tensor,
    n_classes: int,
    *,
    generator: torch.Generator | None,
    hardest: int = 8,
    eps: float = 0.1,
    mix: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Make hard instances of each query's own, without gradient. RECONSTRUCTED.

    The `hardest` keys of other classes nearest to the query, and those of its class farthest from it, are each mixed
    with their class's prototype u (the mean of its keys) and pushed to where the loss rises:

    .. math:: a^- = \|\lambda u + (1 - \lambda) k + \varepsilon q\|, \quad
              a^+ = \|\lambda u + (1 - \lambda) k - \varepsilon q\|, \quad \lambda \sim U(0, \text{mix})

    Parameters
    ----------
    q : float (n, d), label : int64 (n,)
    keys : float (m, d), key_label : int64 (m,)
        All of unit length.

    Returns
    -------
    instances : float (n, 2h, d), unit length, h = min(`hardest`, m)
    same : bool (n, 2h)
        Whether it has the query's class.
    real : bool (n, 2h)
        False for padding, where there were fewer than h keys of a kind.
    """
    h = min(hardest, len(keys))
    u, _ = prototypes(keys, key_label, n_classes)
    closeness = q @ keys.T
    alike = label[:, None] == key_label[None]
    parts = []
    for negative in (True, False):
        fits = ~alike if negative else alike
        order = closeness if negative else -closeness
        _, at = order.masked_fill(~fits, -math.inf).topk(h, 1)
        share = mix * torch.rand(*at.shape, 1, generator=generator, device=q.device)
        mixed = share * u[key_label[at]] + (1 - share) * keys[at]
        pushed = F.normalize(mixed + (eps if negative else -eps) * q[:, None], dim=2)
        real = fits.gather(1, at)
        parts.append((pushed, real & (not negative), real))
    instances, same, real = (torch.cat(p, 1) for p in zip(*parts, strict=True))
    return instances, same, real


class Recalibration(nn.Module):
    r"""The running weights w of the classes in the proto-loss. RECONSTRUCTED.

    They start as the frequencies n_c / N (balanced softmax); after every epoch

    .. math:: w_c \leftarrow m w_c + (1 - m) \frac{n_c}{N} \frac{rec_c + \epsilon}{\overline{rec} + \epsilon}

    and are brought to the sum of 1. A class with low recall on training data gets a smaller addition to its logit, and
    so a larger margin. A class without cells has weight 0 and takes no part.
    """

    share: Tensor
    weight: Tensor
    right: Tensor
    seen: Tensor

    def __init__(self, counts: Sequence[int], *, momentum: float = 0.9, eps: float = 0.05) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        share = torch.as_tensor(counts, dtype=torch.float32)
        self.register_buffer("share", share / share.sum())
        self.register_buffer("weight", self.share.clone())
        self.register_buffer("right", torch.zeros_like(share))
        self.register_buffer("seen", torch.zeros_like(share))

    @torch.no_grad()
    def observe(self, logits: Tensor, label: Tensor) -> None:
        """Note which of a batch were named rightly: `logits` (n, C), `label` int64 (n,)."""
        self.right += torch.bincount(label[logits.argmax(1) == label], minlength=len(self.share))
        self.seen += torch.bincount(label, minlength=len(self.share))

    @torch.no_grad()
    def end_epoch(self) -> None:
        """Bring the weights up to date and begin to count afresh; classes not seen lately count as average."""
        met = self.seen > 0
        if met.any():
            recall = self.right / self.seen.clamp_min(1)
            mean = recall[met].mean()
            recall = torch.where(met, recall, mean)
            target = self.share * (recall + self.eps) / (mean + self.eps)
            self.weight.mul_(self.momentum).add_((1 - self.momentum) * target)
            self.weight /= self.weight.sum()
        self.right.zero_()
        self.seen.zero_()
