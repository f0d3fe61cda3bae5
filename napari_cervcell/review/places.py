"""Where case files go when the user has not said."""

from __future__ import annotations

import os
from pathlib import Path

from ..casefile import SUFFIX, default_case_path
from ..files import data_folder
from ..slides import Slide, open_slide, sample_slide

__all__ = ["case_path_for", "known_case"]


def case_path_for(slide: Slide) -> Path:
    """Return the case file of `slide`: beside it, or in the user's data folder where nothing can be written there.

    The sample slide lies inside the installed package, which is no place for anybody's work. In the data folder the
    fingerprint keeps slides of one name apart.
    """
    beside = default_case_path(slide.path)
    is_sample = slide.path.resolve() == sample_slide().resolve()
    if not is_sample and (os.path.exists(beside) or os.access(beside.parent, os.W_OK)):
        return beside
    folder = data_folder() / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{slide.path.stem}-{slide.fingerprint[:8]}{SUFFIX}"


def known_case(slide_path: Path) -> Path | None:
    """Return the case file of a slide if there is one yet; the slide itself is opened only where that cannot be told
    without. Raises SlideError."""
    beside = default_case_path(slide_path)
    if os.path.exists(beside):  # not Path.exists, which raises where one may not look
        return beside
    if not any((data_folder() / "cases").glob(f"*{SUFFIX}")):
        return None
    with open_slide(slide_path) as slide:
        path = case_path_for(slide)
    return path if os.path.exists(path) else None
