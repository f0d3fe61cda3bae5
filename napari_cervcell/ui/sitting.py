"""A sitting by script: what ``cervcell demo`` does where there is no one to sit.

Through the same widgets, with real mouse and key events: open the slide, detect; accept 5, reject 5, re-class 2, add 2;
train one round; detect again with the new model; export.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtWidgets import QApplication

from ..casefile import State
from ..cells import GridIndex
from ..files import made_folder
from ..slides import sample_slide
from .app import launch
from .display import virtual_display
from .hands import Hands, HandsError

__all__ = ["run_on_virtual_display", "run_sitting"]

ACCEPTED, REJECTED, RECLASSED, ADDED = 5, 5, 2, 2
_NEAR = 40.0  # level-0 px: a detection this close to a labelled cell is that cell


def run_on_virtual_display(out: Path) -> dict[str, Any]:
    """Do the sitting of :func:`run_sitting` on a display of its own, telling on stderr how far it is."""
    with virtual_display():
        return run_sitting(out, report=lambda line: print(line, file=sys.stderr, flush=True))


def run_sitting(
    out: Path,
    *,
    slide: Path | None = None,
    size: tuple[int, int] = (1600, 1000),
    seconds: float | None = None,
    report: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Do the scripted sitting; there must be a display (Xvfb will do).

    Parameters
    ----------
    out : Path
        Folder for the case file, the export and the screenshots; made if it is not there. A case of an earlier
        sitting in it is replaced.
    slide : Path, optional
        The sample slide by default, whose labels then play the reviewer's knowledge. Of another slide nothing is
        known: the most certain detections are accepted, the least certain ones rejected or re-classed.
    size : (int, int)
        Width and height of the window, px.
    seconds : float, optional
        How long the round may take.
    report : callable
        Told what is being done, line by line.

    Returns
    -------
    dict
        ``cells_before``, ``cells_after`` (cells per class), ``verdicts`` (how many of each kind are in the case),
        ``round`` (state and message), ``seconds`` (per step), ``files``.

    Raises
    ------
    CervcellError
        Where a step fails.
    """
    made_folder(out)
    case_path = out / "sitting.cervcell"
    for old in out.glob("sitting.cervcell*"):
        old.unlink()
    path = sample_slide() if slide is None else slide
    viewer, widget = launch(path, case_path, show=True, block=False)
    try:
        viewer.window.resize(*size)
        QApplication.processEvents()
        viewer.reset_view()
        if widget.desk.session is None:
            raise HandsError(widget.error_bar.text.text() or f"{path} could not be opened for review.")
        if seconds is not None:
            widget.learn_panel.seconds = seconds
        return _Sitting(Hands(viewer, widget), out, _labels_of(path), report).run()
    finally:
        viewer.close()


def _labels_of(slide: Path) -> list[tuple[float, float, str]]:
    """Return the labelled cells (x, y, class) of the sample slide; of other slides nothing is known."""
    if slide.resolve() != sample_slide().resolve():
        return []
    with sample_slide().with_name("cric_sample_points.csv").open(newline="", encoding="utf-8") as file:
        return [(float(r["x"]), float(r["y"]), r["class"]) for r in csv.DictReader(file)]


class _Sitting:
    def __init__(
        self, hands: Hands, out: Path, labelled: list[tuple[float, float, str]], report: Callable[[str], object]
    ) -> None:
        self.hands = hands
        self.widget = hands.widget
        self.desk = hands.widget.desk
        self.out = out
        self.report = report
        self.seconds: dict[str, float] = {}
        self.files: list[str] = []
        taxonomy = self.desk.session.taxonomy
        self.truth = np.array([(x, y) for x, y, _ in labelled], np.float32).reshape(-1, 2)
        self.truth_labels = [taxonomy.index(name) for _, _, name in labelled]
        self.truth_index = GridIndex(self.truth)

    def run(self) -> dict[str, Any]:
        hands, widget = self.hands, self.widget
        with self._step("open"):
            hands.wait("the slide is shown", lambda: self.desk.session is not None)
        with self._step("detect"):
            hands.click(widget.detect_panel.start)
            self._until_detected()
        before = self._counts()
        with self._step("review"):
            self._review()
        with self._step("train"):
            outcome = self._train()
        with self._step("detect_again"):
            if not self.desk.detection.running:  # a candidate is not used unasked: ask for it
                self.desk.use_round(outcome["round"])
                hands.click(widget.detect_panel.start)
            self._until_detected()
        with self._step("export"):
            target = self.out / "cells.geojson"
            widget.case_panel.export(target)
            hands.wait("the export is written", target.exists)
        self.files += [str(target), str(self.desk.case.path)]
        return {
            "cells_before": before,
            "cells_after": self._counts(),
            "verdicts": self._verdicts(),
            "round": {key: outcome[key] for key in ("state", "message", "metrics") if key in outcome},
            "seconds": self.seconds,
            "files": self.files,
        }

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        self.report(f"{name.replace('_', ' ')} …")
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        self._picture(name)
        if self.widget.error_bar.isVisible():
            raise HandsError(self.widget.error_bar.text.text())

    def _picture(self, name: str) -> None:
        path = self.out / f"{1 + sum(f.endswith('.png') for f in self.files)}_{name}.png"
        self.hands.picture(path)
        self.files.append(str(path))

    def _until_detected(self) -> None:
        detection = self.desk.detection
        self.hands.wait("detection is running", lambda: detection.running, 5)
        self.hands.wait("detection has ended", lambda: not detection.running, 600)

    def _counts(self) -> dict[str, int]:
        session = self.desk.session
        return {c.name: count.detected for c, count in zip(session.taxonomy, session.counts(), strict=True)}

    def _verdicts(self) -> dict[str, int]:
        states = self.desk.case.annotations().states
        return {state.name.lower(): int((states == state).sum()) for state in State}

    # ------------------------------------------------------------------------------------------------- review

    def _review(self) -> None:
        hands, session = self.hands, self.desk.session
        accept, reject, reclass = self._choose()
        for box, _ in accept:
            self._select(box)
            hands.key("space")
        for box, _ in reject:
            self._select(box)
            hands.key("x")
        for box, label in reclass:
            self._select(box)
            hands.key(session.taxonomy[label].key)
        for (x, y), label in self._missed():
            hands.look_at((x - 30, y - 30, x + 30, y + 30))
            hands.point_at(x, y)
            known = len(self.desk.case.annotations())
            hands.key("a")
            hands.wait("the cell is added", lambda known=known: len(self.desk.case.annotations()) > known, 5)
            hands.key(session.taxonomy[label].key)
        hands.wait("all verdicts are in the case", lambda: len(self.desk.case.annotations()) >= 14, 10)

    def _select(self, box: Any) -> None:
        """Go to the cell in `box` and click it."""
        x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
        self.hands.look_at(box)
        self.hands.click_at(x, y)
        session = self.desk.session
        self.hands.wait("the clicked cell is the current one", lambda: session.current is not None, 5)

    def _choose(self) -> tuple[list[Any], list[Any], list[Any]]:
        """Return (box, class) of the cells to accept, to reject and to re-class: all seen alone, none twice."""
        session = self.desk.session
        cells = session.cells
        seen = session.visible(0, 0, self.desk.slide.width, self.desk.slide.height)
        order = seen[np.argsort(-cells.scores[seen])]
        alone = GridIndex(cells.centres[seen])
        accept, reject, reclass = [], [], []
        for i in order:
            x, y = cells.centres[i]
            if len(alone.within(x - 30, y - 30, x + 30, y + 30)) > 1:
                continue
            there = self.truth_index.nearest(x, y, _NEAR)
            pair = (cells.boxes[i].copy(), self.truth_labels[there] if there is not None else int(cells.labels[i]))
            if there is None:
                reject.append(pair)
            elif pair[1] == cells.labels[i]:
                accept.append(pair)
            else:
                reclass.append(pair)
        accept, reject, reclass = accept[:ACCEPTED], reject[:REJECTED], reclass[:RECLASSED]
        if not self.truth_labels or len(accept) < ACCEPTED or len(reject) < REJECTED or len(reclass) < RECLASSED:
            return self._choose_blindly(order)
        return accept, reject, reclass

    def _choose_blindly(self, order: np.ndarray) -> tuple[list[Any], list[Any], list[Any]]:
        cells, classes = self.desk.session.cells, len(self.desk.session.taxonomy)
        if len(order) < ACCEPTED + REJECTED + RECLASSED:
            raise HandsError(f"Only {len(order)} cells were found: too few for the sitting.")
        pairs = [(cells.boxes[i].copy(), int(cells.labels[i])) for i in order]
        weakest = [(box, (label + 1) % classes) for box, label in pairs[-RECLASSED:]]
        return pairs[:ACCEPTED], pairs[-RECLASSED - REJECTED : -RECLASSED], weakest

    def _missed(self) -> list[tuple[tuple[float, float], int]]:
        """Return (x, y) and class of cells that the model has not found."""
        session = self.desk.session
        found = GridIndex(session.cells.centres[session.states >= 0])  # the fainter detections are no misses either
        missed = [
            ((float(x), float(y)), label)
            for (x, y), label in zip(self.truth, self.truth_labels, strict=True)
            if found.nearest(x, y, _NEAR) is None
        ]
        if len(missed) < ADDED:  # nothing was missed: say so of two empty places, for the sake of the exercise
            width, height = self.desk.slide.width, self.desk.slide.height
            grid = [(width * i / 40, height * j / 40) for i in range(1, 40) for j in range(1, 40)]
            missed += [(place, 0) for place in grid if found.nearest(*place, 2 * _NEAR) is None]
        return missed[:ADDED]

    # -------------------------------------------------------------------------------------------------- train

    def _train(self) -> dict[str, Any]:
        hands, training = self.hands, self.desk.training
        outcome: dict[str, Any] = {}
        training.finished.connect(outcome.update)
        hands.key("t")
        hands.wait("the round has started", lambda: training.running or outcome, 10)
        curve = self.widget.learn_panel.curve
        hands.wait("the loss curve is drawn", lambda: len(curve.values) > 5 or outcome, 180)
        self.hands.scroll_to(curve)
        self._picture("training")
        hands.wait("the round has ended", lambda: outcome, 300)
        if outcome["kind"] != "done":
            raise HandsError(f"The round of training failed: {outcome.get('message', outcome['kind'])}")
        return outcome
