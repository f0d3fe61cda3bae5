"""What is known of a slide, as far as a round builds on it."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.known import labelled_share


def field(cells: list[tuple[float, float]], checked: list[list[float]], left_out: tuple = ()) -> Field:
    """A field of 400 x 400 px with boxes of 20 px around `cells` and `left_out`."""

    def boxes(centres) -> np.ndarray:
        return np.array([[x - 10, y - 10, x + 10, y + 10] for x, y in centres], np.float32).reshape(-1, 4)

    return Field(
        "made", np.zeros((400, 400, 3), np.uint8), 0.4, boxes(cells), np.zeros(len(cells), np.int16),
        checked=np.array(checked, np.float32).reshape(-1, 4), left_out=boxes(left_out),
    )  # fmt: skip


QUARTER = [0, 0, 200, 200]
IN_IT = [(50, 50), (150, 50), (50, 150), (150, 150)]


def test_where_nobody_looked_cells_lie_as_densely_as_in_the_checked_regions() -> None:
    assert labelled_share([field(IN_IT, [QUARTER])]) == pytest.approx(4 / 16)
    assert labelled_share([field([*IN_IT, (300, 300), (350, 50)], [QUARTER])]) == pytest.approx(6 / 16)
    # a field in which nothing is checked, beside it
    assert labelled_share([field(IN_IT, [QUARTER]), field([], [])]) == pytest.approx(4 / 32)


def test_a_region_checked_twice_is_no_larger() -> None:
    assert labelled_share([field(IN_IT, [QUARTER, QUARTER])]) == pytest.approx(4 / 16)


def test_all_checked_is_all_labelled_but_what_is_held_back() -> None:
    whole = [-50, -50, 450, 450]
    assert labelled_share([field(IN_IT, [whole])]) == 1
    assert labelled_share([field(IN_IT[1:], [whole], left_out=(IN_IT[0],))]) == pytest.approx(3 / 4)


def test_more_labelled_cells_than_expected_are_all_there_are() -> None:
    crowd = [(x, 300) for x in range(20, 400, 20)]
    assert labelled_share([field([(50, 50), *crowd], [QUARTER])]) == 1


def test_without_a_checked_region_nobody_knows() -> None:
    assert labelled_share([field(IN_IT, [])]) == 0
    assert labelled_share([]) == 0
    assert labelled_share([field([], [QUARTER])]) == 0
