"""The RepPoints head: a cell is nine points, found once roughly and once more by looking where they lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .heads import STRIDE, Dense, FCOSHead

__all__ = ["RepPointsHead"]

_POINTS = 9  # as many as a 3 x 3 kernel has


class RepPointsHead(FCOSHead):
    """Head after RepPoints: nine points a location, and deformable convolutions that look at them.

    The first points come from the features; at them, a deformable convolution gathers what says whether there is a
    cell and, apart from it, where the points should rather lie. A box is the points' mean and their deviation times a
    learnt factor (the paper's moment function). Finding is at stride 4 and naming apart from it, as in `FCOSHead`, so
    it is the finding alone that looks at the points.
    """

    def __init__(self, width: int, fine_channels: int, n_classes: int, box_size: float, embedding: int = 0) -> None:
        from torchvision.ops import DeformConv2d  # slow to import

        super().__init__(width, fine_channels, n_classes, box_size, embedding)
        found = width // 2
        self.sides = None  # type: ignore[assignment]  # they come from the points
        self.points = nn.Conv2d(found, 2 * _POINTS, 1)
        # for the cell and for the points at once: the look-ups, which are most of the work, are the same
        self.gather = DeformConv2d(found, 2 * found, 3, padding=1, bias=False)
        self.refine = nn.Conv2d(found, 2 * _POINTS, 1)
        self.spread = nn.Parameter(torch.full((2,), 0.5 * torch.tensor(1.5).log().item()))
        for conv in (self.points, self.refine):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        y, x = torch.meshgrid(torch.arange(-1.0, 2.0), torch.arange(-1.0, 2.0), indexing="ij")
        # of every point (y, x): where the kernel would look by itself, in steps of the grid
        self.register_buffer("kernel", torch.stack([y, x], -1).flatten()[:, None, None], persistent=False)

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 8, w / 8) and the features at stride 4."""
        found = self.found(x, fine)
        # points in px around their location: to begin with, a 3 x 3 grid over a usual box
        points = self.half_side * (self.kernel + self.points(found))
        offset = points.detach() / STRIDE - self.kernel
        for_cell, for_points = F.relu(self.gather(found, offset)).chunk(2, 1)
        refined = points.detach() + self.half_side * self.refine(for_points)
        cell = self.cell(for_cell)[:, 0]
        classes, embedding = self.names(self.name(x), found)
        return Dense(cell, classes, self._box(refined), embedding, self._box(points) if self.training else None)

    def _box(self, points: Tensor) -> Tensor:
        """Turn points (n, 18, h, w), px around their location, into the sides of a box (n, 4, h, w)."""
        places = points.reshape(len(points), _POINTS, 2, *points.shape[2:])
        mean = places.mean(1)
        deviation = ((places - mean[:, None]).square().mean(1) + 1e-4).sqrt()
        half = deviation * torch.exp(self.spread)[:, None, None]
        before, after = half - mean, half + mean  # (y, x)
        return torch.cat([before.flip(1), after.flip(1)], 1)
