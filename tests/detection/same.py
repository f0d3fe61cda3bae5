"""What it means that cells are the same, and there once."""

from __future__ import annotations

import numpy as np

from napari_cervcell.cells import Cells, iou_with
from napari_cervcell.detection import pick_device
from napari_cervcell.models import OVERLAP

# whose last digits are the same however large the image
EXACT = "cpu-openvino-f32" if pick_device("cpu") == "cpu-openvino" else "cpu-torch"


def assert_each_once(cells: Cells) -> None:
    for i, box in enumerate(cells.boxes):
        assert (iou_with(box, np.delete(cells.boxes, i, 0)) <= OVERLAP).all()


def assert_same_cells(these: Cells, those: Cells) -> None:
    """To the last digit, in whatever order."""
    order, other = (np.lexsort(cells.boxes.T) for cells in (these, those))
    np.testing.assert_array_equal(these.boxes[order], those.boxes[other])
    np.testing.assert_array_equal(these.scores[order], those.scores[other])
