"""Rounds that begin by themselves, and what is offered when one fails."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import psutil
import pytest
from qtpy.QtWidgets import QApplication

from napari_cervcell.ui.by_itself import ByItself
from napari_cervcell.ui.hands import Hands

pytestmark = pytest.mark.engine


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path) -> Hands:
    return sit_down(slide_path)


def trainers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [p for p in children if p.is_running() and "napari_cervcell.learning.worker" in p.cmdline()]


def test_it_is_off_until_asked_for_and_then_remembered(hands: Hands) -> None:
    choice, desk = hands.widget.learn_panel.by_itself, hands.widget.desk
    assert not choice.on.isChecked()
    assert choice.cells.value() == 50
    desk.session.accept(np.arange(30))
    hands.rest(0.1)
    assert not desk.training.running
    choice.cells.setValue(20)
    hands.click(choice.on)
    again = ByItself(desk, hands.widget.learn_panel.begin)
    assert again.on.isChecked()
    assert again.cells.value() == 20
    again.deleteLater()


def test_enough_new_cells_begin_a_round_and_the_reviewer_stays_where_he_is(hands: Hands) -> None:
    choice, desk = hands.widget.learn_panel.by_itself, hands.widget.desk
    begun: list[bool] = []
    desk.training.started.connect(lambda: begun.append(True))
    choice.cells.setValue(12)
    hands.click(choice.on)
    hands.canvas.setFocus()
    focus = QApplication.focusWidget()
    desk.session.accept(np.arange(11))
    hands.rest(0.1)
    assert not begun
    hands.key("n")
    hands.key("space")
    assert desk.training.running
    assert QApplication.focusWidget() is focus
    hands.key("n")
    hands.key("x")  # the work goes on
    desk.training.cancel()
    hands.wait("the round has ended", lambda: not desk.training.running, 240)
    desk.session.accept(np.arange(20, 25))
    hands.rest(0.1)
    assert len(begun) == 1  # one that came to nothing is not begun again at the next cell


def test_old_cells_of_which_something_new_is_said_begin_a_round_and_an_imported_model_is_none(hands: Hands) -> None:
    panel, desk = hands.widget.learn_panel, hands.widget.desk
    begun: list[bool] = []
    desk.training.started.connect(lambda: begun.append(True))
    desk.session.accept(np.arange(12))
    number = desk.case.start_round("shipped", {"events": desk.case.newest_event})
    desk.case.finish_round(number, "candidate", {}, b"model", "m1")
    desk.models_changed.emit()
    assert panel.waiting.text() == "0 cells reviewed since the last round."
    desk.session.reject(np.arange(11))
    number = desk.case.start_round("shipped", {"imported": "m.safetensors"})
    desk.case.finish_round(number, "candidate", {}, b"model", "m2")
    desk.models_changed.emit()
    assert panel.waiting.text() == "11 cells reviewed since the last round."
    panel.by_itself.cells.setValue(12)
    hands.click(panel.by_itself.on)
    desk.session.reject(20)
    assert begun
    desk.training.cancel()
    hands.wait("the round has ended", lambda: not desk.training.running, 240)


def test_where_nothing_is_reviewed_it_is_said_what_comes_first(hands: Hands) -> None:
    widget, desk, panel = hands.widget, hands.widget.desk, hands.widget.learn_panel
    hands.key("n")
    hands.key("space")
    hands.key("u")
    for learn in (lambda: hands.key("t"), lambda: hands.click(panel.full)):
        widget.note_bar.hide()
        learn()
        assert widget.note_bar.isVisible()
        assert "Review a few cells first" in widget.note_bar.text.text()
        assert not desk.training.running
        assert not widget.error_bar.isVisible()
        assert not panel.again.isVisible()
        assert not panel.status.isVisible()
    assert not desk.case.rounds()


def test_a_round_that_fails_is_explained_and_can_be_tried_again(hands: Hands) -> None:
    panel, desk = hands.widget.learn_panel, hands.widget.desk
    desk.session.accept(np.arange(6))
    hands.key("t")
    hands.wait("the trainer is there", trainers, 240)
    assert not panel.again.isVisible()
    trainers()[0].kill()
    hands.wait("the round has ended", lambda: not desk.training.running, 240)
    assert "Nothing is lost; try again" in panel.status.text()
    assert "killed" in hands.widget.error_bar.text.text()
    assert len(desk.case.annotations()) == 6
    assert panel.again.isVisible()
    hands.click(panel.again)
    assert desk.training.running
    assert not panel.again.isVisible()
    hands.click(panel.cancel)
    hands.wait("the round has ended", lambda: not desk.training.running, 240)
    assert not panel.again.isVisible()


def test_a_trainer_that_cannot_be_started_is_explained_and_can_be_tried_again(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel, desk = hands.widget.learn_panel, hands.widget.desk
    desk.session.accept(np.arange(6))

    def refuse(*_args: object, **_more: object) -> None:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        hands.key("t")
        hands.wait("the round has ended", lambda: not desk.training.running)
    assert "not enough memory" in hands.widget.error_bar.text.text()
    hands.click(panel.again)
    hands.wait("the trainer is there", trainers, 240)
    hands.click(panel.cancel)
    hands.wait("the round has ended", lambda: not desk.training.running, 240)


def test_the_round_names_who_reviews_now(hands: Hands) -> None:
    desk = hands.widget.desk
    desk.session.accept(np.arange(12))
    hands.wait("the trainer is made ready", trainers, 240)
    desk.set_reviewer("Dr Second")
    hands.key("t")
    hands.wait("the round is in the case", desk.case.rounds, 240)
    assert desk.case.rounds()[0].reviewer == "Dr Second"
    desk.training.cancel()
    hands.wait("the round has ended", lambda: not desk.training.running, 240)


def test_closing_the_slide_ends_the_trainer(hands: Hands) -> None:
    desk = hands.widget.desk
    desk.session.accept(np.arange(12))
    hands.wait("the trainer is made ready", trainers, 240)
    desk.clear()
    hands.wait("the trainer has gone", lambda: not trainers(), 30)
