"""A small world that is wholly known: drawn fields of two kinds of cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FIELDS, WIDTH, HEIGHT = 4, 400, 300


@pytest.fixture(scope="session")
def blood(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a COCO file: pale fields on which dark discs are WBC and paler ones RBC, four and four a field."""
    folder = tmp_path_factory.mktemp("data") / "blood"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    images, annotations = [], []
    for i in range(FIELDS):
        rgb = np.full((HEIGHT, WIDTH, 3), (228, 215, 224), float)
        places = [(60 + 90 * column, 90 + 120 * row) for row in range(2) for column in range(4)]
        for n, (cx, cy) in enumerate(places):
            cx, cy = cx + int(rng.integers(-12, 13)), cy + int(rng.integers(-12, 13))
            rgb[np.hypot(x - cx, y - cy) < 24] = ((80, 50, 120), (200, 120, 130))[n % 2]
            annotations.append({"id": len(annotations), "image_id": i, "category_id": 1 + n % 2,
                                "bbox": [cx - 25, cy - 25, 50, 50]})  # fmt: skip
        name = f"field{i}.png"
        Image.fromarray((rgb + rng.normal(0, 4, rgb.shape)).clip(0, 255).astype(np.uint8)).save(
            folder / "images" / name
        )
        images.append({"id": i, "file_name": name})
    categories = [{"id": 1, "name": "WBC"}, {"id": 2, "name": "RBC"}, {"id": 3, "name": "never seen"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    return folder
