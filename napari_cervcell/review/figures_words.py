"""The figures of a class as a reviewer reads them, and how each came to be."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..cells import union_area

if TYPE_CHECKING:
    from .estimates import Estimate
    from .figures import ClassFigures
    from .session import Session

__all__ = ["ENOUGH", "about_number", "about_share", "checked", "in_words", "number", "share"]

ENOUGH = 0.1
"""A number of cells that is known to within this share of it is enough reviewed."""

UNKNOWN = "–"
_RANGE = "The range holds the truth in 95 of 100 such reviews."
_HOW = (
    "At least every fifth question is a cell drawn at random, and the figures rest on those alone.\n"
    "One that was passed over comes again: until it is answered, none that was drawn after it counts."
)


def share(estimate: Estimate) -> str:
    """Return "84–95", in per cent, or a dash where nothing is known."""
    if math.isnan(estimate.value):
        return UNKNOWN
    low, high = round(100 * estimate.low), round(100 * estimate.high)
    return f"{low}" if low == high else f"{low}–{high}"


def number(estimate: Estimate) -> str:
    """Return "1,150–1,340", "11.5–13.4 k", or a dash where nothing is known."""
    if math.isnan(estimate.value):
        return UNKNOWN
    low, high = _rounded(estimate.low, math.floor), _rounded(estimate.high, math.ceil)
    if low == high:
        return low
    if low.endswith("k") and high.endswith("k"):
        low = low.removesuffix(" k")
    return f"{low}–{high}"


def about_share(name: str, figures: ClassFigures) -> str:
    """Say how the precision of the class `name` came to be."""
    precision = figures.precision
    if math.isnan(precision.value):
        return f"How many of the cells shown as {name} are {name}: nobody knows yet.\n{_HOW}"
    return (
        f"{precision.value:.0%} of the cells shown as {name} are {name}, by {_cells(precision.asked)} drawn at random "
        f"and reviewed.\n{_RANGE}\nWhat this model has learnt from does not count, nor what was asked otherwise."
    )


def about_number(name: str, figures: ClassFigures) -> str:
    """Say how the number of cells of the class `name` came to be."""
    total, recall = figures.total, figures.recall
    if math.isnan(total.value):
        return f"How many {name} cells there are on the slide: nobody knows yet.\n{_HOW}"
    if figures.with_missed and recall.asked:
        missed = (
            f"In checked regions the model had found {recall.value:.0%} of {_cells(recall.asked)};\n"
            "as many are taken to be missed elsewhere."
        )
    elif figures.with_missed:
        missed = "Cells that the model missed are counted, as many as checked regions tell of all classes together."
    else:
        missed = (
            "Cells that the model missed are not in it: check regions that hold some cells to know,\n"
            "best places drawn at random."
        )
    return (
        f"About {_rounded(total.value, round)} {name} cells on what was scanned, by {_cells(total.asked)} drawn at "
        f"random and reviewed, weighed by class and score.\n{_RANGE}\n{missed}\n{_how_far(figures)}"
    )


def checked(session: Session) -> str:
    """Return "1.24 mm², 3.1 % of the slide", or "nothing yet"."""
    case, regions = session.case, session.checked_regions
    if not len(regions):
        return "nothing yet"
    area = union_area(regions)
    size = f"{area * case.mpp**2 / 1e6:.3g} mm²" if case.mpp else f"{area:,.0f} px"
    return f"{size}, {100 * area / (case.width * case.height):.2g} % of the slide"


def in_words(name: str, figures: ClassFigures) -> str:
    """Return a line on the class `name` for the Review panel."""
    if math.isnan(figures.precision.value):
        return f"{name}: no random draw reviewed yet"
    enough = " · enough reviewed" if figures.enough(ENOUGH) else ""
    return f"{name}: {share(figures.precision)} % of those shown are right{enough}"


def _how_far(figures: ClassFigures) -> str:
    within = figures.total.within
    if figures.enough(ENOUGH):
        return f"Enough reviewed: it is known to within ±{ENOUGH:.0%}."
    so_far = f" So far it is ±{within:.0%}." if within < 10 else ""
    return f"More to review: ±{ENOUGH:.0%} is enough.{so_far}"


def _cells(n: int) -> str:
    return "1 cell" if n == 1 else f"{n:,} cells"


def _rounded(value: float, towards: Callable[[float], float]) -> str:
    """Return a number to three digits."""
    if math.isinf(value):
        return "∞"
    unit = 10 ** max(0, math.floor(math.log10(max(value, 1))) - 2)
    whole = towards(round(value / unit, 6)) * unit
    return f"{whole / 1000:,g} k" if whole >= 10_000 else f"{whole:,}"
