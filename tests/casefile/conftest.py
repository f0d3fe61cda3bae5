from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from napari_cervcell.casefile import Case


@dataclass
class Slide:
    """As much of a slide as a case asks for."""

    path: Path
    fingerprint: str = "f00d"
    width: int = 20_000
    height: int = 10_000
    mpp: float | None = 0.25


@pytest.fixture
def slide(tmp_path: Path) -> Slide:
    return Slide(tmp_path / "one.svs")


@pytest.fixture
def new_case(tmp_path: Path, slide: Slide) -> Iterator[Callable[..., Case]]:
    """Make a case of the slide; closed after the test."""
    cases = []

    def make(name: str = "case.cervcell") -> Case:
        case = Case.create(
            tmp_path / name,
            slide_name=slide.path.name,
            fingerprint=slide.fingerprint,
            width=slide.width,
            height=slide.height,
            mpp=slide.mpp,
            reviewer="ada lovelace",
        )
        cases.append(case)
        return case

    yield make
    for case in cases:
        case.close()


@pytest.fixture
def case(new_case: Callable[..., Case]) -> Case:
    return new_case()
