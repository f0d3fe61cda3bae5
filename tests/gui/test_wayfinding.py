"""Where one is on the slide, the ways to elsewhere, and what the slide says about itself."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from napari.layers._layer_actions import _duplicate_layer
from qtpy.QtCore import QPointF
from qtpy.QtWidgets import QApplication

from napari_cervcell.casefile import Case
from napari_cervcell.slides import Slide, SlideError, sample_slide
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.mpp_dialog import MppDialog
from napari_cervcell.ui.overview_panel import FIT, JUMPS
from napari_cervcell.ui.properties_dialog import AssociatedImage, PropertiesDialog


@pytest.fixture
def hands(sit_down, slide_path: Path) -> Hands:
    return sit_down(slide_path)


def map_pixels(hands: Hands) -> np.ndarray:
    """Return the overview as it is painted, (h, w, 3), in the slide's frame."""
    overview = hands.widget.overview.map
    image = overview.grab().toImage().scaled(overview.size())  # one pixel each, also on fine screens
    frame = overview.frame.toAlignedRect()
    rgb = [[image.pixelColor(x, y).getRgb()[:3] for x in range(frame.left(), frame.right())]
           for y in range(frame.top(), frame.bottom())]  # fmt: skip
    return np.array(rgb)


def is_yellow(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 200) & (pixels[..., 1] > 170) & (pixels[..., 2] < 90)


def magnification(hands: Hands) -> float:
    """Return the magnification by what the canvas shows: µm a screen pixel, 0.25 at 40x."""
    desk = hands.widget.desk
    x1, _, x2, _ = desk.view.rectangle()
    device_px = hands.canvas.width() * hands.canvas.devicePixelRatioF()
    return 10 / ((x2 - x1) * desk.slide.mpp / device_px)


def shows_all(hands: Hands) -> bool:
    """Say whether the canvas shows the whole slide, and little else."""
    desk = hands.widget.desk
    x1, y1, x2, y2 = desk.view.rectangle()
    fits = min((x2 - x1) / desk.slide.width, (y2 - y1) / desk.slide.height) < 1.2
    return fits and desk.view.shows((0, 0, desk.slide.width, desk.slide.height))


# ---------------------------------------------------------------------------------------------------------- overview


def test_the_overview_shows_the_whole_slide_and_where_one_is(hands: Hands) -> None:
    desk, overview = hands.widget.desk, hands.widget.overview.map
    hands.wait_sharp()
    hands.click(hands.widget.overview.fit)
    hands.click(hands.widget.overview.jumps[20])
    hands.rest(0.2)
    pixels = map_pixels(hands)
    height, width = pixels.shape[:2]
    thumbnail = desk.slide.read_scaled(0, 0, desk.slide.width, desk.slide.height, desk.slide.width / width)[:height]
    assert np.median(np.abs(pixels[: len(thumbnail)] - thumbnail[:, :width].astype(int))) < 6
    rows, columns = np.nonzero(is_yellow(pixels))
    x1, y1, x2, y2 = desk.view.rectangle()
    scale = desk.slide.width / overview.frame.width()
    expected = np.array([x1, y1, x2, y2]) / scale
    assert [columns.min(), rows.min(), columns.max(), rows.max()] == pytest.approx(expected, abs=3)
    desk.view.place = (4000, 2500, 8.0)  # too small to be seen as a rectangle
    hands.rest(0.1)
    rows, columns = np.nonzero(is_yellow(map_pixels(hands)))
    at = overview.to_map(4000, 2500) - overview.frame.topLeft()
    assert (columns.mean(), rows.mean()) == pytest.approx((at.x(), at.y()), abs=2)
    assert columns.max() - columns.min() > 10


def test_a_click_in_the_overview_goes_there_and_a_drag_takes_the_canvas_along(hands: Hands) -> None:
    desk, overview = hands.widget.desk, hands.widget.overview.map
    zoom = desk.view.zoom
    px = desk.slide.width / overview.frame.width()  # a click cannot be more exact
    there = overview.to_map(6000, 3500)
    hands.drag_on(overview, there, there)
    assert desk.view.centre == pytest.approx((6000, 3500), abs=px)
    seen: list[float] = []
    hands.viewer.scene.camera.events.center.connect(lambda _: seen.append(desk.view.centre[0]))
    hands.drag_on(overview, overview.to_map(6000, 3500), overview.to_map(2000, 1000))
    assert desk.view.centre == pytest.approx((2000, 1000), abs=px)
    assert len(seen) > 3
    assert seen == sorted(seen, reverse=True)
    assert desk.view.zoom == pytest.approx(zoom)
    hands.drag_on(overview, overview.to_map(2000, 1000), QPointF(-500, -500))
    assert desk.view.centre == pytest.approx((0, 0), abs=1)


def test_the_overview_fills_while_tiles_land(sit_down, slide_path: Path, monkeypatch) -> None:
    disk, read = threading.Event(), Slide.tile

    def wait_and_read(self: Slide, level: int, column: int, row: int) -> np.ndarray:
        assert disk.wait(60)
        return read(self, level, column, row)

    monkeypatch.setattr(Slide, "tile", wait_and_read)
    hands: Hands = sit_down(slide_path)
    assert np.abs(np.diff(map_pixels(hands)[5:-5, 5:-5], axis=0)).mean() < 3
    disk.set()
    hands.wait("the overview has filled", lambda: np.abs(np.diff(map_pixels(hands)[5:-5, 5:-5], axis=0)).mean() > 3)


def test_the_overview_is_shown_when_the_drive_is_back(sit_down, slide_path: Path, monkeypatch) -> None:
    """It was complete before, of hatched tiles."""
    monkeypatch.setattr("napari_cervcell.slides.faults._FIRST", 0.2)
    monkeypatch.setattr("napari_cervcell.ui.painter.show_error", lambda _words: None)
    read, is_gone = Slide.tile, threading.Event()
    is_gone.set()

    def read_if_there(self: Slide, level: int, column: int, row: int) -> np.ndarray:
        if is_gone.is_set():
            raise SlideError(f"{self.path} is gone.")
        return read(self, level, column, row)

    monkeypatch.setattr(Slide, "tile", read_if_there)
    hands: Hands = sit_down(slide_path)
    hands.wait("the overview is hatched", lambda: is_grey(map_pixels(hands)))
    is_gone.clear()

    def look_around() -> bool:
        for x in (2000, 4000):
            hands.look_at((x, 1000, x + 60, 1060))
        return not is_grey(map_pixels(hands))

    hands.wait("the overview shows the slide", look_around)


def is_grey(pixels: np.ndarray) -> bool:
    """As hatched tiles are, but for the rectangle that is drawn there."""
    return bool(np.median(np.ptp(pixels.astype(int), axis=2)) == 0 and pixels.mean() < 200)


def test_a_copy_of_the_slide_has_an_overview(hands: Hands) -> None:
    shown = map_pixels(hands).astype(int)
    layers, first = hands.viewer.layers, hands.widget.desk.layer
    layers.selection = {first}
    _duplicate_layer(layers)
    layers.selection.active = next(layer for layer in layers if layer.name == f"{first.name} copy")
    assert hands.widget.desk.layer is not first
    hands.wait("its overview is there", lambda: np.abs(map_pixels(hands) - shown).mean() < 5)


# ----------------------------------------------------------------------------------------------------- magnification


def test_keys_jump_to_a_magnification_about_what_is_under_the_mouse(hands: Hands) -> None:
    for power, key in JUMPS.items():
        hands.look_at((1000, 1000, 1750, 1500))
        hands.point_at(1300, 1150)
        under = hands.widget.pointer.position()
        hands.key(key)
        assert magnification(hands) == pytest.approx(power, rel=0.01)
        assert hands.widget.pointer.position() == pytest.approx(under, abs=1)
        assert hands.widget.overview.magnification.text() == f"{power}x"
    hands.key(FIT)
    assert shows_all(hands)


def test_away_from_the_canvas_buttons_and_keys_keep_the_centre(hands: Hands) -> None:
    view, overview = hands.widget.desk.view, hands.widget.overview
    centre = view.centre
    for power, button in overview.jumps.items():
        hands.click(button)
        assert magnification(hands) == pytest.approx(power, rel=0.01)
        assert view.centre == pytest.approx(centre, abs=1)
        assert JUMPS[power] in button.toolTip()
    hands.key(JUMPS[5], overview.fit)
    assert magnification(hands) == pytest.approx(5, rel=0.01)
    assert view.centre == pytest.approx(centre, abs=1)
    assert not shows_all(hands)
    hands.click(overview.fit)
    assert shows_all(hands)


def test_the_read_out_follows_the_canvas_and_can_be_folded_away(hands: Hands) -> None:
    desk, overview = hands.widget.desk, hands.widget.overview
    desk.view.place = (4000, 2000, 0.31 / hands.canvas.devicePixelRatioF())
    hands.wait("the read-out has followed", lambda: overview.magnification.text() == "12.4x")
    assert overview.position.text() == "1.000, 0.500 mm"
    for shown in (False, True):
        hands.click(hands.widget.overview_button)
        assert overview.isVisible() == shown
    hands.viewer.layers.remove(desk.layer)
    assert not overview.isVisible()


def test_a_slide_without_scale_has_no_magnification(sit_down, tmp_path: Path) -> None:
    path = tmp_path / "plain.tiff"
    tifffile.imwrite(path, np.full((600, 800, 3), 240, np.uint8), tile=(256, 256), photometric="rgb")
    hands: Hands = sit_down(path)
    dialog = hands.widget.findChild(MppDialog)
    overview, desk = hands.widget.overview, hands.widget.desk
    assert overview.isVisible()
    assert not any(button.isEnabled() for button in overview.jumps.values())
    assert "neither" in overview.jumps[10].toolTip()
    assert overview.fit.isEnabled()
    assert "px" in overview.position.text()
    shown = desk.view.rectangle()
    dialog.value.setValue(0.5)
    hands.key("enter", dialog.value)
    hands.wait("the session has begun", lambda: desk.session is not None)
    assert desk.view.rectangle() == pytest.approx(shown)
    assert overview.position.text() == "200, 150 µm"
    hands.click(overview.jumps[10])
    assert magnification(hands) == pytest.approx(10, rel=0.01)


def test_pixels_that_are_not_square(sit_down, tmp_path: Path) -> None:
    path = tmp_path / "oblong.tiff"
    tifffile.imwrite(path, np.full((800, 800, 3), 240, np.uint8), tile=(256, 256), photometric="rgb",
                     resolution=(40_000, 20_000), resolutionunit="CENTIMETER")  # fmt: skip
    hands: Hands = sit_down(path)
    desk, frame = hands.widget.desk, hands.widget.overview.map.frame
    assert frame.height() == pytest.approx(2 * frame.width(), rel=0.05)
    x1, y1, x2, y2 = desk.view.rectangle()
    height, width = hands.viewer.canvas.size
    assert (y2 - y1) * 0.5 / height == pytest.approx((x2 - x1) * 0.25 / width)
    assert desk.view.from_canvas(desk.view.to_canvas(300, 500)) == pytest.approx((300, 500))


# ------------------------------------------------------------------------------------------------------------- place


def test_a_first_look_shows_the_whole_slide_also_beside_another(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    assert not shows_all(hands)
    hands.widget.open_slide(sample_slide())
    assert hands.widget.desk.slide.path == sample_slide()
    assert shows_all(hands)


def test_the_place_is_found_again_in_a_new_window(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    hands.widget.desk.view.place = (6000, 3500, 0.8)
    hands.viewer.layers.remove(hands.widget.desk.layer)  # at once: not yet at rest
    again: Hands = sit_down()
    again.viewer.window.resize(1100, 700)
    again.viewer.open(str(slide_path), plugin="napari-cervcell")
    again.rest(0.2)
    assert again.widget.desk.view.place == pytest.approx((6000, 3500, 0.8), rel=1e-3)
    overview = again.widget.overview
    assert overview.position.text() == "1.500, 0.875 mm"


def test_the_place_is_written_down_when_the_canvas_comes_to_rest(hands: Hands) -> None:
    case = hands.widget.desk.case
    hands.drag((1100, 1100), (1300, 1200))
    place = hands.widget.desk.view.place

    def written() -> bool:
        with Case.open(case.path) as other:
            return other.place == pytest.approx(place)

    hands.wait("the place is on disk", written)


# -------------------------------------------------------------------------------------------------------- properties


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the label and macro images that have been read."""
    names: list[str] = []
    read = Slide.read_associated_image

    def noted(self: Slide, name: str) -> np.ndarray:
        names.append(name)
        return read(self, name)

    monkeypatch.setattr(Slide, "read_associated_image", noted)
    return names


def test_label_and_macro_are_read_only_when_asked_for(sit_down, labelled_svs: Path, asked: list[str]) -> None:
    with tifffile.TiffFile(labelled_svs) as tiff:
        offset, length = tiff.pages[3].dataoffsets[0], tiff.pages[3].databytecounts[0]
    with labelled_svs.open("r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * length)  # the macro image cannot be read
    hands: Hands = sit_down(labelled_svs)
    hands.click(hands.widget.properties_button)
    dialog = hands.widget.findChild(PropertiesDialog)
    for tab in range(dialog.tabs.count()):
        dialog.tabs.setCurrentIndex(tab)
        hands.rest(0.05)
    assert asked == []
    label, macro, _ = dialog.images
    hands.click(label.button)
    hands.wait("the label is shown", lambda: has_picture(label))
    assert asked == ["label"]
    assert label.picture.height() >= 40
    assert label.picture.grab().toImage().pixelColor(10, 10).getRgb()[:3] == pytest.approx((200, 30, 90), abs=3)
    hands.click(label.button)
    assert not has_picture(label)
    assert not label.picture.isVisible()
    hands.click(macro.button)
    hands.wait("what is wrong is explained", lambda: "labelled.svs" in macro.picture.text())


def has_picture(image: AssociatedImage) -> bool:
    pixmap = image.picture.pixmap()
    return pixmap is not None and not pixmap.isNull()  # None in Qt 5, empty in Qt 6


def test_properties_are_summed_up_searched_and_copied(sit_down, labelled_svs: Path) -> None:
    hands: Hands = sit_down(labelled_svs)
    hands.click(hands.widget.properties_button)
    dialog = hands.widget.findChild(PropertiesDialog)
    words = " ".join(label.text() for label in dialog.tabs.widget(0).findChildren(type(hands.widget.overview.position)))
    for part in ("1,200 × 800 px", "0.30 × 0.20 mm", "0.25 µm", "40x", "aperio", "none"):
        assert part in words
    assert "Jane" not in words
    dialog.tabs.setCurrentIndex(1)
    properties = dialog.properties
    assert properties.table.rowCount() == len(hands.widget.desk.slide.properties)
    for letter in "jane":
        hands.key(letter, properties.search)
    assert [properties.table.item(row, 0).text() for row in properties.shown()] == [
        "aperio.Patient",
        "openslide.comment",
        "tiff.ImageDescription",
    ]
    properties.table.selectRow(properties.shown()[0])
    hands.key("ctrl+c", properties.table)
    assert QApplication.clipboard().text() == "aperio.Patient\tJane Doe"
    properties.search.clear()
    hands.click(properties.copy_button)
    assert len(QApplication.clipboard().text().splitlines()) >= properties.table.rowCount()
