from __future__ import annotations

from collections.abc import Iterator

import pytest

from napari_cervcell.slides import Slide, open_slide, sample_slide


@pytest.fixture(scope="session")
def other_slide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slide]:
    """Another slide than the sample, by its description, which looks the same."""
    path = tmp_path_factory.mktemp("other") / "other.tiff"
    path.write_bytes(sample_slide().read_bytes().replace(b"Not a scan", b"Not A scan"))
    with open_slide(path) as slide:
        yield slide
