"""The Learn panel: a round of training, its curve, what came of it, the rounds so far, and how good they made it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QHBoxLayout, QLabel, QVBoxLayout, QWidget

from .by_itself import ByItself
from .parts import Button, Curve
from .rounds_list import RoundsList
from .tasks import time_left

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..casefile import Round
    from .desk import Desk

__all__ = ["LearnPanel", "quality_of"]


class LearnPanel(QWidget):
    """Starts and watches :class:`~napari_cervcell.ui.tasks.Training`.

    Attributes
    ----------
    seconds : float or None
        How long rounds train; as long as is usual for their kind by default.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.seconds: float | None = None
        self._quick = True
        self.waiting = QLabel()
        self.waiting.setWordWrap(True)
        self.waiting.setToolTip("Cells whose verdicts no model has learnt from yet")
        self._learnt_up_to = 0  # the case knows it, but not without a look at all rounds
        self.start = Button(
            "Learn now",
            "A quick round: seconds, for the last layers of the model. You can go on working.",
            "train",
            "t",
        )
        self.start.clicked.connect(self.begin)
        self.full = Button(
            "Full round",
            "Teach all of the model your corrections: a minute or two, and more of it. Rounds of both kinds also "
            "replay fields that ship with the plugin, and your earlier cases that the model in use has learnt from.",
        )
        self.full.clicked.connect(self.begin_full)
        self.cancel = Button("Cancel", "End this round. The model in use stays.", "stop")
        self.cancel.clicked.connect(desk.training.cancel)
        self.cancel.setEnabled(False)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 4)
        buttons.addWidget(self.full, 3)
        buttons.addWidget(self.cancel, 3)
        self.by_itself = ByItself(desk, self.begin)
        self.again = Button("Try again", "Begin the same round once more. Nothing of your work was lost.", "redo")
        self.again.clicked.connect(lambda: self._train(self._quick))
        self.again.hide()
        self.curve = Curve(
            "How wrong the model still is on the corrections, step by step. It should fall.", "#f29c38", "{:.3f}"
        )
        self.quality = Curve(
            "How well the model in use agreed with the corrections held back, round by round. It should rise.",
            "#4fa3d1",
            "{:.0%} agreement",
        )
        self.status = QLabel()
        self.status.setWordWrap(True)
        self.status.setToolTip("How far the round is, or what came of the last one")
        self.rounds = RoundsList(desk)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.waiting)
        layout.addLayout(buttons)
        layout.addWidget(self.by_itself)
        layout.addWidget(self.curve)
        layout.addWidget(self.status)
        layout.addWidget(self.again)
        layout.addWidget(self.quality)
        layout.addWidget(self.rounds)
        desk.training.started.connect(self._begun)
        desk.training.progressed.connect(self._show)
        desk.training.finished.connect(self._end)
        desk.models_changed.connect(self.refresh)
        desk.opened.connect(self._opened)
        desk.closing.connect(self.by_itself.stop)

    def begin(self) -> None:
        """Begin a quick round."""
        self._train(quick=True)

    def begin_full(self) -> None:
        self._train(quick=False)

    def _train(self, quick: bool) -> None:
        if self._desk.session is not None and self._desk.do(self._has_no_lesson):
            self._desk.said.emit("There is nothing to learn from yet. Review a few cells first, then learn.")
            return
        self._quick = quick
        self._desk.train(quick, self.seconds)

    def _has_no_lesson(self) -> bool:
        case = self._desk.case
        return not case.reviewed_after(0) and not len(case.checked_regions())

    def _opened(self) -> None:
        self.curve.hide()
        self.status.setText("")
        self.status.hide()
        self.again.hide()
        self._desk.session.counts_changed.connect(self._count)
        self.refresh()

    def _begun(self) -> None:
        self.curve.show_values([])
        self.curve.show()
        self.status.show()
        self.status.setText("Starting …")
        self.again.hide()
        self.by_itself.note_round()
        self._enable()

    def _show(self, message: dict[str, Any]) -> None:
        if message["kind"] == "stage":
            self.status.setText(message["text"])
        elif message["kind"] == "progress":
            self.curve.add(message["loss"])
            self.status.setText(f"Learning, step {message['step']} · {time_left(message['seconds_left'])}")

    def _end(self, message: dict[str, Any]) -> None:
        self.status.setText(message.get("message", ""))
        self.curve.setVisible(len(self.curve.values) > 1)  # a round that was refused has none
        self.again.setVisible(message["kind"] == "failed")
        self._enable()

    def refresh(self) -> None:
        """Count anew what the newest round has not seen."""
        case = self._desk.case
        if case is None:
            return
        self._learnt_up_to = case.learnt_up_to
        quality = quality_of(case.rounds())
        self.quality.show_values(quality)
        self.quality.setVisible(len(quality) > 1)
        self._count()
        self._enable()

    def _count(self) -> None:
        n = self._desk.case.reviewed_after(self._learnt_up_to)
        since = "since the last round" if self._learnt_up_to else "so far"
        self.waiting.setText(f"{n:,} {'cell' if n == 1 else 'cells'} reviewed {since}.")
        self.by_itself.count(n)

    def _enable(self) -> None:
        running = self._desk.training.running
        self.start.setEnabled(not running)
        self.full.setEnabled(not running)
        self.cancel.setEnabled(running)


def quality_of(rounds: Sequence[Round]) -> list[float]:
    """Return how well the models that came into use by training agreed with what was held back when each was judged.

    Before the first value stands that of the model from which the first round began.
    """
    judged = [r.metrics["agreement"] for r in rounds if r.state == "promoted" and "agreement" in r.metrics]
    return [judged[0]["before"], *(agreement["after"] for agreement in judged)] if judged else []
