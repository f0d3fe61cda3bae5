"""The window in one state after the other, and a picture of each: ``python -m napari_cervcell.bench.scenes JOB``.

Started by `.screenshots`, one process for each theme, size and scale.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["SCENES"]

_CLOSE = (5400.0, 4100.0, 5900.0, 4500.0)  # level-0 px
_PATIENCE = 240.0  # seconds
_DRAWS, _TELLING = 50, 5  # places that are drawn until one has so many cells


class _Scenes:
    """Plays the scenes; each method is one, and they are played in this order."""

    def __init__(self, job: dict[str, Any]) -> None:
        from ..ui.app import open_window
        from ..ui.hands import Hands

        self.folder, self.out, self.only = Path(job["folder"]), Path(job["out"]), job["only"]
        self.viewer, widget = open_window()
        self.viewer.theme = job["theme"]
        self.viewer.window.resize(*job["size"])
        self.viewer.window._qt_window.move(0, 0)
        self.hands = Hands(self.viewer, widget)
        self.widget, self.desk = self.hands.widget, self.hands.widget.desk
        self.hands.rest(1.0)
        self.number = 0

    def play(self) -> None:
        for name in SCENES:
            self.number += 1
            if not self.only or name in self.only:
                scene: Callable[[], object] = getattr(self, name)
                scene()
                print(name, file=sys.stderr, flush=True)

    def _picture(self, name: str, *, sharp: bool = True) -> None:
        self.hands.screen(self.out / f"{self.number:02d}_{name}.png", sharp=sharp)

    def _open(self, name: str, case: str | None = None) -> None:
        """Open a slide in place of the one that is open; its own case, or a new one of another name."""
        path, case_path = self.folder / name, self.folder / (case or f"{name}.cervcell")
        if self.desk.case is not None and self.desk.case.path == case_path:
            return
        self.viewer.layers.clear()
        self.widget.open_slide(path, case_path)
        self.hands.wait("the slide is open", lambda: self.desk.session is not None)
        self.widget.tabs.setCurrentIndex(0)
        self.hands.rest(0.3)

    def _reviewed(self) -> None:
        self._open("smear.tiff")
        self.desk.view.go_to(_CLOSE)
        self.desk.view.zoom = 1.0
        self.hands.rest(0.3)

    def _scroll(self, widget: Any) -> None:
        self.hands.scroll_to(widget)

    # ---------------------------------------------------------------------------------------------------- scenes

    def empty(self) -> None:
        self._picture("empty")

    def loading(self) -> None:
        self.widget.open_slide(self.folder / "monday" / "C26-1246.tiff")
        self.desk.view.go_to(_CLOSE)
        self.hands.rest(0.02)  # a frame or two, of what is there at once
        self._picture("loading", sharp=False)

    def detecting(self) -> None:
        self._open("smear.tiff", "fresh.cervcell")
        self.desk.view.go_to(_CLOSE)
        self.desk.view.zoom = 0.4
        self.hands.rest(0.3)
        self.widget.detect_panel.scope.value = "slide"
        self.hands.click(self.widget.detect_panel.start)
        status = self.widget.detect_panel.status
        self.hands.wait("the first tiles are done", lambda: "tiles/s" in status.text(), _PATIENCE)
        self.hands.rest(2.0)
        self._picture("detecting")
        self.hands.click(self.widget.detect_panel.cancel)
        self.hands.wait("the scan has ended", lambda: not self.desk.detection.running, _PATIENCE)

    def reviewing(self) -> None:
        self._reviewed()
        self.hands.key("n")
        self.hands.key("n")
        self.hands.wait("the nucleus is measured", lambda: self.desk.nucleus.is_known, _PATIENCE)
        self.hands.rest(0.5)
        self._picture("reviewing")

    def case(self) -> None:
        self._reviewed()
        self.hands.rest(0.5)
        self._scroll(self.widget.case_panel.path)
        self._picture("case")
        self._scroll(self.widget.detect_panel.start)

    def whole(self) -> None:
        self._reviewed()
        self.hands.key("ctrl+0")
        self._picture("whole")

    def checking(self) -> None:
        self._reviewed()
        for _ in range(_DRAWS):
            self.hands.key("l")
            self.hands.wait("a place is drawn", lambda: self.widget.looking.place is not None, _PATIENCE)
            if len(self.desk.session.visible(*self.widget.looking.place)) >= _TELLING:
                break
            self.hands.key("esc")
        for _ in range(3):
            self.hands.key("space")
        self.hands.rest(0.5)
        self._picture("checking")
        self.hands.key("esc")

    def gallery(self) -> None:
        self._reviewed()
        self.hands.key("g")
        gallery = self.widget.gallery_panel.gallery
        self.hands.wait("the gallery is filled", lambda: gallery.count > 0)
        for _ in range(2):
            self.hands.key("right", gallery)
        self.hands.key("shift+right", gallery)
        self.hands.rest(1.5)
        self._picture("gallery")
        middle = gallery.viewport().rect().center()
        self.hands.hover(gallery.viewport(), middle, 1.2)
        self._picture("gallery_close")
        self.hands.key("g")

    def training(self) -> None:
        self._reviewed()
        self.hands.key("t")
        curve = self.widget.learn_panel.curve
        self.hands.wait("the loss curve is drawn", lambda: len(curve.values) > 8, _PATIENCE)
        self._scroll(self.widget.learn_panel.status)
        self._picture("training")
        self.hands.click(self.widget.learn_panel.cancel)
        self.hands.wait("the round has ended", lambda: not self.desk.training.running, _PATIENCE)

    def comparing(self) -> None:
        self._reviewed()
        rounds = [r for r in self.desk.case.rounds() if r.has_model]
        panel = self.widget.learn_panel.rounds
        panel.compare(rounds[-1])
        self.hands.rest(2.0)
        self._picture("comparing")
        self._close_dialogs()

    def error(self) -> None:
        self._reviewed()
        broken = self.folder / "broken.svs"
        broken.write_bytes(b"no slide")
        self.widget.open_slide(broken)
        self.hands.rest(0.5)
        self._picture("error")
        self.hands.click(self.widget.error_bar.close_button)

    def many(self) -> None:
        self._open("crowded.svs")
        self.hands.key("ctrl+0")
        self.hands.rest(2.0)
        self._picture("many")

    def many_close(self) -> None:
        self._open("crowded.svs")
        self.hands.key("n")
        self.hands.key("ctrl+4")
        self.hands.rest(1.0)
        self._picture("many_close")

    def worklist(self) -> None:
        self.widget.worklist_panel.open(self.folder / "monday")
        self.widget.tabs.setCurrentWidget(self.widget.worklist_panel)
        table = self.widget.worklist_panel.table
        known = lambda: all(table.standing(i) for i in range(table.rowCount()))  # noqa: E731
        self.hands.wait("all cases are looked up", known, _PATIENCE)
        self._picture("worklist")

    def keys(self) -> None:
        self._reviewed()
        self.hands.key("?")
        self.hands.rest(0.5)
        self._picture("keys")
        self._close_dialogs()

    def properties(self) -> None:
        self._reviewed()
        self.widget.show_properties()
        self.hands.rest(1.0)
        self._picture("properties")
        self._close_dialogs()

    def scale(self) -> None:
        from ..ui.mpp_dialog import MppDialog

        dialog = MppDialog("smear.tiff", self.widget)
        dialog.show()
        self.hands.rest(0.5)
        self._picture("scale")
        dialog.close()

    def _close_dialogs(self) -> None:
        from qtpy.QtWidgets import QDialog

        for dialog in self.widget.findChildren(QDialog):
            dialog.close()
        self.hands.rest(0.2)


SCENES = [name for name in vars(_Scenes) if not name.startswith("_") and name != "play"]


def main(job: dict[str, Any]) -> None:
    os.environ["QT_SCALE_FACTOR"] = str(job["scale"])
    scenes = _Scenes(job)
    try:
        scenes.play()
        print(json.dumps({"done": [1.0]}), flush=True)
    finally:
        scenes.viewer.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
