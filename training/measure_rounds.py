"""Seconds from the key press to new cells in view, with the sample slide's labels in the place of a reviewer.

``python training/measure_rounds.py [--corrections 200] [--cold] [--accurate]``: makes a case with so many corrections,
spread over the sample slide, opens it in a window (on a display of its own where there is none), detects the view,
presses ``t``, and prints when the round had ended and when the view had been looked at anew. The trainer has had time
to get ready, as it has while somebody reviews; with ``--cold`` the key is pressed as soon as the case is open. With
``--accurate`` the accurate model that ships is the one in use.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from napari_cervcell.casefile import Case, Verdict, open_case
from napari_cervcell.cells import Cells, GridIndex
from napari_cervcell.detection import Scan
from napari_cervcell.learning import current_model
from napari_cervcell.review.models import use_accurate
from napari_cervcell.slides import open_slide, sample_slide

_NEAR = 40.0  # level-0 px: a detection this close to a labelled cell is that cell
_VIEW = (2000.0, 1500.0, 3600.0, 2500.0)


def make_case(path: Path, corrections: int, accurate: bool = False, seed: int = 0) -> None:
    """Make a case of the sample slide, scanned, with verdicts on so many cells drawn at random."""
    with open_slide(sample_slide()) as slide, open_case(path, slide, reviewer="labels") as case:
        if accurate:
            use_accurate(case)
        for _ in Scan(slide, current_model(case), case=case).run():
            pass
        verdicts = oracle(case, case.detections().cells)
        order = np.random.default_rng(seed).permutation(len(verdicts))[:corrections]
        case.record([verdicts[i] for i in order])


def oracle(case: Case, cells: Cells) -> list[Verdict]:
    """Return what somebody who knows the labels would say of every surer detection, and of every missed cell."""
    with sample_slide().with_name("cric_sample_points.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = np.array([(float(r["x"]), float(r["y"])) for r in rows], np.float32)
    labels = [case.taxonomy.index(r["class"]) for r in rows]
    cells = cells[cells.scores >= 0.3]
    labelled, found = GridIndex(points), GridIndex(cells.centres)
    verdicts = []
    for (x, y), box, said in zip(cells.centres, cells.boxes, cells.labels.tolist(), strict=True):
        there = labelled.nearest(x, y, _NEAR)
        if there is None:
            verdicts.append(Verdict("reject", box, -1, detected_label=said))
        else:
            kind = "accept" if labels[there] == said else "class"
            verdicts.append(Verdict(kind, box, labels[there], detected_label=said))
    for (x, y), label in zip(points, labels, strict=True):
        if found.nearest(x, y, _NEAR) is None:
            verdicts.append(Verdict("add", np.array([x - 30, y - 30, x + 30, y + 30], np.float32), label))
    return verdicts


def measure(case_path: Path, cold: bool) -> dict[str, Any]:
    """Press the key in a window, and return the seconds."""
    from napari_cervcell.ui.app import launch
    from napari_cervcell.ui.hands import Hands

    viewer, widget = launch(sample_slide(), case_path, show=True, block=False)
    hands, desk = Hands(viewer, widget), widget.desk
    told: list[str] = []
    desk.training.progressed.connect(lambda message: told.append(message["kind"]))
    hands.wait("the slide is shown", lambda: desk.session is not None)
    viewer.window.resize(1600, 1000)
    hands.look_at(_VIEW)
    viewer.scene.camera.zoom = 1 / desk.layer.scale[0]
    hands.rest(0.5)
    view = desk.view.rectangle()
    widget.detect_panel.scope.value = "view"
    desk.detect(None, region=view)  # as it was before there was anything to review
    hands.wait("the view is detected", lambda: not desk.detection.running, 300)
    if not cold:
        hands.wait("the trainer is ready", lambda: "prepared" in told, 600)
    seen: list[Any] = []
    ended: dict[str, Any] = {}
    stages: dict[str, float] = {}
    desk.training.finished.connect(lambda message: ended.update(message, at=time.monotonic()))
    desk.training.progressed.connect(
        lambda message: stages.setdefault(message.get("text", message["kind"]), round(time.monotonic() - start, 1))
    )
    desk.detection.found.connect(lambda steps: seen.extend(step.tile for step in steps))
    start = time.monotonic()
    hands.key("t")
    hands.wait("the round has ended", lambda: ended, 600)
    if not desk.detection.running:  # a candidate is not used unasked
        desk.detect(ended["round"])

    def covered() -> bool:
        x1, y1, x2, y2 = view
        area = sum(
            max(0.0, min(x2, t.x + t.size) - max(x1, t.x)) * max(0.0, min(y2, t.y + t.size) - max(y1, t.y))
            for t in seen
        )
        return area >= 0.999 * (x2 - x1) * (y2 - y1)

    hands.wait("the view is looked at anew", covered, 300)
    end = time.monotonic()
    desk.detection.shut_down()
    viewer.close()
    done = {"round": round(ended["at"] - start, 1), "in view": round(end - start, 1)}
    return {**stages, **done, "said": ended["message"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corrections", type=int, default=200)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--accurate", action="store_true")
    parser.add_argument("--case", type=Path, help="keep the case here, and take it from there the next time")
    options = parser.parse_args()
    from napari_cervcell.ui.display import virtual_display

    with tempfile.TemporaryDirectory() as folder, virtual_display():
        path = options.case or Path(folder) / "measured.cervcell"
        if not path.exists():
            make_case(path, options.corrections, options.accurate)
        print(measure(path, options.cold))


if __name__ == "__main__":
    main()
