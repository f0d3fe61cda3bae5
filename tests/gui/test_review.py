"""Verdicts by mouse and keyboard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QWidget

from napari_cervcell.casefile import Case, State, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.review import ClassFigures, Estimate
from napari_cervcell.review.places import case_path_for
from napari_cervcell.slides import open_slide, sample_slide
from napari_cervcell.ui.hands import Hands

from .conftest import is_there, picture, said, write_cells


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def centre_of(hands: Hands, row: int) -> tuple[float, float]:
    x, y = hands.widget.desk.session.cells.centres[row]
    return float(x), float(y)


def in_view(hands: Hands) -> np.ndarray:
    desk = hands.widget.desk
    return np.sort([i for i in range(len(desk.session.cells)) if desk.view.shows(desk.session.cells.boxes[i])])


def test_a_click_selects_and_does_not_move_the_canvas(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(in_view(hands)[3])
    before = hands.viewer.scene.camera.center
    hands.click_at(*centre_of(hands, row))
    assert session.current == row
    assert hands.viewer.scene.camera.center == before
    hands.wait("the thumbnail is read", lambda: hands.widget.review_bar.thumbnail.has_picture)
    assert session.taxonomy[int(session.cells.labels[row])].name in hands.widget.review_bar.name.text()
    x, y = centre_of(hands, row)
    hands.click_at(x + 125, y + 125)
    assert session.current is None


def test_the_nucleus_of_the_cell_that_is_looked_at_is_outlined_and_measured(sit_down, slide_path: Path) -> None:
    table = np.genfromtxt(sample_slide().with_name("cric_sample_points.csv"), delimiter=",", names=True, dtype=None,
                          encoding="utf-8")  # fmt: skip
    x, y = float(table["x"][0]), float(table["y"][0])
    with open_slide(slide_path) as slide, open_case(case_path_for(slide), slide) as case:
        boxes = np.array([[x - 30, y - 30, x + 30, y + 30], [-30, -30, 30, 30]], np.float32) + np.float32([[0], [100]])
        write_cells(case, Cells(boxes, np.zeros(2, np.int16), np.float32([0.9, 0.8]), np.float32([0.9, 0.8])))
    hands: Hands = sit_down(slide_path)
    widget, nucleus = hands.widget, hands.widget.desk.nucleus
    hands.look_at((x - 100, y - 100, x + 100, y + 100))
    hands.click_at(x, y)
    hands.wait("the nucleus is measured", lambda: nucleus.nucleus is not None)
    assert f"nucleus {nucleus.nucleus.area:.0f} µm²" in widget.review_bar.nucleus.text()
    corner = nucleus.nucleus.outline[nucleus.nucleus.outline[:, 0].argmax()].tolist()
    column, row = (round(v) for v in widget.desk.view.to_canvas(*corner))
    around = np.s_[row - 2 : row + 3, column - 2 : column + 3]
    shown = picture(hands)[around]
    hands.press("h")
    assert np.abs(picture(hands)[around] - shown).max() > 20  # a line ran there
    hands.press("h")
    hands.press("n")  # to the one on empty glass
    assert nucleus.nucleus is None
    assert widget.review_bar.nucleus.text() == ""


def test_a_drag_pans_and_selects_nothing(hands: Hands) -> None:
    before = hands.viewer.scene.camera.center
    x, y = centre_of(hands, int(in_view(hands)[3]))
    hands.drag((x, y), (x + 200, y + 100))
    assert hands.widget.desk.session.current is None
    assert hands.viewer.scene.camera.center != pytest.approx(before)


def test_keys_give_verdicts_that_are_on_disk(hands: Hands) -> None:
    session, case = hands.widget.desk.session, hands.widget.desk.case
    hands.key("n")
    first = session.current
    assert first is not None
    hands.key("space")
    assert session.states[first] == State.ACCEPTED
    second = session.current
    assert second not in (None, first)
    hands.key("x")
    assert session.states[second] == State.REJECTED
    third = session.current
    other = (int(session.cells.labels[third]) + 1) % 6
    hands.key(session.taxonomy[other].key)
    assert session.states[third] == State.CORRECTED
    assert session.cells.labels[third] == other
    fourth = session.current
    hands.key("enter")
    assert session.states[fourth] == State.ACCEPTED
    with Case.open(case.path) as seen_by_another:
        assert len(seen_by_another.annotations()) == 4
    hands.key("p")
    assert session.current == fourth
    hands.key("u")
    hands.key("ctrl+z")
    assert len(case.annotations()) == 2
    hands.key("ctrl+shift+z")
    assert len(case.annotations()) == 3


def test_buttons_do_what_the_keys_do(hands: Hands) -> None:
    session, panel = hands.widget.desk.session, hands.widget.review_bar
    hands.click(panel.buttons["next"])
    hands.click(panel.buttons["accept"])
    hands.click(panel.buttons["reject"])
    corrected = session.current
    hands.click(panel.classes[(int(session.cells.labels[corrected]) + 2) % 6])
    assert sorted(said(hands)) == [State.ACCEPTED, State.CORRECTED, State.REJECTED]
    hands.click(panel.buttons["undo"])
    hands.click(panel.buttons["undo"])
    hands.click(panel.buttons["redo"])
    assert sorted(said(hands)) == [State.ACCEPTED, State.REJECTED]
    assert "2 reviewed" in panel.reviewed.text()
    assert not panel.buttons["previous"].isHidden()


def test_reviewer_name_goes_with_the_next_verdict(hands: Hands) -> None:
    widget = hands.widget
    line = widget.case_panel.reviewer.native
    line.clear()
    for letter in "dr":
        hands.key(letter, line)
    hands.key("enter", line)
    hands.key("n")
    hands.key("space")
    assert widget.desk.case.events()[-1].reviewer == "dr"


def test_cell_is_added_under_the_pointer_or_at_the_next_click(hands: Hands) -> None:
    session, case = hands.widget.desk.session, hands.widget.desk.case
    hands.point_at(1125, 1125)
    hands.key("a")
    assert session.cells.centres[session.current] == pytest.approx([1125, 1125], abs=4)
    hands.click(hands.widget.review_bar.buttons["add"])
    hands.click_at(1375, 1125)
    assert session.cells.centres[session.current] == pytest.approx([1375, 1125], abs=4)
    assert case.annotations().states.tolist() == [State.ADDED, State.ADDED]
    assert hands.widget.pointer.tool == "select"


def test_a_dragged_rectangle_becomes_a_checked_region(hands: Hands) -> None:
    session, camera = hands.widget.desk.session, hands.viewer.scene.camera
    hands.point_at(1100, 1100)
    before = camera.center
    hands.key("c")
    assert "Drag" in hands.widget.overlay.hint
    hands.drag((900, 900), (1400, 1300))
    assert session.checked_regions == pytest.approx(np.array([[900, 900, 1400, 1300]]), abs=5)
    assert camera.center == before
    assert camera.mouse_pan
    assert is_there(hands, picture(hands), (1000, session.checked_regions[0, 1]), "#0b7f7a")
    hands.key("u")
    assert not is_there(hands, picture(hands), (1000, 900), "#0b7f7a")


@pytest.mark.parametrize("shift", [False, True])
def test_escape_in_the_middle_of_a_drag_ends_it_in_nothing(hands: Hands, shift: bool) -> None:
    edge, teal = (1150, 900), "#0b7f7a"
    start, end = hands.point_at(900, 900), hands.point_at(1400, 1300)
    if not shift:
        hands.key("c")
    hands._mouse("press", start, shift=shift)
    for place in ((start + end) / 2, end):
        hands._mouse("move", place, held=True, shift=shift)
    hands.rest(0.1)
    assert is_there(hands, picture(hands), edge, teal)
    hands.key("esc")
    hands._mouse("move", start, held=True, shift=shift)
    hands._mouse("move", end, held=True, shift=shift)
    hands._mouse("release", end, shift=shift)
    hands.rest(0.1)
    assert not is_there(hands, picture(hands), edge, teal)
    assert not len(hands.widget.desk.selected)
    assert not len(hands.widget.desk.session.checked_regions)


def notices(hands: Hands) -> list[QWidget]:
    return [w for w in hands.window.findChildren(QWidget) if type(w).__name__ == "NapariQtNotification"]


def test_what_is_said_of_a_region_can_be_read_to_its_end(hands: Hands) -> None:
    widget, bar = hands.widget, hands.widget.note_bar
    accept = widget.review_bar.buttons["accept"]
    before = accept.mapTo(hands.window, QPoint())
    hands.key("c")
    hands.drag((900, 900), (1400, 1300))
    assert bar.isVisible()
    assert bar.text.text().startswith("4 cells in the region had no verdict")
    assert bar.text.height() >= bar.text.heightForWidth(bar.text.width())
    assert accept.mapTo(hands.window, QPoint()) == before
    assert not notices(hands)
    height = bar.height()
    hands.key("esc")
    hands.key("space")
    hands.rest(0.1)
    assert bar.text.text().startswith("Click a cell")
    assert bar.height() < height
    hands.click(bar.close_button)
    assert not bar.isVisible()

    widget.parentWidget().hide()  # the dock: keys go on, and what they come to must be told
    hands.key("c")
    hands.drag((900, 900), (1400, 1300))
    assert len(notices(hands)) == 1
    hands.dismiss_notices()


def test_a_box_is_drawn_moved_and_resized_with_the_mouse(hands: Hands) -> None:
    session, camera = hands.widget.desk.session, hands.viewer.scene.camera
    hands.key("b")
    hands.drag((1060, 1080), (1180, 1160))
    # a screen px is 2 px here, and every drag rounds where it begins and ends
    drawn = session.cells.boxes[session.current]
    assert drawn == pytest.approx(np.array([1060, 1080, 1180, 1160]), abs=4)
    before = camera.center
    hands.drag((1180, 1160), (1220, 1190))  # a corner
    assert session.cells.boxes[session.current] == pytest.approx(np.array([1060, 1080, 1220, 1190]), abs=8)
    hands.drag((1140, 1080), (1160, 1100))  # a side
    assert session.cells.boxes[session.current] == pytest.approx(np.array([1080, 1100, 1240, 1210]), abs=10)
    assert camera.center == before
    assert len(hands.widget.desk.case.annotations()) == 1
    hands.key("u")
    hands.key("u")
    assert session.cells.boxes[session.current] == pytest.approx(drawn)
    hands.drag((1400, 1400), (1300, 1400))  # elsewhere a drag moves the slide
    assert camera.center != before


def test_escape_leaves_a_tool(hands: Hands) -> None:
    hands.key("c")
    hands.key("esc")
    hands.drag((900, 900), (1400, 1300))
    assert len(hands.widget.desk.session.checked_regions) == 0
    assert hands.widget.overlay.hint == ""


def test_next_brings_the_cell_into_view_and_f_to_the_middle(hands: Hands) -> None:
    desk = hands.widget.desk
    hands.look_at((6000, 4000, 6100, 4100))
    hands.key("n")
    box = desk.session.cells.boxes[desk.session.current]
    assert desk.view.shows(box)
    hands.drag((box[0] + 100, box[1] + 100), (box[0] + 300, box[1] + 200))
    hands.key("f")
    x1, y1, x2, y2 = desk.view.rectangle()
    assert [(x1 + x2) / 2, (y1 + y2) / 2] == pytest.approx([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], abs=2)


def test_threshold_keys_and_hiding(hands: Hands) -> None:
    overlay, session = hands.widget.overlay, hands.widget.desk.session
    before = overlay.in_view
    for _ in range(6):
        hands.key("]")
    hands.rest(0.1)
    assert session.threshold == pytest.approx(0.8)
    assert overlay.in_view < before
    for _ in range(6):
        hands.key("[")
    hands.rest(0.1)
    assert overlay.in_view == before
    hands.key("h")
    assert overlay.in_view == 0
    assert overlay.caption.text() == "Cells are hidden: press Show to see them."
    assert hands.widget.queue_panel.hide_button.text() == "Show"
    hands.key("h")
    assert overlay.in_view == before
    assert not overlay.caption.isVisible()


def test_reopening_restores_everything(sit_down, hands: Hands, slide_path: Path) -> None:
    hands.key("n")
    for key in ("space", "x", "space"):
        hands.key(key)
    states = said(hands)
    hands.viewer.layers.remove(hands.widget.desk.layer)
    hands.viewer.open(str(slide_path), plugin="napari-cervcell")
    assert said(hands) == states
    assert "3 reviewed" in hands.widget.review_bar.reviewed.text()


def test_everything_has_a_tooltip(hands: Hands) -> None:
    from qtpy.QtWidgets import QAbstractButton, QComboBox, QLineEdit, QSlider

    for kind in (QAbstractButton, QComboBox, QLineEdit, QSlider):
        for widget in hands.widget.findChildren(kind):
            parents = (widget, widget.parentWidget(), widget.parentWidget().parentWidget())
            assert any(p.toolTip() for p in parents), widget


def test_figures_come_from_the_random_draws_and_say_so(hands: Hands) -> None:
    case_panel, review_bar = hands.widget.case_panel, hands.widget.review_bar
    assert [label.text() for pair in case_panel.figures.values() for label in pair] == ["–"] * 12
    assert "nobody knows yet" in case_panel.figures[0][0].toolTip()
    hands.key("n")
    assert "no random draw" in review_bar.quality.text()
    for _ in range(20):
        hands.key("space")
    hands.wait("there are figures", lambda: review_bar.quality.text().endswith("of those shown are right"))
    for _ in range(20):
        hands.key("space")
    hands.wait("all is known", lambda: case_panel.figures[0][1].text() == "✓ 7")
    right, on_slide = case_panel.figures[0]
    assert right.text() == "100"
    assert "7 cells drawn at random" in right.toolTip()
    assert "check regions" in on_slide.toolTip()
    assert review_bar.quality.text() == ""


def test_the_panels_fit_the_narrowest_dock_with_figures_of_any_size(hands: Hands) -> None:
    case_panel = hands.widget.case_panel
    known = Estimate(915_000.0, 870_123.4, 960_456.7, 200)
    figures = [ClassFigures(Estimate(0.5, 0.123, 1.0, 3), known, known, True)] * 6
    hands.widget.desk.figures_changed.emit(figures)
    hands.rest(0.1)
    assert case_panel.figures[2][1].text() == "✓ 870–961 k"
    assert case_panel.minimumSizeHint().width() <= 340


def test_without_a_cell_the_panel_and_the_keys_say_what_to_do(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget, panel, told = hands.widget, hands.widget.review_bar, []
    widget.desk.said.connect(told.append)
    hands.key("space")
    assert panel.state.text() == told.pop() == "Click a cell, or press Next for the one most worth asking."
    hands.key("n")
    for _ in range(40):
        hands.press("space")
    hands.rest(0.1)
    assert "0 still to see" in panel.reviewed.text()
    assert panel.state.text().endswith("If the case is done, press Done under Case.")
    for key in ("n", "space", "x", "2"):
        hands.key(key)
        assert told.pop() == panel.state.text()
    assert panel.state.height() >= panel.state.heightForWidth(panel.state.width())


@pytest.mark.parametrize(
    ("scores", "words"),
    [([], "No cells were found."), ([0.2], "The cells found are all less sure")],
)
def test_a_scan_that_found_nothing_to_show_is_not_asked_for_again(
    sit_down, slide_path: Path, scores: list[float], words: str
) -> None:
    n = len(scores)
    with open_slide(slide_path) as slide, open_case(case_path_for(slide), slide) as case:
        boxes = np.tile(np.float32([100, 100, 160, 160]), (n, 1))
        write_cells(case, Cells(boxes, np.zeros(n, np.int16), np.float32(scores), np.full(n, 0.7, np.float32)))
    hands: Hands = sit_down(slide_path)
    widget = hands.widget
    assert widget.review_bar.state.text().startswith(words)
    assert widget.detect_panel.status.text() == "An earlier scan found no cells."
    widget.open_slide(sample_slide())
    assert widget.review_bar.state.text() == "Detect cells first."
    assert widget.detect_panel.status.text() == "Not started."
