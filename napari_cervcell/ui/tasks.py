"""Work that the window waits for without standing still: a scan of the slide, a round of training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal
from superqt.utils import GeneratorWorker, create_worker

from ..learning import TrainingProcess
from .steadiness import load_torch

if TYPE_CHECKING:
    from ..casefile import Case
    from ..detection import Progress, Tile
    from ..slides import Slide
    from .view import Rectangle

__all__ = ["Detection", "Training", "time_left"]


def time_left(seconds: float) -> str:
    """Return "0:42 left"."""
    whole = max(0, round(seconds))
    return f"{whole // 60}:{whole % 60:02d} left"


class Detection(QObject):
    """A scan in a worker thread; what it finds arrives here in bunches, on the window's thread.

    Attributes
    ----------
    unreadable : dict of Tile
        Tiles of the slide, in the order met, whose pixels could not be read when they were last looked at.
    """

    started = Signal()
    paused_changed = Signal()
    found = Signal(list)
    """list of Progress, at most some times a second"""
    finished = Signal(str)
    """"done", "empty" (no foreground to look at), "cancelled" or "failed" """
    failed = Signal(Exception)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._worker: GeneratorWorker | None = None
        self._stop = threading.Event()
        self._pause = threading.Event()
        self._ended = threading.Event()
        self._outcome = "done"
        self._waiting: list[Progress] = []
        self.unreadable: dict[Tile, None] = {}
        self._timer = QTimer(self)
        self._timer.setInterval(150)
        self._timer.timeout.connect(self._flush)

    @property
    def running(self) -> bool:
        return self._worker is not None

    @property
    def paused(self) -> bool:
        return self.running and self._pause.is_set()

    def start(
        self,
        slide: Slide,
        case: Case,
        load: Callable[[], Any],
        begin: Callable[[], Any],
        *,
        device: str,
        view: Rectangle | None = None,
        region: Rectangle | None = None,
    ) -> None:
        """Scan `region`, or all of the slide's foreground with `view` first.

        `load` returns the Model; `begin` is called once the scan has been found possible. Both run in the thread.
        """
        self._stop = stop = threading.Event()
        self._pause = pause = threading.Event()
        self._ended = ended = threading.Event()
        if region is None:  # all of them are tried again
            self.unreadable.clear()

        def look() -> Iterator[Progress]:
            # torch is loaded here, not with the window: that takes seconds
            load_torch()
            from ..detection import Scan
            from ..slides import foreground

            model = load()
            wanted = None if region else foreground(slide)
            scan = Scan(
                slide, model, view=view, region=region, foreground=wanted, device=device, case=case, gives_way=True
            )
            begin()
            if not scan.total:
                self._outcome = "empty"
            yield from scan.run(stop, pause)

        def scan_to_end() -> Iterator[Progress]:
            try:
                yield from look()
            finally:
                ended.set()

        worker = create_worker(scan_to_end, _start_thread=False, _ignore_errors=True)
        worker.yielded.connect(self._waiting.append)
        worker.errored.connect(self.failed)
        worker.errored.connect(self._note_failure)
        worker.finished.connect(self._end)
        self._outcome = "done"
        self._worker = worker
        self._timer.start()
        worker.start()
        self.started.emit()

    def pause(self, paused: bool) -> None:
        """Rest after the batch in hand, or go on."""
        if self.running:
            (self._pause.set if paused else self._pause.clear)()
            self.paused_changed.emit()

    def cancel(self) -> None:
        """Stop after the batch in hand; what was found stays."""
        if self._worker is not None:
            self._outcome = "cancelled"
            self._stop.set()

    def shut_down(self, seconds: float = 10.0) -> None:
        """Stop, and wait for the thread: the slide and the case are about to be closed."""
        worker, self._worker = self._worker, None
        self._timer.stop()
        self._waiting.clear()
        self.unreadable.clear()
        if worker is not None:
            for signal in (worker.yielded, worker.errored, worker.finished):
                signal.disconnect()
            # not worker.quit(): that would leave the scan where it is, instead of letting it end and say so in the case
            self._stop.set()
            self._ended.wait(seconds)

    def _note_failure(self, _error: Exception) -> None:
        self._outcome = "failed"

    def _flush(self) -> None:
        if self._waiting:
            bunch = self._waiting[:]
            self._waiting.clear()
            for step in bunch:
                self.unreadable.pop(step.tile, None)
                if not step.readable:
                    self.unreadable[step.tile] = None
            self.found.emit(bunch)

    def _end(self) -> None:
        self._timer.stop()
        self._flush()
        self._worker = None
        self.finished.emit(self._outcome)


class Training(QObject):
    """Rounds of training in a process of their own, watched from the window."""

    started = Signal()
    progressed = Signal(dict)
    """a message of kind "prepared", "started", "stage" or "progress"; see TrainingProcess"""
    finished = Signal(dict)
    """the last message: kind "done", "failed" or "cancelled" """

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process: TrainingProcess | None = None
        self._wanted = False
        self._timer = QTimer(self)
        self._timer.setInterval(100)
        self._timer.timeout.connect(self._poll)

    @property
    def running(self) -> bool:
        return self._wanted

    def start(self, case: Case, slide: Slide, *, quick: bool, seconds: float | None) -> None:
        """Begin a round, unless one is running."""
        if not self._wanted:
            self._wanted = True
            self._process_of(case, slide).start(quick=quick, seconds=seconds, reviewer=case.reviewer)
            self._timer.start()
            self.started.emit()

    def prepare(self, case: Case, slide: Slide) -> None:
        """Have the process ready for a quick round, with all seen that it would look at."""
        if not self._wanted:
            self._process_of(case, slide).prepare()
            self._timer.start()

    def _process_of(self, case: Case, slide: Slide) -> TrainingProcess:
        if self._process is None:
            self._process = TrainingProcess(case.path, slide.path)
        return self._process

    def cancel(self) -> None:
        """End the round; the model in use stays."""
        if self._process is not None:
            self._process.cancel()

    def shut_down(self) -> None:
        """End the process: the case is about to be closed."""
        self._wanted = False
        self._timer.stop()
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def _poll(self) -> None:
        for message in self._process.poll():
            if message["kind"] in ("done", "failed", "cancelled"):
                self._timer.stop()
                self._wanted = False
                self.finished.emit(message)
                return
            self.progressed.emit(message)
