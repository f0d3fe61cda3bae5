"""The plugin's own icons, painted in the colour of the text around them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from qtpy.QtCore import QByteArray, QRectF, Qt
from qtpy.QtGui import QIcon, QPainter, QPixmap
from qtpy.QtSvg import QSvgRenderer

__all__ = ["icon", "icon_path"]

_DRAWN_IN = "#808080"  # the stroke in the files, legible on dark and on light where a file is shown as it is


def icon_path(name: str) -> Path:
    """Return the SVG file of an icon: inside the installed package, or beside it in a source tree."""
    package = Path(__file__).parents[1]
    installed = package / "icons" / f"{name}.svg"
    return installed if installed.exists() else package.parent / "icons" / f"{name}.svg"


@cache
def icon(name: str, color: str = _DRAWN_IN) -> QIcon:
    """Return icon `name` with its strokes in `color` (``#rrggbb``), and a fainter one for disabled buttons."""
    svg = icon_path(name).read_text(encoding="utf-8").replace(_DRAWN_IN, color)
    result = QIcon()
    result.addPixmap(_paint(svg, 1.0), QIcon.Mode.Normal)
    result.addPixmap(_paint(svg, 0.35), QIcon.Mode.Disabled)
    return result


def _paint(svg: str, opacity: float, side: int = 64) -> QPixmap:
    pixmap = QPixmap(side, side)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setOpacity(opacity)
    QSvgRenderer(QByteArray(svg.encode())).render(painter, QRectF(0, 0, side, side))
    painter.end()
    return pixmap
