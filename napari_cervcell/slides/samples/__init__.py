"""The slide that ships with the package; README.md beside it says where it comes from."""

from __future__ import annotations

from pathlib import Path

__all__ = ["sample_slide", "sample_truth"]


def sample_slide() -> Path:
    """Return the path of the sample slide: Pap smear fields that the shipped model never saw in training."""
    return Path(__file__).with_name("cric_sample.tiff")


def sample_truth() -> Path:
    """Return the path of its labelled nuclei: columns x, y (level-0 px), class."""
    return Path(__file__).with_name("cric_sample_points.csv")
