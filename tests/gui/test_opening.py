"""A slide comes onto the desk, with its case; what cannot be opened is explained."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from qtpy.QtWidgets import QLabel, QWidget

from napari_cervcell.casefile import Case, default_case_path, open_case, place_of
from napari_cervcell.slides import open_slide, sample_slide
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.mpp_dialog import MppDialog
from napari_cervcell.ui.properties_dialog import PropertiesDialog
from napari_cervcell.ui.words import describe

from .conftest import picture


def test_empty_state_says_what_to_do_and_opens_the_sample(sit_down, tmp_path: Path) -> None:
    hands: Hands = sit_down()
    widget = hands.widget
    assert widget.stack.currentIndex() == 0
    hands.click(widget.sample_button)
    hands.wait("the sample is open", lambda: widget.desk.session is not None)
    assert widget.stack.currentIndex() == 1
    # never inside the installed package
    case = widget.desk.case.path
    assert tmp_path in case.parents
    assert not default_case_path(sample_slide()).exists()


def test_case_lies_beside_the_slide_and_its_cells_are_shown_at_once(
    sit_down, slide_path: Path, case_path: Path
) -> None:
    hands: Hands = sit_down(slide_path)
    desk = hands.widget.desk
    assert desk.case.path == place_of(desk.case.uid) == case_path
    assert len(desk.session.cells) == 40
    assert hands.widget.overlay.in_view == len(desk.session.visible(*desk.view.rectangle())) > 0
    assert hands.viewer.canvas.overlays.scale_bar.visible
    assert [str(unit) for unit in desk.layer.units] == ["micrometer", "micrometer"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a folder that this user may not write to")
def test_read_only_folder_gets_its_case_in_the_data_folder(sit_down, slide_path: Path, tmp_path: Path) -> None:
    slide_path.parent.chmod(0o555)
    try:
        hands: Hands = sit_down(slide_path)
        assert hands.widget.desk.case.path.parent.name == "cases"
    finally:
        slide_path.parent.chmod(0o755)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A slide of one grey that does not say its µm per pixel."""
    path = tmp_path / "plain.tiff"
    pixels = np.full((1024, 1024, 3), 240, np.uint8)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb")
    return path


def test_slide_without_mpp_asks_once(sit_down, plain: Path) -> None:
    hands: Hands = sit_down(plain)
    desk = hands.widget.desk
    assert desk.session is None
    dialog = hands.widget.findChild(MppDialog)
    dialog.value.setValue(0.4)
    hands.key("enter", dialog.value)
    hands.wait("the session has begun", lambda: desk.session is not None)
    assert desk.layer.scale == pytest.approx([0.4, 0.4])
    hands.viewer.layers.remove(desk.layer)
    assert desk.session is None
    assert hands.widget.stack.currentIndex() == 0
    hands.viewer.open(str(plain), plugin="napari-cervcell")
    hands.wait("the answer was remembered", lambda: desk.session is not None)
    assert desk.slide.mpp == pytest.approx(0.4)


def test_what_the_case_knows_of_the_scale_stands_above_what_the_slide_says(sit_down, slide_path: Path) -> None:
    with open_slide(slide_path) as slide, open_case(default_case_path(slide_path), slide) as case:
        assert slide.mpp == 0.25
        case.mpp = 0.5
    desk = sit_down(slide_path).widget.desk
    assert desk.slide.mpp == 0.5
    assert desk.layer.scale == pytest.approx([0.5, 0.5])


def test_without_an_answer_the_slide_is_only_shown(sit_down, plain: Path) -> None:
    hands: Hands = sit_down(plain)
    hands.key("esc", hands.widget.findChild(MppDialog).value)
    assert hands.widget.desk.session is None
    assert "size of a pixel" in hands.widget.error_bar.text.text()


def test_case_of_another_slide_is_explained_and_the_bar_can_be_dismissed(sit_down, slide_path: Path) -> None:
    Case.create(
        default_case_path(slide_path), slide_name="other.svs", fingerprint="x", width=9, height=9, mpp=0.5
    ).close()
    hands: Hands = sit_down(slide_path)
    bar = hands.widget.error_bar
    assert bar.isVisible()
    assert "other.svs" in bar.text.text()
    assert hands.widget.desk.session is None
    hands.click(bar.close_button)
    assert not bar.isVisible()


def test_broken_slide_is_explained(sit_down, tmp_path: Path) -> None:
    broken = tmp_path / "broken.svs"
    broken.write_text("no slide")
    hands: Hands = sit_down()
    hands.widget.open_slide(broken)
    assert "broken.svs" in hands.widget.error_bar.text.text()
    assert hands.widget.error_bar.isVisible()
    assert not [w for w in hands.window.findChildren(QWidget) if type(w).__name__ == "NapariQtNotification"]


def test_what_is_no_slide_is_explained_whatever_its_name(sit_down, tmp_path: Path) -> None:
    striped, text = tmp_path / "striped.tif", tmp_path / "notes.txt"
    tifffile.imwrite(striped, np.full((512, 512, 3), 240, np.uint8), photometric="rgb")
    text.write_text("no slide")
    widget = sit_down().widget
    for path, words in ((striped, "TIFF without tiles"), (text, "not a slide")):
        widget.open_slide(path)
        assert path.name in widget.error_bar.text.text()
        assert words in widget.error_bar.text.text()


@pytest.mark.parametrize("name", ["noext", "slide.btf"])
def test_a_slide_is_opened_whatever_its_name(sit_down, slide_path: Path, name: str) -> None:
    path = slide_path.rename(slide_path.with_name(name))
    hands: Hands = sit_down()
    hands.widget.open_slide(path)
    assert hands.widget.desk.slide.path == path
    assert hands.widget.desk.session is not None
    hands.wait_sharp()


def test_a_second_slide_takes_the_place_of_the_first(sit_down, slide_path: Path, plain: Path) -> None:
    """Not a pixel of the first one is left on screen: it is another patient's."""
    hands: Hands = sit_down(slide_path)
    desk, first = hands.widget.desk, hands.widget.desk.layer
    case_path = desk.case.path
    hands.viewer.open(str(plain), plugin="napari-cervcell")
    assert desk.slide.path == plain
    hands.key("enter", hands.widget.findChild(MppDialog).value)
    hands.wait("the session has begun", lambda: desk.session is not None)
    assert [layer.visible for layer in hands.viewer.layers] == [False, True]
    desk.view.zoom_to(desk.view.zoom / 2)
    seen = picture(hands)
    x1, y1, x2, y2 = (round(v) for v in (*desk.view.to_canvas(0, 0), *desk.view.to_canvas(1024, 1024)))
    assert (seen[y1 + 5 : y2 - 60, x1 + 5 : x2 - 5] == 240).all()
    seen[y1 - 2 : y2 + 2, x1 - 2 : x2 + 2] = 0
    assert seen[: y1 - 2].max() == seen[:, : x1 - 2].max() == 0
    assert not [w for w in hands.window.findChildren(QWidget) if type(w).__name__ == "NapariQtNotification"]

    hands.viewer.layers.selection.active = first
    assert desk.case.path == case_path
    assert [layer.visible for layer in hands.viewer.layers] == [True, False]
    assert [str(unit) for unit in first.units] == ["micrometer", "micrometer"]
    hands.viewer.layers.remove(first)
    assert desk.slide.path == plain
    assert desk.layer.visible
    assert not [w for w in hands.window.findChildren(QWidget) if type(w).__name__ == "NapariQtNotification"]


def test_the_size_of_a_pixel_is_put_right(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget, desk = hands.widget, hands.widget.desk
    seen, cells = desk.view.rectangle(), len(desk.session.cells)

    def ask() -> MppDialog:
        hands.click(widget.properties_button)
        hands.click(widget.findChild(PropertiesDialog).summary.change)
        hands.rest(0.05)
        assert widget.findChild(PropertiesDialog) is None
        return widget.findChild(MppDialog)

    dialog = ask()
    assert dialog.value.value() == 0.25
    session = desk.session
    hands.key("enter", dialog.value)
    assert desk.session is session, "the same size changes nothing"
    dialog = ask()
    dialog.value.setValue(0.5)
    hands.key("enter", dialog.value)
    assert desk.slide.mpp == desk.case.mpp == 0.5
    assert desk.layer.scale == pytest.approx([0.5, 0.5])
    assert desk.session is not session
    assert len(desk.session.cells) == cells
    assert desk.view.rectangle() == pytest.approx(seen)
    assert "35 x 35 µm" in describe(desk.session, desk.slide.mpp_xy, 0)
    assert widget.overview.position.text().startswith("0.68")
    assert "Detect again" in widget.note_bar.text.text()
    hands.click(widget.properties_button)
    words = [label.text() for label in widget.findChild(PropertiesDialog).summary.findChildren(QLabel)]
    assert "0.5 µm; the file says 0.25 µm" in words


def test_the_size_of_a_pixel_stays_while_work_rests_on_it(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget, desk = hands.widget, hands.widget.desk
    hands.click(widget.properties_button)
    dialog = widget.findChild(PropertiesDialog)
    hands.click(widget.detect_panel.start)
    assert desk.detection.running
    hands.click(dialog.summary.change)
    assert "nothing is running" in dialog.summary.problem.text()
    assert dialog.summary.problem.isVisible()
    assert widget.findChild(MppDialog) is None
    desk.set_mpp(0.5)
    assert "nothing is running" in widget.error_bar.text.text()
    assert desk.slide.mpp == 0.25
    desk.stop_work()


def test_a_question_that_goes_with_its_slide_is_not_taken_for_refused(sit_down, plain: Path) -> None:
    hands: Hands = sit_down(plain)
    widget = hands.widget
    widget.open_slide(shutil.copy(plain, plain.with_name("other.tiff")))
    hands.rest(0.05)
    assert not widget.error_bar.isVisible()
    assert [dialog.isVisible() for dialog in widget.findChildren(MppDialog)] == [True]
    hands.key("esc", widget.findChild(MppDialog).value)
    assert widget.error_bar.isVisible()
    hands.click(widget.properties_button)
    hands.click(widget.findChild(PropertiesDialog).summary.change)
    hands.rest(0.05)
    hands.key("enter", widget.findChild(MppDialog).value)
    hands.wait("the session has begun", lambda: widget.desk.session is not None)
    assert not widget.error_bar.isVisible()


def test_napari_starts_with_the_plugin_installed(tmp_path: Path, slide_path: Path) -> None:
    """A mistake in the manifest can keep napari itself from starting; that shows only in a process of its own."""
    code = f"""
import napari
viewer = napari.Viewer(show=True)
_, widget = viewer.window.add_plugin_dock_widget("napari-cervcell", "Review")
viewer.open_sample("napari-cervcell", "slide")
assert widget.desk.session is not None
viewer.layers.clear()
viewer.open({str(slide_path)!r}, plugin="napari-cervcell")
assert widget.desk.slide.path.name == "slide.tiff"
import sys
assert "torch" not in sys.modules
viewer.close()
print("well")
"""
    environment = {**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=400)
    assert done.stdout.strip().endswith("well"), done.stderr[-2000:]
    assert done.returncode == 0


def test_our_own_window_is_large_and_nothing_lies_over_the_slide(tmp_path: Path) -> None:
    """In a process of its own, as napari speaks of Qt only once in each."""
    code = """
from napari._qt.dialogs.qt_notification import NapariQtNotification
from qtpy.QtWidgets import QApplication
from napari_cervcell.ui.app import open_window

def look(viewer):  # what is asked for here is let go before the process ends, else Qt 6 crashes while that ends
    window, room = viewer.window._qt_window, QApplication.primaryScreen().size()
    assert window.width() > 0.8 * room.width() and window.height() > 0.8 * room.height()
    assert not window.findChildren(NapariQtNotification)

viewer, _ = open_window()
QApplication.processEvents()
look(viewer)
viewer.close()
print("well", flush=True)
"""
    environment = {**os.environ, "NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=400)
    assert done.stdout.strip().endswith("well"), done.stderr[-2000:]
    assert done.returncode == 0


def test_pixels_that_are_not_square_are_drawn_as_they_lie(sit_down, tmp_path: Path) -> None:
    """0.25 µm from left to right, 0.5 from top to bottom: what is round on the glass is round on the canvas."""
    pixels = np.full((1200, 2400, 3), 240, np.uint8)
    rows, columns = np.mgrid[:1200, :2400] + 0.5
    spots = [(600, 300), (1500, 450), (900, 800), (1700, 900)]
    for x, y in spots:
        pixels[((columns - x) * 0.25) ** 2 + ((rows - y) * 0.5) ** 2 < 10**2] = 0
    path = tmp_path / "flat.tiff"
    scale = {"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None, **scale)
    hands: Hands = sit_down(path)
    desk, view = hands.widget.desk, hands.widget.desk.view
    assert desk.layer.scale == pytest.approx([0.5, 0.25])
    hands.look_at((800, 400, 1500, 800))
    view.camera.zoom = 1.6  # canvas px a µm
    hands.wait_sharp()
    shown = hands.viewer.screenshot(flash=False)[..., :3].max(axis=2) < 80
    for x, y in spots:
        left, top = (round(v) - 40 for v in view.to_canvas(x, y))
        down, right = np.nonzero(shown[top : top + 80, left : left + 80])
        assert down.mean() + top + 0.5 == pytest.approx(view.to_canvas(x, y)[1], abs=1)
        assert right.mean() + left + 0.5 == pytest.approx(view.to_canvas(x, y)[0], abs=1)
        assert np.ptp(down) == pytest.approx(np.ptp(right), abs=2)
        assert np.ptp(down) == pytest.approx(2 * 10 * 1.6, abs=2)
        assert view.from_canvas(view.to_canvas(x, y)) == pytest.approx((x, y))
    x1, y1, x2, y2 = view.rectangle()
    assert ((x2 - x1) * 0.25, (y2 - y1) * 0.5) == pytest.approx([side / 1.6 for side in hands.viewer.canvas.size[::-1]])
    hands.point_at(*spots[1])
    hands.key("a")
    hands.wait("the cell is there", lambda: len(desk.session.cells) == 1)
    assert desk.session.cells.centres[0] == pytest.approx(spots[1], abs=2)
