"""Every experiment runs from its command, goes on where it stopped, and writes its table."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import napari_cervcell.learning
from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.taxonomy import BETHESDA

ROOT = Path(__file__).parents[2] / "training"
FIELDS = Path(napari_cervcell.learning.__file__).parent / "replay"
EXPERIMENTS = (
    "sparse_labels",
    "sparse_detector",
    "rare_classes",
    "long_tail",
    "long_tail_heads",
    "hard_negatives",
    "unlabelled",
    "unlabelled_detector",
    "one_out",
    "forgetting",
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs of three sizes in four images, told of as boxes of a COCO file and as numbers in masks."""
    folder = tmp_path_factory.mktemp("drawn")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    y, x = np.mgrid[:128, :160]
    images, annotations = [], []
    for i in range(4):
        rgb = rng.integers(200, 240, (128, 160, 3), dtype=np.uint8)
        numbers = np.zeros((128, 160), np.uint16)
        for cx, cy, r in ((30, 30, 8), (80, 40, 15), (120, 90, 15), (40, 95, 20)):
            disc = (x - cx) ** 2 + (y - cy) ** 2 < r**2
            rgb[disc] //= 2
            numbers[disc] = numbers.max() + 1
            box = [cx - r, cy - r, 2 * r, 2 * r]
            annotations.append({"id": len(annotations), "image_id": i, "category_id": r % 2, "bbox": box})
        Image.fromarray(rgb).save(folder / "images" / f"{i}.png")
        Image.fromarray(numbers).save(folder / "masks" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png"})
    kinds = [{"id": 0, "name": "round"}, {"id": 1, "name": "odd"}]
    coco = {"images": images, "categories": kinds, "annotations": annotations}
    (folder / "coco.json").write_text(json.dumps(coco), encoding="utf-8")
    return folder


def sheets_of_replay(cache: Path) -> list[Any]:
    """Return the two train fields of a smoke run, as features of an untrained network."""
    table, features = (importlib.import_module(f"experiments.{n}") for n in ("table", "features"))
    fields = table.fields_by_split(FIELDS, smoke=True)["train"]
    return list(features.sheets(fields, [f.name for f in fields], features.untrained(), cache).values())


@pytest.mark.usefixtures("few_earlier_fields")
@pytest.mark.parametrize("name", [*EXPERIMENTS, "sparse_labels --coco drawn", "sparse_masks"])
def test_it_writes_a_table_and_a_plot_and_is_not_run_twice(name: str, cache: Path, drawn: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    script, *options = name.split()
    experiment = importlib.import_module(script)
    data = FIELDS if name in EXPERIMENTS else drawn
    places = ["--data", str(data), "--cache", str(cache), "--results", str(tmp_path)]
    table = experiment.main([*places, "--scale", "smoke", *options])
    assert table.rows
    assert not options or options[-1] in table.path.name
    assert all(np.isfinite(float(row[f])) for row in table.rows for f in table.figures if row.get(f))
    assert "smoke run" in table.path.with_suffix(".md").read_text(encoding="utf-8")
    assert table.path.with_suffix(".png").stat().st_size > 0

    first = table.path.read_text(encoding="utf-8").splitlines()
    table.path.write_text("\n".join([*first[:-1], ""]), encoding="utf-8")  # as if cut off before the last cell
    ran = []
    again = importlib.import_module("experiments.table").Table(table.path, table.keys, None)
    again.settings, again.rows = table.settings, table.rows[:-1]
    again.fill([tuple(r[k] for k in table.keys) for r in table.rows], lambda *cell: ran.append(cell) or {"ap": 0.0})
    assert ran == [tuple(table.rows[-1][k] for k in table.keys)]


def test_rows_of_an_earlier_form_of_an_experiment_are_dropped(tmp_path: Path) -> None:
    from experiments.table import Table  # of the scripts' folder

    path = tmp_path / "t.csv"
    Table(path, ("rule", "seed"), "steps 3").fill([("a", 0)], lambda *_: {"ap": 0.5})
    assert len(Table(path, ("rule", "seed"), "steps 3").rows) == 1
    assert not Table(path, ("rule", "seed"), "steps 4").rows


def test_the_mean_over_seeds_has_its_spread(tmp_path: Path) -> None:
    from experiments.table import Table

    table = Table(tmp_path / "t.csv", ("rule", "seed"), None)
    table.fill([("a", s) for s in range(3)], lambda rule, seed: {"ap": 0.1 * seed})
    table.markdown("Title", "", smoke=False)
    assert "| a | 0.100 ± 0.082 | 3 |" in table.path.with_suffix(".md").read_text(encoding="utf-8")


def test_the_same_seed_keeps_the_same_cells_and_a_share_or_a_number_of_them(cache: Path) -> None:
    sparse = importlib.import_module("sparse_labels")
    sheets = sheets_of_replay(cache)
    kept = sparse.kept_cells(sheets, "3 a field", 1)
    assert [int(k.sum()) for k in kept] == [min(3, len(s.labels)) for s in sheets]
    for labels in ("0.4", "3 a field"):
        for a, b in zip(sparse.kept_cells(sheets, labels, 1), sparse.kept_cells(sheets, labels, 1), strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_dropped_cell_is_unknown_and_a_checked_field_has_nothing_unknown(cache: Path) -> None:
    finding = importlib.import_module("experiments.finding")
    sheets = sheets_of_replay(cache)
    whole = finding.locations(sheets, [np.ones(len(s.labels), bool) for s in sheets], checked=[True] * len(sheets))
    assert not len(whole.unknown)
    none = finding.locations(sheets, [np.zeros(len(s.labels), bool) for s in sheets])
    assert not len(none.positive)
    assert set(whole.positive) <= set(none.unknown)


def test_boxes_of_any_set_come_at_the_scale_of_the_fields_that_ship(drawn: Path) -> None:
    table = importlib.import_module("experiments.table")
    parts = table.boxed_fields_by_split(drawn, smoke=True)
    assert [len(parts[s]) for s in ("train", "val", "test")] == [2, 1, 1]
    field = parts["train"][0]
    assert field.rgb.shape == (256, 320, 3)  # the median disc is 30 px wide and becomes 60
    np.testing.assert_allclose(field.boxes[0], [44, 44, 76, 76])
    assert set(field.labels) == {0}
    np.testing.assert_allclose(field.checked, [[0, 0, 320, 256]])


def test_an_image_keeps_its_split_whatever_else_is_there() -> None:
    parted = importlib.import_module("experiments.table").parted
    names = [f"{i}.png" for i in range(300)]
    parts, fewer = parted(names, smoke=False), parted(names[::3], smoke=False)
    assert sorted(n for of in parts.values() for n in of) == sorted(names)
    assert all(set(fewer[split]) <= set(parts[split]) for split in parts)
    assert len(parts["train"]) > len(parts["test"]) > len(parts["val"]) > 30


@pytest.mark.parametrize("name", ["long_tail", "unlabelled"])
def test_every_head_begins_by_calling_next_to_nothing_a_cell(
    name: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    experiment = importlib.import_module(name)
    fresh, begun = experiment.head, []

    def head(outputs: int, features: int, *options: Any, **more: Any) -> Any:
        module = fresh(outputs, features, *options, **more)
        with torch.no_grad():
            logits = module(torch.zeros(1, features))[0]
        softmax = outputs > len(BETHESDA)
        begun.append(float(1 - torch.softmax(logits, 0)[-1] if softmax else torch.sigmoid(logits).max()))
        return module

    monkeypatch.setattr(experiment, "head", head)
    experiment.main(["--data", str(FIELDS), "--cache", str(cache), "--results", str(tmp_path), "--scale", "smoke"])
    assert begun
    assert max(begun) < 0.1


def test_what_is_falsely_found_far_from_all_cells_is_shown_the_surest_first(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    negatives = importlib.import_module("hard_negatives")
    sheets = sheets_of_replay(cache)
    cell = sheets[0].field.boxes[:1]
    far = np.array([[50, 60]], np.float32)
    assert np.hypot(*(centres_of(sheets[0].field.boxes) - far).T).min() > 40

    def decoded(logits: Any, sheet: Any, threshold: float) -> Cells:
        places = np.concatenate([cell, np.hstack([far, far]), np.hstack([far, far]) + 1])
        scores = np.array([0.99, 0.8, 0.9], np.float32)
        return Cells(places, np.zeros(3, np.int16), scores, scores) if sheet is sheets[0] else Cells()

    monkeypatch.setattr(negatives, "decoded", decoded)
    left = negatives.false_detections(negatives.head(1, sheets[0].rows.shape[2], 0), 0.5, sheets)
    assert [(round(score, 1), sheet, x) for score, sheet, (x, _) in left] == [(0.9, 0, 51), (0.8, 0, 50)]
    fields = [s.field for s in sheets]
    negatives.show(left, fields, tmp_path / "left.png")
    assert Image.open(tmp_path / "left.png").size[0] > 0
    rows = (tmp_path / "left.csv").read_text(encoding="utf-8").splitlines()
    assert rows == ["field,x,y,score", f"{fields[0].name},51,61,0.9000", f"{fields[0].name},50,60,0.8000"]


@pytest.mark.parametrize("right", [True, False])
def test_the_mean_teacher_is_believed_as_far_as_it_is_right_on_known_fields(
    right: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is as sure of itself in both cases."""
    unlabelled = importlib.import_module("unlabelled")
    known, sheet = sheets_of_replay(cache)

    def named(model: Any, sheet: Any) -> Cells:
        boxes = sheet.field.boxes + np.float32(0 if right or sheet is not known else 1000)
        scores = np.full(len(boxes), 0.9, np.float32)
        return Cells(boxes, sheet.labels, scores, scores)

    monkeypatch.setattr(unlabelled, "named", named)
    head = unlabelled.head(len(BETHESDA) + 1, sheet.rows.shape[2], 0, background=True)
    loss = unlabelled.FromTeacher(head, [sheet], 100.0, [known], 0, unlabelled.SCALES["smoke"])
    loss.ask(head)
    assert loss.taken == (len(sheet.labels) if right else 0)
    assert set(loss.label.tolist()) == (set(sheet.labels.tolist()) if right else set())


def test_the_balance_counts_a_drawn_row_for_all_that_it_stands_for(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    experiment = importlib.import_module("long_tail")
    ratios = {}
    for spread in (1.0, 10.0):

        class Draws(experiment.Draws):  # type: ignore[name-defined,misc]
            def __call__(self, spread: float = spread) -> Any:
                batch = super().__call__()
                return batch._replace(weight=torch.where(batch.label < 0, spread, 1.0))

        with monkeypatch.context() as patch:
            patch.setattr(experiment, "Draws", Draws)
            patch.setattr(experiment, "LOSSES", {"CE": ("ce", {})})
            patch.setitem(experiment.SCALES, "smoke", replace(experiment.SCALES["smoke"], steps=1))
            places = ["--data", str(FIELDS), "--cache", str(cache), "--results", str(tmp_path / str(spread))]
            (row,) = experiment.main([*places, "--scale", "smoke"]).rows
        ratios[spread] = float(row["balance NILM"])
    assert ratios[10.0] < ratios[1.0] / 5  # what other classes' cells push is as before


def test_kept_nuclei_and_as_many_discs_without_any_are_known(drawn: Path) -> None:
    masks = importlib.import_module("sparse_masks")
    pictures = masks.pictures_by_split(drawn, smoke=True)["train"]
    known = masks.known_pixels(pictures, "0.5", 1)
    for picture, k in zip(pictures, known, strict=True):
        kept = [n for n in range(1, 5) if k[picture.nuclei == n].any()]
        assert all(k[picture.nuclei == n].all() for n in kept)
        background = int((k & (picture.nuclei == 0)).sum())
        assert background <= len(kept) * np.pi * 16**2
        assert bool(background) == bool(kept)
    assert 0 < sum(k.sum() for k in known) < sum(k.size for k in known)
    assert all(k.all() for k in masks.known_pixels(pictures, "1", 1))


def test_a_network_that_is_right_of_every_pixel_has_the_best_figures(drawn: Path) -> None:
    masks = importlib.import_module("sparse_masks")
    pictures = masks.pictures_by_split(drawn, smoke=True)["test"]
    truth = torch.from_numpy(np.where(pictures[0].nuclei > 0, 20.0, -20.0).astype(np.float32))[None]
    right = masks.judged(lambda x: truth, pictures)
    assert right["ap"] == right["dice_at_half"] == right["best_dice"] == right["recall_at_half"] == 1
    assert right["calibration_error"] < 1e-6
    wrong = masks.judged(lambda x: -truth, pictures)
    assert wrong["dice_at_half"] == 0
    assert wrong["ap"] < 0.2
    assert wrong["calibration_error"] > 0.99


def test_detectors_are_compared_and_none_is_trained_twice(tmp_path: Path) -> None:
    compare = importlib.import_module("compare_heads")
    models = tmp_path / "models"
    places = ["--data", str(FIELDS), "--results", str(tmp_path), "--models", str(models)]
    options = [*places, "--scale", "smoke", "--only", "small-p4"]
    table = compare.main(options)
    (row,) = table.rows
    assert (row["head"], row["backbone"], row["rotations"]) == ("fcos", "small", "4")
    assert all(np.isfinite(float(row[f])) for f in table.figures)
    model = models / "fcos-small-p4.safetensors"
    made = model.stat().st_mtime_ns
    assert compare.main(options).rows == [row]
    assert model.stat().st_mtime_ns == made


def test_a_reviewer_rejects_what_lies_at_no_cell_and_scores_high() -> None:
    sparse = importlib.import_module("sparse_labels")
    x = np.arange(10, dtype=np.float32) * 100
    boxes, scores = np.stack([x, x, x + 30, x + 30], 1), np.linspace(0.9, 0.1, 10, dtype=np.float32)
    cells = Cells(boxes, np.zeros(10, np.int16), scores, scores)
    rejected = sparse.rejections([(cells, cells.centres[::2]), (Cells(), np.zeros((0, 2), np.float32))], 1, 2, 0)
    assert [len(r) for r in rejected] == [1, 0]
    assert rejected[0][0, 0] in x[1:6:2]  # one of the three surest


def test_scores_move_until_as_many_cells_are_found_as_there_must_be() -> None:
    detector, table = (importlib.import_module(n) for n in ("sparse_detector", "experiments.table"))
    fields = table.fields_by_split(FIELDS, smoke=True)["train"]
    bench = detector.Bench(fields, [], detector.SCALES["smoke"], smoke=True)
    model = bench.fit(fields, 0, "ce", 1)
    with torch.no_grad():
        model.network.head.cell.weight *= 1000  # untrained, it says nearly the same everywhere
    detector.move(model, fields, 5)
    sure = [detector.predict_field(model, f, 0.4).scores > 0.5 - 1e-6 for f in fields]
    assert sum(int(s.sum()) for s in sure) == 5
