"""The reviewer who knows the truth: what is said in the case, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.casefile import Case, State
from napari_cervcell.cells import Cells, centres_of
from napari_cervcell.review import GONE, Session
from napari_cervcell.simulation.data import Truth
from napari_cervcell.simulation.oracle import PRICES, Oracle

SIDE = 60.0
N = 120


def boxes_at(centres: np.ndarray) -> np.ndarray:
    return np.hstack([centres - SIDE / 2, centres + SIDE / 2]).astype(np.float32)


@dataclass
class World:
    """120 cells of three classes on a grid; the model has found 90 of them, ten under a wrong name, and 30 that are
    none; two detections share a cell."""

    case: Case
    truth: Truth

    def session(self, strategy: str = "uncertainty") -> Session:
        return Session(None, self.case, threshold=0.5, strategy=strategy)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(15), np.arange(10)), -1).reshape(-1, 2) * 130 + 80.0
    spots = rng.permutation(grid)
    cells, nothing = spots[:N], spots[N:]
    labels = rng.integers(0, 3, N).astype(np.int16)
    seen = np.vstack([cells[:90] + rng.uniform(-8, 8, (90, 2)), nothing[:30], cells[:1] + np.array([16, 0])])
    said = np.concatenate([labels[:90], np.zeros(31, np.int16)])
    said[:10] = (said[:10] + 1) % 3
    scores = rng.uniform(0.3, 1, len(seen)).astype(np.float32)
    found = Cells(boxes_at(seen), said, scores, rng.uniform(0.5, 1, len(seen)).astype(np.float32))
    width, height = 2048, 1400
    with Case.create(
        tmp_path / "one.cervcell", slide_name="one.tiff", fingerprint="f00d", width=width, height=height, mpp=0.25
    ) as case:
        case.write_tile(case.start_run("model", "model", "slide"), 0, 0, width, found)
        areas = np.array([[0, 0, width, height]], np.float32)
        yield World(case, Truth(boxes_at(cells), labels, areas))


def right(world: World) -> np.ndarray:
    """For each annotation whether it says the truth, by distance alone."""
    said = world.case.annotations()
    distances = np.linalg.norm(centres_of(said.boxes)[:, None] - centres_of(world.truth.boxes), axis=2)
    nearest = distances.argmin(axis=1)
    is_cell = distances.min(axis=1) <= 24
    rejected = said.states == State.REJECTED
    named = np.where(rejected, -1, said.labels)
    truth = np.where(is_cell, world.truth.labels[nearest], -1)
    # of two detections of the first cell one is the cell and the other none
    right: np.ndarray = (named == truth) | (rejected & (nearest == 0))
    return right


def test_what_it_says_is_the_truth_and_it_ends_when_all_is_said(world: World) -> None:
    oracle = Oracle(world.session(), world.truth, error=0, seed=0)
    assert not oracle.work(10_000)  # there is not so much to do
    assert right(world).all()
    said = world.case.annotations()
    cells = said.states != State.REJECTED
    assert int(cells.sum()) == N  # each once: found ones, added ones, and of the double one only one
    assert (said.states == State.ADDED).sum() == oracle.acts["add"] >= 30
    assert (said.states == State.CORRECTED).sum() >= 10 - 1  # the double one may have been named by the other detection
    assert not oracle.wrong
    checked = world.case.checked_regions()
    assert len(checked) == oracle.acts["check"]
    assert ((checked[:, 2:] - checked[:, :2]).prod(axis=1).sum()) == pytest.approx(2048 * 1400, rel=1e-3)


def test_what_it_would_say_in_the_end_is_known_half_way(world: World) -> None:
    session = world.session()
    oracle = Oracle(session, world.truth, error=0, seed=0)
    detections = np.arange(len(session.cells))
    oracle.work(60)
    foreseen = oracle.would_say(detections)
    said = session.states[detections] > 0
    oracle.work(10_000)
    there = session.states[detections] != GONE  # too unsure to be shown, some made room for the cell added there
    is_cell = there & (session.states[detections] != State.REJECTED)
    end = np.where(is_cell, session.cells.labels[detections], -1)
    np.testing.assert_array_equal(foreseen[said], end[said])
    # of the two on one cell it may have come to the other first
    assert (foreseen != end)[there].sum() in (0, 2)
    np.testing.assert_array_equal(oracle.would_say(detections), end)


def test_it_pays_for_every_act_and_stops_at_the_budget(world: World) -> None:
    oracle = Oracle(world.session(), world.truth, error=0, seed=0)
    assert oracle.work(60)
    assert 60 <= oracle.clicks < 60 + max(p.clicks for p in PRICES.values())
    assert oracle.clicks == sum(PRICES[act].clicks * n for act, n in oracle.acts.items())
    assert oracle.seconds == pytest.approx(sum(PRICES[act].seconds * n for act, n in oracle.acts.items()))
    kinds = [e.kind for e in world.case.events()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == dict(oracle.acts)


def test_boxes_that_do_not_fit_are_drawn_anew_and_paid_for(tmp_path: Path) -> None:
    """Of three cells the model has found one well, one twice too large, and one too small and under a wrong name."""
    truth = Truth(
        boxes_at(np.array([[100.0, 100], [300, 100], [500, 100]])),
        np.array([0, 1, 2], np.int16),
        np.array([[0, 0, 600, 200]], np.float32),
    )
    shown = truth.boxes.copy()
    shown[1] += (-30, -30, 30, 30)
    shown[2] += (15, 15, -15, -15)
    found = Cells(shown, np.array([0, 1, 0], np.int16), *np.full((2, 3), 0.9, np.float32))
    with Case.create(
        tmp_path / "one.cervcell", slide_name="one.tiff", fingerprint="f00d", width=600, height=200, mpp=0.25
    ) as case:
        case.write_tile(case.start_run("model", "model", "slide"), 0, 0, 600, found)
        session = Session(None, case, threshold=0.5)
        oracle = Oracle(session, truth, error=0, seed=0)
        oracle.work(1000)
        said = case.annotations()
        at = np.argsort(centres_of(said.boxes)[:, 0])
        np.testing.assert_array_equal(said.boxes[at], truth.boxes)
        np.testing.assert_array_equal(said.labels[at], truth.labels)
        assert State.REJECTED not in said.states
        assert oracle.acts == {"accept": 1, "reshape": 2, "class": 1, "check": len(case.checked_regions())}
        assert oracle.clicks == 1 + 2 * 2 + 1 + 2 * oracle.acts["check"]
        # asked again, as by a second look, it says the same
        rows = np.flatnonzero(session.states > 0)
        assert [oracle.truth_of(row) for row in rows.tolist()] == session.cells.labels[rows].tolist()


def test_a_region_is_marked_as_checked_only_when_all_in_it_is_said(world: World) -> None:
    oracle = Oracle(world.session(), world.truth, error=0, seed=0)
    oracle.work(80)
    centres = centres_of(world.truth.boxes)
    said = centres_of(world.case.annotations().boxes)
    assert len(world.case.checked_regions())
    for x1, y1, x2, y2 in world.case.checked_regions():
        inside = ((centres >= (x1, y1)) & (centres < (x2, y2))).all(axis=1)
        assert all(np.linalg.norm(said - c, axis=1).min() <= 24 for c in centres[inside])


def test_it_errs_as_often_as_told_and_knows_where(world: World) -> None:
    oracle = Oracle(world.session(), world.truth, error=0.3, seed=0)
    oracle.work(10_000)
    wrong = ~right(world)
    assert 0.18 < wrong.mean() < 0.42
    # after an error two detections of one cell need not be told apart the same way
    assert abs(int(wrong.sum()) - len(oracle.wrong)) <= 2


def test_the_same_seed_says_the_same_and_another_one_not(world: World, tmp_path: Path) -> None:
    before = (tmp_path / "one.cervcell").read_bytes()

    def events(seed: int) -> list[tuple[object, ...]]:
        path = tmp_path / f"copy{seed}{len(list(tmp_path.iterdir()))}.cervcell"
        path.write_bytes(before)
        with Case.open(path) as case:
            Oracle(Session(None, case, strategy="random"), world.truth, error=0.1, seed=seed).work(70)
            return [(e.kind, e.box, e.label) for e in case.events()]

    first = events(1)
    assert events(1) == first
    assert events(2) != first
