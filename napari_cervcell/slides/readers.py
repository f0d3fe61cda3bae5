"""Threads that read what is wished for now, and nothing that is wished for no more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, TypeVar

__all__ = ["THREADS", "Readers"]

Place = TypeVar("Place", bound=Hashable)

THREADS = max(4, min(8, os.cpu_count() or 1))  # more than cores: a disk or network answers several at a time

_PATIENCE = 0.2  # seconds that `stop` waits for reads under way; a dead network drive may hold one for minutes
_IDLE = 20.0  # seconds without work after which a thread ends: not every window says when it closes


class Readers(Generic[Place]):
    """A few threads and one list of wishes, which each new request replaces.

    The threads are daemons: one that is held up by a dead drive ends when the drive answers, or with the process.

    Parameters
    ----------
    needs : callable
        Returns the places whose tiles must be there before that of a place can be made; empty where it can be.
    make : callable
        Reads or makes the tile of a place. Called in the threads; must not raise.
    """

    def __init__(self, needs: Callable[[Place], list[Place]], make: Callable[[Place], None]) -> None:
        self._needs = needs
        self._make = make
        self._change = threading.Condition()
        self._wishes: dict[Place, None] = {}  # an ordered set, its end is next
        self._blocked: dict[Place, None] = {}  # what waits, itself or by its parts, for tiles that are being read
        self._busy: set[Place] = set()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()

    def want(self, places: Iterable[Place]) -> None:
        """Read these next, in this order; what was asked for earlier and has not begun is dropped."""
        with self._change:
            once = dict.fromkeys(p for p in places if p not in self._busy)  # where they come first
            self._wishes = dict.fromkeys(reversed(once))
            self._blocked.clear()
            if self._wishes:
                self._start()
            self._change.notify_all()

    def stop(self) -> None:
        """End the threads, each after the tile that it is reading. A later request starts new ones.

        Waits a moment for them, not for a slow drive.
        """
        with self._change:
            self._wishes.clear()
            self._blocked.clear()
            self._stopping.set()
            threads, self._threads = self._threads, []
            self._change.notify_all()
        end = time.monotonic() + _PATIENCE
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))

    @property
    def are_working(self) -> bool:
        """Whether there are threads; those that `stop` has told to end do not count."""
        return bool(self._threads)

    def _start(self) -> None:
        if not self._threads:
            self._stopping = threading.Event()
        while len(self._threads) < THREADS:
            thread = threading.Thread(target=self._run, args=(self._stopping,), name="cervcell-reader", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, stopping: threading.Event) -> None:
        while (place := self._next(stopping)) is not None:
            try:
                self._make(place)
            finally:
                with self._change:
                    self._busy.discard(place)
                    self._wishes.update(self._blocked)
                    self._blocked.clear()
                    self._change.notify_all()

    def _next(self, stopping: threading.Event) -> Place | None:
        """Return a place that can be made now, taken off the list; wait for one; None when it is time to end."""
        with self._change:
            while not stopping.is_set():
                if not self._wishes:
                    if not self._change.wait(_IDLE) and not self._wishes and not stopping.is_set():
                        self._threads.remove(threading.current_thread())
                        return None
                    continue
                place, _ = self._wishes.popitem()
                lacking = self._needs(place)
                if not lacking:
                    self._busy.add(place)
                    return place
                free = [p for p in lacking if p not in self._busy and p not in self._blocked]
                if free:
                    self._wishes[place] = None
                    for p in free:  # on top, also where they were further down
                        self._wishes.pop(p, None)
                        self._wishes[p] = None
                else:
                    self._blocked[place] = None
            return None
