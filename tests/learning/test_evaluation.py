"""The figures on the card, against hand-counted cases and against themselves on real fields."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from napari_cervcell.cells import Cells
from napari_cervcell.learning.evaluation import Judged, evaluate, match_points, score_cells
from napari_cervcell.learning.fields import DataError, class_names, read_fields, split_names
from napari_cervcell.learning.rounds import REPLAY
from napari_cervcell.models import Model
from napari_cervcell.taxonomy import BETHESDA

IMAGES = "image\na.png\n"
TWICE = json.dumps(
    {
        "categories": [],
        "annotations": [],
        "images": [{"id": 1, "file_name": "a/1.png"}, {"id": 2, "file_name": "b/1.png"}],
    }
)
POINTS = "image,class,x,y\n"
INSIDE_OUT = json.dumps(
    {
        "categories": [{"id": 1, "name": "NILM"}],
        "annotations": [{"image_id": 1, "category_id": 1, "bbox": [120, 100, -40, 30]}],
        "images": [{"id": 1, "file_name": "1.png"}],
    }
)


def cells_at(*found: tuple[float, float, float, int]) -> Cells:
    """Cells from (x, y, score, class)."""
    x, y, score, label = np.array(found, float).reshape(-1, 4).T
    return Cells(np.stack([x - 30, y - 30, x + 30, y + 30], 1), label, score, np.ones(len(x)))


def points(*places: tuple[float, float]) -> np.ndarray:
    return np.array(places, np.float32).reshape(-1, 2)


def test_the_higher_score_takes_the_point_and_the_second_is_a_false_alarm() -> None:
    cells = cells_at((100, 100, 0.5, 0), (104, 100, 0.9, 0))
    assert match_points(cells, points((101, 100))).tolist() == [-1, 0]


def test_a_hit_lies_within_24_px() -> None:
    cells = cells_at((100, 100, 0.9, 0), (300, 100, 0.8, 0))
    assert match_points(cells, points((124, 100), (324.5, 100))).tolist() == [0, -1]


def test_the_nearest_unused_point_counts() -> None:
    cells = cells_at((100, 100, 0.9, 0), (100, 100, 0.8, 0))
    assert match_points(cells, points((110, 100), (105, 100))).tolist() == [1, 0]


def test_figures_counted_by_hand() -> None:
    """Two fields, four points; found in order: hit, miss, hit, hit; one point never found."""
    field_a = (
        cells_at((100, 100, 0.9, 0), (500, 500, 0.8, 0), (300, 100, 0.7, 2)),
        points((100, 100), (300, 100)),
        np.array([0, 1], np.int16),
    )
    field_b = (cells_at((50, 50, 0.6, 2)), points((50, 50), (400, 400)), np.array([2, 2], np.int16))
    figures = score_cells([Judged(*field_a), Judged(*field_b)], BETHESDA.names)
    # precision at the hits 1, 2/3, 3/4; its envelope 1, 3/4, 3/4; each hit adds a recall of 1/4
    assert figures["ap"] == pytest.approx((1 + 0.75 + 0.75) / 4)
    assert figures["precision"] == pytest.approx(3 / 4)
    assert figures["recall"] == pytest.approx(3 / 4)
    assert figures["f1"] == pytest.approx(3 / 4)
    assert figures["threshold"] == pytest.approx(0.6)
    # of those found: the NILM right, the ASC-US called LSIL, the LSIL right; other classes are not there
    assert figures["balanced_accuracy"] == pytest.approx((1 + 0 + 1) / 3)
    assert figures["per_class"]["LSIL"] == {"ap": pytest.approx(0.25), "recall": 1.0, "n": 2}
    assert figures["per_class"]["SCC"] == {"ap": None, "recall": None, "n": 0}
    assert (figures["n_images"], figures["n_cells"]) == (2, 4)


def test_each_class_ranks_every_detection_by_how_likely_it_is_of_it() -> None:
    """Both cells are HSIL, the second likelier SCC: as HSIL it still comes before the false one."""
    cells = cells_at((100, 100, 0.9, 4), (300, 100, 0.8, 5), (500, 500, 0.9, 4))
    shares = np.zeros((3, 6), np.float32)
    shares[:, 4], shares[:, 5] = (0.9, 0.4, 0.3), (0.1, 0.6, 0.2)
    cells.class_scores = shares[np.arange(3), cells.labels]
    here = points((100, 100), (300, 100)), np.array([4, 4], np.int16)
    figures = score_cells([Judged(cells, *here, shares)], BETHESDA.names)
    assert figures["per_class"]["HSIL"]["ap"] == pytest.approx(1)
    # of the classes that are there, which is one
    assert figures["mean_ap"] == pytest.approx(1)
    assert figures["mean_ap_named"] == pytest.approx(1 / 2)
    assert figures["balanced_accuracy"] == pytest.approx(1 / 2)


def test_recall_as_the_papers_have_it_counts_what_is_likely_enough_whatever_else_it_is_called() -> None:
    """Both cells are SCC and called HSIL: one of them is SCC with 0.09, the other with 0.04."""
    cells = cells_at((100, 100, 0.9, 4), (300, 100, 0.8, 4))
    shares = np.zeros((2, 6), np.float32)
    shares[:, 4], shares[:, 5] = (0.9, 0.95), (0.1, 0.05)
    here = points((100, 100), (300, 100)), np.array([5, 5], np.int16)
    figures = score_cells([Judged(cells, *here, shares)], BETHESDA.names)
    assert figures["mean_recall"] == pytest.approx(1 / 2)
    assert figures["balanced_accuracy"] == 0


def test_nothing_found_is_zero_and_not_an_error() -> None:
    figures = score_cells([Judged(Cells(), points((1, 1)), np.zeros(1, np.int16))], BETHESDA.names)
    assert (figures["ap"], figures["f1"], figures["balanced_accuracy"]) == (0, 0, 0)


def test_the_shipped_model_knows_its_fields(shipped_model: Model) -> None:
    fields = read_fields(REPLAY, BETHESDA)[:4]
    figures = evaluate(shipped_model, fields)
    assert figures["ap"] > 0.85
    assert figures["n_cells"] == sum(len(f.labels) for f in fields)


def write_coco(folder: Path, name: str, rows: list[dict[str, str]]) -> None:
    names = sorted({r["class"] for r in rows})
    coco = {
        "images": [{"id": 7, "file_name": name}],
        "categories": [{"id": i, "name": n} for i, n in enumerate(names)],
        "annotations": [
            {
                "image_id": 7,
                "category_id": names.index(r["class"]),
                "bbox": [float(r["x"]) - 30, float(r["y"]) - 30, 60, 60],
            }
            for r in rows
        ],
    }
    (folder / "coco.json").write_text(json.dumps(coco))


def test_a_coco_folder_and_a_points_folder_say_the_same(tmp_path: Path) -> None:
    rows = list(csv.DictReader((REPLAY / "points.csv").open()))
    name = rows[0]["image"]
    rows = [r for r in rows if r["image"] == name]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / name).write_bytes((REPLAY / "images" / name).read_bytes())
    write_coco(tmp_path, name, rows)
    (field,) = read_fields(tmp_path, BETHESDA)
    (same,) = read_fields(REPLAY, BETHESDA, [name])
    centre = [(f.boxes[:, :2] + f.boxes[:, 2:]) / 2 for f in (field, same)]
    np.testing.assert_allclose(*centre, atol=0.01)
    np.testing.assert_array_equal(field.labels, same.labels)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "no folder images/"),
        ({"images/.keep": ""}, "neither images.csv"),
        ({"images/.keep": "", "a.json": "{"}, "not a COCO file"),
        ({"images/.keep": "", "images.csv": IMAGES, "points.csv": "image,class,x\na.png,NILM,3\n"}, "not as expected"),
        ({"images/.keep": "", "images.csv": IMAGES, "points.csv": POINTS + "a.png,Cat,3,3\n"}, "no class 'Cat'"),
        ({"images/.keep": "", "images.csv": IMAGES, "points.csv": POINTS + "a.png,NIL\n"}, "not as expected"),
        ({"images/.keep": "", "images.csv": "image,mpp\na.png,0\n", "points.csv": POINTS}, "0.0 µm per px"),
        ({"images/.keep": "", "a.json": TWICE}, "two images have the same name"),
        ({"images/.keep": "", "a.json": INSIDE_OUT}, r"a\.json gives a cell in 1\.png the box .*-40"),
        ({"images/.keep": "", "a.json": INSIDE_OUT.replace("-40", "NaN")}, "the box .*nan"),
        ({"images/.keep": "", "a.json": "[" * 100_000}, r"a\.json is not a COCO file"),
        ({"images/.keep": "", "images.csv": IMAGES, "points.csv": POINTS + "x" * 200_000}, "not as expected"),
        ({"images/a.png": "", "images.csv": IMAGES, "points.csv": POINTS}, r"Cannot read the image .*a\.png"),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_fields(tmp_path, BETHESDA)


@pytest.mark.parametrize("x", ["nan", "120", "inf", "-90"])
def test_a_cell_outside_of_its_image_is_refused(tmp_path: Path, x: str) -> None:
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 40)).save(tmp_path / "images" / "a.png")
    (tmp_path / "images.csv").write_text(IMAGES)
    (tmp_path / "points.csv").write_text(f"image,class,x,y\na.png,NILM,3,3\na.png,NILM,{x},3\n")
    with pytest.raises(DataError, match=rf"a\.png is labelled at \({x}, 3\), outside of the image \(40 x 40 px\)"):
        read_fields(tmp_path, BETHESDA)


def test_splits_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("image,split\na,test\nb,train\n")
    assert split_names(tmp_path / "s.csv", "test") == ["a"]
    with pytest.raises(DataError, match="no image of the split 'val'"):
        split_names(tmp_path / "s.csv", "val")
    (tmp_path / "s.csv").write_text("image,split\na,test\n", encoding="utf-8-sig")  # as Excel saves it
    assert split_names(tmp_path / "s.csv", "test") == ["a"]


def test_classes_are_read_from_a_table_that_excel_saved(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("class,image,x,y\nNILM,a.png,3,3\n", encoding="utf-8-sig")
    assert class_names(tmp_path) == ["NILM"]


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_an_image_of_more_than_8_bits_is_refused(tmp_path: Path, kind: type) -> None:
    """It would come out white wherever it is brighter than 255."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images.csv").write_text("image\na.tif\n")
    (tmp_path / "points.csv").write_text(POINTS)
    Image.fromarray(np.full((40, 40), 3000, kind)).save(tmp_path / "images" / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif .*Convert it to RGB of 8 bits first"):
        read_fields(tmp_path, BETHESDA)
