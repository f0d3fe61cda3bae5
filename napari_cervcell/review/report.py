"""What a case came to, on paper: one HTML file with its pictures inside, for the file of the case or to be printed."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .. import __version__
from ..casefile import State
from ..errors import CervcellError
from ..files import spare_sources, written_whole
from .figures_words import checked, number, share
from .pace import Pace
from .verdicts import ReviewError

if TYPE_CHECKING:
    from ..slides import Slide
    from ..taxonomy import CellClass
    from .session import Session

__all__ = ["Report"]

_EACH = 12  # pictures of a class
_FIELD, _PX = 30.0, 120  # µm and px of a picture: all of one size, so that nuclei compare by eye
_SAID = {State.ACCEPTED: "accepted", State.CORRECTED: "corrected", State.ADDED: "added"}

Tell = Callable[[int, int], None]
"""Told how many of how many pictures are read."""


@dataclass(frozen=True, slots=True)
class _Cell:
    x: float
    y: float
    said: str


@dataclass(frozen=True, slots=True)
class _Class:
    of: CellClass
    detected: int
    reviewed: int
    right: str
    on_slide: str
    cells: tuple[_Cell, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a sitting has come to: of the slide, of each class its numbers and the cells that reviewers have confirmed.

    The slide's own label and description are no part of it: they may name the patient.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    notes: str
    classes: tuple[_Class, ...]

    @classmethod
    def of(cls, session: Session) -> Report:
        """Gather it. Raises CaseError."""
        case, cells, states = session.case, session.cells, session.states
        confirmed = np.isin(states, list(_SAID))
        counts, figures = session.counts(), session.figures()
        classes = []
        for label in sorted(range(len(session.taxonomy)), key=lambda i: -session.taxonomy[i].rank):
            of, count = session.taxonomy[label], counts[label]
            if of.into >= 0 or (of.hidden and not count.detected):
                continue
            rows = np.flatnonzero(confirmed & (cells.labels == label))
            best = rows[np.argsort(-np.nan_to_num(cells.scores[rows], nan=1.0), kind="stable")][:_EACH]
            places, said = cells.centres[best].tolist(), states[best].tolist()
            shown = (_Cell(x, y, _SAID[State(state)]) for (x, y), state in zip(places, said, strict=True))
            right, on_slide = share(figures[label].precision), number(figures[label].total)
            classes.append(_Class(of, count.detected, count.reviewed, right, on_slide, tuple(shown)))
        return cls(case.slide_name, tuple(_facts(session)), case.notes, tuple(classes))

    def write(self, slide: Slide, path: str | Path, tell: Tell = lambda done, of: None) -> int:
        """Write it to `path`, with pictures read from `slide`; may run in any thread.

        Returns how many pictures it has; one that cannot be read is left out, and said to be. Raises ReviewError.
        """
        path, total = Path(path), sum(len(c.cells) for c in self.classes)
        spare_sources(path)
        done = readable = 0
        sections = []
        for of_class in (c for c in self.classes if c.cells):
            figures = []
            for cell in of_class.cells:
                picture = _picture(slide, cell)
                figures.append(_figure(cell, picture))
                done, readable = done + 1, readable + (picture is not None)
                tell(done, total)
            sections.append(_section(of_class, figures))
        try:
            with written_whole(path) as part:
                part.write_text(self._html("".join(sections)), encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise ReviewError(
                f"Cannot write the report to {path}: {error.strerror or error}. Choose another place."
            ) from None
        return readable

    def _html(self, pictures: str) -> str:
        facts = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in self.facts)
        rows = "".join(
            f"<tr><td>{_chip(c.of)} {escape(c.of.name)}</td><td>{c.detected:,}</td><td>{c.reviewed:,}</td>"
            f"<td>{c.right}</td><td>{c.on_slide}</td></tr>"
            for c in self.classes
        )
        notes = f"<h2>Notes</h2><p class=notes>{escape(self.notes)}</p>" if self.notes else ""
        confirmed = pictures or "<p>No cell has been confirmed yet.</p>"
        return _PAGE.format(
            name=escape(self.name), facts=facts, rows=rows, notes=notes, pictures=confirmed, version=__version__,
            field=f"{_FIELD:.0f}",
        )  # fmt: skip


def _facts(session: Session) -> list[tuple[str, str]]:
    case = session.case
    size = f"{case.width:,} × {case.height:,} px"
    if case.mpp:
        width, height = (n * case.mpp / 1000 for n in (case.width, case.height))
        size += f", {width:.1f} × {height:.1f} mm at {case.mpp:.4g} µm per px"
    runs, trained = case.runs(), [r for r in case.rounds() if r.state == "promoted" and not r.brought_in]
    model = runs[-1].model_name if runs else "none has looked yet"
    learnt = f"; {len(trained)} rounds of training" if trained else ""
    events = case.events()
    reviewed, pace = len(case.annotations()), Pace.of(events)
    who = ", ".join(dict.fromkeys(e.reviewer for e in events)) or case.reviewer
    done = case.done
    return [
        ("Slide", size),
        ("Model", f"{model}{learnt}; cells from a score of {session.threshold:.2f} up"),
        ("Reviewed", f"{reviewed:,} cells by {who} in {pace.spent}" if reviewed else "no cell yet"),
        ("Checked", checked(session)),
        ("Signed out", f"by {done[1]}, {done[0][:16].replace('T', ' ')} UTC" if done else "not yet"),
    ]


def _picture(slide: Slide, cell: _Cell) -> str | None:
    """Return the picture as text for HTML, None where it cannot be read."""
    try:
        pixels = slide.read_square(cell.x, cell.y, _FIELD, _PX)
    except CervcellError:
        return None
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=90)
    return base64.b64encode(jpeg.getvalue()).decode()


def _figure(cell: _Cell, picture: str | None) -> str:
    shown = f'<img src="data:image/jpeg;base64,{picture}" alt="">' if picture else "<div>could not be read</div>"
    return f"<figure>{shown}<figcaption>{cell.said}<br>x {cell.x:,.0f}, y {cell.y:,.0f}</figcaption></figure>"


def _section(of_class: _Class, figures: list[str]) -> str:
    some = f"{len(figures)} of {of_class.reviewed:,}" if len(figures) < of_class.reviewed else f"{len(figures)}"
    return f"<h3>{_chip(of_class.of)} {escape(of_class.of.name)}: {some}</h3><div class=cells>{''.join(figures)}</div>"


def _chip(of: CellClass) -> str:
    return f'<span class=chip style="border-color:{of.color}">{escape(of.letter)}</span>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; color: #222; max-width: 60em; margin: 2em auto; padding: 0 1em; }}
h1 {{ font-size: 1.5em; }} h2 {{ font-size: 1.15em; margin-top: 1.6em; }} h3 {{ font-size: 1em; margin-bottom: .3em; }}
table {{ border-collapse: collapse; }} th, td {{ text-align: left; padding: .2em 1.2em .2em 0; vertical-align: top; }}
.counts td:not(:first-child), .counts th:not(:first-child) {{ text-align: right; }}
.counts tr {{ border-bottom: 1px solid #ddd; }}
.chip {{ display: inline-block; min-width: 1.6em; text-align: center; border: 2px solid; border-radius: 3px;
  font-size: .85em; font-weight: bold; }}
.notes {{ white-space: pre-wrap; }}
.cells {{ display: flex; flex-wrap: wrap; gap: 8px; }}
figure {{ margin: 0; width: 120px; break-inside: avoid; }} img, figure div {{ width: 120px; height: 120px; }}
figure div {{ background: #eee; color: #666; display: flex; align-items: center; text-align: center; }}
figcaption, footer {{ font-size: .8em; color: #666; }} h3 {{ break-after: avoid; }} footer {{ margin-top: 2em; }}
</style></head><body>
<h1>{name}</h1>
<table>{facts}</table>
<h2>Cells</h2>
<table class=counts>
<tr><th>Class</th><th>Detected</th><th>Reviewed</th><th>Right %</th><th>On slide</th></tr>{rows}
</table>
<p>Right %: which share of the cells shown as a class is of that class. On slide: how many there are. Both are 95 %
intervals, by cells drawn at random and reviewed; a dash where too little is known.</p>
{notes}
<h2>Confirmed cells</h2>
{pictures}
<footer>Every picture shows {field} µm; places in px of the slide. Written by napari-cervcell {version}, which is for
research and annotation, not a medical device.</footer>
</body></html>
"""
