"""From what was measured to what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["OURS", "Figure", "figure", "in_words", "over_repeats"]

Figure = dict[str, Any]
OURS = "cervcell"


def over_repeats(repeats: Sequence[Sequence[float]]) -> Figure:
    """Return ``value`` (the median), and ``p95``, ``p99``, ``worst`` where a repeat has several values.

    Each is worked out for every repeat alone, over its places or steps; the median of the repeats is what counts.
    ``worst_repeat`` is the largest value of all repeats: what none of them hides.
    """
    if max(len(values) for values in repeats) == 1:
        single = [values[0] for values in repeats]
        return {"value": _round(np.median(single)), "worst": _round(max(single)), "repeats": len(repeats)}
    parts = {"value": 50, "p95": 95, "p99": 99, "worst": 100}
    said: Figure = {
        name: _round(np.median([np.percentile(values, share) for values in repeats])) for name, share in parts.items()
    }
    return said | {"worst_repeat": _round(max(max(values) for values in repeats)), "repeats": len(repeats)}


def figure(samples: dict[str, list[list[float]]]) -> Figure:
    """Return our figure, with those of the peers under ``peers``; `samples` has a list of repeats a name."""
    ours = over_repeats(samples[OURS])
    return ours | {"peers": {name: over_repeats(s) for name, s in samples.items() if name != OURS and s}}


def in_words(said: Figure, name: str = OURS, indent: str = "") -> list[str]:
    """Return a figure as lines, ours first: ``cervcell 1.1 (p95 1.3, p99 1.5, worst 1.6, repeats 5)``."""
    rest = {k: v for k, v in said.items() if not isinstance(v, dict) and k != "value"}
    lines = [f"{indent}{name} {said['value']:g} ({', '.join(f'{k} {v:g}' for k, v in rest.items())})".replace("_", " ")]
    for key, part in said.items():
        if key == "peers":
            lines += [line for peer, its in part.items() for line in in_words(its, peer, indent)]
        elif isinstance(part, dict) and "peers" in part:
            lines += [f"{key}:".replace("_", " "), *in_words(part, indent="  ")]
        elif isinstance(part, dict):
            lines += in_words(part, key)
    return lines


def _round(value: float | np.floating[Any]) -> float:
    return float(f"{value:.4g}")
