"""Places drawn at random, to look through."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.casefile import Case
from napari_cervcell.cells import centres_of
from napari_cervcell.review import Session
from napari_cervcell.slides import Foreground

from .conftest import Scan

EVERYWHERE = Foreground(np.ones((1000 // 8, 2000 // 8), bool), 8.0)  # of a slide of 2000 x 1000 px
SPREAD = [(x, y, 0, 0.9, 0.9) for x in range(25, 1000, 50) for y in range(25, 1000, 50)]  # 400 cells on a tile


def draw(session: Session, tissue: Foreground = EVERYWHERE) -> np.ndarray | None:
    return session.survey.draw(session.threshold, session.checked_regions, tissue)


def all_draws(session: Session, tissue: Foreground = EVERYWHERE, n: int = 100) -> np.ndarray:
    return np.array([draw(session, tissue) for _ in range(n)])


def test_a_place_is_a_square_on_the_slide_that_holds_about_eight_cells(case: Case, scan: Scan) -> None:
    scan("one", [(x, y, 0, 0.9, 0.9) for x in range(50, 1000, 160) for y in range(50, 1000, 160)])
    places = all_draws(Session(None, case))
    assert (places[:, :2] >= 0).all()
    assert (places[:, 2:] <= (2000, 1000)).all()
    # 36 cells on 1000 x 1000 px: eight on two ninths of that
    assert places[:, 2:] - places[:, :2] == pytest.approx(1000 * (2 / 9) ** 0.5, abs=1)


@pytest.mark.parametrize(("cells", "side"), [(SPREAD, 5 * 60), ([(500, 500, 0, 0.9, 0.9)], 500)])
def test_its_size_has_limits_however_dense_cells_lie(
    case: Case, scan: Scan, cells: list[tuple[float, ...]], side: float
) -> None:
    """Five boxes of 60 px at the least, and half of the slide's 1000 px at the most."""
    scan("one", cells)
    places = all_draws(Session(None, case), n=3)
    assert places[:, 2] - places[:, 0] == pytest.approx(side, rel=0.01)


def test_places_lie_where_models_have_looked_and_there_is_something_on_the_glass(case: Case, scan: Scan) -> None:
    scan("one", SPREAD, place=(1000, 0))
    mask = EVERYWHERE.mask.copy()
    mask[:, 180:] = False  # from x = 1440 on
    x, _ = centres_of(all_draws(Session(None, case), Foreground(mask, 8.0))).T
    assert x.min() >= 1000
    assert x.max() < 1440


def test_they_are_spread_evenly_whatever_was_found(case: Case, scan: Scan) -> None:
    scan("one", SPREAD)
    scan("one", [], place=(1000, 0))
    places = centres_of(all_draws(Session(None, case), n=1000))
    inside = places[(places[:, 0] > 200) & (places[:, 0] < 1800)]
    assert (inside[:, 0] < 1000).mean() == pytest.approx(0.5, abs=0.05)
    assert np.quantile(inside[:, 0], 0.25) == pytest.approx(600, abs=80)


def test_what_is_missed_in_them_tells_what_is_missed_everywhere(case: Case, scan: Scan) -> None:
    """The model finds all cells on the left, half of those on the right: three quarters."""
    right = [(x + 1000, y, *rest) for x, y, *rest in SPREAD]
    found = SPREAD + right[::2]
    scan("one", found[:400])
    scan("one", found[400:], place=(1000, 0))
    session = Session(None, case)
    true = np.array([c[:2] for c in SPREAD + right])
    seen = np.array([c[:2] for c in found])
    there = found_there = 0
    for place in all_draws(session, n=400):
        there += int(((true >= place[:2]) & (true <= place[2:])).all(axis=1).sum())
        found_there += int(((seen >= place[:2]) & (seen <= place[2:])).all(axis=1).sum())
    assert found_there / there == pytest.approx(0.75, abs=0.03)


def test_nothing_is_looked_through_twice_and_there_is_an_end(case: Case, scan: Scan) -> None:
    scan("one", SPREAD)
    session = Session(None, case)
    while (place := draw(session)) is not None:
        x1, y1, x2, y2 = place
        for left, top, right, bottom in session.checked_regions:
            assert x1 >= right or x2 <= left or y1 >= bottom or y2 <= top
        session.check_region(place)
        assert len(session.checked_regions) < 20
    assert len(session.checked_regions) >= 4


def test_before_any_model_has_looked_places_come_from_the_whole_slide(case: Case) -> None:
    x, _ = centres_of(all_draws(Session(None, case))).T
    assert x.min() < 900
    assert x.max() > 1100


def test_with_the_same_seed_the_same_places_come(case: Case, scan: Scan) -> None:
    scan("one", SPREAD)
    places = [all_draws(Session(None, case, seed=seed), n=3).tolist() for seed in (1, 1, 2)]
    assert places[0] == places[1] != places[2]
