"""Whatever is done in whatever order: the session shows what is in the case, and the reviewer's word stands."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from napari_cervcell.casefile import Annotations, Case, present_cells
from napari_cervcell.cells import Cells
from napari_cervcell.review import Session


@dataclass(frozen=True)
class Place:
    x: int
    y: int
    size: int


@dataclass(frozen=True)
class Step:
    tile: Place
    cells: Cells


SIDE = 240  # small, so that cells crowd
Row = tuple[object, ...]
Said = dict[int, tuple[bytes, int, int]]


def shown(session: Session) -> list[Row]:
    """All that a session shows, in no order of rows; NaN as None, which is equal to itself."""
    c, there = session.cells, np.flatnonzero(session.states >= 0)
    columns = (c.boxes, c.labels, c.scores, c.class_scores, session.states, session.annotation_ids)
    return in_order([np.asarray(column)[there] for column in (*columns, session.disagrees)])


def in_case(case: Case) -> list[Row]:
    present = present_cells(case.detections().cells, case.annotations())
    c = present.cells
    columns = (c.boxes, c.labels, c.scores, c.class_scores, present.states, present.annotation_ids)
    return in_order(columns)


def in_order(columns: Sequence[np.ndarray]) -> list[Row]:
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return sorted((tuple(None if v != v else v for v in row) for row in rows), key=repr)


def said_in(annotations: Annotations) -> Said:
    return {
        int(i): (box.tobytes(), int(label), int(state))
        for i, box, label, state in zip(
            annotations.ids, annotations.boxes, annotations.labels, annotations.states, strict=True
        )
    }


class Sitting(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "one.cervcell"
        self.case = Case.create(
            self.path, slide_name="one.svs", fingerprint="f00d", width=SIDE, height=SIDE, mpp=0.25, reviewer="ada"
        )
        self.session = Session(None, self.case)
        self.size = 120
        self.run = self.case.start_run("model 1", "one", "slide")
        self.waiting: list[Step] = []  # in the case, not yet handed to the session
        self.said: list[Said] = [{}]  # what the reviewer has said, step by step
        self.taken_back: list[Said] = []
        for place in range(4):
            self.scan_a_tile(place, seed=place)
        self.tiles_come_in()

    def teardown(self) -> None:
        self.case.close()
        self.folder.cleanup()

    # ----------------------------------------------------------------------------------------------- models

    @precondition(lambda self: not self.waiting)
    @rule(size=st.sampled_from([120, 120, 120, 80]))
    def another_model(self, size: int) -> None:
        self.size = size
        self.run = self.case.start_run(f"model {self.run + 1}", "later", "slide")

    @rule(place=st.integers(0, 8), seed=st.integers(0, 1000))
    def scan_a_tile(self, place: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        across = SIDE // self.size
        x, y = place % across * self.size, place // across % across * self.size
        n = int(rng.integers(0, 5))
        centres = rng.random((n, 2)) * self.size + (x, y)
        if len(said := self.case.annotations()) and n:  # models find the same cells again, roughly
            box = said.boxes[rng.integers(len(said))]
            near = (box[:2] + box[2:]) / 2 + rng.normal(0, 5, 2)
            if (near >= (x, y)).all() and (near < (x + self.size, y + self.size)).all():
                centres[0] = near
        half = rng.uniform(12, 28, (n, 1))
        cells = Cells(np.hstack([centres - half, centres + half]), rng.integers(0, 6, n), rng.random(n), rng.random(n))
        self.case.write_tile(self.run, x, y, self.size, cells)
        self.waiting.append(Step(Place(x, y, self.size), cells))

    @rule()
    def tiles_come_in(self) -> None:
        self.session.add_cells(self.waiting)
        self.waiting = []

    # --------------------------------------------------------------------------------------------- reviewer

    @precondition(lambda self: len(self.present()))
    @rule(data=st.data(), verdict=st.sampled_from(["accept", "reject", "class"]), label=st.integers(0, 5))
    def verdict(self, data: st.DataObject, verdict: str, label: int) -> None:
        rows = data.draw(st.lists(st.sampled_from(self.present().tolist()), min_size=1, max_size=3), "rows")
        events = len(self.case.events())
        if verdict == "accept":
            self.session.accept(rows)
        elif verdict == "reject":
            self.session.reject(rows)
        else:
            self.session.set_class(label, rows)
            assert (self.session.cells.labels[rows] == label).all()
        if len(self.case.events()) > events:
            self.new_step()

    @precondition(lambda self: self.session.current is not None)
    @rule()
    def accept_the_current_one(self) -> None:
        events = len(self.case.events())
        row = self.session.current
        self.session.accept()
        assert self.session.annotation_ids[row] >= 0
        if len(self.case.events()) > events:
            self.new_step()

    @rule(x=st.floats(0, SIDE - 1), y=st.floats(0, SIDE - 1), label=st.integers(0, 5))
    def add(self, x: float, y: float, label: int) -> None:
        row = self.session.add(x, y, label)
        assert self.session.current == row
        self.new_step()

    @rule(x=st.floats(0, 100))
    def check(self, x: float) -> None:
        self.session.check_region((x, x, x + 50, x + 50))
        self.new_step()

    @rule(seed=st.integers(0, 1000))
    def import_some(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        names = [*self.case.taxonomy.names, "reject"]
        places = [(*(rng.random(2) * SIDE).tolist(), names[rng.integers(7)]) for _ in range(rng.integers(1, 5))]
        done = self.session.import_verdicts(places)
        if done.same < len(places):
            self.new_step()
        assert self.session.import_verdicts([]).same == 0

    @rule()
    def undo(self) -> None:
        assert self.session.undo() == (len(self.said) > 1)
        if len(self.said) > 1:
            self.taken_back.append(self.said.pop())

    @rule()
    def redo(self) -> None:
        assert self.session.redo() == bool(self.taken_back)
        if self.taken_back:
            self.said.append(self.taken_back.pop())

    @rule(forward=st.booleans())
    def look_around(self, forward: bool) -> None:
        row = self.session.next() if forward else self.session.previous()
        assert row is None or self.session.states[row] >= 0

    @rule(quietly=st.booleans())
    def open_again(self, quietly: bool) -> None:
        if quietly:
            self.session.reload()
            return
        self.case.close()
        self.case = Case.open(self.path, "ada")
        self.session = Session(None, self.case)

    def new_step(self) -> None:
        self.said.append(said_in(self.case.annotations()))
        self.taken_back.clear()

    def present(self) -> np.ndarray:
        return np.flatnonzero(self.session.states >= 0)

    # -------------------------------------------------------------------------------------------- what holds

    @invariant()
    def the_reviewer_s_word_stands(self) -> None:
        session = self.session
        rows = np.flatnonzero(session.annotation_ids >= 0)
        c = session.cells
        assert {
            int(session.annotation_ids[i]): (c.boxes[i].tobytes(), int(c.labels[i]), int(session.states[i]))
            for i in rows
        } == self.said[-1]

    @precondition(lambda self: not self.waiting)
    @invariant()
    def the_session_shows_what_is_in_the_case(self) -> None:
        current = self.session.current
        self.session.select(None)  # a current cell is kept although a later model dropped it
        again = Session(None, self.case)
        assert shown(self.session) == shown(again)
        assert [row[:-1] for row in shown(again)] == in_case(self.case)
        assert self.session.counts() == again.counts()
        assert str(self.session.figures()) == str(again.figures())  # where NaN is NaN
        np.testing.assert_array_equal(self.session.checked_regions, again.checked_regions)
        if current is not None and self.session.states[current] >= 0:
            self.session.select(current)


Sitting.TestCase.settings = settings(max_examples=20, stateful_step_count=25, deadline=None)
TestSitting = Sitting.TestCase


@pytest.mark.parametrize("seed", range(4))
def test_in_a_crowd_where_cells_reach_each_other(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)

    def crowd(n: int) -> Cells:
        centres, half = rng.random((n, 2)) * 400 + 50, rng.uniform(5, 30, (n, 1))
        boxes = np.hstack([centres - half, centres + half])
        return Cells(boxes, rng.integers(0, 6, n), rng.random(n), rng.random(n))

    path = tmp_path / "crowd.cervcell"
    with Case.create(path, slide_name="one.svs", fingerprint="f00d", width=500, height=500, mpp=0.25) as case:
        case.write_tile(case.start_run("one", "one", "slide"), 0, 0, 500, crowd(250))
        session = Session(None, case)
        for turn in range(1, 41):
            rows = np.flatnonzero(session.states == 0)
            session.set_class(int(rng.integers(6)), rng.choice(rows, 2))
            session.add(*(rng.random(2) * 400 + 50), int(rng.integers(6)))
            if turn % 5 == 0:
                session.undo()
            if turn % 10 == 0:
                cells = crowd(250)
                case.write_tile(case.start_run(f"model {turn}", "later", "slide"), 0, 0, 500, cells)
                session.select(None)
                session.add_cells([Step(Place(0, 0, 500), cells)])
            session.select(None)
            if turn % 4 == 0:
                assert shown(session) == shown(Session(None, case))
