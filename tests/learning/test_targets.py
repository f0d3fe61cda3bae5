"""Known and unknown, location by location: no code path may turn unknown into negative."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.learning.crops import Crops, CropSampler
from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.targets import Targets, assign
from napari_cervcell.models import STRIDE

NONE = np.zeros((0, 4), np.float32)
WHOLE = np.array([0, 0, 160, 160], np.float32)


def boxes(*centres: tuple[float, float], side: float = 30) -> np.ndarray:
    return np.array([[x - side / 2, y - side / 2, x + side / 2, y + side / 2] for x, y in centres], np.float32).reshape(
        -1, 4
    )


def targets(
    cells: np.ndarray = NONE, rejected: np.ndarray = NONE, checked: np.ndarray = NONE, skipped: np.ndarray = NONE
) -> Targets:
    return assign((160, 160), cells, np.zeros(len(cells), np.int16), rejected, checked, WHOLE, skipped)


def test_what_nobody_looked_at_is_unknown() -> None:
    t = targets()
    assert t.unknown.all()
    assert not t.known.any()


def test_a_confirmed_cell_is_known_and_its_surroundings_stay_unknown() -> None:
    t = targets(boxes((84, 44)))
    row, column = 44 // STRIDE, 84 // STRIDE
    assert t.cell[row, column] == 1
    assert t.known[row, column]
    assert t.unknown[0, 0]
    assert not t.known[0, 0]
    assert (t.known == (t.cell == 1)).all()


def test_a_rejected_cell_is_known_background_there_and_nowhere_else() -> None:
    t = targets(rejected=boxes((84, 44)))
    assert t.rejected[44 // STRIDE, 84 // STRIDE]
    assert (t.cell[t.known] == 0).all()
    assert (t.known == t.rejected).all()
    assert t.unknown.float().mean() > 0.9


def test_a_checked_region_is_known_up_to_its_border() -> None:
    t = targets(checked=np.array([[0, 0, 80, 160]], np.float32))
    assert t.known[:, : 80 // STRIDE].all()
    assert t.unknown[:, 80 // STRIDE :].all()


def test_a_cell_in_a_checked_region_is_not_background() -> None:
    t = targets(boxes((44, 44)), checked=WHOLE[None])
    near = t.cell == 1
    assert near.any()
    # the ring around its centre teaches nothing: it sees the cell
    assert (~t.known & ~t.unknown).any()


def test_what_is_held_back_teaches_nothing_even_in_a_checked_region() -> None:
    t = targets(checked=WHOLE[None], skipped=boxes((44, 44)))
    row = column = 44 // STRIDE
    assert not t.known[row, column]
    assert not t.unknown[row, column]


def test_outside_the_image_nothing_is_taught() -> None:
    t = assign((160, 160), NONE, np.zeros(0, np.int16), NONE, NONE, np.array([0, 0, 80, 160], np.float32), NONE)
    assert t.unknown[:, : 80 // STRIDE].all()
    assert not t.unknown[:, 80 // STRIDE :].any()
    assert not t.known[:, 80 // STRIDE :].any()


@given(st.lists(st.tuples(st.floats(1, 159), st.floats(1, 159)), max_size=12), st.integers(0, 1))
def test_every_cell_has_a_location_and_no_location_is_two_things(
    centres: list[tuple[float, float]], checked: int
) -> None:
    cells = boxes(*centres)
    t = targets(cells, checked=WHOLE[None][:checked])
    assert not (t.known & t.unknown).any()
    assert ((t.label >= 0) == (t.cell == 1)).all()
    assert t.known[t.cell == 1].all()
    if centres:
        assert t.cell.sum() >= 1
    positive = t.cell == 1
    assert (t.sides[:, positive] >= 1).all()


def test_sides_lead_from_the_location_to_the_box() -> None:
    t = targets(boxes((80, 80)))
    row, column = (int(v[0]) for v in (t.cell == 1).nonzero(as_tuple=True))
    x, y = (column + 0.5) * STRIDE, (row + 0.5) * STRIDE
    left, top, right, bottom = t.sides[:, row, column].tolist()
    assert [x - left, y - top, x + right, y + bottom] == [65, 65, 95, 95]


def test_augmentation_moves_cells_with_their_pixels() -> None:
    """A black disc on white, however it is turned, scaled and stained: the target sits on it."""
    y, x = np.mgrid[:400, :400]
    rgb = np.full((400, 400, 3), 240, np.uint8)
    rgb[np.hypot(x - 130, y - 250) < 12] = 20
    field = Field("disc", rgb, 0.5, boxes((130, 250)), np.zeros(1, np.int16))
    sampler = CropSampler([field], Crops(160, 0.5), np.random.default_rng(0))
    seen = 0
    for _ in range(10):
        images, t = sampler.batch(4)
        for image, cell in zip(images, t.cell, strict=True):
            for row, column in cell.nonzero():
                spot = image[:, row * STRIDE : (row + 1) * STRIDE, column * STRIDE : (column + 1) * STRIDE]
                assert spot.mean() < image.mean() - 0.2
                seen += 1
    assert seen > 20


def test_rejections_are_in_every_batch_but_never_more_than_a_quarter() -> None:
    rgb = np.full((1000, 1000, 3), 200, np.uint8)
    field = Field("f", rgb, 0.5, boxes((100, 100)), np.zeros(1, np.int16), rejected=boxes((900, 900)))
    sampler = CropSampler([field], Crops(128, 0.5), np.random.default_rng(0))
    for _ in range(8):
        _, t = sampler.batch(8)
        assert t.rejected[:2].flatten(1).any(1).all()
        assert int(t.rejected.flatten(1).any(1).sum()) <= 4
