"""Cells that look alike: found from one of them, and moved by verdicts at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.settings import get_plugin_settings
from qtpy.QtCore import Qt
from qtpy.QtGui import QContextMenuEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMenu

from napari_cervcell.casefile import open_case
from napari_cervcell.slides import open_slide
from napari_cervcell.ui.gallery import Gallery
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.words import describe

from .conftest import lattice, write_cells

KINDS = 4


@pytest.fixture
def hands(sit_down, slide_path: Path) -> Hands:
    """A window on a case whose cells come by turns in four kinds of looks, those of a kind a little different."""
    path = slide_path.with_name(slide_path.name + ".cervcell")
    cells = lattice()
    looks = np.eye(128)[np.arange(len(cells)) % KINDS] + np.random.default_rng(0).normal(0, 0.03, (len(cells), 128))
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    with open_slide(slide_path) as slide, open_case(path, slide, reviewer="tester") as case:
        write_cells(case, cells, looks=looks.astype(np.float16))
    made: Hands = sit_down(slide_path)
    return made


def gallery_of(hands: Hands) -> Gallery:
    return hands.widget.gallery_panel.gallery


def order(hands: Hands) -> list[int]:
    sheet = gallery_of(hands)._sheet
    return [] if sheet is None else sheet.rows.tolist()


def is_like(hands: Hands, row: int) -> bool:
    """Whether the gallery shows all of the kind of `row` before all others, itself first."""
    shown = order(hands)
    kinds = [other % KINDS == row % KINDS for other in shown]
    return shown[:1] == [row] and kinds == [True] * 10 + [False] * 30


def show_gallery(hands: Hands) -> list[int]:
    hands.key("g")
    hands.wait(
        "the gallery shows cells", lambda: len(order(hands)) == 40 and gallery_of(hands).viewport().height() > 300
    )
    return order(hands)


def test_a_key_finds_what_looks_like_the_current_cell_and_leads_back(hands: Hands) -> None:
    panel, session = hands.widget.gallery_panel, hands.widget.desk.session
    before = show_gallery(hands)
    hands.key("g")
    session.select(9)
    hands.key("s")
    hands.wait("its like come first", lambda: is_like(hands, 9))
    assert panel.isVisible()
    assert panel.chip.isVisible()
    assert "Like cell" in panel.chip.text.text()
    assert panel.order.currentText() == "most alike first"
    hands.key("s", gallery_of(hands))
    hands.wait("the order is what it was", lambda: order(hands) == before)
    assert not panel.chip.isVisible()
    assert panel.split.isChecked()


def test_the_chip_leads_back_to_the_order_that_was_chosen(hands: Hands) -> None:
    panel = hands.widget.gallery_panel
    before = show_gallery(hands)
    panel.order.setCurrentText("largest first")
    hands.click(panel.split)
    hands.wait("another order", lambda: order(hands) != before)
    largest = order(hands)
    hands.widget.desk.session.select(6)
    hands.click(panel.find)
    hands.wait("its like come first", lambda: is_like(hands, 6))
    hands.click(panel.chip.close_button)
    hands.wait("back", lambda: order(hands) == largest)
    assert panel.order.currentText() == "largest first"
    assert not panel.split.isChecked()


def test_from_one_find_to_the_next_by_the_menu_of_a_picture(hands: Hands) -> None:
    panel, gallery = hands.widget.gallery_panel, gallery_of(hands)
    show_gallery(hands)
    hands.widget.desk.session.select(0)
    hands.key("s", gallery)
    hands.wait("its like come first", lambda: is_like(hands, 0))
    place = 12
    row = order(hands)[place]
    where = gallery._rectangle(place).translated(0, -gallery.verticalScrollBar().value()).center()
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, where, gallery.viewport().mapToGlobal(where))
    QApplication.sendEvent(gallery.viewport(), event)
    menu = gallery.findChild(QMenu)
    hands.wait("the menu is open", menu.isVisible)
    QTest.mouseClick(menu, Qt.MouseButton.LeftButton, pos=menu.actionGeometry(menu.actions()[0]).center())
    hands.wait("the other's like come first", lambda: is_like(hands, row))
    hands.click(panel.chip.close_button)
    assert panel.order.currentText() == "surest first"


def test_likeness_is_one_of_the_orders_and_verdicts_go_on_in_it(hands: Hands) -> None:
    panel, session = hands.widget.gallery_panel, hands.widget.desk.session
    show_gallery(hands)
    QTest.keyClick(panel.order, Qt.Key.Key_End)
    assert "No cell is selected" in hands.widget.error_bar.text.text()
    assert panel.order.currentText() == "surest first"
    session.select(5)
    QTest.keyClick(panel.order, Qt.Key.Key_End)
    label = session.cells.labels[5]
    hands.wait("by class, the most alike first", lambda: order(hands) and panel.chip.isVisible())
    hands.click(panel.split)
    hands.wait("one sheet", lambda: is_like(hands, 5))
    gallery = gallery_of(hands)
    for place, modifiers in ((0, Qt.KeyboardModifier.NoModifier), (9, Qt.KeyboardModifier.ShiftModifier)):
        where = gallery._rectangle(place).translated(0, -gallery.verticalScrollBar().value()).center()
        QTest.mouseClick(gallery.viewport(), Qt.MouseButton.LeftButton, modifiers, where)
    hands.key("x", gallery)
    assert sorted(np.flatnonzero(session.states > 0).tolist()) == [row for row in range(40) if row % KINDS == 1]
    assert is_like(hands, 5)  # nothing moved under the hand
    assert session.cells.labels[5] == label


def test_where_it_is_not_known_what_a_cell_looks_like_it_says_so(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    before = show_gallery(hands)
    hands.widget.desk.session.select(4)
    hands.key("s", gallery_of(hands))
    hands.wait("it is told", lambda: "not known what this cell looks like" in hands.widget.error_bar.text.text())
    hands.wait("the order is what it was", lambda: order(hands) == before)
    assert not hands.widget.gallery_panel.chip.isVisible()


def test_verdicts_are_answered_at_once_and_the_answer_can_be_turned_off(hands: Hands) -> None:
    desk, bar, queue_panel = hands.widget.desk, hands.widget.review_bar, hands.widget.queue_panel
    session = desk.session
    own = session.cells.scores.copy()
    show_gallery(hands)
    hands.key("g")
    assert queue_panel.instant.isChecked()
    session.select(0)
    hands.key("space")
    session.select(1)
    hands.key("x")
    score = session.answers.score
    hands.wait("both are answered", lambda: score(5) < own[5] - 0.03 and score(4) > own[4] + 0.03)
    np.testing.assert_array_equal(session.cells.scores[4:], own[4:])
    session.select(4)
    hands.wait("the card tells it", lambda: "by likeness" in bar.scores.text())
    assert f"cell {own[4]:.0%} → {session.answers.score(4):.0%} by likeness" in bar.scores.text()
    assert "by likeness" in describe(session, desk.slide.mpp_xy, 5)
    hands.key("g")
    panel = hands.widget.gallery_panel
    panel.reviewed.setCurrentText("new")
    hands.click(panel.split)

    def falls(by: np.ndarray) -> bool:
        shown = order(hands)
        return len(shown) == 38 and bool((np.diff(by[shown]) <= 1e-6).all())

    hands.wait("the gallery goes by it", lambda: falls(np.array([session.answers.score(row) for row in range(40)])))
    hands.key("g", gallery_of(hands))
    hands.click(queue_panel.instant)
    assert "by likeness" not in bar.scores.text()
    hands.key("g")
    hands.wait("the gallery goes by the model again", lambda: falls(own))
    hands.key("g", gallery_of(hands))
    hands.click(queue_panel.instant)
    hands.wait("it is answered again", lambda: session.answers.score(5) < own[5])


def test_whether_to_answer_is_remembered(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    hands.click(hands.widget.queue_panel.instant)
    try:
        other: Hands = sit_down()
        assert not other.widget.queue_panel.instant.isChecked()
    finally:
        hands.click(hands.widget.queue_panel.instant)
    assert hands.widget.queue_panel.instant.isChecked()


def test_what_is_asked_about_is_chosen_and_remembered(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    choice, session = hands.widget.queue_panel.ask_about.choice, hands.widget.desk.session
    assert session.strategy == "mix"
    choice.native.setCurrentText("least certain")
    try:
        hands.key("n")
        assert session.current == int(np.abs(session.cells.scores - 0.5).argmin())
        hands.widget.desk.clear()
        hands.viewer.layers.clear()
        hands.viewer.open(str(slide_path), plugin="napari-cervcell")
        hands.rest(0.05)
        assert hands.widget.desk.session.strategy == "uncertainty"
        other: Hands = sit_down()
        assert other.widget.queue_panel.ask_about.choice.native.currentText() == "least certain"
    finally:
        choice.native.setCurrentText("a mix")


def test_what_is_changed_in_the_preferences_holds_in_the_open_window(hands: Hands) -> None:
    queue_panel, session = hands.widget.queue_panel, hands.widget.desk.session
    settings = get_plugin_settings("napari-cervcell").review
    session.select(0)
    hands.key("space")
    hands.wait("it is answered", lambda: session.answers.score(4) > session.cells.scores[4] + 0.03)
    before = settings.model_dump()
    try:
        settings.update({"ask": "random", "instant_answer": False})  # as the dialog does
        assert session.strategy == "random"
        assert queue_panel.ask_about.choice.native.currentText() == "at random"
        assert not queue_panel.instant.isChecked()
        assert np.isnan(session.answers.score(4))
    finally:
        settings.update(before)
    assert session.strategy == "mix"
    assert queue_panel.instant.isChecked()
