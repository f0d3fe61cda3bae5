"""Detection and training behind the window."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QComboBox, QFileDialog

from napari_cervcell.casefile import State, open_case
from napari_cervcell.models import ACCURATE_MODEL, load_model
from napari_cervcell.review.models import import_model, use_accurate
from napari_cervcell.slides import foreground, open_slide, sample_slide
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.overview_map import OverviewMap


@pytest.fixture
def with_model(slide_path: Path, quick_file: Path) -> Path:
    """A slide whose case has a model in use that is soon done with it."""
    path = slide_path.with_name(slide_path.name + ".cervcell")
    with open_slide(slide_path) as slide, open_case(path, slide) as case:
        case.use_round(import_model(case, quick_file))
    return slide_path


@pytest.fixture
def hands(sit_down, with_model: Path) -> Hands:
    hands = sit_down(with_model)
    hands.widget.desk.view.go_to((4000, 3000, 4400, 3300))
    hands.viewer.scene.camera.zoom = 2 / hands.widget.desk.layer.scale[0]
    hands.rest(0.1)
    return hands


def detection_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("cervcell-read")]


def test_detecting_the_view_brings_cells_in_and_keeps_them(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    widget.detect_panel.scope.value = "view"
    hands.click(widget.detect_panel.start)
    assert desk.detection.running
    assert not widget.detect_panel.start.isEnabled()
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    hands.rest(0.1)
    assert widget.detect_panel.start.isEnabled()
    assert "Done" in widget.detect_panel.status.text()
    assert not widget.error_bar.isVisible()
    found = len(desk.case.detections().cells)
    assert found == (desk.session.cells.scores >= 0).sum()
    run = desk.case.runs()[-1]
    assert run.state == "done"


def test_the_model_in_use_is_the_first_to_choose_from(hands: Hands) -> None:
    panel, desk = hands.widget.detect_panel, hands.widget.desk
    active = desk.case.active_round
    assert (panel.model.choices[0], panel.model.value) == (active, active)
    desk.use_round(None)
    assert panel.model.choices[:2] == (None, active)


@pytest.mark.engine
def test_the_accurate_model_once_chosen_is_the_one_in_use(sit_down: Callable, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget, desk = hands.widget, hands.widget.desk
    desk.view.go_to((4280, 2490, 4680, 2890))  # within one tile
    panel = widget.detect_panel
    choices = panel.model.native.findChild(QComboBox) or panel.model.native
    QTest.keyClick(choices, Qt.Key.Key_Down)
    assert panel.model.current_choice == "Accurate model, slower"
    assert desk.case.active_round is None  # until it has something to do
    panel.scope.value = "view"
    hands.click(panel.start)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    hands.rest(0.1)
    assert not widget.error_bar.isVisible()
    assert desk.case.active_model()[0] == load_model(ACCURATE_MODEL).id == desk.case.runs()[-1].model_id
    assert panel.model.current_choice == "Accurate model"
    assert "Accurate model, slower" not in panel.model.choices
    rounds = widget.learn_panel.rounds
    hands.scroll_to(rounds.uses[None])
    hands.click(rounds.uses[None])
    assert desk.case.active_round is None
    assert panel.model.current_choice == "Standard model"
    use_accurate(desk.case)
    assert len(desk.case.rounds()) == 1  # it is not kept twice


def choose(form: object, *keys: Qt.Key) -> None:
    """Choose in a form's list by keys."""
    for key in keys:
        QTest.keyClick(form.native.findChild(QComboBox) or form.native, key)


@pytest.mark.engine
def test_a_scan_that_is_refused_leaves_the_model_in_use(sit_down: Callable, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    desk, panel = hands.widget.desk, hands.widget.detect_panel
    choose(panel.model, Qt.Key.Key_Down)
    hands.click(panel.more)
    choose(panel.device, Qt.Key.Key_Down, *[Qt.Key.Key_Down] * (sys.platform != "darwin"))
    assert desk.device == ("cuda" if sys.platform == "darwin" else "mps")  # which this machine has not
    hands.click(panel.start)
    hands.wait("it has ended", lambda: not desk.detection.running, 400)
    assert f"no {desk.device!r} device" in hands.widget.error_bar.text.text()
    assert desk.case.active_round is None
    assert desk.case.rounds() == []


@pytest.mark.engine
def test_what_a_round_has_taught_looks_on_the_device_that_was_chosen(hands: Hands) -> None:
    desk, panel = hands.widget.desk, hands.widget.detect_panel
    hands.click(panel.more)
    choose(panel.device, Qt.Key.Key_End)
    assert panel.device.value == "cpu-torch"
    round_ = desk.case.active_round
    desk.training.finished.emit({"kind": "done", "state": "promoted", "round": round_, "message": "", "metrics": {}})
    hands.wait("the new model looks", lambda: "On the" in panel.status.text(), 400)
    assert "On the processor (torch)" in panel.status.text()
    hands.click(panel.cancel)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 240)


def red_on(overview: OverviewMap) -> np.ndarray:
    """Return where the overview is the red of what could not be read, (x, y) in its px, by row."""
    image = overview.grab().toImage().scaled(overview.size())
    seen = [image.pixelColor(x, y) for y in range(image.height()) for x in range(image.width())]
    red = np.array([c.red() - max(c.green(), c.blue()) > 60 for c in seen]).reshape(image.height(), image.width())
    return np.argwhere(red)[:, ::-1]


@pytest.mark.engine
def test_what_cannot_be_read_is_said_shown_and_tried_again(hands: Hands, with_model: Path, scratch: Callable) -> None:
    widget, desk, panel = hands.widget, hands.widget.desk, hands.widget.detect_panel
    overview = widget.overview.map
    place = desk.view.centre
    mend = scratch(with_model, *place)
    before = len(red_on(overview))
    panel.scope.value = "view"
    hands.click(panel.start)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    hands.rest(0.1)
    lost = len(desk.detection.unreadable)
    assert lost >= 1
    assert panel.status.text().startswith("Done")
    assert f"{lost} tile" in panel.status.text()
    assert " mm" in panel.status.text()
    red = red_on(overview)
    assert len(red) > before + 9
    for tile in desk.detection.unreadable:
        within = overview.to_map(tile.x + 0.2 * tile.size, tile.y + 0.2 * tile.size)  # beside the mark of the view
        assert np.abs(red - (within.x(), within.y())).max(1).min() <= 1

    mend()
    hands.click(panel.start)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    hands.rest(0.1)
    assert not desk.detection.unreadable
    assert "could not be read" not in panel.status.text()
    assert len(red_on(overview)) == before


def test_a_slide_of_empty_glass_is_said_to_be_empty(sit_down: Callable, tmp_path: Path) -> None:
    path = tmp_path / "glass.tiff"
    scale = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, np.full((700, 900, 3), 235, np.uint8), tile=(256, 256), photometric="rgb", **scale)
    hands: Hands = sit_down(path)
    hands.click(hands.widget.detect_panel.start)
    hands.wait("the scan has ended", lambda: not hands.widget.desk.detection.running, 400)
    assert "empty glass" in hands.widget.detect_panel.status.text()
    assert hands.widget.review_bar.state.text() == "No cells were found."
    assert not hands.widget.error_bar.isVisible()


@pytest.mark.engine
def test_cancel_keeps_what_was_found(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    hands.click(widget.detect_panel.start)
    hands.wait("the first tile is done", lambda: "tiles/s" in widget.detect_panel.status.text(), 400)
    hands.click(widget.detect_panel.cancel)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 240)
    assert desk.case.runs()[-1].state == "cancelled"
    assert "Cancelled" in widget.detect_panel.status.text()
    assert len(desk.case.detections().tiles) > 0


@pytest.mark.engine
def test_a_scan_rests_and_goes_on(hands: Hands) -> None:
    panel, desk = hands.widget.detect_panel, hands.widget.desk
    hands.click(panel.start)
    hands.wait("the first tile is done", lambda: "tiles/s" in panel.status.text(), 400)
    assert "On the processor" in panel.status.text() or "On the graphics card" in panel.status.text()
    hands.click(panel.pause)
    hands.rest(1.0)
    assert panel.pause.text() == "Go on"
    assert "Paused" in panel.status.text()
    resting = panel.bar.value()
    hands.rest(3.0)
    assert panel.bar.value() <= resting + 1  # the tile in hand
    assert desk.detection.running
    resting = panel.bar.value()
    hands.key("d")
    assert panel.pause.text() == "Pause"
    hands.wait("the scan goes on", lambda: panel.bar.value() > resting + 1, 400)
    hands.key("d")
    hands.click(panel.cancel)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 240)
    assert not panel.pause.isEnabled()


def test_what_a_scan_skips_is_shaded_on_request(hands: Hands) -> None:
    panel, desk = hands.widget.detect_panel, hands.widget.desk
    assert panel.shade.layer is None
    hands.click(panel.more)
    hands.click(panel.show_skipped)
    hands.wait("the shade is there", lambda: panel.shade.layer is not None, 240)
    shade, slide = panel.shade.layer, desk.slide
    assert hands.viewer.layers.index(shade) == hands.viewer.layers.index(desk.layer) + 1
    assert hands.viewer.layers.selection.active is desk.layer
    np.testing.assert_allclose(shade.extent.world, desk.layer.extent.world, atol=shade.scale[0])
    assert shade.get_value(np.multiply((50, slide.width / 2), desk.layer.scale), world=True) == 1
    assert shade.data.mean() == pytest.approx(1 - foreground(slide).share)
    hands.click(panel.show_skipped)
    assert shade not in hands.viewer.layers


@pytest.mark.engine
def test_a_region_is_drawn_first(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    widget.detect_panel.scope.value = "region"
    hands.click(widget.detect_panel.start)
    assert not desk.detection.running
    x1, y1, x2, y2 = desk.view.rectangle()
    hands.drag((x1 + 50, y1 + 50), ((x1 + x2) / 2, (y1 + y2) / 2))
    assert desk.detection.running
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    assert desk.case.runs()[-1].scope == "region"


def test_closing_the_window_stops_the_work(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    path = desk.case.path
    hands.click(widget.detect_panel.start)
    hands.wait("the scan is on its way", lambda: "tiles/s" in widget.detect_panel.status.text(), 400)
    hands.viewer.close()
    hands.rest(0.1)
    assert not desk.detection.running
    assert desk.session is None
    assert detection_threads() == []
    from napari_cervcell.casefile import Case

    with Case.open(path) as case:
        assert case.runs()[-1].state == "cancelled"


def test_a_model_that_is_no_model_is_explained(hands: Hands, tmp_path: Path) -> None:
    widget, desk = hands.widget, hands.widget.desk
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no model")
    widget.detect_panel.use_file(broken)
    hands.click(widget.detect_panel.start)
    hands.wait("the scan has ended", lambda: not desk.detection.running, 240)
    assert "broken.safetensors" in widget.error_bar.text.text()
    assert "Stopped" in widget.detect_panel.status.text()


def test_export_writes_what_is_shown_while_the_reviewer_goes_on(
    sit_down, slide_path: Path, case_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands: Hands = sit_down(slide_path)
    hands.key("n")
    hands.key("x")
    target = tmp_path / "cells.geojson"
    widget, panel = hands.widget, hands.widget.case_panel
    chosen = [str(target), str(tmp_path / "nowhere" / "cells.geojson")]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen.pop(0), ""))
    told: list[tuple[str, bool]] = []
    widget.desk.said.connect(lambda words: told.append((words, panel.export_button.isEnabled())))
    hands.click(panel.export_button)
    hands.wait("it is written", panel.export_button.isEnabled)
    assert len(json.loads(target.read_text())["features"]) >= 39
    assert told == [(f"{target} is being written. You can go on meanwhile.", False), (f"Exported to {target}.", False)]
    hands.click(panel.export_button)
    hands.wait("it is told", lambda: "cells.geojson" in widget.error_bar.text.text())
    assert widget.error_bar.text.text().startswith("Cannot export")
    hands.wait("one may try again", panel.export_button.isEnabled)


def test_an_export_goes_on_when_another_slide_is_opened(
    sit_down, slide_path: Path, case_path: Path, tmp_path: Path
) -> None:
    widget = (hands := sit_down(slide_path)).widget
    target = tmp_path / "cells.csv"
    widget.case_panel.format.setCurrentText("Table (CSV)")
    widget.case_panel.export(target)
    widget.open_slide(sample_slide())
    assert widget.desk.slide.path == sample_slide()
    hands.wait("it is written", target.exists)
    hands.wait("it is told", lambda: widget.note_bar.text.text() == f"Exported to {target}.")
    assert len(target.read_text().splitlines()) == 41


def test_the_report_says_what_was_noted_and_confirmed(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget, panel = hands.widget, hands.widget.case_panel
    assert panel.checked.text() == "Checked: nothing yet"
    hands.key("n")
    hands.key("space")
    notes = panel.notes.native
    for letter in ("x", "2", "space", "n"):
        hands.key(letter, notes)
    assert panel.notes.value == "x2 n"
    assert widget.desk.case.annotations().states.tolist() == [State.ACCEPTED]
    widget.desk.session.check_region((0, 0, 2000, 1000))
    hands.wait("the area is told", lambda: panel.checked.text().startswith("Checked: 0.125 mm², "))
    panel.format.setCurrentText("Report to read (HTML)")
    target = slide_path.with_name("report.html")
    panel.export(target)
    hands.wait("it is written", panel.export_button.isEnabled)
    page = target.read_text(encoding="utf-8")
    assert "<p class=notes>x2 n</p>" in page
    assert page.count("<figure>") == page.count("data:image/jpeg") == 1
    hands.wait("the notes are saved", lambda: widget.desk.case.notes == "x2 n")
    panel.export(target.parent / "nowhere" / "report.html")
    hands.wait("it is told", lambda: "Cannot write the report" in widget.error_bar.text.text())


def test_notes_are_there_again_with_the_case(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    hands.key("b", hands.widget.case_panel.notes.native)
    hands.viewer.layers.clear()  # before the pause after which notes are saved
    hands.rest(0.05)
    hands.viewer.open(str(slide_path), plugin="napari-cervcell")
    hands.rest(0.05)
    assert hands.widget.case_panel.notes.value == "b"


@pytest.mark.engine
def test_a_round_of_training_from_the_window(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    x1, y1, x2, y2 = desk.view.rectangle()
    for i, share in enumerate(np.linspace(0.2, 0.8, 6)):
        hands.point_at(x1 + share * (x2 - x1), y1 + share * (y2 - y1))
        hands.key("a")
        hands.key(str(1 + i % 6))
    assert (desk.case.annotations().states == State.ADDED).sum() == 6
    assert widget.learn_panel.waiting.text().startswith("6 cells")
    widget.learn_panel.seconds = 2.0
    outcome: dict = {}
    desk.training.finished.connect(outcome.update)
    hands.key("t")
    assert desk.training.running
    hands.wait("the round has ended", lambda: outcome, 240)
    assert outcome["kind"] == "done", outcome
    assert len(widget.learn_panel.curve.values) > 0
    assert widget.learn_panel.status.text() == outcome["message"]
    assert len(desk.case.rounds()) == 2
    if outcome["state"] == "promoted":
        assert desk.detection.running  # the view is looked at anew
    desk.detection.shut_down()


@pytest.mark.engine
def test_a_round_can_be_cancelled(hands: Hands) -> None:
    widget, desk = hands.widget, hands.widget.desk
    hands.point_at(*np.add(desk.view.rectangle()[:2], 100))
    hands.key("a")
    hands.click(widget.learn_panel.start)
    hands.wait("the round runs", lambda: desk.training.running)
    hands.rest(1.0)
    hands.click(widget.learn_panel.cancel)
    hands.wait("the round has ended", lambda: not desk.training.running, 240)
    assert desk.case.active_round == 1
    assert widget.learn_panel.start.isEnabled()
