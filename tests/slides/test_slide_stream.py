"""A slide on its way to the screen: at once what is known, soon what is right."""

from __future__ import annotations

import copy
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from waiting import until

from napari_cervcell.slides import Slide, SlideError, sample_slide
from napari_cervcell.slides.cache import TileCache
from napari_cervcell.slides.grids import Grid
from napari_cervcell.slides.overview import Overview
from napari_cervcell.slides.stream import Stream


class SlowSlide(Slide):
    """A slide on a disk that gives out tiles when it is told to, and cannot read some."""

    def __init__(self, path: Path, broken: tuple[int, int] | None = None) -> None:
        super().__init__(path)
        self.disk = threading.Event()
        self.disk.set()
        self.asked: list[tuple[int, int, int]] = []
        self.broken = broken

    def tile(self, level: int, column: int, row: int) -> np.ndarray:
        self.asked.append((level, column, row))
        assert self.disk.wait(30)
        if self.broken == (column, row) and level == 0:
            raise SlideError(f"{self.path} is damaged there.")
        return super().tile(level, column, row)


@pytest.fixture
def streamed() -> Iterator[Callable[..., Stream]]:
    """Return a function that makes a stream to which somebody listens, its overview read."""
    made: list[Stream] = []
    ears: list[Callable[[], None]] = []

    def make(slide: Slide, capacity: int = 256 << 20) -> Stream:
        stream = Stream(slide, TileCache(capacity))
        made.append(stream)
        ears.append(lambda: None)
        stream.landed.connect(ears[-1])
        stream.begin(30)
        assert stream.overview.complete.is_set()
        return stream

    yield make
    for stream in made:
        if isinstance(stream.slide, SlowSlide):
            stream.slide.disk.set()
        stream.stop()


def dotted(width: int, height: int, x: float, y: float) -> np.ndarray:
    """Return white uint8 (height, width, 3) with one soft dark dot, its centre at (x, y)."""
    pixels = np.full((height, width, 3), 255, np.uint8)
    left, top = max(0, int(x) - 150), max(0, int(y) - 150)
    rows, columns = np.mgrid[top : min(height, top + 300), left : min(width, left + 300)] + 0.5
    dark = 240 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 40**2))
    pixels[top : top + 300, left : left + 300] = (255 - dark).round().astype(np.uint8)[..., None]
    return pixels


def centre(pixels: np.ndarray) -> tuple[float, float]:
    dark = 255.0 - pixels.mean(axis=2)
    rows, columns = np.mgrid[: dark.shape[0], : dark.shape[1]] + 0.5
    return float((dark * columns).sum() / dark.sum()), float((dark * rows).sum() / dark.sum())


def cut(level: np.ndarray, factor: int) -> np.ndarray:
    """Shrink as scanners do: what does not fill a whole pixel is dropped."""
    h, w = (side // factor for side in level.shape[:2])
    whole = level[: factor * h, : factor * w].reshape(h, factor, w, factor, 3)
    return whole.mean(axis=(1, 3)).round().astype(np.uint8)


def squeezed(level: np.ndarray, factor: int) -> np.ndarray:
    """Shrink as image libraries do: all is resampled into the rounded size."""
    h, w = (side // factor for side in level.shape[:2])
    return np.asarray(Image.fromarray(level).resize((w, h), Image.Resampling.BOX))


# ------------------------------------------------------------------------------------------------------ levels


@pytest.mark.parametrize("shrink", [cut, squeezed])
@pytest.mark.parametrize(
    ("factors", "height"), [([1], 3309), ([1, 4], 3311), ([1, 4, 16], 3311), ([1, 2, 4], 3309), ([1, 3], 3307)]
)
def test_a_cell_is_at_the_same_place_in_every_level(
    write_slide, factors: list[int], height: int, shrink: Callable
) -> None:
    width = 4587
    x, y = width - 170.0, height - 190.0  # far from the origin, where wrong factors tell most
    full = dotted(width, height, x, y)
    path = write_slide([full if f == 1 else shrink(full, f) for f in factors], compression="zlib", tile=(256, 256))
    slide = Slide(path)
    for downsample in (1, 2, 3.3, 4, 5.7, 8, 16):
        left, top = x - 151.3, y - 148.6
        found_x, found_y = centre(slide.read_scaled(left, top, 300, 300, downsample))
        assert found_x == pytest.approx((x - left) / downsample, abs=0.5)
        assert found_y == pytest.approx((y - top) / downsample, abs=0.5)
    levels = Stream(slide, TileCache(256 << 20)).levels
    assert max(levels[-1].shape) <= 1024
    for finer, coarser in itertools.pairwise(levels):
        assert 1.2 < finer.shape[0] / coarser.shape[0] < 2.8
    for level in levels:
        rows, columns, _ = level.shape
        found_x, found_y = centre(np.asarray(level))
        assert found_x == pytest.approx(x * columns / width, abs=0.5)
        assert found_y == pytest.approx(y * rows / height, abs=0.5)


def test_stored_levels_are_shown_as_they_are(sample: Slide) -> None:
    stream = Stream(sample, TileCache(256 << 20))
    assert [level.shape[1::-1] for level in stream.levels] == [(n.width, n.height) for n in sample.levels]
    np.testing.assert_array_equal(stream.levels[3], sample.read_region(0, 0, *stream.levels[3].shape[1::-1], 3))


def test_a_level_between_is_the_mean_of_two_by_two(write_slide) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1200, 2000, 3), np.uint8)
    path = write_slide([pixels, cut(pixels, 4)])
    half = np.asarray(Stream(Slide(path), TileCache(256 << 20)).levels[1])
    assert half.shape == (600, 1000, 3)
    np.testing.assert_allclose(half, pixels.reshape(600, 2, 1000, 2, 3).mean(axis=(1, 3)), atol=0.5)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[100:900, 200:1300],
        np.s_[5],
        np.s_[-3, 7:9],
        np.s_[..., 1],
        np.s_[::50, 1000:3:-100, 2],
        np.s_[30:30],
        np.s_[-40:, 5000:99999],
        np.s_[10, 20, 0],
    ],
)
def test_levels_are_indexed_as_arrays_are(sample: Slide, key: Any) -> None:
    level = Stream(sample, TileCache(256 << 20)).levels[2]
    whole = np.asarray(level)
    assert (level.shape, level.dtype, level.ndim, level.size) == (whole.shape, whole.dtype, whole.ndim, whole.size)
    np.testing.assert_array_equal(level[key], whole[key])


def test_beyond_a_level_is_an_index_error(sample: Slide) -> None:
    with pytest.raises(IndexError):
        Stream(sample, TileCache(256 << 20)).levels[0][10**6]


def test_copied_levels_share_one_stream_of_their_own(sample: Slide) -> None:
    levels = Stream(sample, TileCache(256 << 20)).levels
    copies = copy.deepcopy(levels)
    assert {id(level.stream) for level in copies} == {id(copies[0].stream)} != {id(levels[0].stream)}
    np.testing.assert_array_equal(copies[-1], levels[-1])


# ---------------------------------------------------------------------------------------------------- arriving


def test_coarse_at_once_then_sharp(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    slide.disk.clear()
    first = stream.levels[0][2000:3000, 4000:5500].copy()  # comes while the disk is standing still
    truth = slide.read_region(4000, 2000, 1500, 1000)
    coarse = slide.read_scaled(4000, 2000, 1504, 1008, 16).repeat(16, 0).repeat(16, 1)[:1000, :1500]
    assert not stream.is_sharp
    assert np.abs(first.astype(int) - coarse).mean() < 3
    slide.disk.set()
    until(lambda: stream.is_sharp)
    np.testing.assert_array_equal(stream.levels[0][2000:3000, 4000:5500], truth)


def test_the_nearest_coarser_level_stands_in(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    _ = stream.levels[1][1000:1500, 2000:2750]
    until(lambda: stream.is_sharp)
    half = stream.levels[1][1000:1500, 2000:2750].copy()
    slide.disk.clear()
    np.testing.assert_array_equal(stream.levels[0][2000:3000, 4000:5500], half.repeat(2, 0).repeat(2, 1))


def test_who_listens_is_told_of_what_is_looked_at(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    told = threading.Event()
    stream.landed.connect(told.set)
    _ = stream.levels[0][:600, :600]
    assert told.wait(30)


def test_there_is_news_only_of_what_has_not_been_shown(streamed) -> None:
    """A picture in which everything is need not be drawn again."""
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    slide.disk.clear()
    _ = stream.levels[0][:600, :600]
    assert not stream.has_news
    slide.disk.set()
    until(lambda: stream.is_sharp)
    assert stream.has_news
    shown = stream.levels[0][:600, :600]
    assert not stream.has_news
    np.testing.assert_array_equal(shown, slide.read_region(0, 0, 600, 600))


def test_it_tells_how_long_the_rest_will_take(streamed) -> None:
    class Rationed(SlowSlide):
        rations = threading.Semaphore(0)
        rationed = False

        def tile(self, level: int, column: int, row: int) -> np.ndarray:
            if level == 0 and self.rationed:
                assert self.rations.acquire(timeout=30)
            return super().tile(level, column, row)

    slide = Rationed(sample_slide())
    stream = streamed(slide)
    slide.rationed = True
    stream.view(0, (0, 0, 2048, 1024))
    tiles = len(list(stream.grids[0].tiles_in((0, 0, 2048, 1024))))
    assert stream.remaining == math.inf  # nothing has come yet to judge by
    slide.rations.release(tiles // 2)
    until(lambda: stream.remaining < math.inf)
    assert stream.remaining > 0
    slide.rations.release(10 * tiles)
    until(lambda: stream.is_sharp)
    assert stream.remaining == 0


def test_what_is_seen_survives_a_cache_that_is_too_small(streamed) -> None:
    slide = Slide(sample_slide())
    stream = streamed(slide, 3 << 20)  # four tiles
    box = np.s_[1000:4000, 1000:4000]
    _ = stream.levels[0][box]

    def all_there() -> bool:
        return bool((stream.levels[0][box] == truth).all())

    truth = slide.read_region(1000, 1000, 3000, 3000)
    until(all_there)


def test_on_a_slide_of_one_level_what_is_looked_at_goes_before_the_overview(write_slide) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (4300, 4200, 3), np.uint8) // 8 + np.uint8(100)
    slide = SlowSlide(write_slide([pixels], compression="zlib", tile=(512, 512)))
    stream = Stream(slide, TileCache(512 << 20))
    ear = threading.Event()
    stream.landed.connect(ear.set)
    slide.disk.clear()
    stream.begin()
    until(lambda: slide.asked)
    _ = stream.levels[0][3000:3900, 3000:3900]
    slide.disk.set()
    until(lambda: stream.is_sharp)
    np.testing.assert_array_equal(stream.levels[0][3000:3900, 3000:3900], pixels[3000:3900, 3000:3900])
    assert not stream.overview.complete.is_set()
    until(stream.overview.complete.is_set)
    assert np.abs(stream.overview.pixels.astype(int) - 115.5).max() < 8
    stream.stop()


def test_samples_of_a_finer_tile_do_not_land_on_the_tile_itself() -> None:
    fine = Grid(0, 128, 128, 64, (128.0, 128.0))
    coarse = Grid(1, 64, 64, 64, (64.0, 64.0), finer=fine)
    overview = Overview(coarse, (255, 255, 255))
    made = np.full((64, 64, 3), 200, np.uint8)
    other = threading.Thread(target=overview.add, args=(coarse, 0, 0, made))

    class Late(np.ndarray):
        """Its pixels are taken while another thread brings the tile itself."""

        def __getitem__(self, key: Any) -> np.ndarray:
            other.start()
            other.join(0.2)
            return np.asarray(self)[key]

    overview.add(fine, 0, 0, np.zeros((64, 64, 3), np.uint8).view(Late))
    other.join()
    assert overview.complete.is_set()
    np.testing.assert_array_equal(overview.pixels, made)


def test_a_pan_has_what_comes_next_read(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    for left in (2048, 2560):
        _ = stream.levels[0][1024:2048, left : left + 1024]
        until(lambda: stream.is_sharp)
    side = slide.tile_size
    ahead = -(-(2560 + 1024) // side)
    until(lambda: {(0, ahead, row) for row in (2, 3)} <= set(slide.asked))
    assert not any(level == 0 and column < 2048 // side for level, column, _ in slide.asked)


def test_what_is_looked_at_is_read_before_what_a_pan_will_show(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream, side = streamed(slide), slide.tile_size
    _ = stream.levels[0][1024:2048, 2048:3072]
    until(lambda: stream.is_sharp)
    slide.asked.clear()
    _ = stream.levels[0][1024:2048, 3072:4096]
    until(lambda: stream.is_sharp)
    last = 4096 // side
    until(lambda: {(0, last, row) for row in (2, 3)} <= set(slide.asked))
    assert all(column < last for _, column, _ in slide.asked[:4])


def test_a_jump_has_nothing_read_beyond_its_place(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream, side = streamed(slide), slide.tile_size
    for left in (512, 5120):
        _ = stream.levels[0][1024:2048, left : left + 1024]
        until(lambda: stream.is_sharp)
    stream.stop()
    assert max(column for level, column, _ in slide.asked if level == 0) * side < 5120 + 1024


def test_what_is_foreseen_is_read_when_all_that_is_looked_at_is_there(streamed) -> None:
    slide = SlowSlide(sample_slide())
    stream = streamed(slide)
    side = slide.tile_size
    slide.disk.clear()
    _ = stream.levels[0][1024:2048, 1024:2048]
    stream.foresee(10.5 * side, 2.5 * side, 11.5 * side, 2.6 * side)
    slide.disk.set()
    foreseen = {(0, 10, 2), (0, 11, 2)}
    until(lambda: foreseen <= set(slide.asked))
    tiles = range(1024 // side, 2048 // side)
    seen = {(0, column, row) for column in tiles for row in tiles}
    assert max(map(slide.asked.index, seen)) < min(map(slide.asked.index, foreseen))


def test_a_place_that_cannot_be_read_is_hatched_and_told_of_once(streamed) -> None:
    slide = SlowSlide(sample_slide(), broken=(3, 2))
    stream = streamed(slide)
    messages: list[str] = []
    stream.failed.connect(messages.append)
    side = slide.tile_size
    box = np.s_[side : 4 * side, side : 5 * side]
    for _ in range(2):
        _ = stream.levels[0][box]
        until(lambda: stream.is_sharp)
        _ = stream.levels[0][:side, :side]  # away, and back
    _ = stream.levels[0][box]
    until(lambda: stream.is_sharp)
    pixels = stream.levels[0][box]
    truth = slide.read_region(side, side, 4 * side, 3 * side)
    bad = np.zeros(pixels.shape[:2], bool)
    bad[side : 2 * side, 2 * side : 3 * side] = True
    np.testing.assert_array_equal(pixels[~bad], truth[~bad])
    assert set(np.unique(pixels[bad])) == {90, 150}
    assert len(messages) == 1
    assert "damaged" in messages[0]
    assert str(slide.path) in messages[0]


def test_stopping_ends_the_threads_and_asking_again_begins_anew(streamed) -> None:
    before = set(threading.enumerate())
    stream = streamed(Slide(sample_slide()))
    _ = stream.levels[0][:2000, :2000]
    assert set(threading.enumerate()) - before
    stream.stop()
    assert not set(threading.enumerate()) - before
    assert stream._cache.nbytes == 0
    _ = stream.levels[0][:500, :500]
    until(lambda: stream.is_sharp)
    np.testing.assert_array_equal(stream.levels[0][:500, :500], stream.slide.read_region(0, 0, 500, 500))
