"""Drives that go away and come back, tiles that stay bad, disks that do not answer: the slide goes on, and ends."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from waiting import until

from napari_cervcell.slides import Slide, SlideError, faults, readers, sample_slide
from napari_cervcell.slides.cache import Place, TileCache
from napari_cervcell.slides.faults import Faults
from napari_cervcell.slides.stream import Stream

SIDE = 1500


def reader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cervcell-reader"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed may be tried again soon."""
    monkeypatch.setattr(faults, "_FIRST", 0.02)
    monkeypatch.setattr(faults, "_LAST", 0.05)


@pytest.fixture
def listened() -> Iterator[Callable[[Slide], tuple[Stream, list[str]]]]:
    """Return a function that makes a stream to which somebody listens, and a list of what it tells of faults."""
    made: list[tuple[Stream, Any]] = []

    def make(slide: Slide) -> tuple[Stream, list[str]]:
        stream, told = Stream(slide, TileCache(64 << 20)), []
        made.append((stream, threading.Event()))
        stream.landed.connect(made[-1][1].set)
        stream.failed.connect(told.append)
        return stream, told

    yield make
    for stream, _ in made:
        stream.stop()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(90, 120, (SIDE, SIDE, 3), np.uint8)


@pytest.fixture(params=["direct", "openslide", "zarr"])
def slide(request: pytest.FixtureRequest, tmp_path: Path, write_slide, write_zarr, pixels: np.ndarray) -> Slide:
    """A slide of one level of noise, for each way of reading."""
    if request.param == "direct":
        return Slide(write_slide([pixels], compression="zlib", tile=(256, 256)))
    if request.param == "openslide":
        path = tmp_path / "separate.tiff"
        planes = np.moveaxis(pixels, 2, 0)
        tifffile.imwrite(path, planes, tile=(256, 256), photometric="rgb", planarconfig="separate", metadata=None)
        return Slide(path)
    return Slide(write_zarr([pixels]))


def take_away(path: Path) -> Callable[[], object]:
    """Make a file unreadable as a drive that goes away does, also to those who have it open; return the way back."""
    aside = path.with_name("aside")
    if path.is_dir():
        path.rename(aside)
        return lambda: aside.rename(path)
    shutil.copy(path, aside)
    path.write_bytes(b"")
    path.unlink()
    return lambda: aside.rename(path)


def looked_at(stream: Stream, level: int = 0) -> np.ndarray:
    """Look until all is as sharp as it gets, and return that."""
    _ = stream.levels[level][:]
    until(lambda: stream.is_sharp)
    return stream.levels[level][:]


# ------------------------------------------------------------------------------------------------ there and back


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", ["before the overview", "later"])
def test_a_file_that_goes_is_told_of_once_and_read_again_when_it_is_back(
    slide: Slide, pixels: np.ndarray, listened, when: str
) -> None:
    stream, told = listened(slide)
    if when == "later":
        stream.begin(30)
        truth = stream.overview.pixels.copy()
    bring_back = take_away(slide.path)
    if when == "later":
        stream._cache.capacity = 0  # what was read so far has gone
        stream._cache.capacity = 64 << 20
    for _ in range(5):
        time.sleep(0.03)
        shown = looked_at(stream)
    # OpenSlide has a cache of its own, in which much of so small a slide is
    if (slide.reader, when) != ("openslide", "later"):
        assert set(np.unique(shown)) == {90, 150}
        assert len(told) == 1
    for words in told:
        assert str(slide.path) in words
        assert "drive" in words
    bring_back()

    def repaired() -> bool:
        return bool((stream.levels[0][:] == pixels).all())

    until(repaired)
    until(lambda: stream.overview.complete.is_set() and not _hatch(stream.levels[-1][:]))
    if when == "later":
        np.testing.assert_array_equal(stream.overview.pixels, truth)
    assert len(told) <= 1


def _hatch(shown: np.ndarray) -> bool:
    return bool((shown > 130).any())


def test_scripts_get_an_error_until_the_file_is_back(slide: Slide, pixels: np.ndarray) -> None:
    level = Stream(slide, TileCache(0)).levels[0]
    np.testing.assert_array_equal(level[:400, :400], pixels[:400, :400])
    bring_back = take_away(slide.path)
    for _ in range(2):
        with pytest.raises(SlideError, match=slide.path.name):
            level[600:900, 600:900]
    bring_back()
    np.testing.assert_array_equal(level[600:900, 600:900], pixels[600:900, 600:900])


@pytest.fixture
def scratched(write_slide, pixels: np.ndarray) -> Slide:
    """A slide of which the tile at (256, 512) is damaged for good."""
    path = write_slide([pixels], "scratched.tiff", compression="zlib", tile=(256, 256))
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages.first
        index = 2 * -(-SIDE // 256) + 1
        start, length = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xff" * length)
    return Slide(path)


def test_scripts_get_an_error_for_a_bad_tile_and_all_made_of_it(scratched: Slide, pixels: np.ndarray) -> None:
    levels = Stream(scratched, TileCache(64 << 20)).levels
    for _ in range(2):
        for level, place in ((0, np.s_[600:610, 300:310]), (1, np.s_[300:310, 150:160])):
            with pytest.raises(SlideError, match=r"scratched\.tiff.*cannot be read"):
                levels[level][place]
    np.testing.assert_array_equal(levels[0][:500, :], pixels[:500])


@pytest.mark.usefixtures("impatient")
def test_a_tile_that_stays_bad_stays_marked_and_the_rest_is_shown(
    scratched: Slide, pixels: np.ndarray, listened
) -> None:
    stream, told = listened(scratched)
    bad = np.zeros(pixels.shape[:2], bool)
    bad[512:1024, :512] = True  # the tiles of the stream are of two by two
    for _ in range(4):
        shown = looked_at(stream)
        assert set(np.unique(shown[bad])) == {90, 150}
        np.testing.assert_array_equal(shown[~bad], pixels[~bad])
        time.sleep(0.03)
    assert len(told) == 1
    with pytest.raises(SlideError):  # a script that comes later is not given the hatching
        Stream(scratched, stream._cache).levels[0][:]


def test_a_tile_is_left_alone_for_longer_the_oftener_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    known, place = Faults(), Place(0, 0, 1, 2)
    pauses = []
    for _ in range(9):
        known.add(place)
        since = now
        while not known.is_due(place):
            now += 0.5
        pauses.append(now - since)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert known.mend(place)
    known.add(place)
    now += 2
    assert known.is_due(place)


# ----------------------------------------------------------------------------------------------------------- end


class StuckSlide(Slide):
    """A slide on a drive that does not answer until it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.answers = threading.Event()
        self.asked = threading.Semaphore(0)

    def tile(self, level: int, column: int, row: int) -> np.ndarray:
        self.asked.release()
        assert self.answers.wait(60)
        return super().tile(level, column, row)


def test_stopping_waits_for_no_drive_and_leaves_no_thread_when_it_answers(listened) -> None:
    before = set(reader_threads())
    slide = StuckSlide(sample_slide())
    stream, told = listened(slide)
    stream.begin()
    _ = stream.levels[0][:3000, :3000]
    assert slide.asked.acquire(timeout=30)
    closing = threading.Thread(target=stream.stop)
    closing.start()
    closing.join(30)  # the drive answers later still
    assert not closing.is_alive()
    slide.close()
    slide.answers.set()
    until(lambda: not set(reader_threads()) - before)
    assert told == []  # of what nobody wants any more nothing is told


def test_a_process_ends_while_the_drive_does_not_answer() -> None:
    code = """
import sys, threading
from napari_cervcell.slides import Slide, sample_slide
from napari_cervcell.slides.stream import Stream
asked = threading.Semaphore(0)
def never(self, *place):
    asked.release()
    threading.Event().wait()
Slide.tile = never
stream = Stream(Slide(sample_slide()))
stream.landed.connect(ear := lambda: None)
_ = stream.levels[0][:3000, :3000]
asked.acquire()
sys.exit(7)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=400)
    assert (ran.returncode, ran.stderr) == (7, "")


def test_threads_without_work_end_and_begin_again(monkeypatch: pytest.MonkeyPatch, sample: Slide, listened) -> None:
    monkeypatch.setattr(readers, "_IDLE", 0.05)
    before = set(reader_threads())
    stream, _ = listened(sample)
    for left in (0, 3000):
        _ = stream.levels[0][:500, left : left + 500]
        until(lambda: stream.is_sharp)
        until(lambda: not set(reader_threads()) - before)
        np.testing.assert_array_equal(stream.levels[0][:500, left : left + 500], sample.read_region(left, 0, 500, 500))
