"""A reviewer at work, timed: ``python -m napari_cervcell.bench.sittingwindow JOB``, a JSON object.

Started by `.sitting` in a process of its own. All that is done is done with real mouse and key events.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import QPoint

from ..slides import sample_slide
from ..ui.app import dock
from ..ui.hands import Hands
from ..ui.steadiness import keep_steady
from .figures import OURS
from .window import Stage

__all__: list[str] = []

BY_KEYS, IN_GALLERY, ADDED = 60, 10, 5
_LOOK = 0.15  # seconds in which what a key did is drawn
_PANS = 40
_PATIENCE = 900.0
_SAID = ("space", "space", "x", "space", "2", "space", "space", "1", "space", "x")


class _Sitting:
    """A full case on the sample slide; notes how long every key was waited for."""

    def __init__(self, stage: Stage, job: dict[str, Any]) -> None:
        self.stage, self.job = stage, job
        self.hands = Hands(stage.viewer, dock(stage.viewer))
        self.widget, self.desk = self.hands.widget, self.hands.widget.desk
        # as in a window of our own
        self.hands.dismiss_notices()
        keep_steady()
        self.waits: dict[str, list[float]] = {}
        self.pans: dict[str, list[float]] = {}
        self.seconds: dict[str, float] = {}
        self.said = itertools.cycle(_SAID)

    def key(self, name: str, target: Any = None) -> None:
        """Press a key; note the ms that the window was held until what it did was drawn."""
        start = time.perf_counter()
        self.hands.press(name, target)
        held = time.perf_counter() - start
        self.waits.setdefault(name, []).append(1000 * (held + self.stage.live(_LOOK)))

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start

    def run(self) -> dict[str, list[float]]:
        hands, widget, desk = self.hands, self.widget, self.desk
        with self.step("open"):
            hands.click(widget.sample_button)
            hands.wait("the slide is open", lambda: desk.session is not None)
            hands.wait_sharp()
        with self.step("detect"):
            hands.click(widget.detect_panel.start)
            self._until_detected()
        with self.step("60 by keys"):
            self.key("n")
            self._say(BY_KEYS)
        with self.step("10 in the gallery"):
            self._gallery()
        with self.step("5 added"):
            self._add()
        with self.step("region"):
            self.key("c")
            x1, y1, x2, y2 = desk.view.rectangle()
            hands.drag((x1 + 0.2 * (x2 - x1), y1 + 0.2 * (y2 - y1)), (x1 + 0.7 * (x2 - x1), y1 + 0.7 * (y2 - y1)))
        with self.step("round"):
            self._round()
        with self.step("export"):
            target = Path(self.job["folder"]) / "cells.geojson"
            widget.case_panel.export(target)
            hands.wait("the export is written", target.exists)
        waits = {f"key {name}": times for name, times in self.waits.items()}
        return waits | {f"pan {name}": times for name, times in self.pans.items()} | self._told()

    def _told(self) -> dict[str, list[float]]:
        return {f"seconds {name}": [taken] for name, taken in self.seconds.items()} | {
            "verdicts": [float(len(self.desk.case.annotations()))]
        }

    def _until_detected(self) -> None:
        detection = self.desk.detection
        self.hands.wait("detection is running", lambda: detection.running, 10)
        self.hands.wait("detection has ended", lambda: not detection.running, _PATIENCE)

    def _say(self, cells: int) -> None:
        known = len(self.desk.case.events())
        for name in itertools.islice(self.said, cells):
            self.key(name)
        lost = known + cells - len(self.desk.case.events())
        assert not lost, f"{lost} verdicts of {cells} were lost"

    def _gallery(self) -> None:
        gallery = self.widget.gallery_panel.gallery
        self.widget.gallery_panel.reviewed.setCurrentText("new")
        self.key("g")
        self.hands.wait("the gallery is filled", lambda: gallery.count > IN_GALLERY)
        known = len(self.desk.case.annotations())
        self.key("right", gallery)
        for _ in range(IN_GALLERY - 1):
            self.key("shift+right", gallery)
        self.key("space", gallery)
        assert len(self.desk.case.annotations()) == known + IN_GALLERY
        self.key("u", gallery)
        self.key("ctrl+shift+z", gallery)
        self.key("g", gallery)

    def _add(self) -> None:
        """Add cells where nothing was found, in sight."""
        session, view = self.desk.session, self.desk.view
        x1, y1, x2, y2 = view.rectangle()
        slide, added = self.desk.slide, 0
        for i, j in itertools.product(range(1, 9), range(1, 9)):
            x, y = x1 + (x2 - x1) * i / 9, y1 + (y2 - y1) * j / 9
            inside = 0 <= x < slide.width and 0 <= y < slide.height
            if inside and not len(session.all_at(x, y, 2 * session.usual_side)):
                self.hands.point_at(x, y)
                self.key("a")
                added += 1
                if added == ADDED:
                    return

    def _round(self) -> None:
        hands, desk, training = self.hands, self.desk, self.desk.training
        self._pan("")  # so that all tiles are there
        self._pan("at rest")
        self.widget.learn_panel.seconds = self.job["seconds"]
        outcome: dict[str, Any] = {}
        training.finished.connect(outcome.update)
        self.key("t")
        curve = self.widget.learn_panel.curve
        hands.wait("the round learns", lambda: len(curve.values) > 1 or outcome, _PATIENCE)
        self._pan("during the round")
        self.key("n")  # on from the cell added last, of which all is said
        self._say(10)
        hands.wait("the round has ended", lambda: outcome, _PATIENCE)
        if not desk.detection.running:  # a candidate is not used unasked
            desk.use_round(outcome["round"])
            hands.click(self.widget.detect_panel.start)
        status = self.widget.detect_panel.status
        hands.wait("the model looks again", lambda: "tiles/s" in status.text() or not desk.detection.running, _PATIENCE)
        self._pan("during detection")
        self._say(10)
        hands.click(self.widget.detect_panel.cancel)
        hands.wait("detection has ended", lambda: not desk.detection.running, _PATIENCE)

    def _pan(self, when: str) -> None:
        """Drag the canvas to and fro; note for how many ms each step held the window."""
        hands = self.hands
        middle = hands.canvas.rect().center()
        hands.grab("press", middle)
        times = []
        for offset in np.abs(np.arange(_PANS) - _PANS // 2) - _PANS // 2:
            start = time.perf_counter()
            hands.grab("move", middle + QPoint(4 * int(offset), 2 * int(offset)))
            held = time.perf_counter() - start
            times.append(1000 * (held + self.stage.live(0.05)))
        hands.grab("release", middle)
        if when:
            self.pans[when] = times


def main(job: dict[str, Any]) -> None:
    stage = Stage({"slide": str(sample_slide()), "size": [0, 0], "peer": OURS})
    try:
        print(json.dumps(_Sitting(stage, job).run()), flush=True)
    finally:
        stage.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
