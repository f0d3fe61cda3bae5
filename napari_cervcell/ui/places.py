"""Where case files go when the user has not said."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from ..casefile import SUFFIX, default_case_path
from ..slides import Slide, sample_slide

__all__ = ["case_path_for"]


def case_path_for(slide: Slide) -> Path:
    """Return the case file of `slide`: beside it, or in the user's data folder where nothing can be written there.

    The sample slide lies inside the installed package, which is no place for anybody's work. In the data folder the
    fingerprint keeps slides of one name apart.
    """
    beside = default_case_path(slide.path)
    is_sample = slide.path.resolve() == sample_slide().resolve()
    if not is_sample and (beside.exists() or os.access(beside.parent, os.W_OK)):
        return beside
    folder = Path(platformdirs.user_data_dir("napari-cervcell", appauthor=False)) / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{slide.path.stem}-{slide.fingerprint[:8]}{SUFFIX}"
