"""Where the case files lie that this user has worked in, by the cases' ids: one small file each, in the data folder.

A model tells by ids which cases it has learnt from, and nothing about slides or folders. With the casebook these are
found again on this machine, and only here.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ..files import data_folder
from .case import Case

__all__ = ["note_place", "place_of"]


def note_place(case: Case) -> None:
    """Note where `case` lies. Where that cannot be written, it is not found again; that is told when it is missed."""
    with suppress(OSError):
        path = _entry(case.uid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(case.path), encoding="utf-8")


def place_of(uid: str) -> Path | None:
    """Return where the case of that id was last, if anybody knows."""
    if uid.isalnum():  # it comes from a file that may be anybody's, and is to be the name of one
        with suppress(OSError, ValueError):
            return Path(_entry(uid).read_text(encoding="utf-8"))
    return None


def _entry(uid: str) -> Path:
    return data_folder() / "casebook" / uid
