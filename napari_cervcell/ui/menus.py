"""What napari's menus and its command palette offer: all of it works on the Review panel, docked where it was not."""

from __future__ import annotations

import napari.viewer  # napari gives the viewer to what asks for one

from .app import dock
from .widget import ReviewWidget

__all__ = ["detect", "export", "learn", "open_worklist", "show_gallery", "show_keys"]


def detect(viewer: napari.viewer.Viewer) -> None:
    """Look for cells, as the Detect section says."""
    if (widget := _with_slide(viewer)) is not None:
        widget.detect_panel.begin()


def show_gallery(viewer: napari.viewer.Viewer) -> None:
    """Show all cells side by side."""
    if (widget := _with_slide(viewer)) is not None:
        widget.commands.show_gallery()


def learn(viewer: napari.viewer.Viewer) -> None:
    """Begin a quick round on what was corrected."""
    if (widget := _with_slide(viewer)) is not None:
        widget.learn_panel.begin()


def export(viewer: napari.viewer.Viewer) -> None:
    """Ask for a file and write the cells to it, or the report, as the Case section says."""
    if (widget := _with_slide(viewer)) is not None:
        widget.case_panel.ask_and_export()


def open_worklist(viewer: napari.viewer.Viewer) -> None:
    """Ask for a folder of slides, and make them the worklist."""
    dock(viewer).worklist_panel.ask_for_folder()


def show_keys(viewer: napari.viewer.Viewer) -> None:
    """Show all keys of a sitting."""
    if (widget := _with_slide(viewer)) is not None:
        widget.show_keys()


def _with_slide(viewer: napari.viewer.Viewer) -> ReviewWidget | None:
    """Return the Review panel if a slide is open in it; else say that there is none."""
    widget = dock(viewer)
    if widget.desk.session is None:
        widget.desk.failed.emit("There is no slide yet. Open one, or the sample slide, by the buttons below.")
        return None
    return widget
