"""What a teacher thinks of a whole field: what a student learns from beside the labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..models import STRIDE

__all__ = ["Opinion"]

_SURE = 9.0  # logit beyond which a teacher is as sure as can be


@dataclass(frozen=True, slots=True)
class Opinion:
    """A teacher's opinion of every place of a field.

    Attributes
    ----------
    logits : float32 (h, w)
        Of "there is a cell here", on the grid of the teacher's output.
    scale : float32 (2,)
        The field's px per px of the teacher's input, x and y.
    rim : int
        So many px of the teacher's input lie left of the field and above it.
    """

    logits: NDArray[np.float32]
    scale: NDArray[np.float32]
    rim: int

    def at(self, x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the probability of a cell, float32 (len(y), len(x)), at columns `x` and rows `y`, px of the field."""
        from scipy.ndimage import map_coordinates  # slow to import

        columns, rows = ((v / s + self.rim) / STRIDE - 0.5 for v, s in zip((x, y), self.scale, strict=True))
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"))
        logits = map_coordinates(self.logits.clip(-_SURE, _SURE), places, order=3, mode="nearest")
        probability: NDArray[np.float32] = (1 / (1 + np.exp(-logits.clip(-_SURE, _SURE)))).astype(np.float32)
        return probability
