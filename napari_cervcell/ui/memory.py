"""Where on a slide one was, so that one is there again when it is opened next."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer

from ..errors import CervcellError

if TYPE_CHECKING:
    from ..casefile import Case
    from .view import View

__all__ = ["Memory"]

_REST = 500  # ms without a move after which a place is worth remembering


class Memory(QObject):
    """Goes to the place that a case remembers, then keeps it up to date whenever the view comes to rest.

    Attributes
    ----------
    is_new : bool
        Whether there was nothing to remember.
    """

    def __init__(self, view: View, case: Case, parent: QObject) -> None:
        super().__init__(parent)
        self._view = view
        self._case = case
        self._timer = QTimer(self, singleShot=True, interval=_REST)
        self._timer.timeout.connect(self._save)
        self._place = case.place
        self.is_new = self._place is None
        if self._place is not None:
            view.place = self._place
        view.camera.events.connect(self._moved)

    def close(self) -> None:
        """Write down the last place, and listen no more."""
        self._view.camera.events.disconnect(self._moved)
        if self._timer.isActive():
            self._timer.stop()
            self._save()
        self.deleteLater()

    def _moved(self, _event: Any = None) -> None:
        place = self._view.place
        if place != self._place:
            self._place = place
            self._timer.start()

    def _save(self) -> None:
        # what keeps a place from being saved keeps verdicts from it too, and of those one is told
        with suppress(CervcellError):
            self._case.place = self._place
