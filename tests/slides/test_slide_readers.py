"""Threads read what is wished for now, the newest wish first."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from waiting import until

from napari_cervcell.slides.cache import Place
from napari_cervcell.slides.readers import Readers


class Desk:
    """What readers are for: tiles that are made of others."""

    def __init__(self) -> None:
        self.made: list[Place] = []
        self.gate = threading.Event()
        self.begun = threading.Semaphore(0)
        self.readers = Readers(self.needs, self.make)

    def needs(self, place: Place) -> list[Place]:
        if place.grid == 0:
            return []
        parts = [place._replace(grid=place.grid - 1, column=2 * place.column + i) for i in range(2)]
        return [part for part in parts if part not in self.made]

    def make(self, place: Place) -> None:
        self.begun.release()
        assert self.gate.wait(30)
        self.made.append(place)


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.gate.set()
    desk.readers.stop()


def places(*columns: int, grid: int = 0) -> list[Place]:
    return [Place(0, grid, column, 0) for column in columns]


def test_newest_request_goes_first_and_older_ones_are_dropped_unread(desk: Desk) -> None:
    desk.readers.want(places(*range(100)))
    threads = sum(t.name == "cervcell-reader" for t in threading.enumerate())
    for _ in range(threads):
        desk.begun.acquire()  # every thread holds one of the old ones
    desk.readers.want(places(500, 501, 502))
    desk.gate.set()
    until(lambda: len(desk.made) == threads + 3)
    desk.readers.stop()
    assert set(desk.made) == set(places(*range(threads), 500, 501, 502))


def test_what_is_made_of_others_waits_for_them(desk: Desk) -> None:
    desk.gate.set()
    desk.readers.want(places(0, 1, grid=3))
    until(lambda: set(places(0, 1, grid=3)) <= set(desk.made))
    assert len(desk.made) == len(set(desk.made)) == 2 * (8 + 4 + 2 + 1)
    for place in desk.made:
        if place.grid:
            at = desk.made.index(place)
            assert all(
                desk.made.index(p) < at for p in places(2 * place.column, 2 * place.column + 1, grid=place.grid - 1)
            )
