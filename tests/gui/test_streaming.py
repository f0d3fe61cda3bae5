"""The slide on the canvas: coarse at once, sharp soon, and the window never waits for the file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms
from qtpy import QT5
from qtpy.QtWidgets import QApplication

from napari_cervcell.slides import Slide, SlideError
from napari_cervcell.slides.cache import TILES
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.properties_dialog import summary
from napari_cervcell.ui.streaming import is_sharp, stream_of


def canvas(hands: Hands) -> np.ndarray:
    return hands.viewer.screenshot(flash=False)[..., :3].astype(int)


def drawn(layer) -> tuple[np.ndarray, np.ndarray]:
    """Return what the layer shows now, and what the slide has there."""
    (top, left), (bottom, right) = layer.corner_pixels[:, :2]
    assert layer.data_level == 0
    truth = layer.metadata["slide"].read_region(left, top, right - left + 1, bottom - top + 1)
    return np.asarray(layer._slice.image.raw), truth


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A disk that gives out tiles only while it is set."""
    disk = threading.Event()
    disk.set()
    read = Slide.tile

    def wait_and_read(self: Slide, level: int, column: int, row: int) -> np.ndarray:
        assert disk.wait(60)
        return read(self, level, column, row)

    monkeypatch.setattr(Slide, "tile", wait_and_read)
    return disk


def test_a_jump_shows_the_coarse_picture_and_becomes_sharp(sit_down, slide_path: Path, disk: threading.Event) -> None:
    hands: Hands = sit_down(slide_path)
    layer = hands.widget.desk.layer
    hands.wait_sharp()
    disk.clear()
    hands.look_at((6000, 2000, 6060, 2060))
    hands.viewer.scene.camera.zoom = 1 / layer.scale[0]
    hands.rest(0.3)  # the window lives while the disk stands still
    coarse, truth = drawn(layer)
    assert not is_sharp(layer)
    assert coarse.shape == truth.shape
    assert np.abs(coarse.astype(int) - truth).mean() < 10
    assert (coarse != truth).any()
    blurred = canvas(hands)
    disk.set()
    hands.wait_sharp()
    np.testing.assert_array_equal(*drawn(layer))
    sharp = canvas(hands)
    middle = np.s_[100:-100, 100:-100]
    assert np.abs(np.diff(sharp[middle], axis=0)).mean() > 1.5 * np.abs(np.diff(blurred[middle], axis=0)).mean()


def test_the_next_cell_of_the_queue_is_sharp_at_once(
    sit_down, slide_path: Path, case_path: Path, disk: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its surroundings are read while the reviewer looks at the one before."""
    hands: Hands = sit_down(slide_path)
    desk, layer = hands.widget.desk, hands.widget.desk.layer
    hands.viewer.scene.camera.zoom = 4 / layer.scale[0]
    hands.wait_sharp()
    stored, put = set(), TILES.put

    def put_and_tell(place, tile, **settings: bool) -> None:
        put(place, tile, **settings)
        stored.add(place[1:])

    monkeypatch.setattr(TILES, "put", put_and_tell)
    hands.key("n")
    there = desk.view.rectangle_about(desk.session.cells.boxes[desk.session.neighbours.coming[0]])
    wanted = {(0, *key) for key in stream_of(layer.data).grids[0].tiles_in(tuple(map(int, there)))}
    hands.wait("the surroundings of the next one are read", lambda: wanted <= stored)
    hands.wait_sharp()
    disk.clear()
    hands.key("n")
    sharp = is_sharp(layer)
    disk.set()
    assert sharp
    np.testing.assert_array_equal(*drawn(layer))


@pytest.mark.skipif(not QT5, reason="Qt 6 puts the window together for every word that changes")
def test_words_that_change_do_not_bring_the_slide_to_the_screen_again(sit_down, slide_path: Path) -> None:
    """Where OpenGL is software, as on the display of these tests, that would take as long as a frame."""
    hands: Hands = sit_down(slide_path)
    hands.wait_sharp()
    hands.rest(0.5)
    frames: list[int] = []
    hands.canvas.frameSwapped.connect(lambda: frames.append(1))
    hands.widget.review_bar.reviewed.setText("other words")
    hands.rest(0.3)
    assert not frames
    hands.look_at((1500, 1500, 1600, 1600))
    hands.rest(0.3)
    assert frames


def test_a_step_of_the_camera_takes_one_frame(sit_down, slide_path: Path) -> None:
    """napari by itself draws a second one: only then it knows of what the camera looks at."""
    hands: Hands = sit_down(slide_path)
    view, frames = hands.widget.desk.view, []

    def go(x: float) -> None:
        hands.viewer.scene.camera.center = (3000 * view.layer.scale[0], x * view.layer.scale[1])
        hands.rest(0.3)
        hands.wait_sharp()

    hands.look_at((4000, 3000, 4060, 3060))
    view.zoom = 0.5
    for x in (6000, 4000):  # all that will be shown has been read
        go(x)
    view.canvas._scene_canvas.events.draw.connect(frames.append)
    go(6000)
    assert len(frames) == 1


@pytest.mark.parametrize(("ratio", "zoom", "level"), [(1, 0.5, 1), (2, 0.5, 0), (1, 0.68, 1), (1, 0.74, 0)])
def test_the_level_is_shown_whose_pixels_are_nearest_to_those_of_the_display(
    sit_down, slide_path: Path, monkeypatch: pytest.MonkeyPatch, ratio: float, zoom: float, level: int
) -> None:
    monkeypatch.setattr(QApplication, "devicePixelRatio", lambda _app: ratio)
    hands: Hands = sit_down(slide_path)
    layer = hands.widget.desk.layer
    hands.viewer.scene.camera.zoom = zoom / layer.scale[0]
    hands.wait_sharp()
    assert layer.data_level == level


def test_napari_alone_draws_what_lands(make_napari_viewer, qtbot, slide_path: Path) -> None:
    """Opened by drag and drop, without the Review widget."""
    viewer = make_napari_viewer(show=True)
    (layer,) = viewer.open(str(slide_path), plugin="napari-cervcell")
    viewer.scene.camera.zoom = 1 / layer.scale[0]
    qtbot.waitUntil(lambda: layer.data_level == 0 and is_sharp(layer), timeout=30000)
    np.testing.assert_array_equal(*drawn(layer))
    assert layer.thumbnail[..., :3].std() > 5


def test_removing_the_slide_ends_its_threads(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    hands.wait_sharp()
    layer = hands.widget.desk.layer
    assert stream_of(layer.data) is not None
    assert any(thread.name == "cervcell-reader" for thread in threading.enumerate())
    hands.viewer.layers.remove(layer)
    hands.wait("its threads have ended", lambda: not any(t.name == "cervcell-reader" for t in threading.enumerate()))


def test_a_damaged_place_is_told_of_and_the_slide_goes_on(sit_down, slide_path: Path, monkeypatch) -> None:
    read = Slide.tile

    def damaged(self: Slide, level: int, column: int, row: int) -> np.ndarray:
        if (level, column, row) == (0, 5, 4):
            raise SlideError(f"{self.path} is damaged there.")
        return read(self, level, column, row)

    monkeypatch.setattr(Slide, "tile", damaged)
    told: list[str] = []
    monkeypatch.setattr("napari_cervcell.ui.painter.show_error", told.append)
    hands: Hands = sit_down(slide_path)
    layer, side = hands.widget.desk.layer, hands.widget.desk.slide.tile_size
    hands.look_at((5.4 * side, 4.4 * side, 5.6 * side, 4.6 * side))
    hands.viewer.scene.camera.zoom = 1 / layer.scale[0]
    hands.wait_sharp()
    shown, truth = drawn(layer)
    differs = (shown != truth).any(axis=2)
    assert 0 < differs.sum() <= side * side
    hands.wait("the damage is told of", lambda: told)
    assert len(told) == 1
    assert "damaged there" in told[0]


def test_a_slide_that_goes_away_is_told_of_once_and_shown_again_when_it_is_back(
    sit_down, slide_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("napari_cervcell.slides.faults._FIRST", 0.2)
    told: list[str] = []
    monkeypatch.setattr("napari_cervcell.ui.painter.show_error", told.append)
    hands: Hands = sit_down(slide_path)
    layer = hands.widget.desk.layer
    hands.wait_sharp()
    content = slide_path.read_bytes()
    slide_path.write_bytes(b"")
    slide_path.unlink()
    for x in (4000, 7000):  # the window lives, and shows what it can
        hands.look_at((x, 2000, x + 60, 2060))
        hands.viewer.scene.camera.zoom = 1 / layer.scale[0]
        hands.wait_sharp()
    assert {90, 150} <= set(np.unique(np.asarray(layer._slice.image.raw)))
    assert len(told) == 1
    assert "no file" in told[0]
    slide_path.write_bytes(content)

    def looks_right() -> bool:
        for x in (4000, 7000):
            hands.look_at((x, 2000, x + 60, 2060))
        hands.wait_sharp()
        shown, truth = drawn(layer)
        return bool((shown == truth).all())

    hands.wait("the slide is read again", looks_right)
    assert len(told) == 1


def test_closing_the_window_waits_for_no_disk_and_leaves_no_thread(
    sit_down, slide_path: Path, disk: threading.Event, qtbot
) -> None:
    hands: Hands = sit_down(slide_path)
    hands.wait_sharp()
    disk.clear()
    hands.look_at((6000, 2000, 6060, 2060))
    hands.viewer.scene.camera.zoom = 1 / hands.widget.desk.layer.scale[0]
    hands.rest(0.2)
    hands.viewer.close()  # while no read ends: it would wait for ever
    disk.set()
    qtbot.waitUntil(lambda: not any(t.name == "cervcell-reader" for t in threading.enumerate()), timeout=30000)


@pytest.fixture
def settings() -> Iterator[Any]:
    """The plugin's settings for slides, which are as they were afterwards."""
    from napari.settings import get_plugin_settings

    settings = get_plugin_settings("napari-cervcell").slides
    before = settings.cache_mb, settings.color_managed
    yield settings
    settings.cache_mb, settings.color_managed = before


def test_cache_size_is_a_setting(sit_down, slide_path: Path, settings) -> None:
    settings.cache_mb = 300
    hands: Hands = sit_down(slide_path)
    hands.wait_sharp()
    assert TILES.capacity == 300 << 20
    assert 0 < TILES.nbytes <= TILES.capacity


def test_colours_by_the_profile_are_a_setting(sit_down, tmp_path: Path, settings) -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"????"), (b"bXYZ", b"rXYZ"), (b"????", b"bXYZ")):
        icc = icc.replace(old, new)  # of a scanner that calls red what is blue
    pixels = np.full((512, 512, 3), (200, 120, 160), np.uint8)
    path = tmp_path / "coloured.tiff"
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", iccprofile=icc)
    settings.color_managed = True
    widget = sit_down(path).widget
    assert np.abs(np.asarray(widget.desk.layer.data[0])[0, 0] - (160.0, 120.0, 200.0)).max() < 5
    assert ("Colour profile", "yes, applied") in summary(widget.desk.slide)
    settings.color_managed = False
    widget.open_slide(path)
    np.testing.assert_array_equal(np.asarray(widget.desk.layer.data[0]), pixels)
    assert "Preferences > Plugins > CervCell" in dict(summary(widget.desk.slide))["Colour profile"]
