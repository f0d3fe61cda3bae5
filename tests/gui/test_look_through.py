"""Places drawn at random are looked through and marked as checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import State
from napari_cervcell.ui.hands import Hands

from .conftest import is_there, picture

TEAL = "#0b7f7a"


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def look_through(hands: Hands) -> np.ndarray:
    """Press the key until it leads to a place with three cells or more, and return that."""
    looking, session = hands.widget.looking, hands.widget.desk.session
    for _ in range(200):
        hands.key("l")
        hands.wait("a place is drawn", lambda: looking.place is not None)
        if len(session.visible(*looking.place)) >= 3:
            return looking.place
        hands.key("esc")
    raise AssertionError("no such place")


def test_a_place_is_shown_looked_through_cell_by_cell_and_checked(hands: Hands) -> None:
    desk, widget = hands.widget.desk, hands.widget
    session = desk.session
    place = look_through(hands)
    assert desk.view.shows(place)
    hands.wait("it is told what to do", lambda: "Drawn at random" in widget.overlay.caption.text())
    x1, y1, x2, _ = place
    assert is_there(hands, picture(hands), ((x1 + x2) / 2, y1), TEAL)
    inside = np.sort(session.visible(*place))
    hands.key("x")
    assert desk.view.shows(place)  # the next one is looked for there, not all over the slide
    assert session.current in inside
    hands.key("2")
    assert np.isin(session.states[inside], (State.REJECTED, State.ACCEPTED, State.CORRECTED)).sum() == 2
    left = inside[session.states[inside] == 0]
    hands.key("c")
    assert session.checked_regions == pytest.approx(place[None], abs=1)
    assert widget.looking.place is None
    hands.wait("nothing is told any more", lambda: "Drawn" not in widget.overlay.caption.text())
    hands.key("space")
    assert (session.states[left] == State.ACCEPTED).all()


def test_after_the_last_cell_nothing_is_current_until_the_place_is_checked(hands: Hands) -> None:
    session = hands.widget.desk.session
    place = look_through(hands)
    inside = session.visible(*place)
    for _ in inside:
        hands.key("space")
    assert (session.states[inside] == State.ACCEPTED).all()
    assert session.current is None
    hands.key("space")
    assert "then press Checked" in hands.widget.note_bar.text.text()
    assert not len(session.checked_regions)
    hands.click(hands.widget.review_bar.buttons["check"])
    assert len(session.checked_regions) == 1
    hands.key("space")
    assert np.flatnonzero(session.states).tolist() == np.sort(inside).tolist()


def test_a_place_waits_while_another_cell_is_looked_at_and_nothing_is_checked_unseen(hands: Hands) -> None:
    desk, caption = hands.widget.desk, hands.widget.overlay.caption
    place = look_through(hands)
    hands.look_at((9000, 6000, 9300, 6200))
    hands.wait("it is told that it waits", lambda: "waits" in caption.text())
    hands.key("c")
    assert desk.view.shows(place)
    assert not len(desk.session.checked_regions)
    hands.look_at((9000, 6000, 9300, 6200))
    hands.click(hands.widget.review_bar.buttons["place"])
    assert desk.view.shows(place)
    assert (hands.widget.looking.place == place).all()


def test_escape_leaves_first_the_tool_then_the_place(hands: Hands) -> None:
    looking = hands.widget.looking
    place = look_through(hands)
    hands.key("b")
    hands.key("esc")
    assert (looking.place == place).all()
    hands.key("esc")
    assert looking.place is None
    hands.wait("nothing is told any more", lambda: not hands.widget.overlay.caption.isVisible())
    hands.key("c")
    assert "Drag" in hands.widget.overlay.hint


def test_where_nobody_has_looked_for_cells_that_comes_first(sit_down, slide_path: Path) -> None:
    hands = sit_down(slide_path)
    hands.key("l")
    assert "Detect cells first" in hands.widget.note_bar.text.text()
    hands.point_at(1100, 1100)
    hands.key("a")  # who begins with nothing draws cells before any are found
    hands.key("l")
    hands.wait("a place is drawn", lambda: hands.widget.looking.place is not None)


def test_hidden_cells_are_shown_where_a_place_is_looked_through(hands: Hands) -> None:
    hands.key("h")
    look_through(hands)
    assert hands.widget.overlay.visible
