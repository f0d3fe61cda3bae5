"""Hurried hands and other people's plugins: nothing falls over, and no verdict is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget

from napari_cervcell.casefile import Case, State
from napari_cervcell.slides import sample_slide
from napari_cervcell.ui.app import dock
from napari_cervcell.ui.hands import Hands

from .conftest import TILE, Place, Scanned, lattice, write_cells


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def test_a_key_pressed_fifty_times_is_fifty_verdicts(hands: Hands, case_path: Path) -> None:
    hands.key("n")
    for _ in range(50):  # without a pause; there are 40 cells
        QTest.keyClick(hands.canvas, Qt.Key.Key_X)
    with Case.open(case_path) as again:
        assert again.annotations().states.tolist() == [State.REJECTED] * 40
    for _ in range(50):
        QTest.keyClick(hands.canvas, Qt.Key.Key_U)
    with Case.open(case_path) as again:
        assert len(again.annotations()) == 0


def test_verdicts_and_undo_in_any_order_as_fast_as_keys_go(hands: Hands, case_path: Path) -> None:
    rng = np.random.default_rng(0)
    keys = rng.choice([*"nnpxuu123456af", " "], 150)
    hands.point_at(1125, 1125)
    for key in keys:
        QTest.keyClick(hands.canvas, Qt.Key.Key_Space if key == " " else str(key))
    session = hands.widget.desk.session
    hands.rest(0.2)
    with Case.open(case_path) as again:
        said = again.annotations()
    rows = np.flatnonzero(session.states > 0)
    assert len(said) == len(rows)
    assert sorted(said.labels.tolist()) == sorted(session.cells.labels[rows].tolist())


def test_a_verdict_on_a_cell_that_a_detection_has_just_replaced(hands: Hands, case_path: Path) -> None:
    desk = hands.widget.desk
    hands.key("n")
    current = desk.session.cells.centres[desk.session.current].copy()
    newer = lattice().moved(2, 1)
    write_cells(desk.case, newer, "newer")
    desk.session.add_cells([Scanned(Place(0, 0, int(TILE)), newer)])
    hands.key("5")
    with Case.open(case_path) as again:
        (box,) = again.annotations().boxes
    assert np.abs((box[:2] + box[2:]) / 2 - current).max() < 5


def test_a_renamed_or_hidden_layer_is_still_the_slide(hands: Hands) -> None:
    hands.widget.desk.layer.name = "my smear"
    hands.widget.desk.layer.visible = False
    hands.key("n")
    hands.key("space")
    assert (hands.widget.desk.session.states == State.ACCEPTED).sum() == 1


def test_a_slide_that_is_removed_amid_a_drag(hands: Hands, case_path: Path) -> None:
    hands.key("n")
    hands.key("space")
    hands.key("c")
    x1, y1, x2, y2 = hands.widget.desk.view.rectangle()
    place = hands.point_at((x1 + x2) / 2, (y1 + y2) / 2)
    hands._mouse("press", place)
    hands.viewer.layers.clear()
    hands.rest(0.1)
    hands._mouse("release", place)
    hands.key("x")
    assert hands.widget.desk.session is None
    with Case.open(case_path) as again:
        assert len(again.annotations()) == 1


def test_in_three_dimensions_keys_still_work(hands: Hands) -> None:
    hands.viewer.dims.ndisplay = 3
    hands.rest(0.1)
    for key in ("n", "space", "f", "h", "h", "x"):
        hands.key(key)
    hands.viewer.dims.ndisplay = 2
    hands.rest(0.1)
    assert (hands.widget.desk.session.states > 0).sum() == 2


def test_another_slide_while_a_detection_runs(hands: Hands, case_path: Path) -> None:
    widget = hands.widget
    hands.click(widget.detect_panel.start)
    hands.wait("detection has begun", lambda: widget.desk.detection.running)
    widget.open_slide(sample_slide())
    assert widget.desk.slide.path == sample_slide()
    assert not widget.desk.detection.running
    hands.key("n")
    with Case.open(case_path) as again:
        assert again.detections().cells.boxes.max() <= 2 * TILE


def test_the_panel_is_closed_for_good_and_opened_again(hands: Hands, case_path: Path) -> None:
    viewer, closed = hands.viewer, hands.widget
    hands.key("n")
    hands.key("space")
    around = next(d for d in hands.window.findChildren(QDockWidget) if d.isAncestorOf(closed))
    around.title.close_button.click()
    hands.rest(0.2)
    assert closed.desk.session is None
    assert closed.overlay is None
    hands._mouse("press", hands.canvas.rect().center())
    hands._mouse("release", hands.canvas.rect().center())
    hands.key("x")
    with Case.open(case_path) as again:
        assert len(again.annotations()) == 1
    hands.widget = dock(viewer)
    hands.rest(0.2)
    hands.key("n")
    hands.key("x")
    assert closed.desk.session is None
    assert sorted(hands.widget.desk.case.annotations().states) == [State.ACCEPTED, State.REJECTED]
