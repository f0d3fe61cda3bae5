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
from .known import Known, annotated_windows, held_back, in_turn, read_windows, window_side

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
    missing : int
        How many are not: the case file or its slide has gone, or names other classes.
    """

    cases: tuple[tuple[Slide, Known], ...] = ()
    missing: int = 0

    def fields(self, mpp: float, side: int, rim: float) -> Iterator[Field]:
        """Cut what they teach into windows of `side` px at `mpp` with `rim` px around each.

        Where there is too much, every case gives as many: those of its newest corrections of every class.
        """
        for slide, known in self.cases:
            learnt = known.annotations[~held_back(known.annotations.ids)]
            windows = annotated_windows(in_turn(learnt), window_side(slide, mpp, side))
            yield from read_windows(slide, known, mpp, windows[: _WINDOWS // len(self.cases)], side, rim)

    def judges(self) -> Iterator[tuple[Slide, Annotations]]:
        """Yield of each case the corrections that were held back: they tell what has been forgotten."""
        for slide, known in self.cases:
            kept = in_turn(known.annotations[held_back(known.annotations.ids)])
            yield slide, kept[: _JUDGES // len(self.cases)]


NO_EARLIER = Earlier()


@contextmanager
def earlier_cases(model: Model, case: Case) -> Iterator[Earlier]:
    """Give the cases that `model` learnt from before `case`, their slides open until the block is left."""
    with ExitStack() as stack:
        there: list[tuple[Slide, Known]] = []
        missing = 0
        for uid in [uid for uid in model.card.get("learnt_from", []) if uid != case.uid][-_CASES:]:
            try:
                slide, known = _opened(str(uid), case.taxonomy)
            except CervcellError:
                missing += 1
            else:
                there.append((stack.enter_context(slide), known))
        yield Earlier(tuple(there), missing)


def _opened(uid: str, taxonomy: Taxonomy) -> tuple[Slide, Known]:
    path = place_of(uid)
    if path is None:
        raise CaseError(f"Nobody knows where the case {uid} is.")
    with Case.open(path) as case:
        slide = open_slide(case.slide_path, mpp=case.mpp)
        try:
            if (case.uid, case.fingerprint) != (uid, slide.fingerprint) or not taxonomy.continues(case.taxonomy):
                raise CaseError(f"{path} is another case by now, or names other classes.")
            known = Known.of(case, slide)
            said = known.annotations  # classes may have been merged since
            return slide, replace(known, annotations=replace(said, labels=taxonomy.merged(said.labels)))
        except BaseException:
            slide.close()
            raise
