"""What is drawn is what is in view, no more and no less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import open_case
from napari_cervcell.cells import Cells
from napari_cervcell.slides import open_slide
from napari_cervcell.taxonomy import BETHESDA
from napari_cervcell.ui import overlay as module
from napari_cervcell.ui.hands import Hands

from .conftest import write_cells


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def drawn_boxes(hands: Hands, symbol: str = "square") -> np.ndarray:
    """Return (x, y, side) of the markers in class colours, level-0 px."""
    points = hands.widget.overlay.points
    palette = {tuple(int(c.color[i : i + 2], 16) for i in (1, 3, 5)) for c in BETHESDA.classes}
    colors = [tuple(np.rint(255 * c[:3]).astype(int)) for c in points.border_color]
    mine = [
        i
        for i, color in enumerate(colors)
        if color in palette and points.face_color[i][3] == 0 and str(points.symbol[i]) == symbol
    ]
    return np.column_stack([points.data[mine][:, ::-1] + 0.5, points.size[mine]])


def test_each_cell_in_view_is_one_box_of_its_size_and_colour(hands: Hands) -> None:
    session, view = hands.widget.desk.session, hands.widget.desk.view
    rows = np.sort(session.visible(*view.rectangle()))
    assert 0 < len(rows) < len(session.cells)
    drawn = drawn_boxes(hands)
    assert len(drawn) == len(rows)
    assert sorted(map(tuple, np.rint(drawn[:, :2]))) == sorted(map(tuple, np.rint(session.cells.centres[rows])))
    assert drawn[:, 2] == pytest.approx(70)


def test_the_view_takes_the_cells_along(hands: Hands) -> None:
    hands.look_at((2500, 1500, 2700, 1700))
    hands.rest(0.2)
    view = hands.widget.desk.view
    x1, y1, x2, y2 = view.rectangle()
    drawn = drawn_boxes(hands)
    assert len(drawn) == len(hands.widget.desk.session.visible(x1, y1, x2, y2))
    assert ((drawn[:, 0] >= x1) & (drawn[:, 0] <= x2)).all()


def test_state_is_told_by_shape(hands: Hands) -> None:
    session = hands.widget.desk.session
    row = int(session.visible(*hands.widget.desk.view.rectangle())[0])
    hands.click_at(*session.cells.centres[row])
    hands.key("space")
    hands.look_at(session.cells.boxes[row])
    assert len(drawn_boxes(hands, "disc")) == 1
    hands.key("u")
    hands.rest(0.1)
    assert len(drawn_boxes(hands, "disc")) == 0


def test_letters_come_close_up_only(hands: Hands) -> None:
    points = hands.widget.overlay.points
    assert set(points.text.string(points.features)) > {"N", "U"}
    hands.viewer.reset_view()
    hands.rest(0.2)
    assert set(np.atleast_1d(points.text.string(points.features))) == {""}


def test_over_the_cap_the_number_is_told_and_nothing_is_sampled(
    sit_down, slide_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CAP", 1000)
    n = 1500
    rng = np.random.default_rng(0)
    centre = rng.uniform(200, 3800, (n, 2))
    cells = Cells(np.hstack([centre - 30, centre + 30]), np.arange(n) % 6, np.full(n, 0.9), np.full(n, 0.9))
    with (
        open_slide(slide_path) as slide,
        open_case(slide_path.with_name(slide_path.name + ".cervcell"), slide) as case,
    ):
        write_cells(case, cells)
    hands: Hands = sit_down(slide_path)
    hands.viewer.reset_view()
    hands.rest(0.2)
    text = hands.viewer.canvas.overlays.text
    assert text.visible
    assert text.text == "1,500 cells in view. Zoom in to see them one by one."
    assert len(drawn_boxes(hands)) == 0
    x, y = centre[0]
    hands.look_at((x - 10, y - 10, x + 10, y + 10))
    hands.rest(0.2)
    assert not text.visible
    assert 0 < len(drawn_boxes(hands)) < 1000


def test_the_layers_cannot_be_deleted_or_edited_by_hand(hands: Hands) -> None:
    for layer in (hands.widget.overlay.points, hands.widget.overlay.regions):
        assert layer.locked
        assert not layer.editable
    assert hands.viewer.layers.selection.active is hands.widget.desk.layer
    hands.viewer.layers.selection.active = hands.widget.overlay.points
    n = len(hands.widget.overlay.points.data)
    hands.key("ctrl+a")
    assert len(hands.widget.overlay.points.data) == n


def test_both_themes_colour_the_icons(hands: Hands) -> None:
    button = hands.widget.review_panel.buttons["accept"]

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
        "accept add cervcell close detect export fly keys next open previous redo region "
        "reject sample show stop train undo"
    )
    assert all(icon_path(name).exists() for name in names.split())
