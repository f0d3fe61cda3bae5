"""Heads: a feature map in, dense predictions out. A head knows nothing of losses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["STRIDE", "Dense", "FCOSHead", "Head", "Scalars", "Sides", "YOLLOHead", "YOLOFHead"]

STRIDE = 4
"""Distance between neighbouring locations of the output grid of every head, px of the network's input."""


class Dense(NamedTuple):
    """Predictions at every location of the output grid, as logits; a location (row, col) looks at the input pixel
    ``((col + 0.5) * STRIDE, (row + 0.5) * STRIDE)``.

    Attributes
    ----------
    cell : float (n, h, w)
        Logit of "there is a cell here".
    classes : float (n, C, h, w)
        Logit of each class, given that there is a cell.
    sides : float (n, 4, h, w)
        Distances to the left, top, right and bottom side of the box, px of the network's input.
    embedding : float (n, d, h / f, w / f), optional
        What a cell here looks like, before it is brought to unit length; on a grid coarser by a whole factor f, or
        None from a network without it.
    first_sides : float (n, 4, h, w), optional
        A first guess of `sides`, of heads that refine one, while they are trained.
    """

    cell: Tensor
    classes: Tensor
    sides: Tensor
    embedding: Tensor | None = None
    first_sides: Tensor | None = None


class Scalars(nn.Conv2d):
    """The last layer before numbers that stay what they are when the image is turned."""


class Sides(nn.Conv2d):
    """The last layer before the four sides of a box, which change places when the image is turned."""


def _tower(c_in: int, c_out: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(depth):
        conv = nn.Conv2d(c_out if i else c_in, c_out, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class Head(nn.Module):
    """The last layers of every head: finding apart from naming.

    The cell logit says whether, the class logits say which, so that sparse labels (which leave *whether* unknown) never
    blur *which*.

    Parameters
    ----------
    find_width, name_width : int
        Channels of the features for finding (cell, sides) and for naming (classes, embedding).
    box_size : float
        Usual side of a cell's box, px of the network's input.
    embedding : int
        Length of the embedding; 0 for none.
    """

    def __init__(self, find_width: int, name_width: int, n_classes: int, box_size: float, embedding: int) -> None:
        super().__init__()
        self.cell = Scalars(find_width, 1, 1)
        self.sides = Sides(find_width, 4, 1)
        self.classes = Scalars(name_width, n_classes, 1)
        self.embedding = Scalars(name_width, embedding, 1) if embedding else None
        self.dropout = nn.Dropout2d(0.3)
        for conv in (self.cell, self.sides, self.classes):
            nn.init.normal_(conv.weight, std=0.01)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        # a location is rarely a cell: start there, as RetinaNet does
        nn.init.constant_(self.cell.bias, -math.log((1 - 0.01) / 0.01))  # type: ignore[arg-type]
        self.half_side = box_size / 2

    def say(self, found: Tensor, named: Tensor) -> Dense:
        """Predict from features for finding (n, find_width, h, w) and, on a coarser grid, for naming."""
        sides = self.half_side * torch.exp(self.sides(found).clamp(-2.0, 2.0))
        classes, embedding = self.names(named, found)
        return Dense(self.cell(found)[:, 0], classes, sides, embedding)

    def names(self, named: Tensor, found: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the class logits on the grid of `found`, and the embedding on that of `named`."""
        classes = F.interpolate(self.classes(self.dropout(named)), size=found.shape[-2:], mode="nearest")
        return classes, self.embedding(named) if self.embedding is not None else None


class FCOSHead(Head):
    """Anchor-free head after FCOS: per location a cell logit, class logits and the four sides of a box.

    Three things differ from the paper. There is no centre-ness: only locations at the centre of a cell are positive,
    so the cell logit ranks locations by itself. Finding is apart from naming (see `Head`). And cells are found at
    stride 4, with the backbone's fine features, so that crowded nuclei stay apart, but named at stride 8, which is
    what context needs and a quarter of the work.

    ATSS is this head too: by its authors' finding it differs from FCOS in which locations a cell is assigned to.

    Parameters
    ----------
    width : int
        Channels of the neck's output, at stride 8.
    fine_channels : int
        Channels of the backbone's features at stride 4.
    """

    def __init__(self, width: int, fine_channels: int, n_classes: int, box_size: float, embedding: int = 0) -> None:
        super().__init__(width // 2, width, n_classes, box_size, embedding)
        self.find = _tower(width, width, 1)
        self.fine = nn.Conv2d(fine_channels, width, 1)
        self.find_finely = _tower(width, width // 2, 1)
        self.name = _tower(width, width, 2)

    def found(self, x: Tensor, fine: Tensor) -> Tensor:
        """Return the features for finding, (n, width / 2, h / 4, w / 4)."""
        found = F.interpolate(self.find(x), size=fine.shape[-2:], mode="nearest") + self.fine(fine)
        features: Tensor = self.find_finely(found)
        return features

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 8, w / 8) and the features at stride 4."""
        return self.say(self.found(x, fine), self.name(x))


class YOLOFHead(Head):
    """Head after YOLOF, on the dilated encoder's single map at stride 16: a deep tower finds, a shallow one names.

    The paper sets anchors of several sizes at a location; cells are of one size but crowded, so here they are set at
    the 4 x 4 places of a location instead, by a transposed convolution: every head answers at stride 4.
    """

    def __init__(self, width: int, fine_channels: int, n_classes: int, box_size: float, embedding: int = 0) -> None:
        super().__init__(width // 2, width, n_classes, box_size, embedding)
        self.find = _tower(width, width, 4)
        self.places = _places(width, width // 2, 4)
        self.name = _tower(width, width, 2)

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 16, w / 16) alone; `fine` is not looked at."""
        return self.say(self.places(self.find(x)), self.name(x))


class YOLLOHead(Head):
    """Slim head after YOLLO, a YOLOv2 cut down for small cells: one tower for everything, on one map at stride 8.

    As YOLOv2 has several anchors in a square of its grid, this has four, one for each quarter of the square.
    """

    def __init__(self, width: int, fine_channels: int, n_classes: int, box_size: float, embedding: int = 0) -> None:
        super().__init__(width // 2, width, n_classes, box_size, embedding)
        self.see = _tower(width, width, 2)
        self.places = _places(width, width // 2, 2)

    def forward(self, x: Tensor, fine: Tensor) -> Dense:
        """Predict from the neck's output (n, width, h / 8, w / 8) alone; `fine` is not looked at."""
        seen = self.see(x)
        return self.say(self.places(seen), seen)


def _places(c_in: int, c_out: int, factor: int) -> nn.Sequential:
    """Features at `factor` x `factor` places of every location."""
    up = nn.ConvTranspose2d(c_in, c_out, factor, factor, bias=False)
    return nn.Sequential(up, nn.BatchNorm2d(c_out), nn.ReLU(inplace=True))
