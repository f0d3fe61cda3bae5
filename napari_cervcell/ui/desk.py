"""What the panels share: the slide that is open, its session, and the work that is running on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Qt, QTimer, Signal
from qtpy.QtWidgets import QDialog
from superqt.utils import create_worker

from ..casefile import Case, note_place, open_case
from ..errors import CervcellError
from ..review import ClassesChanged, Session
from ..review.comparison import Comparison, compare
from ..review.models import (
    STANDARD,
    begin_with_nothing,
    described,
    export_model,
    import_model,
    is_accurate,
    use_accurate,
    usual_threshold,
)
from ..review.places import case_path_for
from ..slides import Slide
from ..weights import ACCURATE_MODEL
from .memory import Memory
from .nuclei import CurrentNucleus
from .steadiness import load_torch
from .tasks import Detection, Training
from .view import Rectangle, View, unwrapped
from .writing import Writing

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

    from ..cells import IntArray
    from ..taxonomy import Taxonomy

__all__ = ["Desk", "close_with_slide"]

_FIGURES_MS = 200
_NONE = np.zeros(0, np.int64)


class Desk(QObject):
    """One reviewer's desk: at most one slide on it at a time.

    Attributes
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Image or None
        The slide's layer.
    view : View or None
    memory : Memory or None
        Of the place on the slide.
    reviewer : str or None
        Who reviews, in this case and the next ones; None for the login name.
    session : Session or None
        None while no slide is open, or one whose µm per pixel nobody has told yet.
    selected : int64 (n,)
        Rows of the session, on the slide, that the next verdict is for, all at once; none: it is for the current cell.
    device : str
        What looks for cells.
    detection, training
        The running work.
    nucleus, writing : CurrentNucleus, Writing
    """

    shown = Signal()
    """a slide is there, with or without a session"""
    opened = Signal()
    """a session has begun"""
    closing = Signal()
    """the session is about to end"""
    closed = Signal()
    mpp_missing = Signal()
    """a slide is there, but nobody knows its µm per pixel: ask, then call `set_mpp`"""
    said = Signal(str)
    """something the user should read, and that went well"""
    failed = Signal(str)
    """an error for the user, in words"""
    models_changed = Signal()
    selected_changed = Signal()
    reviewer_changed = Signal()
    done_changed = Signal()
    """the reviewer has called the case done, or not done after all"""
    figures_changed = Signal(list)
    """what the verdicts tell of each class, list of ClassFigures: some time after the last change"""

    def __init__(self, viewer: napari.viewer.Viewer, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.viewer = viewer
        self.layer: Image | None = None
        self.view: View | None = None
        self.memory: Memory | None = None
        self.session: Session | None = None
        self.selected = _NONE
        self.next_case_path: Path | None = None
        self.reviewer: str | None = None
        self.device = "auto"
        self.detection = Detection(self)
        self.detection.found.connect(self._take_in)
        self.detection.failed.connect(self.report)
        self.detection.finished.connect(self._after_detection)
        self.training = Training(self)
        self.training.finished.connect(self._after_training)
        self.nucleus = CurrentNucleus(self)
        self.writing = Writing(self)
        self.closing.connect(lambda: self.select())
        self._case: Case | None = None
        self._new_round: int | None = None  # whose model is looking over the slide
        # a million cells take some hundredths of a second: not at every tile of a scan
        self._figures_timer = QTimer(self)
        self._figures_timer.setSingleShot(True)
        self._figures_timer.setInterval(_FIGURES_MS)
        self._figures_timer.timeout.connect(lambda: self.figures_changed.emit(self.session.figures()))

    # ------------------------------------------------------------------------------------------ slide and case

    @property
    def slide(self) -> Slide | None:
        return None if self.layer is None else self.layer.metadata["slide"]

    @property
    def case(self) -> Case | None:
        return self._case

    def put(self, layer: Image) -> None:
        """Take the slide of `layer` onto the desk, with its case file, instead of what was there."""
        if layer is self.layer:
            return
        self.clear()
        self.show_alone(layer)
        slide: Slide = layer.metadata["slide"]
        path, self.next_case_path = self.next_case_path, None
        with self.guard():
            self._case = open_case(path or self._place(slide), slide, self.reviewer)
            note_place(self._case)
            self.layer = layer
            self.view = View(self.viewer, layer)
            if self._case.mpp not in (None, slide.mpp):
                self._scale(self._case.mpp)
            self.memory = Memory(self.view, self._case, self)
            self.shown.emit()
            if slide.mpp is None:
                self.mpp_missing.emit()
            else:
                self._begin()

    def show_alone(self, layer: Image) -> None:
        """Hide all slides but that of `layer`: they are other patients'."""
        slides = [other for other in unwrapped(self.viewer).layers if "slide" in other.metadata]
        for other in slides:  # napari complains of different units in a window
            other.units = ("pixel" if layer.metadata["slide"].mpp is None else "um",) * 2
        for other in slides:
            if other.visible != (other is layer):
                other.visible = other is layer

    @staticmethod
    def _place(slide: Slide) -> Path:
        try:
            return case_path_for(slide)
        except OSError as error:
            raise CervcellError(
                f"There is no place for the case file of {slide.path.name}: {error}. "
                "Copy the slide to a folder of yours."
            ) from None

    def set_mpp(self, mpp: float) -> None:
        """Take the user's word for the slide's µm per pixel, and remember it in the case."""
        if hindrance := self.what_hinders("The size of a pixel"):
            self.failed.emit(hindrance)
            return
        with self.guard():
            self._case.mpp = mpp
            self._scale(mpp)
            self._begin()
            if len(self.session.cells):
                self.said.emit(f"A pixel counts as {mpp:g} µm now. Detect again: cells were found at another size.")

    def _scale(self, mpp: float) -> None:
        place = self.view.place
        self.slide.mpp = mpp
        self.layer.scale = (mpp, mpp)
        self.show_alone(self.layer)  # in µm now
        self.view.place = place

    def _begin(self) -> None:
        """Begin a session, in place of the one before where there is one: the classes are others now."""
        session = Session(self.slide, self._case, threshold=usual_threshold())
        if self.session is not None:
            self.closing.emit()
        self.session = session
        self._case.note_opened()
        self.opened.emit()
        self.session.counts_changed.connect(self._figures_soon)
        self.session.cells_changed.connect(self._drop_known)
        for signal in (self.session.current_changed, self.session.reloaded):
            signal.connect(lambda: self.select())
        self.figures_changed.emit(self.session.figures())

    def what_hinders(self, change: str) -> str:
        """Why what all work rests on, named by `change`, cannot be changed now, in words; empty where it can."""
        if not self.work:
            return ""
        return f"{change} can be changed when nothing is running. Wait for the work to end, or cancel it."

    def change_classes(self, taxonomy: Taxonomy) -> None:
        """Go on with other classes of cells, which continue those of the case."""
        if hindrance := self.what_hinders("The classes"):
            self.failed.emit(hindrance)
            return
        with self.guard():
            self.session.catch_up()
            self._case.taxonomy = taxonomy
            self._begin()

    def select(self, rows: IntArray = _NONE) -> None:
        """Let the next verdict be for all of `rows`, or for the current cell where there are none."""
        if len(rows) or len(self.selected):
            self.selected = rows
            self.selected_changed.emit()

    def _drop_known(self) -> None:
        """Leave out what has a verdict by now, what is no longer shown, and what another model no longer finds."""
        if len(self.selected):
            waiting = self.session.waiting(self.selected)
            if not np.array_equal(waiting, self.selected):
                self.select(waiting)

    def _figures_soon(self) -> None:
        if not self._figures_timer.isActive():
            self._figures_timer.start()

    def clear(self) -> None:
        """End the session: stop what is running and close the case. Everything is on disk already."""
        if self.session is not None:
            self.closing.emit()
        self._figures_timer.stop()
        self.stop_work()
        if self.memory is not None:
            self.memory.close()
        if self._case is not None:
            self._case.close()
        self._case = self.memory = self.session = self.layer = self.view = self._new_round = None
        self.closed.emit()

    def stop_work(self) -> None:
        """Stop what is running; what was found and said so far is on disk."""
        self.detection.shut_down()
        self.training.shut_down()

    @property
    def work(self) -> str:
        """What is running on the slide, in words; empty where nothing is."""
        running = {"Cells are still being looked for": self.detection, "A round of training runs": self.training}
        return " and ".join(words for words, task in running.items() if task.running)

    def set_reviewer(self, name: str) -> None:
        """Note who reviews from now on."""
        self.reviewer = name
        if self._case is not None:
            self._case.reviewer = name
        self.reviewer_changed.emit()

    def set_done(self, done: bool) -> None:
        """Note that the reviewer is done with the case, or is not after all."""
        with self.guard():
            self._case.set_done(done)
        self.done_changed.emit()

    # -------------------------------------------------------------------------------------------------- errors

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Show a CervcellError to the user instead of raising it."""
        try:
            yield
        except ClassesChanged as error:
            with self.guard():
                self._begin()
            self.failed.emit(str(error))
        except CervcellError as error:
            self.failed.emit(str(error))

    def do(self, act: Callable[..., Any], *args: Any) -> Any:
        """Call `act`; the user is shown what went wrong, if it is of the kind that can be explained."""
        with self.guard():
            return act(*args)

    def report(self, error: Exception) -> None:
        """Show an error of a worker; one that is a mistake of ours is raised again, with its traceback."""
        if not isinstance(error, CervcellError):
            self.failed.emit(f"The work stopped on an unexpected error: {error}. What was done so far is kept.")
            raise error
        self.failed.emit(str(error))

    # ----------------------------------------------------------------------------------------------- detection

    def models(self) -> list[tuple[str, int | Path | None]]:
        """Return what can detect: (name, choice as for :meth:`detect`), the model in use first."""
        made = [r for r in self._case.rounds() if r.has_model] if self._case else []
        choices: list[tuple[str, int | Path | None]] = [(described(r), r.id) for r in reversed(made)]
        choices.append((STANDARD, None))
        if not any(map(is_accurate, made)):
            choices.append(("Accurate model, slower", ACCURATE_MODEL))
        active = self._case.active_round if self._case else None
        return sorted(choices, key=lambda choice: choice[1] != active)

    def detect(self, choice: int | Path | None, region: Rectangle | None = None) -> None:
        """Scan `region`, or the whole slide with what is on screen first, on the `device` of the desk.

        `choice` is the model: that of a round, of a file, or the standard one (None). The accurate one is in use from
        then on, so that learning goes on from it.
        """
        case = self._case
        if self.session is None or self.detection.running:
            return

        def load() -> Any:
            from ..models import load_model, model_from_bytes

            if isinstance(choice, int):
                model = model_from_bytes(case.round_model(choice), f"The model of round {choice}")
            else:
                model = load_model(choice)
            model.check_classes(case.taxonomy, model.name)
            return model

        def begin() -> None:
            if choice == ACCURATE_MODEL:
                use_accurate(case)
                self.models_changed.emit()

        self.detection.start(
            self.slide.as_stored(),
            case,
            load,
            begin,
            device=self.device,
            view=None if region else self.view.rectangle(),
            region=region,
        )

    def _take_in(self, steps: list[Any]) -> None:
        if self.session is not None:
            self.do(self.session.add_cells, [step for step in steps if step.readable])

    # ------------------------------------------------------------------------------------------------ training

    def train(self, quick: bool = True, seconds: float | None = None) -> None:
        """Begin a round, quick or full, of the usual length unless told otherwise."""
        if self.session is not None:
            self.training.start(self._case, self.slide, quick=quick, seconds=seconds)

    def use_round(self, round_id: int | None) -> None:
        with self.guard():
            self._case.use_round(round_id)
            self.models_changed.emit()

    def export_model(self, round_id: int, path: Path) -> None:
        with self.guard():
            export_model(self._case, round_id, path)
            self.said.emit(f"Exported to {path}.")

    def import_model(self, path: Path) -> None:
        """Keep a model file in the case, beside the rounds."""
        self._bring_in(partial(import_model, self._case, path), "The model is kept as round {}.")

    def begin_with_nothing(self) -> None:
        """Use a model that knows no cells yet from now on."""
        if self.training.running:
            self.failed.emit("A round of training runs. Wait for it to end, or cancel it.")
            return
        self._bring_in(
            partial(begin_with_nothing, self._case, self.slide),
            "Round {} knows no cells yet. Draw some of each class, check places, then learn.",
        )

    def _bring_in(self, bring: Callable[[], int], words: str) -> None:
        """Call `bring`, which makes a round of a model, in the background, and say in `words` which round it is."""

        def brought() -> int:
            load_torch()
            return bring()

        def tell(number: int) -> None:
            self.said.emit(words.format(number))
            self.models_changed.emit()

        self.in_background(brought, tell)

    def in_background(
        self, work: Callable[[], Any], then: Callable[[Any], None], ended: Callable[[], None] = lambda: None
    ) -> None:
        """Call `work` in a thread; in the window's `then` with what it returned, and `ended` whatever came of it."""
        worker = create_worker(work, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(then)
        worker.errored.connect(self.report)
        worker.finished.connect(ended)
        worker.start()

    def _after_training(self, message: dict[str, Any]) -> None:
        self.models_changed.emit()
        if message["kind"] == "failed":
            self.failed.emit(message["message"])
        elif message["kind"] == "done" and message["state"] == "promoted":
            # the new model looks at what is on screen first, then at the rest
            self.detection.shut_down()
            self.detect(message["round"])
            self._new_round = message["round"]

    def _after_detection(self, outcome: str) -> None:
        """Say what the model of a round that came into use has changed, once it has looked everywhere."""
        number, self._new_round = self._new_round, None
        if outcome != "done":
            self.do(self.session.reload)  # where it has not come to, a scan takes out what it has found anew beside
        if number is None or outcome != "done":
            return
        case, threshold = self._case, self.session.threshold
        round_ = next(r for r in case.rounds() if r.id == number)

        def find_out() -> Comparison | None:
            with suppress(CervcellError):  # the model before has not looked here, or the case is put away
                return compare(case, round_.parent_model_id, round_.model_id, threshold)
            return None

        def tell(found: Comparison | None) -> None:
            if found is not None:
                appeared, vanished = len(found.appeared), len(found.vanished)
                self.said.emit(f"Round {number}: {appeared:,} new, {vanished:,} gone. Compare lists them, under ⋯.")

        self.in_background(find_out, tell)


def close_with_slide(dialog: QDialog, desk: Desk) -> None:
    """Let a dialog speak of the slide that is on the desk, and of no other."""
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    desk.closing.connect(dialog.close)  # it may speak of classes that are others now
    desk.closed.connect(dialog.close)
