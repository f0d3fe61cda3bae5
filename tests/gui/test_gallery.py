"""All cells side by side: what is shown, in which order, and verdicts on several at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDockWidget

from napari_cervcell.casefile import State
from napari_cervcell.taxonomy import BETHESDA
from napari_cervcell.ui.gallery import Gallery
from napari_cervcell.ui.hands import Hands

from .conftest import TILE, Place, Scanned, write_cells

NONE, SHIFT, CTRL = (getattr(Qt.KeyboardModifier, name) for name in ("NoModifier", "ShiftModifier", "ControlModifier"))


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    hands: Hands = sit_down(slide_path)
    hands.key("g")
    gallery = gallery_of(hands)
    hands.wait("the gallery shows cells", lambda: gallery.count and gallery.viewport().height() > 400)
    return hands


def gallery_of(hands: Hands) -> Gallery:
    return hands.widget.gallery_panel.gallery


def click(hands: Hands, place: int, modifiers: Qt.KeyboardModifier = NONE) -> int:
    """Click the picture that is `place` from the start, counting those in sight; return its row."""
    gallery = gallery_of(hands)
    area = gallery._rectangle(place).translated(0, -gallery.verticalScrollBar().value())
    assert gallery.viewport().rect().contains(area.center())
    QTest.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, modifiers, area.center())
    hands.rest(0.05)
    return int(gallery._sheet.rows[place])


def order(hands: Hands) -> list[int]:
    return gallery_of(hands)._sheet.rows.tolist()


def test_severe_classes_come_first_and_the_surest_of_each(hands: Hands) -> None:
    cells = hands.widget.desk.session.cells
    shown = order(hands)
    assert sorted(shown) == list(range(40))
    ranks = [BETHESDA.classes[label].rank for label in cells.labels[shown]]
    assert ranks == sorted(ranks, reverse=True)
    for label in range(6):
        scores = cells.scores[[row for row in shown if cells.labels[row] == label]]
        assert (np.diff(scores) <= 0).all()


def test_one_sheet_and_other_orders(hands: Hands) -> None:
    cells, panel = hands.widget.desk.session.cells, hands.widget.gallery_panel
    hands.click(panel.split)
    hands.wait("one sheet, the surest first", lambda: (np.diff(cells.scores[order(hands)]) <= 0).all())
    panel.order.setCurrentText("worth asking first")

    def doubtful_first() -> bool:
        """Whether, of lattice cells alike in all else, the doubtful ones come first."""
        same = [row for row in order(hands) if cells.labels[row] == 0]
        return bool((np.diff(cells.scores[same]) >= 0).all())

    hands.wait("another order", doubtful_first)


def test_a_click_makes_the_cell_current_and_the_canvas_goes_there(hands: Hands) -> None:
    hands.look_at((6000, 4000, 6100, 4100))
    row = click(hands, 3)
    desk = hands.widget.desk
    assert desk.session.current == row
    assert desk.view.shows(desk.session.cells.boxes[row])


def test_pictures_show_the_cell_itself(hands: Hands) -> None:
    gallery, desk = gallery_of(hands), hands.widget.desk
    row = order(hands)[0]
    hands.wait("the picture is there", lambda: gallery._thumbnails.get(gallery._crop(row)))
    image = gallery._thumbnails.get(gallery._crop(row))
    x, y = desk.session.cells.centres[row]
    side = gallery.field / desk.slide.mpp
    true = desk.slide.read_scaled(x - side / 2, y - side / 2, side, side, side / image.width())
    drawn = np.array([[image.pixelColor(i, j).getRgb()[:3] for i in (10, 50, 90)] for j in (10, 50, 90)])
    assert drawn.tolist() == true[[10, 50, 90]][:, [10, 50, 90]].tolist()
    on_screen = gallery.viewport().grab().toImage()
    area = gallery._rectangle(0)
    assert on_screen.pixelColor(area.left() + 50, area.top() + 50).getRgb()[:3] == tuple(true[50, 50].tolist())


def test_one_verdict_for_many_is_one_step_of_undo(hands: Hands) -> None:
    session = hands.widget.desk.session
    rows = [click(hands, 1), *(order(hands)[i] for i in (2, 3)), click(hands, 4, SHIFT)]
    extra = click(hands, 6, CTRL)
    click(hands, 2, CTRL)
    rows = sorted({*rows, extra} - {order(hands)[2]})
    assert sorted(gallery_of(hands).selection.tolist()) == rows
    assert "4 of 40 selected" in hands.widget.gallery_panel.told.text()
    hands.key("x", gallery_of(hands))
    assert np.flatnonzero(session.states == State.REJECTED).tolist() == rows
    hands.key("u", gallery_of(hands))
    assert not (session.states > 0).any()
    hands.key("5", gallery_of(hands))
    assert (session.cells.labels[rows] == 4).all()
    assert (session.states[rows] > 0).all()
    assert len(hands.widget.desk.case.annotations()) == 4


def test_it_can_be_used_with_the_keys_alone(hands: Hands) -> None:
    session, gallery = hands.widget.desk.session, gallery_of(hands)
    shown = order(hands)
    QTest.keyClick(gallery, Qt.Key.Key_Right)
    assert session.current == shown[0]
    hands.key("space", gallery)  # and on to the next
    assert session.states[shown[0]] == State.ACCEPTED
    assert session.current == shown[1]
    QTest.keyClick(gallery, Qt.Key.Key_Down)
    assert session.current == shown[1 + gallery._columns]
    QTest.keyClick(gallery, Qt.Key.Key_Right, SHIFT)
    assert len(gallery.selection) == 2
    hands.key("x", gallery)
    assert (session.states == State.REJECTED).sum() == 2
    QTest.keyClick(gallery, Qt.Key.Key_End)
    assert session.current == shown[-1]
    assert gallery.verticalScrollBar().value() == gallery.verticalScrollBar().maximum()
    hands.key("g")
    assert hands.widget.tabs.currentIndex() == 0
    assert hands.window.focusWidget() is hands.canvas


def test_only_shift_selects_on_the_way_and_ctrl_a_selects_all(hands: Hands) -> None:
    gallery = gallery_of(hands)
    click(hands, 2)
    QTest.keyClick(gallery, Qt.Key.Key_End, CTRL)
    assert gallery.selection.tolist() == order(hands)[-1:]
    QTest.keyClick(gallery, Qt.Key.Key_Home, Qt.KeyboardModifier.KeypadModifier)
    assert gallery.selection.tolist() == order(hands)[:1]
    QTest.keyClick(gallery, Qt.Key.Key_Right, SHIFT | Qt.KeyboardModifier.KeypadModifier)
    assert gallery.selection.tolist() == order(hands)[:2]
    hands.key("ctrl+a", gallery)
    assert "40 of 40 selected" in hands.widget.gallery_panel.told.text()


def test_a_verdict_after_next_speaks_of_the_next_cell_not_of_the_selection(hands: Hands) -> None:
    session = hands.widget.desk.session
    selected = click(hands, 2)
    hands.key("n", gallery_of(hands))
    current = session.current
    assert current != selected
    hands.key("x", gallery_of(hands))
    assert session.states[current] == State.REJECTED
    assert session.states[selected] == 0


def test_a_click_on_the_canvas_speaks_of_one_cell_also_of_those_selected(hands: Hands) -> None:
    session = hands.widget.desk.session
    click(hands, 0)
    click(hands, 3, SHIFT)
    clicked = order(hands)[1]
    hands.look_at(session.cells.boxes[clicked])
    hands.click_at(*session.index.points[clicked].tolist())
    hands.key("x")
    assert np.flatnonzero(session.states == State.REJECTED).tolist() == [clicked]


def test_next_speaks_of_one_cell_also_of_those_selected(hands: Hands) -> None:
    session, gallery = hands.widget.desk.session, gallery_of(hands)
    click(hands, 0)
    QTest.keyClick(gallery, Qt.Key.Key_End, SHIFT)
    hands.key("n", gallery)
    current = session.current
    hands.key("x", gallery)
    assert np.flatnonzero(session.states == State.REJECTED).tolist() == [current]


def test_a_click_on_the_canvas_wins_over_a_selection_whose_last_cell_was_hidden(hands: Hands) -> None:
    session, gallery = hands.widget.desk.session, gallery_of(hands)
    hands.click(hands.widget.gallery_panel.split)
    hands.wait("all classes on one sheet", lambda: len(gallery._sheet.labels) == 1)
    click(hands, 0)
    last = click(hands, 8, SHIFT)
    session.show_class(int(session.cells.labels[last]), False)
    hands.wait("its class is gone", lambda: last not in order(hands))
    assert len(gallery.selection)
    other = next(row for row in order(hands) if row not in gallery.selection)
    hands.look_at(session.cells.boxes[other])
    hands.click_at(*session.index.points[other].tolist())
    hands.key("x")
    assert np.flatnonzero(session.states == State.REJECTED).tolist() == [other]


def test_filters_by_state_class_threshold_and_view(hands: Hands) -> None:
    session, panel = hands.widget.desk.session, hands.widget.gallery_panel
    row = click(hands, 0)
    hands.key("x", gallery_of(hands))
    panel.reviewed.setCurrentText("reviewed")
    hands.wait("only what was reviewed", lambda: order(hands) == [row])
    panel.reviewed.setCurrentText("new")
    hands.wait("only what was not", lambda: sorted(order(hands)) == sorted(set(range(40)) - {row}))
    session.show_class(0, False)
    hands.wait("the class is gone", lambda: not (session.cells.labels[order(hands)] == 0).any())
    session.threshold = 0.9
    hands.wait("only sure cells", lambda: (session.cells.scores[order(hands)] >= 0.9).all())
    session.threshold = 0.5
    session.show_class(0, True)
    hands.look_at((1000, 1000, 1500, 1250))
    hands.click(panel.in_view)
    x1, y1, x2, y2 = hands.widget.desk.view.rectangle()
    inside = set(session.visible(x1, y1, x2, y2).tolist()) - {row}
    assert 0 < len(inside) < 39
    hands.wait("only what is in view", lambda: set(order(hands)) == inside)


def test_verdicts_given_elsewhere_are_heeded_by_the_filters_when_the_gallery_is_shown_again(hands: Hands) -> None:
    session, panel, gallery = hands.widget.desk.session, hands.widget.gallery_panel, gallery_of(hands)
    panel.reviewed.setCurrentText("reviewed")
    hands.wait("none is reviewed", lambda: gallery.count == 0)
    for filtered in ("reviewed", "new"):
        panel.reviewed.setCurrentText(filtered)
        hands.key("g", gallery)
        hands.key("n")
        for _ in range(5):
            hands.key("space")
        hands.key("g")
        wanted = np.flatnonzero((session.states > 0) == (filtered == "reviewed")).tolist()
        hands.wait(f"the {filtered} cells", lambda wanted=wanted: sorted(order(hands)) == wanted)
        assert panel.told.text() == f"{len(wanted)} cells"


def test_a_verdict_in_a_filtered_gallery_moves_nothing_until_asked(hands: Hands) -> None:
    panel, gallery = hands.widget.gallery_panel, gallery_of(hands)
    panel.reviewed.setCurrentText("new")
    click(hands, 0)
    click(hands, 2, SHIFT)
    before = order(hands)
    hands.key("space", gallery)
    hands.wait("it is told", panel.fresh.isVisible)
    assert order(hands) == before
    hands.click(panel.fresh)
    hands.wait("those reviewed are gone", lambda: order(hands) == before[3:])
    assert not panel.fresh.isVisible()


def test_in_view_follows_the_canvas_but_not_under_the_hand(hands: Hands) -> None:
    desk, panel, gallery = hands.widget.desk, hands.widget.gallery_panel, gallery_of(hands)
    session = desk.session
    desk.view.fit()
    hands.click(panel.in_view)
    hands.wait("all are in view", lambda: gallery.count == 40 and panel.told.text() == "40 cells")
    QTest.keyClick(gallery, Qt.Key.Key_Right)  # which leads the canvas to that cell
    assert len(session.visible(*desk.view.rectangle())) < 40
    hands.wait("it is told", panel.fresh.isVisible)
    hands.key("space", gallery)
    hands.rest(1.5)
    assert gallery.count == 40
    assert session.current == order(hands)[1]
    hands.look_at((1000, 1000, 1500, 1250))
    hands.click_at(1125, 1125)  # beside all cells: the hand is off the gallery
    for box in ((2000, 1500, 2750, 2000), (1000, 1500, 1500, 1750)):
        hands.look_at(box)
        inside = sorted(session.visible(*desk.view.rectangle()).tolist())
        assert 0 < len(inside) < 40
        hands.wait("what is in view now", lambda inside=inside: sorted(order(hands)) == inside)


def test_new_cells_are_told_of_and_do_not_move_what_is_under_the_hand(hands: Hands) -> None:
    desk, panel = hands.widget.desk, hands.widget.gallery_panel
    click(hands, 2)
    before = order(hands)
    more = desk.session.cells[:5].moved(TILE, 0)
    run = desk.case.start_run("abc", "a model", "slide")
    desk.case.write_tile(run, int(TILE), 0, int(TILE), more)
    desk.session.add_cells([Scanned(Place(int(TILE), 0, int(TILE)), more)])
    hands.wait("it is told", panel.fresh.isVisible)
    assert panel.fresh.text() == "5 new: show"
    assert order(hands) == before
    hands.click(panel.fresh)
    hands.wait("they are shown", lambda: len(order(hands)) == 45)
    assert not panel.fresh.isVisible()


def test_rows_that_are_numbered_anew_are_shown_anew(hands: Hands) -> None:
    desk = hands.widget.desk
    click(hands, 2)
    write_cells(desk.case, desk.session.cells[:7], "another")
    desk.session.reload()
    hands.wait("the others are gone", lambda: gallery_of(hands).count == 7)
    click(hands, 3)
    hands.key("x", gallery_of(hands))
    assert (desk.session.states == State.REJECTED).sum() == 1


def test_a_thumbnail_is_enlarged_where_the_pointer_rests(hands: Hands) -> None:
    gallery = gallery_of(hands)
    QTest.mouseMove(gallery.viewport(), gallery._rectangle(1).center())
    QTest.mouseMove(gallery.viewport(), gallery._rectangle(1).center() + QPoint(1, 0))
    hands.wait("it is enlarged", gallery._large.isVisible)
    assert gallery._large.geometry().right() < gallery.mapToGlobal(QPoint(0, 0)).x()
    QTest.mouseMove(gallery.viewport(), QPoint(1, gallery.viewport().height() - 1))
    hands.wait("it is gone", lambda: not gallery._large.isVisible())


def test_the_enlarged_picture_is_on_the_screen_wherever_the_dock_is(hands: Hands) -> None:
    gallery, window = gallery_of(hands), hands.window
    dock = next(d for d in window.findChildren(QDockWidget) if d.isAncestorOf(hands.widget))
    window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
    window.move(0, 0)
    hands.wait("the gallery is at the left", lambda: gallery.mapToGlobal(QPoint(0, 0)).x() < 280)
    QTest.mouseMove(gallery.viewport(), gallery._rectangle(1).center())
    hands.wait("it is enlarged", gallery._large.isVisible)
    assert gallery.screen().geometry().contains(gallery._large.geometry())
    assert gallery._large.geometry().left() > gallery.mapToGlobal(gallery.rect().topRight()).x()
