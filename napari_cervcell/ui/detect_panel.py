"""The Detect panel: which model, where, how far it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets import ComboBox, Container
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QCheckBox,
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QVBoxLayout,
    QWidget,
)

from .overview_panel import position_words
from .parts import Button, let_shrink, line_up, tool_button
from .quantizer import Quantizer
from .shade import Shade
from .tasks import time_left

if TYPE_CHECKING:
    from .desk import Desk
    from .pointer import Pointer

__all__ = ["DetectPanel"]

_FILE = "A model file …"
_DEVICES = [
    ("best there is", "auto"),
    ("graphics card (CUDA)", "cuda"),
    ("Apple GPU", "mps"),
    ("processor (OpenVINO)", "cpu-openvino"),
    ("processor (OpenVINO), full precision", "cpu-openvino-f32"),
    ("processor (torch)", "cpu-torch"),
]
_MODEL_TIP = (
    "The model that looks for cells. The accurate one takes longer; once it has been asked it is the one in use, and "
    "learning goes on from it."
)
_NAMED = 3  # places of parts that could not be read
_SCOPES = [("whole slide, this view first", "slide"), ("this view", "view"), ("a region I draw", "region")]
_LABEL_WIDTH = 60


class DetectPanel(QWidget):
    """Starts and watches :class:`~napari_cervcell.ui.tasks.Detection`."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._files: list[Path] = []
        self._last: Any = None  # Progress, once something has been looked at
        self._stopping = False
        self.pointer: Pointer | None = None
        self.model = ComboBox(label="Model", choices=self._models, tooltip=_MODEL_TIP)
        self.scope = ComboBox(label="Where", choices=_SCOPES, tooltip="Which part of the slide to look at")
        self.device = ComboBox(
            label="Device", choices=_DEVICES, tooltip="What computes: the graphics card if there is one"
        )
        form = Container(widgets=[self.model, self.scope], labels=True)
        device_form = Container(widgets=[self.device], labels=True)
        for container in (form, device_form):
            container.margins = (0, 0, 0, 0)
            line_up(container.native, _LABEL_WIDTH)
        for box in (self.model, self.scope, self.device):
            let_shrink(_box_of(box), 12)
        self.model.changed.connect(self._choose_file)
        self.device.changed.connect(lambda device: setattr(desk, "device", device))
        self.start = Button("Detect cells", "Look for cells.", "detect")
        self.start.clicked.connect(self.begin)
        self.pause = Button("Pause", "Rest, and leave the computer to others for a while.", "pause", "d")
        self.pause.clicked.connect(self.toggle_pause)
        self.pause.setEnabled(False)
        self.cancel = Button("Cancel", "Stop looking. What was found so far is kept.", "stop")
        self.cancel.clicked.connect(self.stop)
        self.cancel.setEnabled(False)
        self.bar = QProgressBar()
        self.bar.setTextVisible(True)
        self.bar.setFormat("")
        self.bar.setToolTip("Tiles of the slide looked at")
        self.status = QLabel("Not started.")
        self.status.setWordWrap(True)
        self.status.setToolTip("Cells found, speed and time left")
        self.shade = Shade(desk)
        self.quicker = Quantizer(desk)
        self.show_skipped = QCheckBox("Shade what is skipped")
        self.show_skipped.setToolTip("Shade empty glass, pen strokes and bubbles' rims, which a whole scan leaves out")
        self.show_skipped.toggled.connect(self.shade.show)
        tip = "Show or hide what is seldom changed: what computes, and the shading of what is skipped"
        self.more = tool_button("settings", tip)
        self.more.setCheckable(True)
        self.seldom = QWidget()
        below = QVBoxLayout(self.seldom)
        below.setContentsMargins(0, 0, 0, 0)
        below.addWidget(device_form.native)
        below.addWidget(self.quicker)
        below.addWidget(self.show_skipped)
        self.seldom.hide()
        self.more.toggled.connect(self.seldom.setVisible)
        what = QHBoxLayout()
        what.setSpacing(4)
        what.addWidget(form.native, 1)
        what.addWidget(self.more, 0, Qt.AlignmentFlag.AlignBottom)
        buttons = QHBoxLayout()
        buttons.addWidget(self.start, 3)
        buttons.addWidget(self.pause, 3)
        buttons.addWidget(self.cancel, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(what)
        layout.addWidget(self.seldom)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addWidget(self.status)
        desk.detection.started.connect(self._begun)
        desk.detection.paused_changed.connect(self._show_pause)
        desk.detection.found.connect(self._show)
        desk.detection.finished.connect(self._end)
        desk.models_changed.connect(self.refresh_models)
        desk.opened.connect(self._opened)
        desk.closed.connect(self._opened)
        desk.closing.connect(lambda: self.show_skipped.setChecked(False))

    def _models(self, _widget: Any = None) -> list[tuple[str, Any]]:
        files = [(path.name, path) for path in self._files]
        return [*self._desk.models(), *files, (_FILE, _FILE)]

    def refresh_models(self) -> None:
        """List the models again, the one in use chosen."""
        with self.model.changed.blocked():
            _box_of(self.model).clear()  # what is there already would keep its place
            self.model.reset_choices()
            self.model.value = self._desk.models()[0][1]

    def _choose_file(self, choice: Any) -> None:
        if choice == _FILE:
            path, _ = QFileDialog.getOpenFileName(self, "Open a model file", "", "Models (*.safetensors)")
            self.refresh_models()
            if path:
                self.use_file(Path(path))

    def use_file(self, path: Path) -> None:
        """Offer the model file `path`, and choose it."""
        if path not in self._files:
            self._files.append(path)
        self.model.reset_choices()
        self.model.value = path

    def begin(self) -> None:
        """Start with what the form says; a region is drawn first."""
        if self.scope.value == "region":
            self.pointer.take_rectangle(self._run, "Drag a rectangle over the part to look at.")
        else:
            self._run(self._desk.view.rectangle() if self.scope.value == "view" else None)

    def toggle_pause(self) -> None:
        """Rest, or go on; where nothing is looked for, do nothing."""
        self._desk.detection.pause(not self._desk.detection.paused)

    def stop(self) -> None:
        """Stop looking after the tiles in hand."""
        self._stopping = True
        self._desk.detection.cancel()
        self._enable()
        self._tell()

    def _show_pause(self) -> None:
        self._enable()
        self._tell()

    def _run(self, region: Any) -> None:
        self._desk.detect(self.model.value, region)

    def _begun(self) -> None:
        self._last, self._stopping = None, False
        self.bar.show()
        self.bar.setRange(0, 0)
        self.bar.setFormat("")
        self._enable()
        self._tell()

    def _show(self, steps: list[Any]) -> None:
        self._last = last = steps[-1]
        self.bar.setRange(0, max(last.total, 1))
        self.bar.setValue(last.done)
        self.bar.setFormat("%v of %m tiles")
        self._tell()

    def _tell(self) -> None:
        """Say how far the work is that is running."""
        last = self._last
        if self._stopping:
            words = "Stopping …"
        elif self._desk.detection.paused:
            words = f"Paused. {self._found()}."
        elif last is None:
            words = "Getting the model ready …"
        else:
            unread = f" · {_tiles(last.unreadable)} could not be read" if last.unreadable else ""
            speed = f"{last.tiles_per_second:.1f} tiles/s"
            words = f"{self._found()} · {speed} · {time_left(last.seconds_left)}{unread}\nOn the {last.engine}."
        self.status.setText(words)

    def _end(self, outcome: str) -> None:
        looked, self._stopping = self._last is not None, False
        if self.bar.maximum() == 0:
            self.bar.setRange(0, 1)
            self.bar.setValue(outcome == "done")
        words = {
            "done": f"Done. {self._found()}." if looked else "Done. Nothing was left to look at.",
            "empty": "All of the slide was taken for empty glass. Draw a region to look at it all the same.",
            "cancelled": f"Cancelled; detect again to go on. {self._found()}."
            if looked
            else "Cancelled before anything was looked at. Detect again to begin.",
            "failed": "Stopped by an error.",
        }
        self.status.setText(words[outcome] + self._lost())
        self._enable()

    def _lost(self) -> str:
        """Say what could not be read and where, if anything."""
        tiles = list(self._desk.detection.unreadable)
        if not tiles:
            return ""
        places = [position_words(t.x + t.size / 2, t.y + t.size / 2, self._desk.slide) for t in tiles[:_NAMED]]
        more = f" and {len(tiles) - _NAMED} more" if len(tiles) > _NAMED else ""
        return (
            f"\n{_tiles(len(tiles))} could not be read, red on the overview: at {'; '.join(places)}{more}. "
            "Nobody has looked there. Detect again to try once more."
        )

    def _opened(self) -> None:
        self.refresh_models()
        self.bar.hide()
        known, case = self._known(), self._desk.case
        found_none = "An earlier scan found no cells." if case is not None and case.is_scanned else "Not started."
        self._stopping = False
        self.status.setText(f"{known:,} cells are known from earlier." if known else found_none)
        self._enable()

    def _known(self) -> int:
        """Cells with a score that is shown: what the table of the case counts, too."""
        return sum(c.detected for c in self._desk.session.counts()) if self._desk.session else 0

    def _found(self) -> str:
        return f"{self._known():,} cells found"

    def _enable(self) -> None:
        running = self._desk.detection.running
        self.start.setEnabled(not running)
        self.pause.setEnabled(running and not self._stopping)
        self.pause.setText("Go on" if self._desk.detection.paused else "Pause")
        self.cancel.setEnabled(running and not self._stopping)


def _box_of(form: ComboBox) -> QComboBox:
    return form.native.findChild(QComboBox) or form.native


def _tiles(number: int) -> str:
    return f"{number:,} {'tile' if number == 1 else 'tiles'}"
