"""The one base of every error that a person should read."""

from __future__ import annotations


class CervcellError(Exception):
    """Something went wrong that the user can understand and act on.

    The message says what happened, to which file, and what to do. The window shows it as it is; the command line
    prints it as one line and exits with a non-zero status. Each room has its own subclass.
    """


def lacks_memory(error: BaseException) -> bool:
    """Return whether `error` says that there was not enough memory: numpy, torch and the system each have their way.

    "could not create a primitive" is oneDNN's, which has no room for the code that it writes.
    """
    words = ("memory", "new thread", "could not create a primitive")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError | OSError) and any(w in str(error) for w in words)
    )
