"""A case: all that is known of one slide, in one file that is always saved."""

from __future__ import annotations

import getpass
import os
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..taxonomy import BETHESDA, Taxonomy
from .events import ReviewRecord
from .rounds import RoundRecord
from .scans import ScanRecord
from .store import CaseError, Store, now

__all__ = ["SUFFIX", "Case", "SlideLike", "default_case_path", "open_case"]

SUFFIX = ".cervcell"


class SlideLike(Protocol):
    """What a case asks of a slide."""

    @property
    def path(self) -> Path: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def mpp(self) -> float | None: ...


class Case(ScanRecord, ReviewRecord, RoundRecord):
    """An open case file: what models found, what reviewers said, what was learnt from it.

    Threads may share a case, and processes may have the same file open at once. Every method that changes something
    has it on disk before it returns. Use :meth:`create`, :meth:`open` or :func:`open_case`.

    Attributes
    ----------
    path : Path
    uid : str
        Whichever way the file is called, and wherever it is.
    slide_name : str
        File name of the slide.
    fingerprint : str
        Of the slide's content.
    width, height : int
        Level-0 pixels.
    reviewer : str
        Who is speaking; goes with every event.
    """

    def __init__(self, store: Store, reviewer: str | None) -> None:
        super().__init__(store, _login() if reviewer is None else reviewer)
        self.path = store.path
        self.slide_name = str(store.meta("slide_name"))
        self.fingerprint = str(store.meta("fingerprint"))
        # files from before cases had ids are known by their slide
        self.uid = str(store.meta("uid", optional=True) or self.fingerprint)
        self.width, self.height = int(store.meta("width")), int(store.meta("height"))

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        slide_name: str,
        fingerprint: str,
        width: int,
        height: int,
        mpp: float | None,
        taxonomy: Taxonomy = BETHESDA,
        reviewer: str | None = None,
    ) -> Case:
        """Make a new case file; `reviewer` is by default the login name. Raises CaseError."""
        meta = {
            "uid": uuid.uuid4().hex,
            "slide_name": slide_name,
            "slide_path": slide_name,
            "fingerprint": fingerprint,
            "width": width,
            "height": height,
            "mpp": mpp,
            "taxonomy": taxonomy.to_json(),
        }
        return cls(Store.create(path, meta), reviewer)

    @classmethod
    def open(cls, path: str | Path, reviewer: str | None = None) -> Case:
        """Open a case file; `reviewer` is by default the login name. Raises CaseError."""
        store = Store.open(path)
        try:
            return cls(store, reviewer)
        except BaseException:
            store.close()
            raise

    @property
    def taxonomy(self) -> Taxonomy:
        """The classes of cells, as of the last look at what was said: another process may change them meanwhile.

        A new one must continue the one in the file, so that what is stored stays right: raises ValueError where it does
        not, and CaseError where it cannot be saved.
        """
        return self._taxonomy

    @taxonomy.setter
    def taxonomy(self, value: Taxonomy) -> None:
        def changed(stored: dict[str, Any]) -> dict[str, Any]:
            before = Taxonomy.from_json(stored)
            if not value.continues(before):
                raise ValueError(f"{', '.join(value.names)} does not continue {', '.join(before.names)}")
            return value.to_json()

        self._store.change_meta("taxonomy", changed)
        self._taxonomy = value
        self._forget()

    @property
    def mpp(self) -> float | None:
        """µm per level-0 pixel, None as long as nobody knows; an answer set here is remembered."""
        mpp = self._store.meta("mpp")
        return None if mpp is None else float(mpp)

    @mpp.setter
    def mpp(self, value: float | None) -> None:
        self._store.set_meta("mpp", value)

    @property
    def slide_path(self) -> Path:
        """Where the slide was last seen, or beside the case file if it is no longer there but here."""
        seen = self.path.parent / str(self._store.meta("slide_path"))
        beside = self.path.with_name(self.slide_name)
        return beside if os.path.exists(beside) and not os.path.exists(seen) else seen

    @slide_path.setter
    def slide_path(self, value: Path) -> None:
        self._store.set_meta("slide_path", str(value.absolute()))

    @property
    def place(self) -> tuple[float, float, float] | None:
        """Where the slide was last looked at: the centre (x, y) in level-0 px, and screen px per level-0 px."""
        place = self._store.meta("place", optional=True)
        return None if place is None else (float(place[0]), float(place[1]), float(place[2]))

    @place.setter
    def place(self, value: tuple[float, float, float]) -> None:
        # said again and again while somebody looks around: not worth waiting for the disk
        self._store.set_meta("place", value, durable=False)

    @property
    def opened(self) -> tuple[str, str] | None:
        """When the case was last opened for review (UTC, ISO 8601) and by whom; None where nobody has."""
        opened = self._store.meta("opened", optional=True)
        return None if opened is None else (str(opened[0]), str(opened[1]))

    def note_opened(self) -> None:
        """Note that the reviewer has opened the case now."""
        self._store.set_meta("opened", [now(), self.reviewer], durable=False)

    @property
    def notes(self) -> str:
        """What the reviewers noted on the case as a whole, empty where nobody did. Raises CaseError."""
        versions = self._store.meta("notes", optional=True)
        return str(versions[-1][2]) if versions else ""

    def set_notes(self, text: str) -> None:
        """Note `text` in place of what was noted, of which the file keeps every version, its time and its writer.

        Raises CaseError.
        """
        if text != self.notes:
            version = [now(), self.reviewer, text]
            self._store.change_meta("notes", lambda versions: [*(versions or []), version])

    @property
    def desk(self) -> dict[str, Any]:
        """How the reviewer has left the desk: what a window wants back when it opens the case again.

        It is each reviewer's own, and empty at first.
        """
        return dict(self._store.meta(f"desk of {self.reviewer}", optional=True) or {})

    @desk.setter
    def desk(self, value: dict[str, Any]) -> None:
        self._store.set_meta(f"desk of {self.reviewer}", value, durable=False)

    def check_slide(self, slide: SlideLike) -> None:
        """Raise CaseError where `slide` is not that of the case: what was said of cells is true of no other."""
        if self.fingerprint != slide.fingerprint:
            raise CaseError(
                f"The case file {self.path} is of the slide {self.slide_name}, not of {slide.path.name}. "
                "Open that slide, or choose another case file for this one."
            )

    def close(self) -> None:
        """Close the file. Nothing needs saving; what is called afterwards raises CaseError."""
        self._store.close()

    def __enter__(self) -> Case:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def default_case_path(slide_path: str | Path) -> Path:
    """Return where the case of a slide lives unless said otherwise: beside it."""
    slide_path = Path(slide_path)
    return slide_path.with_name(slide_path.name + SUFFIX)


def open_case(path: str | Path, slide: SlideLike, reviewer: str | None = None, taxonomy: Taxonomy = BETHESDA) -> Case:
    """Open the case file of `slide`, or make it; `taxonomy` is that of a new case.

    Raises
    ------
    CaseError
        Also where the case is of another slide.
    """
    if os.path.exists(path):  # not Path.exists, which raises where one may not look
        case = Case.open(path, reviewer)
    else:
        case = Case.create(
            path,
            slide_name=slide.path.name,
            fingerprint=slide.fingerprint,
            width=slide.width,
            height=slide.height,
            mpp=slide.mpp,
            taxonomy=taxonomy,
            reviewer=reviewer,
        )
    try:
        case.check_slide(slide)
        if case.mpp is None and slide.mpp is not None:
            case.mpp = slide.mpp
        if case.slide_path != slide.path.absolute():
            case.slide_path = slide.path
    except BaseException:
        case.close()
        raise
    return case


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no login name: a service, a container
        return "reviewer"
