"""The one base of every error that a person should read."""

from __future__ import annotations


class CervcellError(Exception):
    """Something went wrong that the user can understand and act on.

    The message says what happened, to which file, and what to do. The window shows it as it is; the command line
    prints it as one line and exits with a non-zero status. Each room has its own subclass.
    """
