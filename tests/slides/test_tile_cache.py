"""The cache never takes more than it may, and keeps what is worth keeping."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_cervcell.slides.cache import Place, TileCache

CAPACITY = 1000


def tile(nbytes: int) -> np.ndarray:
    return np.zeros(nbytes, np.uint8)


def place(number: int, owner: int = 0) -> Place:
    return Place(owner, 0, number, 0)


_puts = st.tuples(st.integers(0, 12), st.integers(1, 700), st.booleans())


@given(st.lists(_puts | st.integers(0, 12), max_size=60))
def test_never_holds_more_than_its_capacity(steps: list) -> None:
    cache = TileCache(CAPACITY)
    sizes: dict[Place, int] = {}
    for step in steps:
        if isinstance(step, int):
            found = cache.get(place(step))
            assert found is None or found.nbytes == sizes[place(step)]
        else:
            number, nbytes, pinned = step
            cache.put(place(number), tile(nbytes), pinned=pinned)
            sizes[place(number)] = nbytes
        held = [p for p in sizes if p in cache]
        assert cache.nbytes == sum(sizes[p] for p in held) <= CAPACITY


@given(st.permutations(range(10)))
def test_least_recently_used_goes_first(order: list[int]) -> None:
    cache = TileCache(CAPACITY)
    for number in range(10):
        cache.put(place(number), tile(100))
    for number in order:
        cache.get(place(number))
    for new in range(5):
        cache.put(place(100 + new), tile(100))
    assert [place(number) in cache for number in order] == [False] * 5 + [True] * 5


def test_pinned_tiles_stay_while_others_come_and_go() -> None:
    cache = TileCache(CAPACITY)
    for number in range(4):
        cache.put(place(number), tile(100), pinned=True)
    for number in range(100, 130):
        cache.put(place(number), tile(100))
    assert all(place(number) in cache for number in range(4))
    assert place(129) in cache


def test_pinned_tiles_alone_may_not_fill_it() -> None:
    cache = TileCache(CAPACITY)
    for number in range(50):
        cache.put(place(number), tile(100), pinned=True)
    cache.put(place(100), tile(400))
    assert place(100) in cache


def test_a_smaller_capacity_holds_at_once() -> None:
    cache = TileCache(CAPACITY)
    for number in range(10):
        cache.put(place(number), tile(100), pinned=number < 3)
    cache.capacity = 450
    assert cache.nbytes <= 450
    assert place(0) in cache


def test_one_slide_is_forgotten_without_the_others() -> None:
    cache = TileCache(CAPACITY)
    for owner in (1, 2):
        cache.put(place(0, owner), tile(100), pinned=True)
        cache.put(place(1, owner), tile(100))
    cache.drop(1)
    assert cache.nbytes == 200
    assert place(0, 2) in cache
    assert cache.get(place(1, 1)) is None
