"""The sitting: what to show next, verdicts, undo, live figures. Knows no window, so a script can hold one too."""

from .figures import ClassCount, Precision
from .session import ReviewError, Session
from .table import GONE
from .verdicts import Imported, read_verdicts

__all__ = ["GONE", "ClassCount", "Imported", "Precision", "ReviewError", "Session", "read_verdicts"]
