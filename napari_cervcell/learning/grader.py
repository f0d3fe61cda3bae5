"""A grader of single cells: crops in, classes out, trained in one stage with ProCo; it grades detections again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..cells import Cells
from ..errors import CervcellError
from ..models import to_input
from ..models.p4 import P4Encoder
from .descent import descend
from .fields import Field
from .patches import augmented, checked_patches, cut_patches
from .proco import ProCo

__all__ = ["Grader", "GraderError", "train_grader"]


class GraderError(CervcellError):
    """A grader cannot be trained on what there is."""


@dataclass(slots=True)
class Grader:
    """A trained network for crops of `side` px at `mpp`, of `n_classes` classes.

    One output more, the last, is for mimics: places that look like cells and were rejected.
    """

    model: ProCo
    side: int
    mpp: float
    n_classes: int

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (n, classes + 1) for crops uint8 (n, side, side, 3); the last column is for mimics.

        0 for classes that had no example. Raises DataError for images of another kind.
        """
        checked_patches(images)
        self.model.eval()
        with torch.inference_mode():
            parts = [torch.softmax(self.model(to_input(images[i : i + 128])), 1) for i in range(0, len(images), 128)]
        return torch.cat([torch.zeros(0, self.n_classes + 1), *parts]).numpy()

    def regrade(self, cells: Cells, field: Field) -> Cells:
        """Return `cells`, in px of the field's image, with this grader's classes; boxes and scores stay.

        The class score is the class's share among the cell classes. Where there is nothing but the mimic's say, the
        cell keeps its class.
        """
        said = self.probabilities(cut_patches(field, cells.centres, self.side, self.mpp))[:, : self.n_classes]
        total = said.sum(1)
        sure = total > 0
        labels = np.where(sure, said.argmax(1), cells.labels).astype(np.int16)
        share = np.divide(said.max(1), total, out=cells.class_scores.copy(), where=sure)
        return Cells(cells.boxes, labels, cells.scores, share)


def train_grader(
    images: NDArray[np.uint8],
    labels: NDArray[np.int16],
    n_classes: int,
    mpp: float,
    *,
    encoder: tuple[nn.Module, int] | None = None,
    steps: int = 600,
    batch: int = 32,
    rate: float = 5e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Grader:
    """Train a grader on crops uint8 (n, s, s, 3), cut at `mpp`, usually 80 px.

    Parameters
    ----------
    labels : int (n,)
        Class indices; `n_classes` for a mimic.
    encoder : module and the width of its features, optional
        Takes float (n, 3, s, s) as from ``models.to_input``; by default a small quarter-turn-invariant one, for which
        s must be divisible by 8.
    on_step : callable
        Gets (step, loss).

    The authors' optimiser is not known; this one suits short runs of small networks. Raises GraderError where there
    are not at least two classes to tell apart or a label is of no known class, DataError for images of another kind,
    FloatingPointError where the loss is no longer a number.
    """
    checked_patches(images)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) <= n_classes:
        raise GraderError(
            f"A cell is labelled with class {int(labels.min() if labels.min() < 0 else labels.max())}, but there are "
            f"{n_classes} classes, from 0. Map the label to one of them, or leave the cell out."
        )
    counts = np.bincount(labels, minlength=n_classes + 1)
    if (counts > 0).sum() < 2:
        raise GraderError("Grading takes cells of at least two classes, or of one and rejections. Label some more.")
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        default = P4Encoder()
        module, features = encoder or (default, default.width)
        # a key encoder of a short run should not lag behind for all of it
        model = ProCo(module, features, counts.tolist(), momentum=min(0.999, 1 - 10 / max(steps, 20)))
    target = torch.from_numpy(labels.astype(np.int64))
    epoch = max(1, len(labels) // batch)

    def loss_of_batch() -> Tensor:
        drawn = torch.randint(len(labels), (batch,), generator=generator)
        x = to_input(images[drawn.numpy()])
        return model.loss(augmented(x, generator), augmented(x, generator), target[drawn], generator)

    for step, loss in enumerate(descend(model, loss_of_batch, steps=steps, rate=rate)):
        if (step + 1) % epoch == 0:
            model.recalibration.end_epoch()
        if on_step is not None:
            on_step(step, loss)
    return Grader(model.eval(), images.shape[1], mpp, n_classes)
