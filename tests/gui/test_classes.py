"""Classes are added, renamed, merged and hidden in the window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QDialogButtonBox, QWidget

from napari_cervcell.casefile import Case
from napari_cervcell.review import Session
from napari_cervcell.taxonomy import BETHESDA, CellClass
from napari_cervcell.ui.classes_dialog import ClassesDialog
from napari_cervcell.ui.hands import Hands


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def dialog_of(hands: Hands) -> ClassesDialog:
    hands.click(hands.widget.case_panel.classes_button)
    return next(d for d in hands.widget.case_panel.findChildren(ClassesDialog) if d.isVisible())


def press(dialog: ClassesDialog, hands: Hands, which: QDialogButtonBox.StandardButton) -> None:
    hands.click(dialog.findChild(QDialogButtonBox).button(which))
    hands.rest(0.2)


def write(field: QWidget, text: str) -> None:
    field.setFocus()
    field.selectAll()
    QTest.keyClicks(field, text)


OK = QDialogButtonBox.StandardButton.Ok


def test_a_class_is_added_and_given_by_its_key(hands: Hands) -> None:
    place = hands.widget.desk.view.place
    dialog = dialog_of(hands)
    hands.click(dialog.add_button)
    write(dialog.rows[-1].name, "AGC")
    write(dialog.rows[-1].letter, "G")
    press(dialog, hands, OK)
    session, panel = hands.widget.desk.session, hands.widget.review_bar
    assert session.taxonomy.names[-1] == "AGC"
    assert np.allclose(hands.widget.desk.view.place, place)
    assert [b.text() for b in panel.classes][-1] == "AGC"
    hands.key("n")
    row = session.current
    hands.key("7")
    assert session.taxonomy[int(session.cells.labels[row])].name == "AGC"
    assert hands.widget.case_panel._cells[6][1].text() == "1"


def test_with_many_classes_the_dialog_stays_on_the_screen_and_scrolls(hands: Hands) -> None:
    dialog = dialog_of(hands)
    bar = dialog.scroll.verticalScrollBar()
    assert bar.maximum() == 0  # six have room
    for _ in range(30):
        QTest.mouseClick(dialog.add_button, Qt.MouseButton.LeftButton)
    hands.rest(0.1)
    assert dialog.screen().availableGeometry().contains(dialog.frameGeometry())
    assert bar.maximum() > 0
    viewport, name = dialog.scroll.viewport(), dialog.rows[-1].name
    assert viewport.rect().contains(name.mapTo(viewport, name.rect().center()))
    assert name.hasFocus() or dialog.focusWidget() is name
    ok = dialog.findChild(QDialogButtonBox).button(OK)
    assert dialog.rect().contains(ok.mapTo(dialog, ok.rect().bottomRight()))
    dialog.reject()


def test_a_class_that_was_added_by_mistake_is_taken_out_again(hands: Hands) -> None:
    dialog = dialog_of(hands)
    assert not any(row.drop.isVisible() for row in dialog.rows)
    for name, letter in (("Wrong", "W"), ("AGC", "G"), ("Other", "O")):
        hands.click(dialog.add_button)
        write(dialog.rows[-1].name, name)
        write(dialog.rows[-1].letter, letter)
    wrong, kept, merged = dialog.rows[6:]
    colors = {row.hue for row in dialog.rows}
    wrong.name.setFocus()  # from here on the others' names are known
    merged.state.setCurrentIndex(merged.state.findText("merged into AGC"))
    kept.state.setCurrentIndex(kept.state.findText("merged into Wrong"))
    hands.click(wrong.drop)
    assert kept.state.currentText() == "shown"
    hands.click(dialog.add_button)
    assert dialog.rows[-1].hue in colors  # that of the one taken out, which no other has now
    assert len({row.hue for row in dialog.rows}) == len(dialog.rows)
    hands.click(dialog.rows[-1].drop)
    press(dialog, hands, OK)
    taxonomy = hands.widget.desk.session.taxonomy
    assert taxonomy.names == (*BETHESDA.names, "AGC", "Other")
    assert taxonomy[7].into == 6


def test_a_mistake_is_explained_and_nothing_changes_until_it_is_mended(hands: Hands) -> None:
    dialog = dialog_of(hands)
    write(dialog.rows[1].name, "HSIL")
    press(dialog, hands, OK)
    assert "Two classes" in dialog.problem.text()
    assert dialog.isVisible()
    press(dialog, hands, QDialogButtonBox.StandardButton.Cancel)
    assert hands.widget.desk.session.taxonomy.names[1] == "ASC-US"


def test_a_merged_class_is_offered_no_more_and_its_cells_count_as_the_others(hands: Hands) -> None:
    before = [count.detected for count in hands.widget.desk.session.counts()]
    dialog = dialog_of(hands)
    state = dialog.rows[1].state
    state.setCurrentIndex(state.findText("merged into LSIL"))
    press(dialog, hands, OK)
    session = hands.widget.desk.session
    assert "ASC-US" not in [b.text() for b in hands.widget.review_bar.classes]
    assert 1 not in hands.widget.case_panel.chips
    assert [count.detected for count in session.counts()] == [before[0], 0, before[1] + before[2], *before[3:]]


def test_a_hidden_class_is_not_offered_until_somebody_asks_for_its_cells(hands: Hands) -> None:
    dialog = dialog_of(hands)
    dialog.rows[0].state.setCurrentText("hidden")
    press(dialog, hands, OK)
    session = hands.widget.desk.session
    assert "NILM" not in [b.text() for b in hands.widget.review_bar.classes]
    everything = (0.0, 0.0, 10_000.0, 10_000.0)
    assert 0 not in session.cells.labels[session.visible(*everything)]
    hands.click(hands.widget.case_panel.chips[0])
    assert 0 in session.cells.labels[session.visible(*everything)]


def test_with_the_first_class_hidden_an_added_cell_is_of_the_first_one_offered(hands: Hands) -> None:
    dialog = dialog_of(hands)
    dialog.rows[0].state.setCurrentText("hidden")
    press(dialog, hands, OK)
    hands.point_at(1125, 1125)
    hands.key("a")
    session = hands.widget.desk.session
    assert session.taxonomy[int(session.cells.labels[session.current])].name == "ASC-US"
    session.select(None)
    assert session.at(1125, 1125, 5) is not None


def add_classes_in_another_window(path: Path) -> None:
    """Two new ones, of which the second is given to a cell."""
    new = [CellClass(name, letter, "#3b4cc0", "", "negative", 0) for name, letter in (("AGC", "G"), ("Mimic", "Q"))]
    with Case.open(path) as case:
        case.taxonomy = BETHESDA.edited([*BETHESDA.classes, *new])
        Session(None, case).set_class(7, 0)


def test_classes_that_another_window_has_added_are_there_and_the_work_goes_on(hands: Hands, case_path: Path) -> None:
    widget, desk = hands.widget, hands.widget.desk
    desk.session.select(5)
    place = desk.session.index.points[5].tolist()
    add_classes_in_another_window(case_path)
    hands.key("space")
    assert "Another window has changed the classes" in widget.error_bar.text.text()
    assert [b.text() for b in widget.review_bar.classes][-2:] == ["AGC", "Mimic"]
    assert desk.session.index.points[desk.session.current].tolist() == place
    hands.key("space")
    hands.rest(0.3)  # the figures come
    assert desk.case.annotations().labels.tolist() == [7, 5]
    assert widget.case_panel._cells[7][1].text() == "1"


def test_classes_edited_while_another_window_has_changed_them_are_not_mixed_up(hands: Hands, case_path: Path) -> None:
    widget, desk = hands.widget, hands.widget.desk
    dialog = dialog_of(hands)
    write(dialog.rows[0].name, "Normal")
    add_classes_in_another_window(case_path)
    press(dialog, hands, OK)
    assert "Another window has changed the classes" in widget.error_bar.text.text()
    assert desk.session.taxonomy.names == (*BETHESDA.names, "AGC", "Mimic")
    dialog = dialog_of(hands)
    write(dialog.rows[0].name, "Normal")
    press(dialog, hands, OK)
    assert desk.session.taxonomy.names[0] == "Normal"
    assert desk.case.annotations().labels.tolist() == [7]
