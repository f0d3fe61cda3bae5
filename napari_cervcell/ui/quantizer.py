"""Makes the model in use quicker on the processor, in the background and for all slides to come."""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QProcess
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from .parts import Button

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["Quantizer"]

_NAME = "Make it quicker"
_TIP = (
    "Convert the model in use to 8-bit integers, which this processor computes sooner, and check on labelled fields "
    "that it still finds the same cells. Takes a minute or two in the background, once for each model."
)
_WORTH_SECONDS = 120  # a scan so long would have been shorter by more than the conversion takes


class Quantizer(QWidget):
    """A button that begins and cancels the conversion, and what becomes of it in words.

    It also begins by itself, where it has not been tried with the model yet, after a scan on the processor that was
    long enough to be worth it. Hidden where it cannot be done.
    """

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._process: QProcess | None = None
        self._tried: set[str] = set()  # models with which it has begun by itself
        self._last: Any = None  # the last report of the scan that is running
        self.button = Button(_NAME, _TIP, "quick")
        self.button.clicked.connect(self.toggle)
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.words)
        if not all(importlib.util.find_spec(name) for name in ("openvino", "nncf")):
            self.hide()
        desk.detection.found.connect(self._note)
        desk.detection.finished.connect(self._after_scan)
        desk.closing.connect(self.stop)

    @property
    def running(self) -> bool:
        return self._process is not None

    def toggle(self) -> None:
        """Begin, or cancel."""
        if self.running:
            self.stop()
            self._tell("Cancelled. The model is as it was.")
        elif self._desk.case is not None:
            self._begin()

    def stop(self) -> None:
        """End it, if it runs: what is half made is not used."""
        process, self._process = self._process, None
        if process is not None:
            for signal in (process.readyReadStandardOutput, process.finished):
                signal.disconnect()
            process.kill()
            process.waitForFinished(1000)
            process.deleteLater()
        self.button.setText(_NAME)

    def _begin(self) -> None:
        self._process = process = QProcess(self)
        process.readyReadStandardOutput.connect(self._listen)
        process.finished.connect(self._ended)
        process.start(sys.executable, ["-m", "napari_cervcell.quantizing", str(self._desk.case.path)])
        self.button.setText("Cancel making it quicker")
        self._tell("Beginning …")

    def _listen(self) -> None:
        while self._process is not None and self._process.canReadLine():
            try:
                message = json.loads(bytes(self._process.readLine()))
            except ValueError:
                continue  # a library's own chatter
            if message["kind"] == "stage":
                self._tell(f"{message['text']} …")
                continue
            self.stop()
            words = message["message"] if message["kind"] == "failed" else _outcome(message)
            self._tell(words)
            self._desk.said.emit(words)

    def _ended(self) -> None:
        """Only where it has left no last message."""
        self.stop()
        self._tell("It ended early, perhaps for want of memory. The model is as it was; try again.")

    def _tell(self, text: str) -> None:
        self.words.setText(text)
        self.words.show()

    def _note(self, steps: list[Any]) -> None:
        self._last = steps[-1]

    def _after_scan(self, outcome: str) -> None:
        last, self._last = self._last, None
        if last is None or outcome == "failed" or last.seconds < _WORTH_SECONDS or self.running or self.isHidden():
            return
        model = self._desk.case.runs()[-1].model_id
        if "OpenVINO" in last.engine and "8-bit" not in last.engine and model not in self._tried:
            self._tried.add(model)
            self._begin()


def _outcome(message: dict[str, Any]) -> str:
    found = (
        f"finding cells in {message['fields']} labelled fields (AP) {message['before']:.3f} before, "
        f"{message['after']:.3f} in 8 bits"
    )
    if message["used"]:
        return f"Done, for the next scan and all slides to come: {found}."
    return f"Not used, for it finds less: {found}. The model is as it was."
