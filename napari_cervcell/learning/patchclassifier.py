"""Cell or not, patch by patch: the rotation-invariant classifier that scores hard negatives."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models import to_input
from ..models.p4 import P4Encoder
from .descent import descend
from .outoffold import MiningError
from .patches import augmented, checked_patches

__all__ = ["CERTIFIED_SHARE", "PatchClassifier", "balanced_batch", "fit_patches"]

CERTIFIED_SHARE = 0.25
"""At most so much of a batch are rejections, so that one odd slide cannot rule it."""


class PatchClassifier(nn.Module):
    """Patches float (n, 3, s, s), as from ``models.to_input``, to logits (n,) of being a cell."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = P4Encoder()
        self.head = nn.Linear(self.encoder.width, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(x))[:, 0]
        return logits

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (n,), the probability that each of `images`, uint8 (n, s, s, 3), shows a cell."""
        checked_patches(images)
        self.eval()
        with torch.inference_mode():
            parts = [torch.sigmoid(self(to_input(images[i : i + 256]))) for i in range(0, len(images), 256)]
        return torch.cat([torch.zeros(0), *parts]).numpy()


def balanced_batch(
    positive: NDArray[np.bool_], certified: NDArray[np.bool_], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw `n` patches, int64 (n,): half cells, up to a quarter rejections, the rest other negatives.

    `positive` and `certified` are bool (m,). With rejections as the only negatives they make up their half.
    """
    cells, hard = np.flatnonzero(positive), np.flatnonzero(certified)
    other = np.flatnonzero(~positive & ~certified)
    half = n // 2
    quota = min(half, round(CERTIFIED_SHARE * n)) if len(other) else half
    quota = quota if len(hard) else 0
    draws = ((cells, n - half), (hard, quota), (other, half - quota))
    return np.concatenate([rng.choice(of, k) for of, k in draws if k])


def fit_patches(
    images: NDArray[np.uint8],
    positive: NDArray[np.bool_],
    certified: NDArray[np.bool_] | None = None,
    *,
    steps: int = 300,
    batch: int = 32,
    rate: float = 5e-3,
    seed: int = 0,
) -> PatchClassifier:
    """Train a classifier on `images`, uint8 (n, s, s, 3) with s divisible by 8, of which some are `positive`.

    Raises MiningError where there are no cells or no negatives, DataError for images of another kind, and
    FloatingPointError where the loss is no longer a number.
    """
    checked_patches(images)
    if not positive.any() or positive.all():
        raise MiningError("Telling cells from negatives takes some of both. Label cells and reject false ones first.")
    certified = np.zeros(len(positive), bool) if certified is None else certified
    rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = PatchClassifier()

    def loss_of_batch() -> Tensor:
        drawn = balanced_batch(positive, certified, batch, rng)
        x = augmented(to_input(images[drawn]), generator)
        return F.binary_cross_entropy_with_logits(model(x), torch.from_numpy(positive[drawn]).float())

    for _ in descend(model, loss_of_batch, steps=steps, rate=rate):
        pass
    return model.eval()
