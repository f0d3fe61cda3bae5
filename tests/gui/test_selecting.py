"""Several cells are selected on the slide, for one verdict on all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import State
from napari_cervcell.cells import Cells
from napari_cervcell.ui import commands
from napari_cervcell.ui.hands import Hands

from .conftest import Place, Scanned
from .test_review import centre_of, in_view
from .test_worklist import answer


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def test_what_a_checked_region_leaves_without_a_verdict_can_have_one_for_all(hands: Hands) -> None:
    desk, bar = hands.widget.desk, hands.widget.review_bar
    session = desk.session
    inside = np.sort(session.visible(900, 900, 1400, 1300))
    first, *others = inside.tolist()
    session.reject([first])
    outside = int(np.setdiff1d(in_view(hands), inside)[0])
    hands.click_at(*centre_of(hands, outside))
    hands.key("c")
    hands.drag((900, 900), (1400, 1300))
    assert bar.name.text() == f"{len(others)} selected"
    hands.click(bar.buttons["accept"])
    assert (session.states[others] == State.ACCEPTED).all()
    assert session.states[first] == State.REJECTED
    assert session.states[outside] == 0
    assert session.current == outside  # which the next verdict is for
    hands.key("x")
    assert session.states[outside] == State.REJECTED
    hands.key("u")
    hands.key("u")
    assert not session.states[others].any()  # one step for all of them


def test_a_region_is_checked_for_all_classes_also_those_that_were_not_shown(hands: Hands) -> None:
    session, chips = hands.widget.desk.session, hands.widget.case_panel.chips
    inside = np.sort(session.visible(900, 900, 1400, 1300))
    label = int(session.cells.labels[inside[0]])
    hands.click(chips[label])
    assert inside[0] not in session.visible(900, 900, 1400, 1300)
    hands.key("c")
    hands.drag((900, 900), (1400, 1300))
    assert np.sort(hands.widget.desk.selected).tolist() == inside.tolist()
    assert chips[label].isChecked()
    assert inside[0] in session.visible(900, 900, 1400, 1300)


def test_escape_or_another_cell_ends_what_a_checked_region_has_selected(hands: Hands) -> None:
    session = hands.widget.desk.session
    inside = np.sort(session.visible(900, 900, 1400, 1300)).tolist()
    for leave in (lambda: hands.key("esc"), lambda: hands.click_at(*centre_of(hands, inside[0]))):
        hands.click_at(*centre_of(hands, inside[0]))  # the current cell is among them
        hands.key("c")
        hands.drag((900, 900), (1400, 1300))
        assert len(hands.widget.desk.selected) == len(inside)
        leave()
        hands.key("x")
        assert np.flatnonzero(session.states).tolist() == [inside[0]]
        hands.key("u")


def test_cells_are_gathered_with_shift_and_judged_together(hands: Hands) -> None:
    desk, camera = hands.widget.desk, hands.viewer.scene.camera
    session = desk.session
    inside = np.sort(session.visible(900, 900, 1400, 1300))
    known, left_out, *others = inside.tolist()
    outside = int(np.setdiff1d(in_view(hands), inside)[0])
    session.accept([known])
    hands.click_at(*centre_of(hands, known))
    before = camera.center
    hands.drag((900, 900), (1400, 1300), shift=True)
    assert desk.selected.tolist() == [left_out, *others]
    hands.click_at(*centre_of(hands, left_out), shift=True)
    hands.click_at(*centre_of(hands, outside), shift=True)
    assert desk.selected.tolist() == sorted([*others, outside])
    assert camera.center == before
    assert camera.mouse_pan
    assert session.current == known
    hands.key("x")
    assert (session.states[[*others, outside]] == State.REJECTED).all()
    assert session.states[known] == State.ACCEPTED
    assert session.states[left_out] == 0


def test_what_is_no_longer_shown_is_no_longer_selected(hands: Hands) -> None:
    desk = hands.widget.desk
    session = desk.session
    hands.drag((900, 900), (1400, 1300), shift=True)
    before = desk.selected
    assert len(before) > 2
    session.reject(before[:1])
    assert desk.selected.tolist() == before[1:].tolist()
    session.threshold = float(session.cells.scores[before[1:]].min()) + 1e-4
    assert 0 < len(desk.selected) < len(before) - 1
    session.show_class(int(session.cells.labels[desk.selected[0]]), False)
    assert not np.isin(session.cells.labels[desk.selected], np.flatnonzero(~session.classes_shown)).any()
    session.reload()
    assert not len(desk.selected)
    session.threshold = 0.0
    hands.key("c")
    hands.drag((900, 900), (1400, 1300))
    assert len(desk.selected)
    hands.key("u")  # the region
    assert not len(session.checked_regions)
    assert not len(desk.selected)


def test_a_newer_model_that_finds_the_same_cells_leaves_them_selected(hands: Hands) -> None:
    desk = hands.widget.desk
    session = desk.session
    hands.drag((900, 900), (1400, 1300), shift=True)
    before = session.cells.centres[desk.selected]
    there = desk.case.detections()
    (x, y), cells = there.tiles[0].tolist(), there.cells[: there.counts[0]]
    moved = Cells(cells.boxes + 2, cells.labels, cells.scores, cells.class_scores)
    desk.case.write_tile(desk.case.start_run("newer", "newer", "slide"), x, y, there.tile_size, moved)
    session.add_cells([Scanned(Place(x, y, there.tile_size), moved)])
    after = session.cells.centres[desk.selected]
    np.testing.assert_allclose(after[np.lexsort(after.T)], before[np.lexsort(before.T)] + 2, atol=0.1)
    assert (session.states[desk.selected] == 0).all()


def test_one_selected_cell_is_the_one_that_the_bar_shows(hands: Hands) -> None:
    session, bar = hands.widget.desk.session, hands.widget.review_bar
    rows = in_view(hands)
    labels = session.cells.labels[rows]
    a, b = (int(rows[np.flatnonzero(labels == label)[0]]) for label in np.unique(labels)[:2])
    names = [session.taxonomy[int(session.cells.labels[row])].name for row in (a, b)]
    hands.click_at(*centre_of(hands, a))
    assert names[0] in bar.name.text()
    hands.click_at(*centre_of(hands, b), shift=True)
    assert names[1] in bar.name.text()
    hands.key("x")
    assert np.flatnonzero(session.states).tolist() == [b]
    assert names[0] in bar.name.text()


def test_choosing_in_the_gallery_ends_what_is_selected_on_the_slide(hands: Hands) -> None:
    desk, gallery = hands.widget.desk, hands.widget.gallery_panel.gallery
    hands.drag((900, 900), (1400, 1300), shift=True)
    chosen = len(desk.selected)
    hands.key("g")
    hands.wait("the gallery shows cells", lambda: gallery.count > chosen)
    hands.key("ctrl+a", gallery)
    assert not len(desk.selected)
    assert len(hands.widget.commands.selected()) > chosen


def test_a_verdict_for_more_cells_than_anyone_has_seen_is_asked_about(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "CAP", 3)
    desk = hands.widget.desk
    hands.drag((900, 900), (1400, 1300), shift=True)
    selected = desk.selected
    asked = answer("Stay")
    hands.key("x")
    assert asked == ["Reject 4 cells? Undo takes them back in one step."]
    assert desk.selected.tolist() == selected.tolist()
    assert not desk.session.states.any()
    asked = answer("Call all HSIL")
    hands.key("5")
    assert asked == ["Call 4 cells HSIL? Undo takes them back in one step."]
    assert (desk.session.cells.labels[selected] == 4).all()
    assert desk.session.states[selected].all()
    hands.key("u")
    assert not desk.session.states.any()
    hands.drag((900, 900), (1200, 1300), shift=True)
    hands.key("x")  # few are not asked about
    assert (desk.session.states == State.REJECTED).sum() == 2
