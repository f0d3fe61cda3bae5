"""Colours as readers see them who do not tell red from green."""

from __future__ import annotations

import numpy as np
import pytest

from napari_cervcell.bench.colors import KINDS, closest, difference, seen_with
from napari_cervcell.taxonomy import BETHESDA


@pytest.mark.parametrize("kind", KINDS)
def test_no_two_classes_look_alike_to_anyone(kind: str) -> None:
    distance, i, j = closest([c.color for c in BETHESDA.classes], kind)
    assert distance > 25, f"{BETHESDA[i].name} and {BETHESDA[j].name} look alike with {kind}"


def test_no_two_classes_have_the_same_letter() -> None:
    assert len({c.letter for c in BETHESDA.classes}) == len(BETHESDA)


def test_greys_look_the_same_to_all_and_usual_vision_changes_nothing() -> None:
    greys = np.linspace(0, 1, 6)[:, None].repeat(3, 1)
    for kind in KINDS:
        np.testing.assert_allclose(seen_with(greys, kind), greys, atol=1e-3)
    colors = np.random.default_rng(0).uniform(0, 1, (50, 3))
    np.testing.assert_allclose(seen_with(colors, "usual"), colors, atol=1e-9)


def test_red_and_green_of_one_brightness_are_hard_to_tell_for_some() -> None:
    red, green = (0.75, 0.36, 0.1), (0.43, 0.55, 0.1)
    for kind in KINDS[1:]:
        assert difference(seen_with(red, kind), seen_with(green, kind)) < 0.5 * difference(red, green)
    assert difference((0, 0, 0), (1, 1, 1)) == pytest.approx(100, abs=0.1)
