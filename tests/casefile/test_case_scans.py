"""Detections: the newest run wins at each place."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cervcell.casefile import Case, CaseError
from napari_cervcell.cells import Cells


def cells_at(*xs: float, label: int = 0) -> Cells:
    boxes = np.array([(x, 0, x + 10, 10) for x in xs], np.float32).reshape(-1, 4)
    n = len(xs)
    return Cells(boxes, np.full(n, label), np.linspace(0.1, 0.9, n), np.full(n, 0.5))


def test_the_newest_run_wins_at_its_places_and_the_others_stay(case: Case) -> None:
    first = case.start_run("a", "model a", "slide")
    case.write_tiles(first, [(0, 0, 512, cells_at(5, 50)), (512, 0, 512, cells_at(600))])
    case.finish_run(first)
    second = case.start_run("b", "model b", "view")
    case.write_tile(second, 0, 0, 512, cells_at(7))
    found = case.detections()
    assert sorted(found.cells.boxes[:, 0].tolist()) == [7, 600]
    assert {found.model_ids[r]: x for r, x in zip(found.runs.tolist(), found.cells.boxes[:, 0], strict=True)} == {
        "b": 7,
        "a": 600,
    }
    assert sorted(map(tuple, found.tiles.tolist())) == [(0, 0), (512, 0)]
    assert dict(zip(map(tuple, found.tiles.tolist()), found.counts.tolist(), strict=True)) == {(0, 0): 1, (512, 0): 1}
    assert found.tile_size == 512
    assert case.scanned("b", 512) == {(0, 0)}
    assert case.scanned("a", 512) == {(512, 0)}
    assert [run.state for run in case.runs()] == ["done", "running"]


def test_a_tile_without_cells_clears_its_place(case: Case) -> None:
    for cells in (cells_at(5), Cells()):
        run = case.start_run("a", "a", "view")
        case.write_tile(run, 0, 0, 512, cells)
        case.finish_run(run, "cancelled")
    assert len(case.detections()) == 0
    assert case.scanned("a", 512) == {(0, 0)}


def test_tiles_of_another_grid_are_not_shown(case: Case) -> None:
    case.write_tile(case.start_run("a", "a", "slide"), 512, 0, 512, cells_at(600))
    case.write_tile(case.start_run("b", "b", "view"), 0, 0, 1024, cells_at(5))
    assert case.detections().cells.boxes[:, 0].tolist() == [5]
    assert case.scanned("a", 512) == set()
    assert case.detections(size=512).cells.boxes[:, 0].tolist() == [600]


def test_a_place_that_was_scanned_on_another_grid_is_to_be_scanned_again(case: Case) -> None:
    case.write_tile(case.start_run("a", "a", "slide"), 0, 0, 1024, cells_at(5))
    assert case.scanned("a", 1024) == {(0, 0)}
    assert case.scanned("a", 512) == set()


def test_a_case_without_detections(case: Case) -> None:
    found = case.detections()
    assert (len(found), found.tiles.shape, found.tile_size) == (0, (0, 2), 0)
    assert case.scanned("a", 512) == set()


def test_cells_come_back_as_they_were(case: Case) -> None:
    cells = cells_at(1, 2.5, 3.25, label=4)
    case.write_tile(case.start_run("a", "a", "slide"), 0, 0, 512, cells)
    with Case.open(case.path) as again:
        found = again.detections().cells
    np.testing.assert_array_equal(found.boxes, cells.boxes)
    np.testing.assert_array_equal(found.labels, cells.labels)
    np.testing.assert_array_equal(found.scores, cells.scores)
    np.testing.assert_array_equal(found.class_scores, cells.class_scores)


def looks_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 128)).astype(np.float16)


def test_what_cells_look_like_comes_back_tile_by_tile(case: Case) -> None:
    run, looks = case.start_run("a", "a", "slide"), looks_of(3)
    case.write_tile(run, 0, 0, 512, cells_at(1, 2, 3), looks)
    case.write_tile(run, 512, 0, 512, cells_at(600))
    case.write_tile(run, 1024, 0, 512, Cells(), looks[:0])
    with Case.open(case.path) as again:
        np.testing.assert_array_equal(again.looks(run, 0, 0, 512, 3), looks)
        assert again.looks(run, 512, 0, 512, 1).shape == (0, 0)
        assert again.looks(run, 1024, 0, 512, 0).shape == (0, 0)
        assert len(again.detections()) == 4


def test_a_case_from_before_cells_had_looks_opens_and_takes_them(case: Case) -> None:
    run = case.start_run("a", "a", "slide")
    case.write_tile(run, 0, 0, 512, cells_at(1, 2))
    case.close()
    connection = sqlite3.connect(case.path)
    connection.execute("DROP TABLE looks")
    connection.commit()
    connection.close()
    with Case.open(case.path) as again:
        assert again.detections().cells.boxes[:, 0].tolist() == [1, 2]
        assert again.looks(run, 0, 0, 512, 2).shape == (0, 0)
        later = again.start_run("b", "b", "slide")
        again.write_tile(later, 0, 0, 512, cells_at(7), looks_of(1))
        np.testing.assert_array_equal(again.looks(later, 0, 0, 512, 1), looks_of(1))


def test_what_is_taken_out_of_a_tile_leaves_the_others_and_their_looks(case: Case) -> None:
    run, looks = case.start_run("a", "a", "slide"), looks_of(3)
    case.write_tile(run, 0, 0, 512, cells_at(1, 2, 3), looks)
    case.keep_in_tile(run, 0, 0, 512, np.array([True, False, True]))
    assert case.detections().cells.boxes[:, 0].tolist() == [1, 3]
    np.testing.assert_array_equal(case.looks(run, 0, 0, 512, 2), looks[[0, 2]])


def test_looks_that_do_not_fit_their_cells_are_said_to_be_damaged(case: Case) -> None:
    run = case.start_run("a", "a", "slide")
    case.write_tile(run, 0, 0, 512, cells_at(1, 2), looks_of(2)[:, :5])
    with pytest.raises(CaseError, match="damaged"):
        case.looks(run, 0, 0, 512, 3)


def test_tiles_are_saved_all_or_none(case: Case) -> None:
    run = case.start_run("a", "a", "slide")

    def tiles():
        yield 0, 0, 512, cells_at(1)
        raise RuntimeError("the detector died")

    with pytest.raises(RuntimeError):
        case.write_tiles(run, tiles())
    assert len(case.detections()) == 0


def test_a_run_cannot_end_in_an_unknown_way(case: Case) -> None:
    with pytest.raises(ValueError, match="paused"):
        case.finish_run(case.start_run("a", "a", "slide"), "paused")


def test_damaged_detections_are_said_to_be_damaged(case: Case) -> None:
    case.write_tile(case.start_run("a", "a", "slide"), 0, 0, 512, cells_at(1, 2))
    connection = sqlite3.connect(case.path)
    connection.execute("UPDATE tiles SET cells = substr(cells, 1, 30)")
    connection.commit()
    connection.close()
    with pytest.raises(CaseError, match="damaged"):
        case.detections()


def test_a_million_detections_open_as_arrays(case: Case) -> None:
    run = case.start_run("a", "a", "slide")
    many = Cells(np.zeros((1000, 4)), np.zeros(1000), np.zeros(1000), np.zeros(1000))
    case.write_tiles(run, ((i % 40 * 512, i // 40 * 512, 512, many) for i in range(1000)))
    with Case.open(case.path) as again:
        found = again.detections()
    assert found.cells.boxes.shape == (1_000_000, 4)
    assert found.runs.shape == (1000,)
    assert len(found.tiles) == 1000


@settings(max_examples=30, deadline=None)
@given(
    runs=st.lists(
        st.tuples(st.sampled_from("abc"), st.dictionaries(st.integers(0, 3), st.integers(0, 3), min_size=1)), max_size=6
    )
)
def test_newest_run_wins_for_any_history(tmp_path_factory: pytest.TempPathFactory, runs) -> None:
    path = tmp_path_factory.mktemp("history") / "case.cervcell"
    with Case.create(path, slide_name="s", fingerprint="f", width=9, height=9, mpp=None) as case:
        shown: dict[int, tuple[str, int]] = {}
        for model, tiles in runs:
            run = case.start_run(model, model, "slide")
            for column, n in tiles.items():
                case.write_tile(run, column * 100, 0, 100, cells_at(*(column * 100 + i for i in range(n))))
                shown[column] = (model, n)
        found = case.detections()
        expected = sorted(c * 100 + i for c, (_, n) in shown.items() for i in range(n))
        assert sorted(found.cells.boxes[:, 0].tolist()) == expected
        for model in "abc":
            assert case.scanned(model, 100) == {(c * 100, 0) for c, (by, _) in shown.items() if by == model}
