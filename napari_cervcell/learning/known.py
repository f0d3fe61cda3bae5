"""What a case tells of its slide: corrections, checked regions, hard negatives; and the fields cut around them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ..casefile import Annotations, Case, State
from ..cells import centres_of
from ..errors import CervcellError
from ..slides import Slide
from .fields import Field
from .mining import look_alikes, within

__all__ = [
    "RIM",
    "WINDOW",
    "Known",
    "RoundError",
    "annotated_windows",
    "case_fields",
    "case_windows",
    "checked_windows",
    "held_back",
    "in_turn",
    "labelled_share",
    "read_windows",
    "spread",
    "window_side",
]

_HELD_BACK = 0.2
WINDOW = 640
"""Side of a field that is cut from the slide for a full round, px of the network's input; `RIM` more on every side."""
RIM = WINDOW / 16
_FIELDS = 512  # windows with corrections at most, and half as many of checked regions: 768 of 1.6 MB
_GRID = 8  # px between the places at which it is asked how much of a field is checked
_LIKELY = 0.25  # score from which a detection was likely enough to be worth learning that it is none


class RoundError(CervcellError):
    """A round cannot be done, or has failed."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a slide, boxes in level-0 px.

    Attributes
    ----------
    annotations : Annotations
        What reviewers said of cells: of each the newest verdict, if several annotations are of one cell.
    held_back : bool (n,)
        Which of these judge models and never train them; see :func:`held_back`.
    checked : float32 (m, 4)
        Regions in which every cell is annotated.
    mined : float32 (k, 4)
        What a model took for cells in these regions, and nobody annotated: hard negatives beside the rejections.
    hidden : float32 (j, 4)
        The same, but of classes that are hidden: nobody was shown them, and so nobody has said that they are none.
    """

    annotations: Annotations
    held_back: NDArray[np.bool_]
    checked: NDArray[np.float32]
    mined: NDArray[np.float32]
    hidden: NDArray[np.float32]

    @classmethod
    def of(cls, case: Case, slide: Slide) -> Known:
        """Read it from the case of `slide`. Raises CaseError."""
        annotations, checked = case.annotations(), case.checked_regions()
        mined = hidden = np.zeros((0, 4), np.float32)
        if len(checked) and slide.mpp is not None:
            found = case.detections().cells
            found = found[found.scores >= _LIKELY]
            found = found[look_alikes(found.centres, centres_of(annotations.boxes), checked, slide.mpp)]
            is_hidden = ~case.taxonomy.not_hidden[found.labels]
            mined, hidden = found.boxes[~is_hidden], found.boxes[is_hidden]
        cells, is_newest = _cells_of(annotations)
        return cls(annotations[is_newest], held_back(cells[is_newest]), checked, mined, hidden)

    @property
    def learnt(self) -> Annotations:
        """The annotations that train models."""
        return self.annotations[~self.held_back]

    @property
    def judges(self) -> Annotations:
        """The annotations that judge models."""
        return self.annotations[self.held_back]

    def seen_in(self, windows: Iterable[Window], side: float, rim: float) -> Known:
        """Return what `windows` of `side` level-0 px show, and `rim` level-0 px around each."""
        frames = np.array([_frame(window, side, rim) for window in windows]).reshape(-1, 4)
        boxes = self.annotations.boxes, self.mined, self.hidden
        annotated, mined, hidden = (within(centres_of(of), frames) for of in boxes)
        seen = self.annotations[annotated], self.held_back[annotated]
        return Known(*seen, self.checked, self.mined[mined], self.hidden[hidden])


def _cells_of(annotations: Annotations) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return int64 (n,), of which cell each annotation is, by the smallest id among those of that cell; and bool (n,),
    whether nothing newer was said of it.

    Readers whose files were brought in, or a list joined with itself, leave several annotations of one cell. It is one
    where the centres are no further apart than a quarter of the side of either box, and where others link them: in
    clumps every eleventh cell has another within the reach of :func:`casefile.match`, every hundredth within this one.
    """
    n, ids = len(annotations), annotations.ids
    centres = centres_of(annotations.boxes)
    reaches = (annotations.boxes[:, 2:] - annotations.boxes[:, :2]).mean(axis=1) / 4
    near = cKDTree(centres).query_ball_point(centres, reaches) if n else []
    a = np.repeat(np.arange(n), [len(found) for found in near])
    b = np.fromiter(chain.from_iterable(near), np.int64)
    # of each other: a cell in the box around a crowd is another one
    mutual = np.hypot(*(centres[a] - centres[b]).T) <= reaches[b]
    a, b = a[mutual], b[mutual]
    _, cell = connected_components(coo_array((np.ones(len(a), bool), (a, b)), (n, n)), directed=False)
    smallest = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(smallest, cell, ids)
    is_newest = np.ones(n, bool)
    is_newest[a[annotations.events[b] > annotations.events[a]]] = False
    return smallest[cell], is_newest


def held_back(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool (n,): which annotated cells judge models and never train them. Stable: it depends on the id alone.

    A cell of several annotations goes by the smallest of their ids; see :class:`Known`.
    """
    share = [int.from_bytes(hashlib.sha256(b"%d" % i).digest()[:4], "big") / 2**32 for i in ids.tolist()]
    return np.array(share) < _HELD_BACK


def case_fields(slide: Slide, known: Known, mpp: float) -> list[Field]:
    """Cut the annotated parts of a slide into fields at `mpp`, windows of a fixed grid; the rest is never read.

    Held-back annotations are left out of what the fields know. All are in memory at once, so there are no more than
    :func:`case_windows` gives. Raises SlideError, and RoundError for a slide without mpp.
    """
    windows = case_windows(known, window_side(slide, mpp, WINDOW))
    return list(read_windows(slide, known, mpp, windows, WINDOW, RIM))


def case_windows(known: Known, side: float) -> list[Window]:
    """Return the windows of `side` level-0 px that a full round reads, at most 768, or 1.2 GB.

    With corrections at most 512, those of the newest corrections of every class (:func:`in_turn`); of those that only
    checked regions touch at most 256, evenly spread.
    """
    corrected = dict.fromkeys(annotated_windows(in_turn(known.annotations), side)[:_FIELDS])
    regions = [w for w in checked_windows(known.checked, side) if w not in corrected]
    return sorted([*corrected, *spread(regions, _FIELDS // 2)])


def spread(windows: list[Window], most: int) -> list[Window]:
    """Return at most so many of `windows`, evenly spread, always the same."""
    return windows[:: -(-len(windows) // most) or 1]


Window = tuple[int, int]
"""Column and row of a window in a slide's fixed grid."""


def window_side(slide: Slide, mpp: float, side: int) -> float:
    """Return the side in level-0 px of windows that are `side` px wide at `mpp`. Raises RoundError without a mpp."""
    return side * _downsample(slide, mpp)


def _downsample(slide: Slide, mpp: float) -> float:
    if slide.mpp is None:
        raise RoundError(f"{slide.path} does not say its µm per pixel, without which cells have no size. Give it.")
    return mpp / slide.mpp


def annotated_windows(annotations: Annotations, side: float) -> list[Window]:
    """Return the windows of `side` level-0 px with annotations in them, that of the first first."""
    return list(dict.fromkeys((int(x // side), int(y // side)) for x, y in centres_of(annotations.boxes)))


def in_turn(annotations: Annotations) -> Annotations:
    """Return the newest of every class, then the second newest of every class, and so on: a rare class is soon done.

    The newest is what was said last, of an old annotation too. Rejections are a class of their own.
    """
    newest = annotations[np.argsort(-annotations.events, kind="stable")]
    classes = np.where(newest.states == State.REJECTED, -1, newest.labels)
    turn = np.zeros(len(newest), np.int64)
    for label in np.unique(classes):
        turn[classes == label] = np.arange(np.count_nonzero(classes == label))
    return newest[np.argsort(turn, kind="stable")]


def _frame(window: Window, side: float, rim: float) -> tuple[float, float, float, float]:
    column, row = window
    return column * side - rim, row * side - rim, (column + 1) * side + rim, (row + 1) * side + rim


def checked_windows(checked: NDArray[np.float32], side: float) -> list[Window]:
    """Return the windows of `side` level-0 px that checked regions touch."""
    windows: dict[Window, None] = {}
    for x1, y1, x2, y2 in checked:
        columns, rows = range(int(x1 // side), int(x2 // side) + 1), range(int(y1 // side), int(y2 // side) + 1)
        windows |= {(c, r): None for c in columns for r in rows}
    return list(windows)


def read_windows(
    slide: Slide,
    known: Known,
    mpp: float,
    windows: Iterable[Window],
    side: int,
    rim: float,
) -> Iterator[Field]:
    """Read windows of `side` px at `mpp`, and `rim` px around each, with what is known of them; see `case_fields`.

    Of a cell whose centre is just outside, what is inside is no background: it is left out.
    """
    downsample = _downsample(slide, mpp)
    annotations = known.annotations
    centres, mined_at, hidden_at = map(centres_of, (annotations.boxes, known.mined, known.hidden))
    back = known.held_back
    rejected = annotations.states == State.REJECTED
    whole = (side + 2 * rim) * downsample
    for window in windows:
        frame = _frame(window, side * downsample, rim * downsample)
        x1, y1 = frame[:2]
        rgb = slide.read_scaled(x1, y1, whole, whole, downsample)

        def mapped(boxes: NDArray[np.float32], x1: float = x1, y1: float = y1) -> NDArray[np.float32]:
            moved: NDArray[np.float32] = (boxes - np.array([x1, y1, x1, y1], np.float32)) / np.float32(downsample)
            return moved

        inside, mined, hidden = (within(places, np.array([frame])) for places in (centres, mined_at, hidden_at))
        cells = inside & ~back & ~rejected
        negatives = np.concatenate([annotations.boxes[inside & ~back & rejected], known.mined[mined]])
        withheld = np.concatenate([annotations.boxes[inside & back & ~rejected], known.hidden[hidden]])
        aside = _touching(annotations.boxes, frame) & (back | (~inside & ~rejected))
        left_out = np.concatenate([annotations.boxes[aside], known.hidden[_touching(known.hidden, frame)]])
        yield Field(
            "{}-{}".format(*window),
            rgb,
            mpp,
            mapped(annotations.boxes[cells]),
            annotations.labels[cells],
            mapped(negatives),
            mapped(known.checked),
            mapped(left_out),
            withheld=mapped(withheld),
        )


def _touching(boxes: NDArray[np.float32], frame: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    """Say which of `boxes` (n, 4) have a part in `frame`, bool (n,)."""
    x1, y1, x2, y2 = frame
    return (boxes[:, 2] >= x1) & (boxes[:, 0] <= x2) & (boxes[:, 3] >= y1) & (boxes[:, 1] <= y2)


def labelled_share(fields: Sequence[Field]) -> float:
    """Return how many of the cells in `fields`, all of one mpp, are labelled, as far as checked regions tell.

    Where nobody looked, cells are taken to lie as densely as in the checked regions, in which there is one at least: an
    empty place tells nothing of the others. 0 where nothing is checked: nobody knows what is missed.
    """
    labelled = inside = outside = 0
    checked_area = unknown_area = 0.0
    for field in fields:
        height, width = field.rgb.shape[:2]
        x, y = np.meshgrid(np.arange(0.5, width, _GRID), np.arange(0.5, height, _GRID))
        share = float(within(np.stack([x.ravel(), y.ravel()], 1), field.checked).mean())
        checked_area += share * width * height
        unknown_area += (1 - share) * width * height
        in_checked = [within(centres_of(boxes), field.checked) for boxes in (field.boxes, field.withheld)]
        inside += sum(int(of.sum()) for of in in_checked)
        outside += int((~in_checked[0]).sum())
        labelled += len(field.boxes)
    if not checked_area or not labelled:
        return 0.0
    return labelled / (inside + max(outside, max(inside, 1) / checked_area * unknown_area))
