"""What a reviewer finds again: of a case its filters, order and cell, of the window its tab, sizes and dock."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Qt, QTimer
from qtpy.QtWidgets import QDockWidget, QMainWindow

from ..errors import CervcellError
from .kept import keep, recall

if TYPE_CHECKING:
    from .widget import ReviewWidget

__all__ = ["Habits"]

_FILE = "window.json"
_REST = 700  # ms without a change after which it is worth keeping


class Habits(QObject):
    """Puts things back where the reviewer had them, and notes where they are left.

    What belongs to a case is kept in it, for each reviewer; what belongs to the window in the user's data folder. That
    it cannot be read or kept is nobody's loss, and not told.

    Parameters
    ----------
    widget : ReviewWidget
    """

    def __init__(self, widget: ReviewWidget) -> None:
        super().__init__(widget)
        self._widget = widget
        self._later = QTimer(self, singleShot=True, interval=_REST)
        self._later.timeout.connect(self.keep)
        desk, gallery = widget.desk, widget.gallery_panel
        desk.opened.connect(self._opened)
        desk.closing.connect(self.keep)
        desk.reviewer_changed.connect(self._later.start)
        self._restore_window()
        for changed in (
            widget.tabs.currentChanged,
            widget.overview_button.toggled,
            gallery.field.currentIndexChanged,
            gallery.size.valueChanged,
            gallery.order.currentIndexChanged,
            gallery.reviewed.currentIndexChanged,
            gallery.split.toggled,
            gallery.in_view.toggled,
            *(section.toggled for section in widget.sections.values()),
        ):
            changed.connect(self._soon)

    def _soon(self, *_: object) -> None:
        self._later.start()

    # ------------------------------------------------------------------------------------------------- the case

    def _opened(self) -> None:
        widget, session = self._widget, self._widget.desk.session
        left = self._left()
        widget.queue_panel.threshold.setValue(left.get("threshold", session.threshold))
        hidden = left.get("hidden", [])
        for label, chip in widget.case_panel.chips.items():
            cell_class = session.taxonomy[label]
            chip.setChecked(not cell_class.hidden and cell_class.name not in hidden)
        panel = widget.gallery_panel
        for name, box in (("order", panel.order), ("reviewed", panel.reviewed)):
            box.setCurrentIndex(max(0, box.findText(left.get(name, ""))))
        panel.split.setChecked(left.get("split", True))
        panel.in_view.setChecked(left.get("in_view", False))
        if place := left.get("current"):
            rows = session.index.within(*place, *place)
            for row in rows[session.states[rows] >= 0][:1].tolist():
                widget.commands.click(row)  # the view is where it was left, with this cell in it or not
        session.current_changed.connect(self._soon)
        session.cells_changed.connect(self._soon)

    def _left(self) -> dict[str, Any]:
        with suppress(CervcellError):
            return self._widget.desk.case.desk
        return {}

    def _case_now(self) -> dict[str, Any]:
        session, panel = self._widget.desk.session, self._widget.gallery_panel
        shown = session.classes_shown
        return {
            "threshold": session.threshold,
            "hidden": [c.name for c, seen in zip(session.taxonomy, shown, strict=True) if not seen],
            "order": panel.order.currentText(),
            "reviewed": panel.reviewed.currentText(),
            "split": panel.split.isChecked(),
            "in_view": panel.in_view.isChecked(),
            "current": None if session.current is None else session.index.points[session.current].tolist(),
        }

    # ----------------------------------------------------------------------------------------------- the window

    def _restore_window(self) -> None:
        self._kept = recall(_FILE)
        widget, kept = self._widget, self._kept
        widget.desk.reviewer = kept.get("reviewer")
        widget.tabs.setCurrentIndex(min(kept.get("tab", 0), 1))  # the worklist comes with its own
        widget.overview_button.setChecked(kept.get("overview", True))
        widget.gallery_panel.field.setCurrentText(kept.get("field", "60 µm"))
        widget.gallery_panel.size.setValue(kept.get("size", widget.gallery_panel.size.value()))
        for name, section in widget.sections.items():
            if name in kept.get("folded", []):
                section.collapse(animate=False)

    def restore_dock(self) -> None:
        """Put the dock at the side and in the width that it had; to be called when it is in the window."""
        dock, main = self._dock()
        if dock is None or "dock_width" not in self._kept:
            return
        area = (
            Qt.DockWidgetArea.LeftDockWidgetArea if self._kept["dock_left"] else Qt.DockWidgetArea.RightDockWidgetArea
        )
        if main.dockWidgetArea(dock) != area:
            main.addDockWidget(area, dock)
        main.resizeDocks([dock], [int(self._kept["dock_width"])], Qt.Orientation.Horizontal)

    def _dock(self) -> tuple[QDockWidget | None, QMainWindow | None]:
        around = self._widget.parentWidget()
        while around is not None and not isinstance(around, QDockWidget):
            around = around.parentWidget()
        main = None if around is None else around.parentWidget()
        return (around, main) if isinstance(main, QMainWindow) and not around.isFloating() else (None, None)

    def _window_now(self) -> dict[str, Any]:
        widget = self._widget
        dock, main = self._dock()
        now = {
            "reviewer": widget.desk.reviewer,
            "tab": widget.tabs.currentIndex(),
            "overview": widget.overview_button.isChecked(),
            "field": widget.gallery_panel.field.currentText(),
            "size": widget.gallery_panel.size.value(),
            "folded": [name for name, section in widget.sections.items() if not section.isExpanded()],
        }
        if dock is not None and dock.isVisible():
            now |= {
                "dock_width": dock.width(),
                "dock_left": main.dockWidgetArea(dock) == Qt.DockWidgetArea.LeftDockWidgetArea,
            }
        return now

    # --------------------------------------------------------------------------------------------------- keeping

    def keep(self) -> None:
        """Note how everything is now."""
        self._later.stop()
        if self._widget.desk.session is not None:
            with suppress(CervcellError):
                case, now = self._widget.desk.case, self._case_now()
                if case.desk != now:
                    case.desk = now
        self.keep_window()

    def keep_window(self) -> None:
        """Note how the window is now."""
        now = self._kept | self._window_now()
        if now != self._kept:
            self._kept = now
            keep(_FILE, now)
