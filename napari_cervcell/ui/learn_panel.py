"""The Learn panel: a round of training, its curve, what came of it, and the rounds so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from .parts import Button, LossCurve
from .tasks import time_left

if TYPE_CHECKING:
    from ..casefile import Round
    from .desk import Desk

__all__ = ["ROUND_SECONDS", "LearnPanel"]

ROUND_SECONDS = 60.0
"""How long a round may take."""


def _in_words(round_: Round) -> str:
    return "kept as a candidate" if round_.state == "candidate" else round_.state


class LearnPanel(QWidget):
    """Starts and watches :class:`~napari_cervcell.ui.tasks.Training`."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.seconds = ROUND_SECONDS
        self.waiting = QLabel()
        self.waiting.setWordWrap(True)
        self.waiting.setToolTip("Cells whose verdicts no model has learnt from yet")
        self._learnt_up_to = 0  # id of the newest event that the last round could see
        self.start = Button("Train now", "Teach the model your corrections; you can go on working.", "train", "t")
        self.start.clicked.connect(self.begin)
        self.cancel = Button("Cancel", "End this round. The model in use stays.", "stop")
        self.cancel.clicked.connect(desk.training.cancel)
        self.cancel.setEnabled(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 3)
        buttons.addWidget(self.cancel, 2)
        self.curve = LossCurve()
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setToolTip("How far the round is, or what came of the last one")
        self._rounds = QVBoxLayout()
        self._rounds.setSpacing(2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.waiting)
        layout.addLayout(buttons)
        layout.addWidget(self.curve)
        layout.addWidget(self.status)
        layout.addLayout(self._rounds)
        desk.training.started.connect(self._begun)
        desk.training.progressed.connect(self._show)
        desk.training.finished.connect(self._end)
        desk.models_changed.connect(self.refresh)
        desk.opened.connect(self._opened)

    def begin(self) -> None:
        self._desk.train(self.seconds)

    def _opened(self) -> None:
        self.curve.clear()
        self.curve.hide()
        self.status.setText("")
        self.status.hide()
        self._desk.session.counts_changed.connect(self._count)
        self.refresh()

    def _begun(self) -> None:
        self.curve.clear()
        self.curve.show()
        self.status.show()
        self.status.setText("Starting …")
        self._enable()

    def _show(self, message: dict[str, Any]) -> None:
        if message["kind"] == "stage":
            self.status.setText(message["text"])
        elif message["kind"] == "progress":
            self.curve.add(message["loss"])
            self.status.setText(f"Learning, step {message['step']} · {time_left(message['seconds_left'])}")

    def _end(self, message: dict[str, Any]) -> None:
        self.status.setText(message.get("message", ""))
        self._enable()

    def refresh(self) -> None:
        """List the rounds again."""
        while (item := self._rounds.takeAt(0)) is not None:
            if item.widget() is not None:
                item.widget().deleteLater()
        case = self._desk.case
        if case is None:
            return
        active = case.active_round
        rounds = [r for r in case.rounds() if r.has_model]
        self._learnt_up_to = (
            max((e.id for e in case.events() if e.time <= rounds[-1].started), default=0) if rounds else 0
        )
        if rounds:
            self._add_row("Shipped model", None, active is None)
        for round_ in rounds:
            self._add_row(f"Round {round_.id}: {_in_words(round_)}", round_.id, active == round_.id, round_.message)
        self._count()
        self._enable()

    def _add_row(self, text: str, round_id: int | None, in_use: bool, tip: str = "") -> None:
        row = QWidget()
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        label = QLabel(f"<b>{text}</b>" if in_use else text)
        label.setToolTip(tip or "The model that comes with the plugin")
        use = QPushButton("in use" if in_use else "use")
        use.setToolTip("Detect with this model, and go on learning from it")
        use.setEnabled(not in_use)
        use.clicked.connect(lambda: self._desk.use_round(round_id))
        line.addWidget(label, 1)
        line.addWidget(use)
        self._rounds.addWidget(row)

    def _count(self) -> None:
        n = int((self._desk.case.annotations().ids > self._learnt_up_to).sum())
        since = "since the last round" if self._learnt_up_to else "so far"
        self.waiting.setText(f"{n:,} {'cell' if n == 1 else 'cells'} reviewed {since}.")

    def _enable(self) -> None:
        running = self._desk.training.running
        self.start.setEnabled(not running)
        self.cancel.setEnabled(running)
