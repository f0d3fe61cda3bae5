"""The curves of a simulation as a table and as a picture."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["write_report"]

_PANELS = (("f1", "F1, finding cells"), ("ap", "AP, finding cells"), ("recall", "mean class recall, as shown"))
_COLOURS = ("#e2574c", "#4f8fc4")  # the one in question, and random choice beside it
_WIDTH, _HEIGHT, _MARGIN, _TOP = 320, 240, 52, 34

Answer = dict[str, Any]


def write_report(answer: Answer, out: Path) -> list[Path]:
    """Write ``curves.json``, ``curves.csv`` and ``curves.svg`` into the folder `out`; return where."""
    paths = [out / f"curves.{suffix}" for suffix in ("json", "csv", "svg")]
    paths[0].write_text(json.dumps(answer, indent=1), encoding="utf-8")
    rows = [
        {"curve": name, **_flat(point)}
        for name, points in [*answer["curves"].items(), ("ceiling", [answer["ceiling"]])]
        for point in points
    ]
    with paths[1].open("w", newline="", encoding="utf-8") as file:
        columns = dict.fromkeys(column for row in rows for column in row)
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    paths[2].write_text(picture(answer), encoding="utf-8")
    return paths


def _flat(point: Answer) -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in point.items():
        if name != "spread":
            flat[name] = value
            flat[f"{name}_least"], flat[f"{name}_greatest"] = point["spread"][name]
    return flat


def picture(answer: Answer) -> str:
    """Draw the curves against clicks as SVG: a panel a figure, the spread over seeds as a band, the ceiling dashed."""
    most = max(point["clicks"] for points in answer["curves"].values() for point in points) or 1
    width, height = len(_PANELS) * (_WIDTH + _MARGIN) + _MARGIN, _HEIGHT + _TOP + 70
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for i, (figure, title) in enumerate(_PANELS):
        parts += _panel(answer, figure, title, _MARGIN + i * (_WIDTH + _MARGIN), most)
    names = [(name, _COLOURS[i % 2], "") for i, name in enumerate(answer["curves"])]
    for i, (name, colour, dash) in enumerate([*names, ("all labels", "#555555", "5 4")]):
        x, y = _MARGIN + 190 * i, height - 14
        parts.append(_line([(x, y - 4), (x + 24, y - 4)], colour, dash))
        parts.append(f'<text x="{x + 30}" y="{y}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(answer: Answer, figure: str, title: str, left: float, most: float) -> list[str]:
    def at(clicks: float, value: float) -> tuple[float, float]:
        return left + _WIDTH * clicks / most, _TOP + _HEIGHT * (1 - value)

    parts = [f'<text x="{left}" y="{_TOP - 12}" font-size="13">{title}</text>']
    for value in (0, 0.25, 0.5, 0.75, 1):
        (x1, y), (x2, _) = at(0, value), at(most, value)
        parts.append(_line([(x1, y), (x2, y)], "#dddddd"))
        parts.append(f'<text x="{x1 - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>')
    for share in (0, 0.5, 1):
        x, y = at(share * most, 0)
        parts.append(f'<text x="{x}" y="{y + 16}" text-anchor="middle">{share * most:.0f}</text>')
    x, y = at(most / 2, 0)
    parts.append(f'<text x="{x}" y="{y + 32}" text-anchor="middle">clicks</text>')
    for (_, points), colour in zip(answer["curves"].items(), _COLOURS, strict=False):
        low = [at(p["clicks"], p["spread"][figure][0]) for p in points]
        high = [at(p["clicks"], p["spread"][figure][1]) for p in points]
        parts.append(f'<polygon points="{_places([*low, *reversed(high)])}" fill="{colour}" fill-opacity="0.15"/>')
        parts.append(_line([at(p["clicks"], p[figure]) for p in points], colour))
    top = answer["ceiling"][figure]
    return [*parts, _line([at(0, top), at(most, top)], "#555555", "5 4")]


def _line(points: list[tuple[float, float]], colour: str, dash: str = "") -> str:
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{_places(points)}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'


def _places(points: list[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
