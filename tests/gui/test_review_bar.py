"""The bar below the slide: the current cell, its neighbours in the queue, verdicts for many."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtCore import QPointF
from qtpy.QtWidgets import QLabel

from napari_cervcell.taxonomy import CellClass
from napari_cervcell.ui.hands import Hands


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


@pytest.mark.parametrize("width", [1280, 1600])
def test_nothing_in_the_bar_is_cut_off(hands: Hands, width: int) -> None:
    """Not even beside napari's lists of layers, which leave it half of a small window."""
    bar, session = hands.widget.review_bar, hands.widget.desk.session
    scroll = hands.widget.tabs.widget(0)
    hands.viewer.window.resize(width, 800)
    for row in (None, 0, 39):
        session.select(row)
        hands.rest(0.2)
        for label in (bar.scores, bar.state):
            if label.text():
                assert label.height() >= label.heightForWidth(label.width())
        for button in [*bar.buttons.values(), *bar.classes]:
            if button.isVisible():
                assert button.width() >= button.sizeHint().width(), button.text()
        assert scroll.widget().width() <= scroll.viewport().width()


def test_in_a_narrower_bar_one_thing_goes_after_the_other(hands: Hands) -> None:
    bar = hands.widget.review_bar
    hands.key("n")

    def there(width: int) -> tuple[bool, bool, bool]:
        hands.viewer.window.resize(width, 800)
        hands.rest(0.1)
        badge = bar.buttons["accept"].findChild(QLabel)
        return bar.strip.isVisible(), badge.isVisible(), bar.thumbnail.isVisible()

    for widths in ((1400, 1200, 1000), (1200, 1400)):
        for width in widths:
            assert there(width) == (width > 1300, width > 1100, True), width


@pytest.mark.parametrize("width", [1280, 1600])
def test_long_names_of_classes_are_cut_with_an_ellipsis(hands: Hands, width: int) -> None:
    hands.viewer.window.resize(width, 800)
    name = "Endocervical adenocarcinoma in situ"
    usual = hands.widget.desk.session.taxonomy
    hands.widget.desk.change_classes(usual.edited([*usual, CellClass(name, "E", "#3b4cc0", "", "high grade", 3)]))
    session, bar = hands.widget.desk.session, hands.widget.review_bar
    session.set_class(6, 0)
    session.select(0)
    hands.rest(0.2)
    assert name in bar.name.text()
    assert QLabel.text(bar.name).endswith("…")
    button = bar.classes[6]
    assert (button.text(), name in button.toolTip()) == (name, True)
    assert all(b.width() >= b.sizeHint().width() for b in bar.classes)
    drawn = button.grab().toImage()
    cut = []
    for end in range(4, len(name)):
        button.setText(f"{name[:end]}…")
        if button.fontMetrics().horizontalAdvance(button.text()) < button.width() - 16:
            cut.append(button.grab().toImage())
    assert drawn in cut


def test_the_neighbours_in_the_queue_are_shown_and_a_click_goes_to_one(hands: Hands) -> None:
    session, bar = hands.widget.desk.session, hands.widget.review_bar
    assert bar.strip.rows == []
    hands.key("n")
    first, coming = session.current, session.neighbours.coming.tolist()
    assert bar.strip.rows == coming
    hands.key("space")
    assert session.current == coming[0]
    assert bar.strip.rows == [*session.neighbours.coming.tolist(), first]
    hands.wait("the pictures are there", lambda: all(bar.strip.has_picture(row) for row in bar.strip.rows))

    there, first_next = coming[1], coming[0]
    for row in (there, first_next):
        place = QPointF(bar.strip.place_of(row).center())
        hands.drag_on(bar.strip, place, place)
        assert session.current == row
        assert hands.widget.desk.view.shows(session.cells.boxes[row])


def test_the_next_cell_stays_the_next_whatever_verdicts_and_scores_say(hands: Hands) -> None:
    session, strip = hands.widget.desk.session, hands.widget.review_bar.strip
    hands.key("n")
    for key in ("space", "x", "3", "[", "x", "n"):
        promised = strip.rows[0]
        hands.key(key)
        hands.rest(0.1)
        if key != "[":
            assert session.current == promised


def test_the_bar_is_there_in_the_gallery_too_and_tells_for_how_many_a_verdict_is(hands: Hands) -> None:
    session, bar = hands.widget.desk.session, hands.widget.review_bar
    hands.key("g")
    gallery = hands.widget.gallery_panel.gallery
    hands.wait("the sheet is made", lambda: gallery.count == 40)
    hands.key("ctrl+a", gallery)
    assert bar.name.text() == "40 selected"
    hands.click(bar.classes[4])
    assert (session.cells.labels == 4).all()
    hands.key("g")
    assert "40" not in bar.name.text()


def test_the_bar_goes_with_the_slide_and_leaves_its_room_to_the_canvas(hands: Hands) -> None:
    widget, canvas = hands.widget, hands.widget.desk.view.canvas.native
    assert widget.review_bar.isVisible()
    height = canvas.height()
    hands.viewer.layers.clear()
    hands.rest(0.2)
    assert not widget.review_bar.isVisible()
    assert canvas.height() > height
