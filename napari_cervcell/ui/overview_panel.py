"""Where one is on the slide, at which magnification, and the ways to elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from superqt.utils import QSignalThrottler

from .overview_map import OverviewMap

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["JUMPS", "OverviewPanel", "position_words"]

JUMPS = {1: "ctrl+1", 5: "ctrl+2", 10: "ctrl+3", 20: "ctrl+4", 40: "ctrl+5"}
"""Magnifications and their keys."""
FIT = "ctrl+0"
"""The key for the whole slide, which is napari's too."""

_FRAME = 16  # ms: no display shows more
_HEIGHT = 112  # px
_SMALL = "QPushButton { padding: 2px; min-width: 0px; }"


class OverviewPanel(QWidget):
    """The slide in small, the magnification, the position, and buttons for the usual magnifications."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self.map = OverviewMap()
        self.map.moved.connect(self._go)
        self.magnification = QLabel()
        self.magnification.setStyleSheet("font-size: 20px; font-weight: bold;")
        self.position = QLabel()
        self.position.setToolTip("The middle of the view, from the slide's top left corner: to the right, then down")
        self.jumps = {power: QPushButton(f"{power}x") for power in JUMPS}
        for power, button in self.jumps.items():
            button.clicked.connect(lambda _=False, power=power: self.jump(power))
        self.fit = QPushButton("Fit")
        self.fit.setToolTip(f"Show the whole slide. Key: {FIT}")
        self.fit.clicked.connect(self.show_all)
        grid = QGridLayout()
        grid.setSpacing(3)
        for i, button in enumerate([*self.jumps.values(), self.fit]):
            button.setStyleSheet(_SMALL)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setFixedSize(44, 24)
            grid.addWidget(button, i // 3, i % 3)
        beside = QVBoxLayout()
        beside.setSpacing(0)
        beside.addWidget(self.magnification)
        beside.addWidget(self.position)
        beside.addStretch()
        beside.addLayout(grid)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.map, 1)
        row.addLayout(beside)
        self.setFixedHeight(_HEIGHT)
        self._later = QSignalThrottler(parent=self)
        self._later.setTimeout(_FRAME)
        self._later.triggered.connect(self._follow)
        desk.shown.connect(self._shown)
        desk.opened.connect(self._scaled)
        desk.closed.connect(self.map.clear)
        desk.detection.started.connect(self._show_lost)
        desk.detection.found.connect(self._show_lost)
        desk.viewer.scene.camera.events.connect(self._follow_soon)
        desk.viewer.canvas.events.size.connect(self._follow_soon)

    def jump(self, power: float, about: tuple[float, float] | None = None) -> None:
        """Go to a magnification; `about`, level-0 (x, y), stays where it is on the canvas, else the centre does."""
        view = self._desk.view
        full = view.magnification_at(self.devicePixelRatioF())
        if full is not None:
            view.zoom_to(power / full, about)

    def show_all(self) -> None:
        """Show the whole slide."""
        self._desk.view.fit()

    def _show_lost(self, _steps: Any = None) -> None:
        self.map.show_lost(tile.box for tile in self._desk.detection.unreadable)

    def _go(self, x: float, y: float) -> None:
        self._desk.view.centre = (x, y)

    def _shown(self) -> None:
        self.map.show_slide(self._desk.view)
        self._scaled()

    def _scaled(self) -> None:
        """Take note of what is known of the slide's scale."""
        known = self._desk.view.magnification_at(1.0) is not None
        for power, button in self.jumps.items():
            button.setEnabled(known)
            button.setToolTip(
                f"Show the slide as through a {power}x objective. Key: {JUMPS[power]}"
                if known
                else "The slide says neither its µm per pixel nor its objective, so that no magnification is known."
            )
        self.magnification.setToolTip(
            "Magnification: 40x is 0.25 µm per pixel of the screen"
            if known
            else "Pixels of the screen per pixel of the slide; the slide does not say its scale"
        )
        self._follow()

    def _follow_soon(self, _event: Any = None) -> None:
        self._later.throttle()

    def _follow(self) -> None:
        """Show where the canvas is now."""
        view = self._desk.view
        if view is None:
            return
        zoom = view.zoom * self.devicePixelRatioF()
        power = view.magnification_at(zoom)
        self.magnification.setText(f"{zoom:.1%}" if power is None else _power(power))
        self.position.setText(position_words(*view.centre, self._desk.slide))
        self.map.update()


def _power(power: float) -> str:
    """Return a magnification with three digits, or as many as it has before the point."""
    decimals = 2 if power < 0.995 else 1 if power < 99.95 else 0
    return f"{power:,.{decimals}f}".rstrip("0").rstrip(".") + "x" if decimals else f"{power:,.0f}x"


def position_words(x: float, y: float, slide: Any) -> str:
    """Return level-0 (x, y) in mm, µm or px, whatever suits the slide."""
    if slide.mpp_xy is None:
        return f"{x:,.0f}, {y:,.0f} px"
    x, y = x * slide.mpp_xy[0], y * slide.mpp_xy[1]
    if max(slide.width * slide.mpp_xy[0], slide.height * slide.mpp_xy[1]) < 1000:
        return f"{x:,.0f}, {y:,.0f} µm"
    return f"{x / 1000:.3f}, {y / 1000:.3f} mm"
