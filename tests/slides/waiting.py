"""Waiting for what other threads do."""

import time
from collections.abc import Callable
from typing import Any


def until(done: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, "this never came to be"
        time.sleep(0.002)
