"""Keys work wherever the focus is, except where one types or the tab key has led; and they can be changed."""

from __future__ import annotations

from html import escape
from pathlib import Path

import pytest
from qtpy.QtCore import QEvent, Qt
from qtpy.QtGui import QKeyEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QLabel, QWidget

from napari_cervcell.casefile import State
from napari_cervcell.ui.hands import Hands
from napari_cervcell.ui.keys import KeySheet

from .conftest import said


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


@pytest.mark.parametrize("chosen", ["points", "shapes", "slide"])
def test_napari_takes_no_key_whichever_layer_is_active(hands: Hands, chosen: str) -> None:
    """A Points layer has keys of its own for 1 to 5, A and P, an Image for 1 and 2."""
    session = hands.widget.desk.session
    hands.viewer.add_points(name="points")
    hands.viewer.add_shapes(name="shapes")
    hands.viewer.layers.selection.active = hands.viewer.layers[chosen]
    mode = hands.viewer.layers[chosen].mode
    hands.key("n")
    for _ in range(2):
        row = session.current
        hands.key("2")
        assert session.cells.labels[row] == 1
        assert session.states[row] > 0
    hands.look_at((1100, 1100, 1150, 1150))
    hands.point_at(1125, 1125)
    hands.key("a")
    hands.key("4")
    assert said(hands)[-1] == State.ADDED
    assert hands.viewer.layers[chosen].mode == mode
    assert {layer.name for layer in hands.viewer.layers} == {"slide", "points", "shapes"}
    assert len(hands.viewer.layers["points"].data) == 0


def test_keys_work_from_panels_but_not_in_text_fields(hands: Hands) -> None:
    session, widget = hands.widget.desk.session, hands.widget
    widget.detect_panel.more.click()
    hands.key("n", widget.detect_panel.device.native)
    row = session.current
    assert row is not None
    hands.key("x", widget.review_bar.buttons["add"])
    assert session.states[row] == State.REJECTED
    name = widget.case_panel.reviewer.native
    line = name if name.metaObject().className() == "QLineEdit" else name.lineEdit()
    line.setText("")
    for letter in ("x", "2", "space", "n"):
        hands.key(letter, line)
    assert line.text() == "x2 n"
    assert len(said(hands)) == 1


def test_space_is_a_controls_own_where_the_tab_key_led_to_it_but_not_where_it_was_clicked(hands: Hands) -> None:
    window, widget = hands.window, hands.widget
    QApplication.setActiveWindow(window)
    hands.key("n")

    def tab_to(control: QWidget) -> None:
        hands.canvas.setFocus()
        for _ in range(300):
            QTest.keyClick(window.focusWidget(), Qt.Key.Key_Tab)
            if window.focusWidget() is control:
                return
        raise AssertionError(f"The tab key does not lead to {control}.")

    chip = widget.case_panel.chips[0]
    for control in (widget.overview_button, widget.detect_panel.more, widget.queue_panel.instant, chip):
        was = control.isChecked()
        tab_to(control)
        hands.key("enter", control)
        hands.key("space", control)
        assert control.isChecked() != was
        assert not said(hands)
        hands.click(control)
        assert control.isChecked() == was
        row = widget.desk.session.current
        hands.key("space", control)
        assert control.isChecked() == was
        assert widget.desk.session.states[row] == State.ACCEPTED
        hands.key("u")
    tab_to(widget.case_panel.format)
    hands.key("space", widget.case_panel.format)
    assert widget.case_panel.format.view().isVisible()
    widget.case_panel.format.hidePopup()
    assert not said(hands)


@pytest.mark.parametrize("held", ["option", "altgr on windows"])
def test_signs_that_are_typed_with_option_or_altgr_are_keys_too(hands: Hands, held: str) -> None:
    """On a German Mac "[" is Option and 5, on Windows AltGr and 8, which arrives as ctrl and alt."""
    session = hands.widget.desk.session
    modifiers = Qt.KeyboardModifier.AltModifier
    if held != "option":
        modifiers |= Qt.KeyboardModifier.ControlModifier
    for key, text, threshold in ((Qt.Key.Key_6, "]", 0.55), (Qt.Key.Key_5, "[", 0.5), (Qt.Key.Key_X, "x", 0.5)):
        QApplication.sendEvent(hands.canvas, QKeyEvent(QEvent.Type.KeyPress, key, modifiers, text))
        hands.rest(0.05)
        assert session.threshold == pytest.approx(threshold)
    assert not said(hands)


def test_question_mark_shows_every_key(hands: Hands) -> None:
    hands.key("?")
    sheet = hands.widget.findChild(KeySheet)
    assert sheet.isVisible()
    texts = " ".join(label.text() for label in sheet.findChildren(QLabel))
    for key in hands.widget.commands.key_table():
        if key.fixed:
            assert f"<b>{escape(key.names[0])}</b>" in texts
        else:
            assert sheet.buttons[key.usual].text() == " or ".join(key.names)
    hands.key("?", sheet)
    hands.key("?")
    hands.rest(0.05)
    (sheet,) = hands.widget.findChildren(KeySheet)  # there are never two of them
    hands.click(sheet.close_button)


def test_a_key_is_changed_in_the_sheet_and_stays_so(sit_down, hands: Hands, slide_path: Path) -> None:
    widget = hands.widget
    hands.key("?")
    sheet = widget.findChild(KeySheet)
    hands.click(sheet.buttons["x"])
    assert "reject it" in sheet.note.text()
    hands.key("n", sheet)
    assert "n is taken: next cell" in sheet.note.text()
    hands.key("q", sheet)
    assert sheet.buttons["x"].text() == "q"
    hands.click(sheet.buttons["f"])
    hands.key("esc", sheet)  # leaves it as it is, and the sheet open
    assert sheet.isVisible()
    assert sheet.buttons["f"].text() == "f"
    hands.click(sheet.buttons["]"])
    hands.key("w", sheet)
    hands.click(sheet.close_button)
    assert widget.review_bar.buttons["reject"].toolTip().endswith("Key: q")
    assert widget.queue_panel.threshold.toolTip().endswith("Keys: [ and w")
    hands.key("n")
    row = widget.desk.session.current
    hands.key("x")
    assert widget.desk.session.states[row] == 0
    hands.key("q")
    assert widget.desk.session.states[row] == State.REJECTED
    hands.viewer.layers.remove(widget.desk.layer)
    hands.viewer.open(str(slide_path), plugin="napari-cervcell")
    assert widget.review_bar.buttons["reject"].toolTip().endswith("Key: q")
    hands.key("?")
    sheet = next(s for s in widget.findChildren(KeySheet) if s.isVisible())
    hands.click(sheet.usual_button)
    assert sheet.buttons["x"].text() == "x"
    assert widget.review_bar.buttons["reject"].toolTip().endswith("Key: x")
    hands.click(sheet.close_button)


def test_napari_names_no_key_of_its_own_while_keys_are_ours(hands: Hands) -> None:
    layer = hands.widget.desk.layer
    hands.point_at(1100, 1100)
    assert hands.viewer.help == layer.help == ""
    layer.mode = "transform"
    layer.mode = "pan_zoom"
    hands.point_at(1150, 1100)
    assert hands.viewer.help == ""
