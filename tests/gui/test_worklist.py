"""Many slides in one window, one after the other, each with its own case; what was left is found again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from napari.settings import get_settings
from qtpy import QT_VERSION
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from napari_cervcell.casefile import Case, open_case
from napari_cervcell.slides import open_slide
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.mpp_dialog import MppDialog
from napari_cervcell.ui.properties_dialog import PropertiesDialog

from .conftest import lattice, write_cells
from .test_menus import entry


@pytest.fixture
def folder(slide_path: Path, case_path: Path, tmp_path: Path) -> Path:
    """Two slides with cells, the second with other ones; and a third that is no slide."""
    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(slide_path, folder / "1.tiff")
    shutil.copy(slide_path, folder / "2.tiff")
    (folder / "3.svs").write_bytes(b"no slide")
    for name, columns in (("1.tiff", 8), ("2.tiff", 4)):
        with open_slide(folder / name) as slide, open_case(folder / f"{name}.cervcell", slide) as case:
            write_cells(case, lattice(columns))
    return folder


def names(hands: Hands) -> list[str]:
    return [layer.name for layer in hands.viewer.layers]


def shown(hands: Hands) -> list[tuple[str, ...]]:
    table = hands.widget.worklist_panel.table
    return [tuple(table.data(table.index(row, column)) for column in range(3)) for row in range(table.rowCount())]


def answer(button: str) -> list[str]:
    """Press a button of the question that will be asked; the returned list has its words then."""
    asked: list[str] = []

    def press() -> None:
        box = QApplication.activeModalWidget()
        if isinstance(box, QMessageBox):
            asked.append(box.text())
            next(b for b in box.buttons() if b.text() == button).click()
        else:
            QTimer.singleShot(50, press)

    QTimer.singleShot(50, press)
    return asked


def test_two_cases_one_after_the_other_and_nothing_leaks(sit_down, folder: Path) -> None:
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    assert desk.slide.path.name == "1.tiff"
    assert widget.stack.currentIndex() == 1
    hands.wait("all cases are looked up", lambda: all(row[0] != "…" for row in shown(hands)))
    assert shown(hands) == [("◔", "1.tiff", "40"), ("◔", "2.tiff", "20"), ("○", "3.svs", "new")]

    widget.show_properties()
    hands.key("n")
    for key in ("space", "x"):
        hands.key(key)
    widget.case_panel.chips[0].click()
    assert shown(hands)[0] == ("◑", "1.tiff", "2 of 40")
    line = widget.case_panel.reviewer.native
    line.clear()
    hands.key("d", line)
    hands.key("enter", line)
    first_slide, first_session = desk.slide, desk.session
    hands.key("e")
    assert shown(hands)[0][0] == "✓"
    assert widget.case_panel.done.isChecked()

    hands.key(">")
    assert desk.slide.path.name == "2.tiff"
    assert desk.session is not first_session
    assert first_slide is not desk.slide
    assert names(hands)[0] == "2"
    assert "1" not in names(hands)
    assert len(desk.session.cells) == 20
    assert desk.session.classes_shown.all(), "what is hidden in one case is not hidden in another"
    assert widget.case_panel.chips[0].isChecked()
    assert desk.session.current is None
    assert not desk.case.can_undo
    assert not widget.review_bar.buttons["undo"].isEnabled()
    assert not widget.case_panel.done.isChecked()
    assert widget.findChild(PropertiesDialog) is None or not widget.findChild(PropertiesDialog).isVisible()
    hands.key("u")
    hands.key("n")
    hands.key("space")
    assert desk.case.events()[-1].reviewer == "d", "who reviews stays"
    assert shown(hands)[1] == ("◑", "2.tiff", "1 of 20")
    with Case.open(folder / "1.tiff.cervcell") as case:
        assert len(case.annotations()) == 2
        assert case.done[1] == "d"

    hands.key("<")
    assert desk.slide.path.name == "1.tiff"
    assert len(desk.case.annotations()) == 2
    assert widget.case_panel.done.isChecked()
    assert desk.session.classes_shown.tolist() == [False, True, True, True, True, True]


def test_a_slide_that_cannot_be_opened_is_told_and_the_open_one_stays(sit_down, folder: Path) -> None:
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    widget.worklist_panel.go_to(2)
    assert "3.svs" in widget.error_bar.text.text()
    assert desk.slide.path.name == "1.tiff"
    assert desk.session is not None
    hands.key("n")
    assert desk.session.current is not None


def test_a_slide_that_cannot_be_opened_is_marked_and_passed_over(sit_down, folder: Path) -> None:
    (folder / "0.svs").write_bytes(b"no slide either")
    hands: Hands = sit_down()
    widget, desk, panel = hands.widget, hands.widget.desk, hands.widget.worklist_panel
    panel.open(folder)
    assert desk.slide is None
    assert "0.svs" in widget.error_bar.text.text()
    hands.wait("all cases are looked up", lambda: all(row[0] != "…" for row in shown(hands)))
    assert shown(hands)[0] == ("!", "0.svs", "unreadable")
    assert widget.error_bar.text.text() in panel.table.data(panel.table.index(0, 1), Qt.ItemDataRole.ToolTipRole)
    assert shown(hands)[3] == ("○", "3.svs", "new"), "nobody has tried that one"

    hands.click(panel.next)
    assert desk.slide.path.name == "1.tiff"
    hands.key("e")
    for name, error in (("2.tiff", ""), ("2.tiff", "3.svs")):
        hands.key(">")
        assert desk.slide.path.name == name
        assert error in widget.error_bar.text.text()
    assert shown(hands)[3][0] == "!"
    assert desk.session is not None
    hands.key(">")
    assert "All other cases are done, but for those marked !" in widget.note_bar.text.text()
    hands.key("<")
    hands.key("e")
    hands.key(">")
    assert desk.slide.path.name == "2.tiff"

    shutil.copy(folder / "1.tiff", folder / "3.svs")  # it has come after all
    panel.go_to(3)
    assert desk.slide.path.name == "3.svs"
    assert shown(hands)[3][0] == "○"


def test_after_a_case_that_cannot_be_read_the_list_goes_on(sit_down, folder: Path) -> None:
    (folder / "2.tiff.cervcell").write_bytes(b"no case")
    shutil.copy(folder / "1.tiff", folder / "3.svs")
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    hands.key(">")
    assert desk.slide is None
    assert "2.tiff.cervcell" in widget.error_bar.text.text()
    assert shown(hands)[1][0] == "!"
    hands.click(widget.worklist_panel.next)
    assert desk.slide.path.name == "3.svs", "not the first one again"
    assert [layer.visible for layer in hands.viewer.layers] == [True]


def test_a_worklist_knows_the_slide_that_is_open_already(sit_down, folder: Path) -> None:
    hands: Hands = sit_down(folder / "1.tiff")
    hands.key("e")
    panel = hands.widget.worklist_panel
    panel.open(folder)
    hands.wait("all cases are looked up", lambda: all(row[0] != "…" for row in shown(hands)))
    assert shown(hands)[0] == ("✓", "1.tiff", "0 of 40")
    assert panel.told.text().endswith("1 of 3 · 1 of 3 done")


def test_a_missing_slide_is_told_and_leaves_nothing_to_the_next_one(sit_down, folder: Path) -> None:
    (folder / "list.csv").write_text("slide,case\n1.tiff,\ngone.tiff,gone.cervcell\n2.tiff,\n")
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder / "list.csv")
    widget.tabs.setCurrentWidget(widget.worklist_panel)
    hands.rest(0.1)
    view = widget.worklist_panel.view
    hands.double_click_on(view.viewport(), view.visualRect(widget.worklist_panel.table.index(1, 1)).center())
    assert widget.error_bar.isVisible()
    assert "There is no file" in widget.error_bar.text.text()
    assert "gone.tiff" in widget.error_bar.text.text()
    assert desk.slide.path.name == "1.tiff"

    widget.open_slide(folder / "2.tiff")
    assert desk.case.path.name == "2.tiff.cervcell"
    assert len(desk.session.cells) == 20
    assert not widget.error_bar.isVisible()
    hands.key("<")
    assert desk.slide.path.name == "1.tiff", "the way back leads past what is not there"
    assert not widget.worklist_panel.previous.isEnabled()


def test_a_row_is_opened_by_a_double_click_and_leads_to_the_review(sit_down, folder: Path) -> None:
    hands: Hands = sit_down()
    widget = hands.widget
    widget.worklist_panel.open(folder)
    widget.tabs.setCurrentWidget(widget.worklist_panel)
    hands.rest(0.1)
    view = widget.worklist_panel.view
    hands.double_click_on(view.viewport(), view.visualRect(widget.worklist_panel.table.index(1, 1)).center())
    assert widget.desk.slide.path.name == "2.tiff"
    assert widget.tabs.currentIndex() == 0


def test_a_row_is_opened_with_the_keys_and_verdicts_go_on_there(sit_down, folder: Path) -> None:
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    QApplication.setActiveWindow(hands.window)
    hands.key("n")
    widget.tabs.setCurrentWidget(widget.worklist_panel)
    hands.rest(0.1)
    view = widget.worklist_panel.view
    view.setFocus()
    QTest.keyClick(view, Qt.Key.Key_Down)
    hands.key("enter", view)
    assert desk.slide.path.name == "2.tiff"
    with Case.open(folder / "1.tiff.cervcell") as first:
        assert not len(first.annotations())
    hands.key("n", hands.window.focusWidget())
    for _ in range(2):
        hands.key("space", hands.window.focusWidget())
    assert len(desk.case.annotations()) == 2


def test_the_answer_about_one_slide_is_not_taken_for_the_next(sit_down, folder: Path) -> None:
    import tifffile

    pixels = np.full((1024, 1024, 3), 240, np.uint8)
    tifffile.imwrite(folder / "0.tiff", pixels, tile=(256, 256), photometric="rgb")
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    assert desk.slide.path.name == "0.tiff"
    assert widget.findChild(MppDialog).isVisible()
    widget.worklist_panel.go_on()
    assert desk.slide.path.name == "1.tiff"
    hands.rest(0.1)
    assert widget.findChild(MppDialog) is None
    assert desk.slide.mpp == pytest.approx(0.25)


def test_with_work_running_the_next_case_and_closing_ask_first(sit_down, folder: Path) -> None:
    hands: Hands = sit_down()
    widget, desk = hands.widget, hands.widget.desk
    widget.worklist_panel.open(folder)
    hands.click(widget.detect_panel.start)
    assert desk.detection.running
    asked = answer("Stay")
    hands.key(">")
    assert "looked for" in asked[0]
    assert desk.slide.path.name == "1.tiff"
    assert desk.detection.running
    if QT_VERSION.startswith("5"):  # later ones let nobody but a window manager close a window as one does
        asked = answer("Stay")
        hands.window.windowHandle().close()
        assert len(asked) == 1
        assert hands.window.isVisible()
        assert desk.detection.running
    answer("Stop it and go on")
    hands.key(">")
    assert desk.slide.path.name == "2.tiff"
    assert not desk.detection.running


def test_a_second_slide_asks_before_it_ends_the_work_on_the_first(sit_down, folder: Path) -> None:
    hands: Hands = sit_down(folder / "1.tiff")
    desk, first = hands.widget.desk, hands.widget.desk.layer
    hands.click(hands.widget.detect_panel.start)
    asked = answer("Stay")
    hands.viewer.open(str(folder / "2.tiff"), plugin="napari-cervcell")  # as napari does when one is dropped
    hands.wait("the question is answered", lambda: asked)
    hands.rest(0.1)
    assert len(asked) == 1
    assert "looked for" in asked[0]
    assert (desk.layer, desk.detection.running) == (first, True)
    assert [layer.visible for layer in hands.viewer.layers] == [True, False]
    assert hands.viewer.layers.selection.active is first

    asked = answer("Stop it and go on")
    hands.viewer.layers.selection.active = hands.viewer.layers[1]
    hands.wait("the other one is open", lambda: desk.slide.path.name == "2.tiff")
    assert len(asked) == 1
    assert not desk.work
    assert [layer.visible for layer in hands.viewer.layers] == [False, True]


def test_closing_by_the_menu_asks_first(sit_down, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(get_settings().application, "confirm_close_window", False)  # napari's own question
    hands: Hands = sit_down(folder / "1.tiff")
    hands.click(hands.widget.detect_panel.start)
    assert hands.widget.desk.work
    QApplication.setActiveWindow(hands.window)
    asked = answer("Stay")
    entry(hands, "File", "Close Window").trigger()
    assert "looked for" in asked[0]
    assert hands.window.isVisible()
    assert hands.widget.desk.detection.running
    hands.widget.desk.stop_work()


def test_what_was_left_is_found_again_in_another_window(
    sit_down, slide_path: Path, case_path: Path, tmp_path: Path
) -> None:
    hands: Hands = sit_down(slide_path)
    widget, panel = hands.widget, hands.widget.gallery_panel
    hands.key("n")
    hands.key("n")
    at = widget.desk.session.index.points[widget.desk.session.current].tolist()
    for _ in range(3):
        hands.key("]")
    hands.click(widget.case_panel.chips[4])
    hands.key("g")
    panel.order.setCurrentText("largest first")
    panel.reviewed.setCurrentText("new")
    panel.split.click()
    panel.size.setValue(150)
    panel.field.setCurrentText("120 µm")
    widget.sections["Learn"].toggleButton().click()
    threshold = widget.desk.session.threshold
    hands.viewer.close()
    kept = json.loads((tmp_path / "data" / "napari-cervcell" / "window.json").read_text())
    assert kept["tab"] == 1

    again: Hands = sit_down(slide_path)
    widget, panel = again.widget, again.widget.gallery_panel
    session = widget.desk.session
    assert session.threshold == pytest.approx(threshold)
    assert session.classes_shown.tolist() == [True, True, True, True, False, True]
    assert not widget.case_panel.chips[4].isChecked()
    assert session.index.points[session.current].tolist() == at
    assert widget.tabs.currentWidget() is panel
    assert (panel.order.currentText(), panel.reviewed.currentText()) == ("largest first", "new")
    assert not panel.split.isChecked()
    assert (panel.gallery.side, panel.gallery.field) == (150, 120.0)
    assert not widget.sections["Learn"].isExpanded()
    seen = session.cells.scores >= threshold
    wanted = int((seen & (session.states == 0) & (session.cells.labels != 4)).sum())
    again.wait("the gallery shows what it showed", lambda: panel.gallery.count == wanted > 0)


def test_one_reviewers_filters_are_not_anothers(sit_down, slide_path: Path, case_path: Path) -> None:
    with Case.open(case_path, "ada") as case:
        case.desk = {"threshold": 0.9, "hidden": ["NILM"]}
    hands: Hands = sit_down(slide_path)
    assert hands.widget.desk.session.classes_shown.all()
    assert hands.widget.desk.session.threshold < 0.9
