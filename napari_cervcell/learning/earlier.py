"""What a model has learnt from earlier cases: replayed in its rounds on a later one, lest it be forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from ..casefile import Annotations, Case, CaseError, place_of
from ..errors import CervcellError
from ..models import Model
from ..slides import Slide, open_slide
from ..taxonomy import Taxonomy
from .fields import Field
from .known import Known, annotated_windows, in_turn, read_windows, window_side

__all__ = ["NO_EARLIER", "Earlier", "earlier_cases"]

_CASES = 8  # the last that a model has learnt from
_WINDOWS = 64  # of them all
_JUDGES = 48  # corrections held back, of them all


@dataclass(frozen=True, slots=True)
class Earlier:
    """The earlier cases that a model has learnt from.

    Attributes
    ----------
    cases : tuple of (Slide, Known)
        Those that are at hand, each slide with what is known of it.
    missing : tuple of str
        Of each that cannot be used, why: say, the case file or its slide has gone, or names other classes.
    """

    cases: tuple[tuple[Slide, Known], ...] = ()
    missing: tuple[str, ...] = ()

    def fields(self, mpp: float, side: int, rim: float) -> Iterator[Field]:
        """Cut what they teach into windows of `side` px at `mpp` with `rim` px around each.

        Where there is too much, every case gives as many: those of its newest corrections of every class.
        """
        for slide, known in self.cases:
            windows = annotated_windows(in_turn(known.learnt), window_side(slide, mpp, side))
            yield from read_windows(slide, known, mpp, windows[: _WINDOWS // len(self.cases)], side, rim)

    def judges(self) -> Iterator[tuple[Slide, Annotations]]:
        """Yield of each case the corrections that were held back: they tell what has been forgotten."""
        for slide, known in self.cases:
            yield slide, in_turn(known.judges)[: _JUDGES // len(self.cases)]


NO_EARLIER = Earlier()


@contextmanager
def earlier_cases(model: Model, case: Case) -> Iterator[Earlier]:
    """Give the cases that `model` learnt from before `case`, their slides open until the block is left.

    Cases of the same slide are none of them: they say what is held back here, and perhaps the contrary.
    """
    with ExitStack() as stack:
        there: list[tuple[Slide, Known]] = []
        missing: list[str] = []
        for uid in [uid for uid in model.card.get("learnt_from", []) if uid != case.uid][-_CASES:]:
            try:
                opened = _opened(str(uid), case.taxonomy, case.fingerprint)
            except CervcellError as error:
                missing.append(str(error))
            else:
                if opened is not None:
                    there.append((stack.enter_context(opened[0]), opened[1]))
        yield Earlier(tuple(there), tuple(missing))


def _opened(uid: str, taxonomy: Taxonomy, fingerprint: str) -> tuple[Slide, Known] | None:
    """Return the slide of a case, and what is known of it; None where it is of the slide with `fingerprint`.

    Raises CaseError and SlideError.
    """
    path = place_of(uid)
    if path is None:
        raise CaseError("It is not known where it is. Open it once on this machine.")
    with Case.open(path) as case:
        if case.uid != uid:
            raise CaseError(f"{path} is another case by now. Open the earlier one where it is now.")
        if case.fingerprint == fingerprint:
            return None
        if not taxonomy.continues(case.taxonomy):
            raise CaseError(f"{path} names other classes.")
        slide = open_slide(case.slide_path, mpp=case.mpp)
        try:
            if case.fingerprint != slide.fingerprint:
                raise CaseError(f"{slide.path} is not the slide of {path}. Open that case with its slide.")
            known = Known.of(case, slide)
            said = known.annotations  # classes may have been merged since
            return slide, replace(known, annotations=replace(said, labels=taxonomy.merged(said.labels)))
        except BaseException:
            slide.close()
            raise
