"""Colour profiles are applied when asked for, and only then."""

from __future__ import annotations

import copy
import struct
from pathlib import Path

import numpy as np
import pytest

from napari_cervcell.slides import SlideError, open_slide


def profile(red: tuple[float, float, float] = (0.436, 0.222, 0.014), gamma: float = 1.0) -> bytes:
    """Return an ICC profile of RGB with a plain gamma; `red` is its red primary as XYZ."""
    columns = {"rXYZ": red, "gXYZ": (0.385, 0.717, 0.097), "bXYZ": (0.143, 0.061, 0.714), "wtpt": (0.964, 1, 0.825)}
    parts = {k: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in xyz)) for k, xyz in columns.items()}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    parts |= dict.fromkeys(("rTRC", "gTRC", "bTRC"), curve)
    parts["desc"] = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(82)
    parts["cprt"] = b"text\0\0\0\0none\0\0\0\0"
    table, body, start = struct.pack(">I", len(parts)), b"", 132 + 12 * len(parts)
    for name, part in parts.items():
        table += name.encode() + struct.pack(">II", start + len(body), len(part))
        body += part + bytes(-len(part) % 4)
    head = struct.pack(">I4sI4s4s4s", 128 + len(table + body), b"test", 0x02200000, b"scnr", b"RGB ", b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return head + bytes(128 - len(head)) + table + body


def test_pixels_come_in_srgb_on_request(write_slide, noise) -> None:
    icc = profile(gamma=1.0)  # a scanner whose numbers are proportional to light
    path = write_slide([noise], iccprofile=icc)
    with open_slide(path) as stored, open_slide(path, color_managed=True) as shown:
        assert stored.icc == shown.icc == icc
        np.testing.assert_array_equal(stored.read_region(0, 0, 300, 200), noise)
        light = noise / 255.0
        srgb = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(shown.read_region(0, 0, 300, 200) - srgb * 255).max() < 4
        assert (shown.read_region(-4, 0, 4, 4) == shown.background).all()
        assert shown.color_managed
        assert not stored.color_managed


def test_a_copy_shows_the_same_colours(write_slide, noise) -> None:
    slide = open_slide(write_slide([noise], iccprofile=profile(gamma=1.0)), color_managed=True)
    np.testing.assert_array_equal(copy.deepcopy(slide).tile(0, 0, 0), slide.tile(0, 0, 0))


def test_models_get_the_colours_as_they_are_stored(write_slide, noise) -> None:
    slide = open_slide(write_slide([noise], iccprofile=profile(gamma=1.0)), mpp=0.3, color_managed=True)
    stored = slide.as_stored()
    assert (slide.tile(0, 0, 0) != noise).any()
    np.testing.assert_array_equal(stored.tile(0, 0, 0), noise)
    assert stored.mpp == 0.3
    assert stored.as_stored() is stored


def test_slide_without_a_profile_is_as_stored(write_slide, noise) -> None:
    with open_slide(write_slide([noise]), color_managed=True) as slide:
        assert slide.icc is None
        np.testing.assert_array_equal(slide.tile(0, 0, 0), noise)


def test_damaged_profile_is_refused_only_when_it_is_needed(write_slide, noise) -> None:
    icc = profile()[:150] + bytes(400)
    path: Path = write_slide([noise], iccprofile=icc)
    with open_slide(path) as slide:
        np.testing.assert_array_equal(slide.tile(0, 0, 0), noise)
    with pytest.raises(SlideError, match=r"made\.tiff has a colour profile.*without colour management"):
        open_slide(path, color_managed=True)
