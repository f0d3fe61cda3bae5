"""The classes that a cell can have.

The default is the six classes of The Bethesda System for squamous epithelium, in order of severity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BETHESDA", "CellClass", "Taxonomy"]


@dataclass(frozen=True, slots=True)
class CellClass:
    """One class of cells.

    Attributes
    ----------
    name : str
        The field's own word, e.g. ``"ASC-US"``.
    letter : str
        One or two characters that stand for the class on the slide, so that colour is never the only sign.
    color : str
        ``#rrggbb``, from a palette that colour-blind readers can tell apart.
    key : str
        The key that gives this class to the selected cell.
    group : str
        ``"negative"``, ``"low grade"`` or ``"high grade"``.
    rank : int
        Severity, 0 for the mildest.
    hidden : bool
        Whether it is not offered, nor its cells shown, unless somebody asks for them.
    into : int
        The class that its cells count as since the two were merged; -1 while it is a class of its own.
    formerly : tuple of str
        What it was called before: models and files that say so mean this class.
    """

    name: str
    letter: str
    color: str
    key: str
    group: str
    rank: int
    hidden: bool = False
    into: int = -1
    formerly: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Say whether `name` is its name or was, written in whatever case."""
        return name.strip().casefold() in {n.casefold() for n in (self.name, *self.formerly)}

    def to_json(self) -> dict[str, Any]:
        usual = {"hidden": False, "into": -1, "formerly": ()}
        return {key: value for key, value in asdict(self).items() if usual.get(key, ...) != value}


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """An ordered set of cell classes; a class index anywhere in the project is a position in `classes`.

    What has once been a class keeps its place for good: changed taxonomies continue older ones (see :meth:`edited`), so
    that what is stored stays right.
    """

    name: str
    classes: tuple[CellClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> CellClass:
        return self.classes[index]

    @property
    def not_hidden(self) -> NDArray[np.bool_]:
        """bool (C + 1,): the classes that are not hidden, and at the end, for cells of no class, True."""
        return np.array([*(not c.hidden for c in self.classes), True])

    @property
    def offered(self) -> list[int]:
        """The classes to choose from: those neither hidden nor merged into others."""
        return [i for i, c in enumerate(self.classes) if not c.hidden and c.into < 0]

    def index(self, name: str) -> int:
        """Return the index of the class called `name`, now or formerly, or of what it was merged into.

        Raises KeyError (naming the known ones) if there is none.
        """
        for i, c in enumerate(self.classes):
            if c.is_called(name):
                return i if c.into < 0 else c.into
        raise KeyError(f"no class {name!r} in {self.name}: it has {', '.join(self.names)}")

    def merged(self, labels: NDArray[np.int16]) -> NDArray[np.int16]:
        """Return the classes, int16 (n,), that cells of the classes `labels` count as; -1, no class, stays."""
        counts_as = np.array([*(i if c.into < 0 else c.into for i, c in enumerate(self.classes)), -1], np.int16)
        return counts_as[labels]

    def continues(self, older: Taxonomy) -> bool:
        """Say whether what is known in terms of `older` is right in terms of this one: its classes are the first here,
        whatever they are called now."""
        return len(older) <= len(self) and all(
            mine.is_called(theirs.name) for mine, theirs in zip(self.classes, older.classes, strict=False)
        )

    def edited(self, classes: Sequence[CellClass]) -> Taxonomy:
        """Return a taxonomy that continues this one: with `classes`, those of this one first, changed as they may be.

        What was renamed keeps being found by its older name. Raises ValueError, in words for the person who edits,
        where two classes could not be told apart, or one was merged into one that is none itself.
        """
        if len(classes) < len(self):
            raise ValueError("A class cannot be taken away: hide it, or merge it into another.")
        kept = [
            new if new.is_called(old.name) else replace(new, formerly=(*new.formerly, old.name))
            for old, new in zip(self.classes, classes, strict=False)
        ]
        all_classes = tuple(replace(c, name=c.name.strip()) for c in (*kept, *classes[len(self) :]))
        for i, c in enumerate(all_classes):
            if not c.name:
                raise ValueError("A class needs a name.")
            if not 1 <= len(c.letter) <= 2:
                raise ValueError(f"{c.name} needs one or two letters that stand for it on the slide.")
            if c.key not in set("123456789") | {""}:
                raise ValueError(f"The key of {c.name} must be one of 1 to 9, or none.")
            if c.into >= 0 and (c.into == i or all_classes[c.into].into >= 0):
                raise ValueError(f"{c.name} can only be merged into a class that stays one.")
            for other in all_classes[:i]:
                if any(other.is_called(name) for name in (c.name, *c.formerly)):
                    raise ValueError(f"Two classes are or were called {c.name}. Choose another name.")
                if c.into < 0 and other.into < 0:
                    if c.letter == other.letter:
                        raise ValueError(f"{other.name} and {c.name} have the same letter {c.letter}.")
                    if c.key and c.key == other.key:
                        raise ValueError(f"{other.name} and {c.name} have the same key {c.key}.")
        edited = Taxonomy(self.name, all_classes)
        if not edited.offered:
            raise ValueError("At least one class must be there to choose.")
        return edited

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "classes": [c.to_json() for c in self.classes]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Taxonomy:
        classes = ({**c, "formerly": tuple(c.get("formerly", ()))} for c in data["classes"])
        return cls(data["name"], tuple(CellClass(**c) for c in classes))


BETHESDA = Taxonomy(
    "The Bethesda System",
    (
        CellClass("NILM", "N", "#7395bf", "1", "negative", 0),
        CellClass("ASC-US", "U", "#7bdebb", "2", "low grade", 1),
        CellClass("LSIL", "L", "#fff05a", "3", "low grade", 2),
        CellClass("ASC-H", "A", "#e07a10", "4", "high grade", 3),
        CellClass("HSIL", "H", "#d04545", "5", "high grade", 4),
        CellClass("SCC", "S", "#9b16c2", "6", "high grade", 5),
    ),
)
