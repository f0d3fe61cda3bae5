"""A place for a widget in napari's window, below the slide."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QDockWidget, QMainWindow, QWidget

__all__ = ["Below"]

_CORNERS = {
    Qt.Corner.BottomLeftCorner: Qt.DockWidgetArea.LeftDockWidgetArea,
    Qt.Corner.BottomRightCorner: Qt.DockWidgetArea.RightDockWidgetArea,
}


class Below(QDockWidget):
    """Holds `content` below the canvas, between what is docked at the sides, which keeps its height.

    It cannot be closed or moved by hand, as the docks that napari makes can: it comes and goes with the sitting.
    """

    def __init__(self, name: str, content: QWidget, canvas: QWidget) -> None:
        main = canvas.window()
        assert isinstance(main, QMainWindow)
        super().__init__(name, main)
        self.setObjectName(name)
        self.setFeatures(QDockWidget.DockWidgetFeature.NoDockWidgetFeatures)
        self.setTitleBarWidget(QWidget())  # none
        self.setWidget(content)
        for corner, side in _CORNERS.items():
            main.setCorner(corner, side)
        main.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, self)
        main.layout().activate()  # what is fitted into the canvas from now on has its new size
