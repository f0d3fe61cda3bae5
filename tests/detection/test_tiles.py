"""Which tiles are scanned, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from napari_cervcell.detection import Block, Tile, TileGrid, plan

grids = st.builds(TileGrid, st.integers(1, 9000), st.integers(1, 9000), st.sampled_from([512, 1000, 1024, 2048]))


def tiles_of(blocks: list[Block]) -> list[Tile]:
    return [tile for block in blocks for tile in block.tiles]


@given(grids)
def test_the_tiles_cover_the_slide_once(grid: TileGrid) -> None:
    tiles = tiles_of(plan(grid))
    assert len(set(tiles)) == len(tiles)
    assert (
        sum((min(t.x + t.size, grid.width) - t.x) * (min(t.y + t.size, grid.height) - t.y) for t in tiles)
        == grid.width * grid.height
    )


@example(TileGrid(2048, 2048, 512), (1000.0, 1001.0, 0.0, 5e-324))  # next to no height
@given(grids, st.tuples(*[st.floats(-500, 9500)] * 4))
def test_what_is_on_screen_comes_first(grid: TileGrid, corners: tuple[float, float, float, float]) -> None:
    x1, x2 = sorted(corners[:2])
    y1, y2 = sorted(corners[2:])
    blocks = plan(grid, view=(x1, y1, x2, y2))
    tiles = tiles_of(blocks)
    right, bottom = min(x2, grid.width), min(y2, grid.height)
    empty = x1 >= x2 or y1 >= y2 or x1 >= grid.width or y1 >= grid.height
    seen = [not empty and t.x < right and t.x + t.size > x1 and t.y < bottom and t.y + t.size > y1 for t in tiles]
    assert seen == sorted(seen, reverse=True)
    assert all(block.across == 1 for block in blocks[: sum(seen)])  # and soonest
    assert sorted(tiles, key=str) == sorted(tiles_of(plan(grid)), key=str)


@given(grids, st.data())
def test_tiles_are_looked_at_together_where_that_is_less_work(grid: TileGrid, data: st.DataObject) -> None:
    wanted = {tile.box: data.draw(st.booleans()) for tile in tiles_of(plan(grid))}
    blocks = plan(grid, wanted=lambda *box: wanted[box])
    for block in blocks:
        side = block.across * grid.size
        assert all(block.x <= t.x < block.x + side and block.y <= t.y < block.y + side for t in block.tiles)
        assert len(block.tiles) == 1 if block.across == 1 else block.x % side == block.y % side == 0
    alone = [(b.x // (2 * grid.size), b.y // (2 * grid.size)) for b in blocks if b.across == 1]
    assert all(alone.count(place) <= 2 for place in alone)
    assert all(len(b.tiles) >= 3 for b in blocks if b.across == 2)


def test_a_block_of_which_some_is_done_stays_where_it_is() -> None:
    (block,) = plan(TileGrid(2048, 2048, 1024))
    left = block.without({(0, 0), (1024, 1024)})
    assert (left.x, left.y, left.across) == (0, 0, 2)
    assert [(t.x, t.y) for t in left.tiles] == [(1024, 0), (0, 1024)]


def test_glass_is_not_scanned() -> None:
    grid = TileGrid(4096, 4096, 1024)
    assert plan(grid, wanted=lambda *box: False) == []
    left = tiles_of(plan(grid, view=(2000, 0, 3000, 100), wanted=lambda x1, *rest: x1 == 2048))
    assert [(t.x, t.y) for t in left] == [(2048, 1024 * i) for i in range(4)]


def test_nothing_outside_the_region_is_scanned() -> None:
    grid, region = TileGrid(9000, 9000, 1024), (1024, 2048, 2048, 2100)
    tiles = tiles_of(plan(grid, region=region, view=(0, 0, 9000, 9000)))
    assert [(t.x, t.y) for t in tiles] == [(1024, 2048)]
    assert plan(grid, region=(-50, -50, -10, -10)) == []


def test_the_size_of_a_tile_follows_the_resolutions() -> None:
    assert TileGrid.of(1000, 1000, (0.25, 0.25), 0.5).size == 2048
    assert TileGrid.of(1000, 1000, (0.5, 0.5), 0.5) == TileGrid(1000, 1000, 1024)


@pytest.mark.parametrize(
    ("mpp", "step"), [(0.25, 1.6), (0.2527, 1.6), (0.3, 4 / 3), (0.2, 2), (0.1255, 3.2), (0.41, 1)]
)
def test_tiles_suit_decoders_that_make_eighths(mpp: float, step: float) -> None:
    """Near a whole number of eighths, a tile is a whole number of px of the network and of the slide."""
    grid = TileGrid.of(9000, 9000, (mpp, mpp), 0.4)
    assert grid.steps == pytest.approx((step, step), rel=1e-12)
    assert grid.columns % 32 == 0
    assert 1024 <= grid.columns < 1280


@given(st.floats(0.1, 2), st.floats(0.4, 2.5))
def test_the_network_sees_round_cells_round(mpp: float, aspect: float) -> None:
    grid = TileGrid.of(9000, 9000, (mpp, mpp * aspect), 0.5)
    assert grid.columns % 32 == grid.rows % 32 == 0
    for step, size in zip(grid.steps, (mpp, mpp * aspect), strict=True):
        assert 0.9 < step * size / 0.5 < 1.1
