"""Which locations learn a cell: each detector's own rule, the same meaning of known and unknown for all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.learning.assignment import Assignment
from napari_cervcell.learning.targets import Targets, assign
from napari_cervcell.models import HEADS

from .drawn import NONE, boxes

WHOLE = np.array([0, 0, 160, 160], np.float32)


def targets(head: str, cells: np.ndarray, checked: bool = False) -> Targets:
    labels = np.arange(len(cells)).astype(np.int16)
    known = WHOLE[None] if checked else NONE
    return assign((160, 160), cells, labels, NONE, known, WHOLE, NONE, Assignment(head, 30.0))


def test_yollo_learns_a_cell_at_the_one_location_that_holds_its_centre() -> None:
    t = targets("yollo", boxes((83, 45), (120, 121)))
    assert {(int(r), int(c)) for r, c in t.cell.nonzero()} <= {(11, 20), (30, 29), (30, 30)}
    assert t.cell.sum() == 2
    # its neighbours see the cell too well to be called background
    assert not targets("yollo", boxes((83, 45)), checked=True).known[11, 21]


def test_yolof_learns_large_and_small_cells_at_as_many_locations() -> None:
    t = targets("yolof", np.concatenate([boxes((40, 40), side=20), boxes((110, 110), side=60)]))
    assert [(t.label == i).sum().item() for i in (0, 1)] == [4, 4]


def test_yolof_leaves_out_what_sees_a_cell_too_well_to_be_background() -> None:
    """In the middle of a location: 1 overlaps by 1, 4 by 0.765, 4 by 0.601, 4 by 0.579 and 8 by 0.466; then 0.429."""
    t = targets("yolof", boxes((82, 82)), checked=True)
    assert t.cell.sum() == 4
    assert (~t.known).sum() == 17


def test_yolof_leaves_out_matches_that_overlap_too_little() -> None:
    tiny = boxes((42, 42), side=6)  # 0.04 of the anchor
    t = targets("yolof", tiny, checked=True)
    assert t.cell.sum() == 1, "only the nearest, which every cell gets"
    assert (~t.known).sum() == 3


def test_atss_takes_what_stands_out_among_the_nearest() -> None:
    """In the middle of a location: of 45 overlaps the mean is 0.461, the deviation 0.164, together 0.625.

    1 location overlaps by 1 and 4 by 0.765; of the others 4 by 0.601, 4 by 0.579 and 8 by 0.466.
    """
    t = targets("atss", boxes((82, 82)), checked=True)
    positive = [(int(r), int(c)) for r, c in t.cell.nonzero()]
    assert positive == [(19, 20), (20, 19), (20, 20), (20, 21), (21, 20)]
    assert (~t.known).sum() == 16, "what sees it better than most is no background"


def test_atss_adapts_to_where_a_cell_lies() -> None:
    t = targets("atss", boxes((80, 80)))  # between four locations
    assert t.cell.sum() == 12


@pytest.mark.parametrize("head", HEADS)
@given(
    centres=st.lists(st.tuples(st.floats(1, 159), st.floats(1, 159)), max_size=8),
    side=st.floats(8, 60),
    checked=st.booleans(),
)
def test_whatever_the_rule_known_and_unknown_keep_their_meaning(
    head: str, centres: list[tuple[float, float]], side: float, checked: bool
) -> None:
    t = targets(head, boxes(*centres, side=side), checked)
    positive = t.cell == 1
    assert positive.any() == bool(centres)
    assert ((t.label >= 0) == positive).all()
    assert t.known[positive].all()
    assert not (t.known & t.unknown).any()
    if checked:
        assert not t.unknown.any()
    else:
        assert not (t.known & ~positive).any(), "nothing that nobody looked at is background"
