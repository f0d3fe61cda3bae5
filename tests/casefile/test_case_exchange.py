"""Cells out to other programs and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, CaseError, State, Verdict, export_case, import_cells, present_cells
from napari_cervcell.cells import Cells
from napari_cervcell.taxonomy import BETHESDA

FORMATS = ["geojson", "coco", "csv"]


def filled(case: Case) -> Case:
    """One cell of each state, and five detections that nobody spoke of, on three tiles."""
    rng = np.random.default_rng(0)
    centres = np.array([(100, 100), (700.25, 130.5), (740, 120), (1300, 90), (90, 300)], np.float32)
    sides = rng.uniform(20, 30, (5, 1)).astype(np.float32)
    cells = Cells(np.hstack([centres - sides, centres + sides]), [0, 1, 2, 3, 4], rng.random(5), rng.random(5))
    run = case.start_run("secret-model", "m", "slide")
    tile = (centres[:, 0] // 512).astype(int)
    case.write_tiles(run, [(i * 512, 0, 512, cells[tile == i]) for i in range(3)])
    case.record(
        [
            Verdict("accept", (5000, 5000, 5040.5, 5041), 2, detected_label=2, score=0.75),
            Verdict("class", (6000, 5000, 6040, 5040), 4, detected_label=2, score=0.5),
            Verdict("reject", (7000, 5000, 7040, 5040), 1, detected_label=1, score=0.25),
            Verdict("add", (8000, 5000, 8040, 5040), 5),
            Verdict("reject", (9000, 5000, 9040, 5040), -1),
        ]
    )
    return case


def table(case: Case) -> np.ndarray:
    """All that an exchange must keep, a row a cell, in an order of its own."""
    annotations = case.annotations()
    present = present_cells(case.detections().cells, annotations)
    detected = present.cells.labels.copy()
    detected[: len(annotations)] = annotations.detected_labels
    c = present.cells
    columns = np.column_stack([c.boxes, c.labels, present.states, detected, np.nan_to_num(c.scores, nan=-1)])
    columns = np.column_stack([columns, np.where(present.states == 0, c.class_scores, 0)])
    return columns[np.lexsort((columns[:, 1], columns[:, 0]))]


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(new_case: Callable[..., Case], tmp_path: Path, format: str) -> None:
    case, other = filled(new_case("a.cervcell")), new_case("b.cervcell")
    path = tmp_path / f"cells.{'json' if format == 'coco' else format}"
    assert export_case(case, path, format) == 10
    assert import_cells(other, path) == 10
    np.testing.assert_allclose(table(other), table(case), atol=0.02)
    assert import_cells(other, path) == 0  # all of it is there already
    assert import_cells(case, path) == 0
    again = tmp_path / f"again-{path.name}"
    export_case(other, again, format)
    assert sorted(_lines(again)) == sorted(_lines(path))


def _lines(path: Path) -> list[str]:
    """The cells of a file, without the numbers that COCO gives them."""
    if path.suffix == ".json":
        return [json.dumps({**a, "id": 0}) for a in json.loads(path.read_text())["annotations"]]
    return [line.rstrip(",") for line in path.read_text().splitlines()]


def test_what_is_brought_in_survives_and_its_verdicts_are_one_step(new_case, tmp_path: Path) -> None:
    case, other = filled(new_case("a.cervcell")), new_case("b.cervcell")
    export_case(case, tmp_path / "cells.csv", "csv")
    import_cells(other, tmp_path / "cells.csv")
    assert {e.reviewer for e in other.events()} == {"ada lovelace"}
    with Case.open(other.path) as again:
        assert len(again.annotations()) == 5
        assert again.undo()
        assert len(again.annotations()) == 0


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_in_an_export_identifies(case: Case, tmp_path: Path, format: str) -> None:
    export_case(filled(case), tmp_path / "out", format)
    text = (tmp_path / "out").read_text()
    for private in (case.reviewer, case.slide_name, case.fingerprint, "secret-model", case.events()[0].time[:10]):
        assert private not in text
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("format", FORMATS)
def test_an_empty_case_makes_a_whole_file(case: Case, tmp_path: Path, format: str) -> None:
    assert export_case(case, tmp_path / "out", format) == 0
    assert import_cells(case, tmp_path / "out") == 0


def test_geojson_is_what_qupath_reads(case: Case, tmp_path: Path) -> None:
    export_case(filled(case), tmp_path / "cells.geojson", "geojson")
    data = json.loads((tmp_path / "cells.geojson").read_text())
    assert data["type"] == "FeatureCollection"
    by_state = {f["properties"]["metadata"]["state"]: f for f in data["features"]}
    accepted, rejected, new = (by_state[s] for s in ("accepted", "rejected", "new"))
    assert accepted["type"] == "Feature"
    assert accepted["geometry"]["type"] == "Polygon"
    [ring] = accepted["geometry"]["coordinates"]
    assert ring == [[5000, 5000], [5040.5, 5000], [5040.5, 5041], [5000, 5041], [5000, 5000]]
    assert accepted["properties"]["objectType"] == "annotation"
    assert accepted["properties"]["classification"] == {"name": "LSIL", "color": [0xFF, 0xF0, 0x5A]}
    assert accepted["properties"]["measurements"] == {"score": 0.75}
    assert new["properties"]["objectType"] == "detection"
    assert rejected["properties"]["classification"]["name"] == "Ignore*"


def test_geojson_of_qupath(case: Case, tmp_path: Path) -> None:
    def feature(ring, **properties) -> dict:
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}

    features = [
        feature([[10, 10], [30, 20], [20, 50], [10, 10]], objectType="annotation", classification={"name": "HSIL"}),
        feature(
            [[110, 10], [130, 20], [120, 50], [110, 10]],
            objectType="detection",
            classification={"name": "nilm"},
            measurements=[{"name": "score", "value": 0.5}],
        ),
        feature([[210, 10], [230, 20], [220, 50], [210, 10]], classification={"name": "Ignore*"}),
        feature([[0, 0], [900, 0], [900, 900], [0, 0]], objectType="annotation"),  # a region, of no class
        feature(  # exported from here as a detection, given another class there
            [[310, 10], [330, 20], [320, 50], [310, 10]],
            objectType="detection",
            classification={"name": "SCC"},
            metadata={"state": "new", "detected_class": "NILM"},
        ),
    ]
    path = tmp_path / "qupath.geojson"
    path.write_text(json.dumps(features))
    assert import_cells(case, path) == 4
    known = case.annotations()
    assert known.boxes[0].tolist() == [10, 10, 30, 50]
    assert known.states.tolist() == [State.ADDED, State.REJECTED, State.CORRECTED]
    assert known.labels.tolist() == [4, -1, 5]
    detected = case.detections().cells
    assert (detected.labels.tolist(), detected.scores.tolist()) == ([0], [0.5])


def test_coco_gives_rejected_cells_no_class_that_somebody_could_train_on(case: Case, tmp_path: Path) -> None:
    export_case(filled(case), tmp_path / "cells.json", "coco")
    data = json.loads((tmp_path / "cells.json").read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    assert [names[a["category_id"]] for a in data["annotations"] if a["state"] == "rejected"] == ["rejected"] * 2
    assert data["images"] == [{"id": 1, "file_name": "slide", "width": 20000, "height": 10000}]
    assert {a["image_id"] for a in data["annotations"]} == {1}


def test_a_csv_of_points_gets_boxes_of_a_cell(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,class\n100,200,LSIL\n")
    assert import_cells(case, path) == 1
    known = case.annotations()
    assert known.boxes.tolist() == [[70, 170, 130, 230]]  # 15 µm at 0.25 µm a pixel
    assert known.states.tolist() == [State.ADDED]


def test_the_verdict_of_a_file_goes_on_the_cell_that_it_is_about(case: Case, tmp_path: Path) -> None:
    [cell] = case.record([Verdict("accept", (80, 180, 120, 220), 1, detected_label=1, score=0.5)])
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n102,199,HSIL,added\n")
    assert import_cells(case, path) == 1
    known = case.annotations()
    assert (known.ids.tolist(), known.labels.tolist(), known.states.tolist()) == ([cell], [4], [State.CORRECTED])
    case.undo()
    assert case.annotations().labels.tolist() == [1]


def test_detections_brought_in_join_those_of_the_model(case: Case, tmp_path: Path) -> None:
    filled(case)
    before = len(case.detections())
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n101,101,HSIL,new\n400,400,HSIL,new\n3000,3000,HSIL,new\n")
    assert import_cells(case, path) == 2  # the first is there already
    assert len(case.detections()) == before + 2
    run = case.start_run("m2", "m2", "view")
    case.write_tile(run, 0, 0, 512, Cells())
    assert not ((case.detections().cells.centres < 512).all(axis=1)).any()


def test_detections_brought_in_stay_until_a_model_looks_at_their_place_whatever_its_tiles(
    case: Case, tmp_path: Path
) -> None:
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n" + "".join(f"{x},300,HSIL,new\n" for x in range(100, 3000, 100)))
    assert import_cells(case, path) == 29
    run = case.start_run("m", "m", "view")
    for x in (0, 976):
        case.write_tile(run, x, 0, 976, Cells())
    assert case.detections().cells.centres[:, 0].tolist() == list(range(2000, 3000, 100))


def test_detections_brought_in_leave_those_of_the_model_as_they_are(case: Case, tmp_path: Path) -> None:
    filled(case)
    before = case.detections()
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n400,400,HSIL,new\n")
    import_cells(case, path)
    after = case.detections()
    np.testing.assert_array_equal(after.cells.boxes[: len(before)], before.cells.boxes)
    assert [after.model_ids[run] for run in after.runs.tolist()] == ["secret-model"] * 3 + [""]


def test_detections_brought_in_keep_their_class_when_a_merge_is_taken_back(case: Case, tmp_path: Path) -> None:
    filled(case)
    labels, classes = case.detections().cells.labels, list(BETHESDA.classes)
    case.taxonomy = replace(BETHESDA, classes=(*classes[:3], replace(classes[3], into=4), *classes[4:]))
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n400,400,HSIL,new\n")
    import_cells(case, path)
    case.taxonomy = BETHESDA
    assert case.detections().cells.labels.tolist() == [*labels.tolist(), 4]


def test_a_verdict_brought_in_puts_the_model_to_the_test_that_has_found_the_cell(case: Case, tmp_path: Path) -> None:
    filled(case)
    path = tmp_path / "points.csv"
    path.write_text("x,y,class,state\n101,101,NILM,accepted\n400,400,HSIL,added\n")
    assert import_cells(case, path) == 2
    assert case.annotations().model_ids[-2:].tolist() == ["secret-model", ""]


def test_points_of_qupath_are_one_cell_each(case: Case, tmp_path: Path) -> None:
    points = [[150, 150], [900, 900], [400, 200]]
    feature = {
        "type": "Feature",
        "geometry": {"type": "MultiPoint", "coordinates": points},
        "properties": {"objectType": "annotation", "classification": {"name": "HSIL"}},
    }
    path = tmp_path / "points.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert import_cells(case, path) == 3
    assert sorted(((b[:2] + b[2:]) / 2).tolist() for b in case.annotations().boxes) == sorted(points)


@pytest.mark.parametrize("format", ["geojson", "coco"])
def test_what_is_renamed_elsewhere_has_the_last_word(
    new_case: Callable[..., Case], tmp_path: Path, format: str
) -> None:
    """A rejected cell that is given a class there is a cell; a detection that is called none there is rejected."""
    case, other = new_case("a.cervcell"), new_case("b.cervcell")
    found = Cells(np.float32([[80, 80, 120, 120], [280, 80, 320, 120]]), [4, 4], np.full(2, 0.9), np.full(2, 0.9))
    case.write_tile(case.start_run("m", "m", "slide"), 0, 0, 512, found)
    case.record([Verdict("reject", found.boxes[0], 4, detected_label=4, score=0.9)])
    path = tmp_path / ("cells.json" if format == "coco" else "cells.geojson")
    export_case(case, path, format)
    data = json.loads(path.read_text())
    if format == "coco":
        for cell in data["annotations"]:
            cell["category_id"] = 3 if cell["category_id"] == 0 else 0
    else:
        for cell in data["features"]:
            name = cell["properties"]["classification"]["name"]
            cell["properties"]["classification"]["name"] = "LSIL" if name == "Ignore*" else "Ignore*"
    path.write_text(json.dumps(data))
    assert import_cells(other, path) == 2
    said = other.annotations()
    order = np.argsort(said.boxes[:, 0])
    assert said.states[order].tolist() == [State.CORRECTED, State.REJECTED]
    assert said.labels[order].tolist() == [2, 4]
    assert said.detected_labels[order].tolist() == [4, 4]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "x,y,class\n1,2,Zebra\n", "line 2: no class 'Zebra'"),
        ("a.csv", "x,y,class\n1,2,HSIL\n1,two,HSIL\n", "line 3"),
        ("a.csv", "x,y,class\n1,nan,HSIL\n", "line 2"),
        ("a.csv", "x,y,class\n1,2,\n", "no class"),
        ("a.csv", "x,y,class,state\n1,2,HSIL,doubtful\n", "doubtful"),
        ("a.csv", "x,y,class\n1,2\n", "line 2: it is too short"),
        ("a.csv", "x,y,class,score\n1,2,HSIL,inf\n", "line 2: a score is infinite"),
        ("a.csv", 'x,y,class\n1,2,"' + 140_000 * "x", "field larger"),
        ("a.csv", "row,column\n1,2\n", "columns x, y and class"),
        ("a.csv", "", "columns x, y and class"),
        ("a.csv", "x,y,class\n30000,2,HSIL\n", "outside the slide one.svs"),
        ("a.geojson", "{", "Cannot import"),
        ("a.geojson", "{}", "lacks 'features'"),
        ("a.geojson", '{"features": [1]}', "Cannot import"),
        ("a.geojson", 5000 * "[", "Cannot import"),
        ("a.json", '[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4]}]', "no feature of GeoJSON"),
        ("a.json", '{"images": [], "annotations": []}', "lacks 'categories'"),
        ("a.json", '{"images": [1, 2], "annotations": []}', "2 images"),
        ("a.json", '{"images": [], "categories": [], "annotations": [{"category_id": 1}]}', "Cannot import"),
        ("a.json", "", "Cannot import"),
    ],
)
def test_a_bad_file_is_named_with_the_reason_and_brings_nothing(
    case: Case, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(CaseError, match=reason) as caught:
        import_cells(case, path)
    assert str(path) in str(caught.value)
    assert case.events() == []
    assert case.runs() == []


def test_files_that_are_not_there_and_places_that_cannot_be_written(case: Case, tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="Cannot read"):
        import_cells(case, tmp_path / "none.csv")
    (tmp_path / "photo.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(CaseError, match="not a text file"):
        import_cells(case, tmp_path / "photo.csv")
    with pytest.raises(CaseError, match="Cannot export"):
        export_case(case, tmp_path / "nowhere" / "out.csv", "csv")
    with pytest.raises(CaseError, match="no format 'xml'"):
        export_case(case, tmp_path / "out", "xml")


def test_a_failed_export_leaves_the_old_file(case: Case, tmp_path: Path) -> None:
    target = tmp_path / "out.csv"
    target.mkdir()
    with pytest.raises(CaseError, match="Cannot export"):
        export_case(case, target, "csv")
    assert sorted(p.name for p in tmp_path.glob("*.part")) == []
