"""The classes that a cell can have.

The default is the six classes of The Bethesda System for squamous epithelium, in order of severity.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

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
    """

    name: str
    letter: str
    color: str
    key: str
    group: str
    rank: int


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """An ordered set of cell classes; a class index anywhere in the project is a position in `classes`."""

    name: str
    classes: tuple[CellClass, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.classes)

    def __len__(self) -> int:
        return len(self.classes)

    def __getitem__(self, index: int) -> CellClass:
        return self.classes[index]

    def index(self, name: str) -> int:
        """Return the index of the class called `name`; raise KeyError (naming the known ones) if there is none."""
        wanted = name.strip().casefold()
        for i, c in enumerate(self.classes):
            if c.name.casefold() == wanted:
                return i
        raise KeyError(f"no class {name!r} in {self.name}: it has {', '.join(self.names)}")

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "classes": [asdict(c) for c in self.classes]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Taxonomy:
        return cls(data["name"], tuple(CellClass(**c) for c in data["classes"]))


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
