"""The same weights as others run them over a slide: SAHI's sliced inference around plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..cells import Cells
from ..detection import Rectangle, TileGrid
from ..detection.engines import Engine, infer
from ..models import OVERLAP, Model, decode
from .peers import openslide_reader

__all__ = ["SAHI", "sahi"]

SAHI = "SAHI"

_SLICE, _OVERLAP = 512, 0.2  # px of the network's input, and SAHI's own share of it


def sahi(path: Path, region: Rectangle, grid: TileGrid, model: Model, engine: Engine) -> Callable[[], Cells]:
    """Return what finds the cells of a region as SAHI does, all of it read by OpenSlide, in level-0 px.

    It looks once at every slice, as we do at every tile, and merges by the same rule. `engine` is plain torch. Raises
    ImportError where SAHI or OpenSlide is not installed.
    """
    from sahi.predict import get_sliced_prediction

    read = openslide_reader(path)
    adapter: Any = _Adapter(model, engine)
    x, y, width, height = (round(v) for v in (*region[:2], region[2] - region[0], region[3] - region[1]))
    step_x, step_y = grid.steps

    def find() -> Cells:
        size = round(width / step_x), round(height / step_y)
        image = np.asarray(Image.fromarray(read(x, y, width, height)).resize(size, Image.Resampling.BILINEAR))
        result = get_sliced_prediction(
            image,
            adapter,
            _SLICE,
            _SLICE,
            _OVERLAP,
            _OVERLAP,
            perform_standard_pred=False,
            postprocess_type="NMS",
            postprocess_match_metric="IOU",
            postprocess_match_threshold=OVERLAP,
            postprocess_class_agnostic=True,
            verbose=0,
        )
        found = result.object_prediction_list
        cells = Cells(
            np.array([o.bbox.to_xyxy() for o in found], np.float32),
            np.array([o.category.id for o in found], np.int16),
            np.array([o.score.value for o in found], np.float32),
            np.ones(len(found), np.float32),
        )
        return cells.moved(x, y, (step_x, step_y))

    return find


class _Adapter:
    """What SAHI asks of its DetectionModel."""

    def __init__(self, model: Model, engine: Engine) -> None:
        self.confidence_threshold = model.threshold
        self.object_prediction_list_per_image: list[list[Any]] = []
        self._names = model.taxonomy.names
        self._engine = engine
        self._cells: list[Cells] = []

    def perform_batch_inference(self, images: list[NDArray[np.uint8]]) -> None:
        self._cells = decode(infer(self._engine, np.stack(images)), self.confidence_threshold)

    def convert_original_predictions(self, shift_amount: list[list[int]], full_shape: list[list[int]]) -> None:
        from sahi.prediction import ObjectPrediction

        self.object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=cells.boxes[i].tolist(),
                    category_id=int(cells.labels[i]),
                    category_name=self._names[cells.labels[i]],
                    score=float(cells.scores[i]),
                    shift_amount=shift,
                    full_shape=full,
                )
                for i in range(len(cells))
            ]
            for cells, shift, full in zip(self._cells, shift_amount, full_shape, strict=True)
        ]
