"""Slides that come into napari's window, are chosen there, and go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import notification_manager
from qtpy.QtCore import QObject, QTimer

from .view import unwrapped

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["Incoming"]


class Incoming(QObject):
    """Puts the slide that has come last, or was chosen last in napari's list, onto the desk.

    Parameters
    ----------
    desk : Desk
    may_stop_work : callable
        Asks the user whether the work that is running may be stopped.

    Attributes
    ----------
    resting : bool
        Whether slides come and go unheeded, for the panel is nowhere to be seen.
    """

    def __init__(self, desk: Desk, may_stop_work: Callable[[], bool]) -> None:
        super().__init__(desk)
        self._desk, self._may_stop_work = desk, may_stop_work
        self._layers = unwrapped(desk.viewer).layers
        self._waiting: Any = None  # a layer, for an answer
        self._changing = self._muted = self.resting = False
        self._layers.events.inserting.connect(self._comes)
        self._layers.events.inserted.connect(self._came)
        self._layers.events.removed.connect(self._went)
        self._layers.selection.events.active.connect(self._chosen)

    def take_latest(self) -> None:
        """Put the slide that came last onto the desk, if there is any."""
        for layer in reversed(self._layers):
            if self._take(layer):
                return

    def _comes(self, _event: Any) -> None:
        """Mute napari: it draws a layer, and complains of units unlike the others', before it tells that it is there,
        and they can be made alike."""
        if not (self._muted or self.resting):
            self._muted = True
            notification_manager.notification_ready.block()
            QTimer.singleShot(0, self._unmute)  # where nothing comes of it

    def _unmute(self) -> None:
        if self._muted:
            self._muted = False
            notification_manager.notification_ready.unblock()

    def _came(self, event: Any) -> None:
        self._unmute()
        self._open(event.value)

    def _chosen(self, event: Any) -> None:
        if event.value is not None:
            self._open(event.value)

    def _went(self, event: Any) -> None:
        if event.value is self._desk.layer:
            with self._change():
                self._desk.clear()
            self.take_latest()

    def _open(self, layer: Any) -> None:
        if self._take(layer) and self._desk.memory is not None and self._desk.memory.is_new:
            self._desk.view.fit()  # napari does so only for a first layer

    def _take(self, layer: Any) -> bool:
        """Put a layer onto the desk; False where it is none for it, is there already, or has to wait."""
        # the overlay's own layers come and go while slides are changed, and move napari's selection about
        if self._changing or self.resting or "slide" not in layer.metadata or layer is self._desk.layer:
            return False
        if self._desk.work:
            self._desk.show_alone(self._desk.layer)
            if self._waiting is None:  # napari chooses what has come
                QTimer.singleShot(0, self._ask)  # while layers change is no time for a question
            self._waiting = layer
            return False
        with self._change():
            self._desk.put(layer)
        return True

    def _ask(self) -> None:
        agreed = self._may_stop_work()
        layer, self._waiting = self._waiting, None
        if layer not in self._layers:
            return
        if agreed:
            self._desk.stop_work()
            self._open(layer)
        else:
            self._layers.selection.active = self._desk.layer

    @contextmanager
    def _change(self) -> Iterator[None]:
        self._changing = True
        try:
            yield
        finally:
            self._changing = False
