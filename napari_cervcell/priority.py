"""Work behind the scenes gives way to what a person waits for."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

__all__ = ["THREADS_GIVE_WAY", "give_way", "thread_gives_way"]

_NICENESS = 19  # a seventieth of the time of what a person waits for, where both want it

THREADS_GIVE_WAY = sys.platform == "linux"
"""Whether the system lets single threads give way, with all that they start; elsewhere whole processes do, at most."""


def give_way() -> None:
    """Let the work of other processes go before that of this one; call before it starts threads."""
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)


def thread_gives_way() -> None:
    """Let all other work go before that of this thread, and of those that it starts from now on.

    Does nothing where `THREADS_GIVE_WAY` is False.
    """
    if THREADS_GIVE_WAY:
        with suppress(OSError):  # it gives way more than that already
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
