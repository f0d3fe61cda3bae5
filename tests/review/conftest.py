"""A case with detections, a scan that writes tiles to it as a detector does, and what is seen of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case
from napari_cervcell.cells import Cells
from napari_cervcell.review import Session

Scan = Callable[..., list["Step"]]


@dataclass(frozen=True)
class Place:
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Step:
    """What a scan reports of a tile."""

    tile: Place
    cells: Cells


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    """A case of a slide of 2000 x 1000 px at 0.25 µm, nothing found yet."""
    made = Case.create(
        tmp_path / "one.cervcell", slide_name="one.svs", fingerprint="f00d", width=2000, height=1000, mpp=0.25
    )
    with made:
        yield made


@pytest.fixture
def scan(case: Case) -> Scan:
    """Return ``scan(model, cells, place=(0, 0), size=1000, looks=None)``: a run of one tile, saved in the case.

    Cells are (x, y, label, score, class score), 60 px wide.
    """

    def run(
        model: str,
        cells: Sequence[tuple[float, ...]],
        place: tuple[int, int] = (0, 0),
        size: int = 1000,
        looks: Sequence[Sequence[float]] | None = None,
    ) -> list[Step]:
        table = np.array(cells, np.float32).reshape(-1, 5)
        found = Cells(np.hstack([table[:, :2] - 30, table[:, :2] + 30]), table[:, 2], table[:, 3], table[:, 4])
        embedded = None if looks is None else np.array(looks, np.float16)
        case.write_tile(case.start_run(model, model, "slide"), *place, size, found, embedded)
        return [Step(Place(*place, size), found)]

    return run


@pytest.fixture
def session(case: Case, scan: Scan) -> Session:
    """Four cells, of which the last one is below the threshold."""
    scan("one", [(100, 100, 0, 0.9, 0.9), (300, 100, 1, 0.8, 0.6), (500, 100, 4, 0.7, 0.5), (700, 100, 0, 0.3, 0.4)])
    return Session(None, case)


def find(session: Session, x: float, y: float) -> int:
    row = session.at(x, y, 5)
    assert row is not None
    return row


def shown(session: Session) -> list[tuple[float, float, int, int]]:
    """(x, y, label, state) of all visible cells, from left to right."""
    rows = session.visible(0, 0, 2000, 1000)
    centres, labels = session.cells.centres, session.cells.labels
    return sorted((*centres[i].tolist(), int(labels[i]), int(session.states[i])) for i in rows)
