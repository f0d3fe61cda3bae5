"""napari with a slide and the Review widget: what ``cervcell review`` and ``cervcell demo`` open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import napari
from napari.settings import get_settings
from napari.utils.notifications import notification_manager
from qtpy.QtWidgets import QApplication, QDockWidget

from ..review.worklist import Worklist
from ..slides import open_slide
from .steadiness import keep_steady
from .view import canvas_of
from .widget import ReviewWidget

if TYPE_CHECKING:
    import napari.viewer

__all__ = ["dock", "launch", "launch_worklist", "open_window", "put_lists_away"]

PLUGIN = "napari-cervcell"

_FIRST_SIZE = 0.9  # of the screen's sides


def dock(viewer: napari.viewer.Viewer) -> ReviewWidget:
    """Return the Review widget of `viewer`, docked at its right if it was not there yet."""
    _, widget = viewer.window.add_plugin_dock_widget(PLUGIN, "Review")
    return widget


def launch(
    slide_path: str | Path,
    case_path: str | Path | None = None,
    show: bool = True,
    block: bool = True,
    *,
    detect: bool = False,
) -> tuple[napari.viewer.Viewer, ReviewWidget]:
    """Open `slide_path` for review.

    Parameters
    ----------
    slide_path : path
    case_path : path, optional
        The case file; by default the one beside the slide, or in the user's data folder.
    show, block : bool
        Show the window; stay until it is closed.
    detect : bool
        Look for cells at once, if nobody has done so in this case.

    Raises
    ------
    CervcellError
        Where the slide cannot be read; no window is left open.
    """
    open_slide(slide_path).close()  # a file that cannot be read is told of before any window opens
    viewer, widget = open_window(show)
    widget.open_slide(slide_path, None if case_path is None else Path(case_path))
    session = widget.desk.session
    if detect and session is not None and not len(session.cells):
        widget.detect_panel.begin()
    if block:
        napari.run()
    return viewer, widget


def launch_worklist(
    path: str | Path, show: bool = True, block: bool = True
) -> tuple[napari.viewer.Viewer, ReviewWidget]:
    """Open a worklist, a folder or a CSV file, at its first slide that is not done.

    Raises WorklistError where it cannot be read; no window is left open.
    """
    worklist = Worklist.open(path)
    viewer, widget = open_window(show)
    widget.worklist_panel.show_list(worklist)
    if block:
        napari.run()
    return viewer, widget


def put_lists_away(viewer: napari.viewer.Viewer) -> None:
    """Leave the room of napari's lists of layers to the slide; its Window menu brings them back."""
    window = canvas_of(viewer).native.window()
    for name in ("layer list", "layer controls"):
        if (list_of_napari := window.findChild(QDockWidget, name)) is not None:
            list_of_napari.hide()


def open_window(show: bool = True) -> tuple[napari.viewer.Viewer, ReviewWidget]:
    """Open napari with the Review widget and all the room there is for the slide; until someone has sized the window,
    it nearly fills the screen."""
    # what napari says of Qt at its start would lie over the slide until somebody closes it
    with notification_manager.notification_ready.blocker():
        viewer = napari.Viewer(title="CervCell", show=show)
    if get_settings().application.window_size is None:
        room = QApplication.primaryScreen().availableSize() * _FIRST_SIZE
        viewer.window.resize(room.width(), room.height())
    widget = dock(viewer)
    put_lists_away(viewer)
    QApplication.processEvents()  # the canvas gets its size before a slide is fitted into it
    keep_steady()
    return viewer, widget
