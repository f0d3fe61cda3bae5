"""What is drawn is what is in view, no more and no less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtWidgets import QToolTip

from napari_cervcell.casefile import Verdict, open_case
from napari_cervcell.cells import Cells
from napari_cervcell.slides import open_slide
from napari_cervcell.taxonomy import BETHESDA
from napari_cervcell.ui import overlay as module
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.parts import Section

from .conftest import is_there, picture, write_cells


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def in_full_view(hands: Hands) -> np.ndarray:
    """Return the rows of the cells that lie wholly in view, away from the texts on the canvas."""
    session, view = hands.widget.desk.session, hands.widget.desk.view
    x1, y1, x2, y2 = view.rectangle()
    margin = 60 / view.zoom
    rows = session.visible(x1 + margin, y1 + margin, x2 - margin, y2 - 2 * margin)
    assert len(rows)
    return rows


def test_each_cell_in_view_is_one_box_of_its_size_and_colour(hands: Hands) -> None:
    session = hands.widget.desk.session
    image = picture(hands)
    for row in in_full_view(hands):
        x1, y1, x2, y2 = session.cells.boxes[row]
        color = BETHESDA.classes[session.cells.labels[row]].color
        x, y = (x1 + x2) / 2, (y1 + y2) / 2
        for side in ((x1, y), (x2, y), (x, y1), (x, y2), (x2, y2)):
            assert is_there(hands, image, side, color), (row, side)
        assert not is_there(hands, image, (x, y2 + 25), color)


def test_a_box_need_not_be_square(hands: Hands) -> None:
    case = hands.widget.desk.case
    wide = np.array([1060, 1100, 1200, 1150], np.float32)
    case.record([Verdict(kind="add", box=wide, label=4)])
    hands.widget.desk.session.reload()
    image = picture(hands)
    color = BETHESDA.classes[4].color
    assert is_there(hands, image, (1130 - 35, 1150), color)  # the base of a triangle
    assert not is_there(hands, image, (1130, 1125 + 70), color)


def test_the_view_takes_the_cells_along(hands: Hands) -> None:
    session = hands.widget.desk.session
    for middle in ((2500, 1600), (1500, 1300)):
        hands.look_at((middle[0] - 50, middle[1] - 50, middle[0] + 50, middle[1] + 50))
        image = picture(hands)
        for row in in_full_view(hands):
            x1, y1, _, y2 = session.cells.boxes[row]
            assert is_there(hands, image, (x1, (y1 + y2) / 2), BETHESDA.classes[session.cells.labels[row]].color)


def test_state_is_told_by_shape(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(in_full_view(hands)[0])
    _, y1, x2, y2 = session.cells.boxes[row]
    color = BETHESDA.classes[session.cells.labels[row]].color
    hands.viewer.scene.camera.zoom *= 2
    hands.look_at(session.cells.boxes[row])
    assert is_there(hands, picture(hands), (x2, y2), color)
    hands.click_at(*session.cells.centres[row])
    hands.key("space")
    hands.look_at(session.cells.boxes[row])
    image = picture(hands)
    assert not is_there(hands, image, (x2, y2), color)  # a ring has no corners
    assert is_there(hands, image, (x2, (y1 + y2) / 2), color)
    hands.key("u")
    hands.look_at(session.cells.boxes[row])
    assert is_there(hands, picture(hands), (x2, y2), color)


def test_letters_come_close_up_only(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(in_full_view(hands)[0])
    color = BETHESDA.classes[session.cells.labels[row]].color

    def has_plate() -> bool:
        """Whether there is more ink at the corner with the letter than at the one across."""
        x1, y1, x2, y2 = session.cells.boxes[row]
        image = picture(hands)
        px = 1 / hands.widget.desk.view.zoom
        return is_there(hands, image, (x1 + 3 * px, y1 + 10 * px), color) and not is_there(
            hands, image, (x2 - 6 * px, y2 - 6 * px), color
        )

    hands.look_at(session.cells.boxes[row])
    hands.viewer.scene.camera.zoom *= 2
    assert has_plate()
    hands.viewer.scene.camera.zoom /= 8
    assert not has_plate()


def test_a_class_can_be_hidden(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(in_full_view(hands)[0])
    label = int(session.cells.labels[row])
    x1, y1, _, y2 = session.cells.boxes[row]
    place, color = (x1, (y1 + y2) / 2), BETHESDA.classes[label].color
    chip = hands.widget.case_panel.chips[label]
    hands.click(chip)
    assert not is_there(hands, picture(hands), place, color)
    assert session.at(*session.cells.centres[row], 5) is None
    hands.click(chip)
    assert is_there(hands, picture(hands), place, color)


def test_the_pointer_is_told_what_lies_under_it(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(in_full_view(hands)[0])
    x, y = session.cells.centres[row]
    hands.point_at(x + 20, y - 20)
    hands.rest(0.6)
    text = QToolTip.text()
    assert BETHESDA.classes[session.cells.labels[row]].name in text
    assert f"cell {session.cells.scores[row]:.0%}" in text
    assert f"{70 * hands.widget.desk.slide.mpp:.0f} x" in text
    assert "new" in text
    hands.point_at(x + 125, y)
    hands.rest(0.6)
    assert not QToolTip.isVisible() or QToolTip.text() == ""


def test_a_click_again_takes_the_next_cell_in_a_crowd(hands: Hands) -> None:
    case = hands.widget.desk.case
    boxes = [np.array([1095 + d, 1095, 1155 + d, 1155], np.float32) for d in (0, 8, 16)]
    case.record([Verdict(kind="add", box=box, label=2) for box in boxes])
    session = hands.widget.desk.session
    session.reload()
    hands.rest(0.1)
    seen = []
    for _ in range(4):
        hands.click_at(1124, 1125)
        seen.append(float(session.cells.centres[session.current][0]))
    assert seen == [1125, 1133, 1141, 1125]
    hands.click_at(1141, 1130)
    assert session.cells.centres[session.current][0] == 1141


def sit_before(cells: Cells, sit_down, slide_path: Path) -> Hands:
    """Sit down before the whole of a slide on which `cells` were found."""
    with (
        open_slide(slide_path) as slide,
        open_case(slide_path.with_name(slide_path.name + ".cervcell"), slide) as case,
    ):
        write_cells(case, cells)
    hands: Hands = sit_down(slide_path)
    hands.viewer.reset_view()
    hands.rest(0.3)
    return hands


def test_on_the_map_what_is_selected_is_outlined(sit_down, slide_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAP", 1000)
    centre = np.random.default_rng(0).uniform(200, 3800, (1500, 2))
    cells = Cells(np.hstack([centre - 30, centre + 30]), np.zeros(1500, int), np.full(1500, 0.9), np.full(1500, 0.9))
    hands = sit_before(cells, sit_down, slide_path)
    desk, overlay = hands.widget.desk, hands.widget.overlay
    s = overlay.map_shown.square

    def drag(left: float, top: float, right: float, bottom: float) -> None:
        """Select what is in the squares from `left` and `top` until before `right` and `bottom`."""
        hands.drag(((left + 0.2) * s, (top + 0.2) * s), ((right - 0.2) * s, (bottom - 0.2) * s), shift=True)

    def lines(*places: tuple[float, float]) -> list[bool]:
        image = picture(hands)
        return [is_there(hands, image, (x * s, y * s), "#000000") for x, y in places]

    around = (2, 4.5), (6, 4.5), (3.5, 3), (3.5, 7)
    other = (9, 5.5), (10.5, 5)
    assert not any(lines(*around, *other))
    drag(2, 3, 6, 7)
    assert lines(*around, *other, (3.5, 4.5)) == [True] * 4 + [False] * 3
    drag(9, 5, 12, 8)
    assert all(lines(*around, *other))
    assert not any(lines((7.5, 5.5)))  # between the two
    hands.viewer.scene.camera.zoom = 0.25 / hands.viewer.layers[0].scale[0]
    hands.look_at(desk.session.cells.boxes[desk.selected[0]])
    assert overlay.map_shown is None
    x1, y1, x2, y2 = desk.session.cells.boxes[desk.selected[0]]
    corner = (x1 + x2) / 2 - 1.35 * (x2 - x1) / 2, (y1 + y2) / 2 - 1.35 * (y2 - y1) / 2
    assert is_there(hands, picture(hands), corner, "#000000")  # one by one they are marked each
    hands.viewer.reset_view()
    hands.rest(0.3)
    assert all(lines(*around, *other))
    hands.key("esc")
    assert not any(lines(*around, *other))


def test_over_the_cap_cells_are_a_map_with_true_counts(
    sit_down, slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAP", 1000)
    n = 1500
    rng = np.random.default_rng(0)
    centre = rng.uniform(200, 3800, (n, 2))
    labels = np.where(np.arange(n) < 5, 4, 0)
    cells = Cells(np.hstack([centre - 30, centre + 30]), labels, np.full(n, 0.9), np.full(n, 0.9))
    hands = sit_before(cells, sit_down, slide_path)
    overlay = hands.widget.overlay
    assert overlay.caption.isVisible()
    assert overlay.caption.text().splitlines()[0] == "1,500 cells in view, too many to show one by one"
    assert "NILM 1,495" in overlay.caption.text()
    assert "HSIL 5" in overlay.caption.text()
    assert overlay.map_shown.counts.sum(axis=(0, 1)).tolist() == [1495, 0, 0, 0, 5, 0]
    # the map lies where the cells are
    image = picture(hands)
    side = overlay.map_shown.square
    left, top = (centre[0] // side) * side
    middle = hands.widget.desk.view.to_canvas(left + side / 2, top + side / 2)
    red, green, blue = image[round(middle[1]), round(middle[0])]
    assert red > green + 40
    assert red > blue + 40
    hands.look_at((1990, 1990, 2010, 2010))
    hands.viewer.scene.camera.zoom = 0.25 / hands.viewer.layers[0].scale[0]
    hands.rest(0.3)
    x1, y1, x2, y2 = hands.widget.desk.view.rectangle()
    inside = ((centre > (x1, y1)) & (centre < (x2, y2))).all(1).sum()
    assert 0 < inside < 1500
    assert overlay.in_view == inside


def test_layers_of_others_come_and_go_and_the_cells_stay(hands: Hands) -> None:
    assert [layer.name for layer in hands.viewer.layers] == ["slide"]
    row = int(in_full_view(hands)[0])
    session = hands.widget.desk.session
    x1, y1, _, y2 = session.cells.boxes[row]
    place, color = (x1, (y1 + y2) / 2), BETHESDA.classes[session.cells.labels[row]].color
    other = hands.viewer.add_image(np.zeros((4000, 4000)), scale=hands.widget.desk.layer.scale, name="other")
    assert is_there(hands, picture(hands), place, color)
    hands.viewer.layers.remove(other)
    assert is_there(hands, picture(hands), place, color)
    hands.viewer.dims.ndisplay = 3
    hands.rest(0.1)
    hands.viewer.dims.ndisplay = 2
    hands.look_at(session.cells.boxes[row])
    assert is_there(hands, picture(hands), place, color)


@pytest.mark.parametrize("which", ["button", "heading", "heading folded"])
def test_both_themes_colour_the_icons(hands: Hands, which: str) -> None:
    if which == "button":
        button = hands.widget.review_bar.buttons["accept"]
    else:
        section = hands.widget.findChildren(Section)[0]
        button = section.toggleButton()
        if which == "heading folded":
            section.collapse(animate=False)

    def lightness() -> float:
        image = button.icon().pixmap(32, 32).toImage()
        pixels = [image.pixelColor(x, y) for x in range(32) for y in range(32)]
        return float(np.mean([p.lightness() for p in pixels if p.alpha() > 128]))

    hands.viewer.theme = "dark"
    on_dark = lightness()
    hands.viewer.theme = "light"
    assert on_dark > 150 > 100 > lightness()


def test_files_of_all_icons_are_there() -> None:
    from napari_cervcell.ui.icons import icon_path

    names = (
        "accept add cervcell close detect export fly keys next open pause previous redo region "
        "reject sample show stop train undo shown folded"
    )
    assert all(icon_path(name).exists() for name in names.split())
