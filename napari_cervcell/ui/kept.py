"""What the window keeps for the user between sittings: small files in the user's data folder.

That one cannot be read or written is nobody's loss, and not told.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from ..files import data_folder

__all__ = ["keep", "recall"]


def recall(name: str) -> dict[str, Any]:
    """Return what was kept under `name`, a file name; nothing where there is none."""
    with suppress(OSError, ValueError, TypeError):
        return dict(json.loads((data_folder() / name).read_text(encoding="utf-8")))
    return {}


def keep(name: str, what: dict[str, Any]) -> None:
    """Keep `what`, JSON-able, under `name` instead of what was there."""
    with suppress(OSError):
        path = data_folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(what), encoding="utf-8")
