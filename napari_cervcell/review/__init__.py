"""The sitting: what to show next, verdicts, undo, live figures. Knows no window, so a script can hold one too."""

from .counts import ClassCount
from .estimates import Estimate
from .figures import ClassFigures
from .report import Report
from .session import ClassesChanged, ReviewError, Session
from .table import GONE
from .verdicts import Imported, read_verdicts

__all__ = [
    "GONE",
    "ClassCount",
    "ClassFigures",
    "ClassesChanged",
    "Estimate",
    "Imported",
    "Report",
    "ReviewError",
    "Session",
    "read_verdicts",
]
