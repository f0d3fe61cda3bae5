"""What several rooms' tests share."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import settings

from napari_cervcell.learning import rounds
from napari_cervcell.models import DEFAULT_CONFIG, Model, build, load_model
from napari_cervcell.slides import Slide, open_slide, sample_slide
from napari_cervcell.taxonomy import BETHESDA

# a busy machine is slow now and then; speed is not what tests are for
settings.register_profile("cervcell", deadline=None)
settings.load_profile("cervcell")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What was converted or seen on this machine before, e.g. models in 8 bits, changes nothing here.

    Tests that run side by side share what they convert and see, as windows do.
    """
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"))
        yield


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What users keep in their data folder is theirs."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture(scope="session")
def shipped_model() -> Model:
    return load_model()


@pytest.fixture(scope="session")
def quick_file() -> Path:
    """The model file of a detector that is a tenth of the shipped one's work, and not as good.

    Made by ``python training/train.py --data DIR --backbone small --width 32 --mpp 0.8 --crop 160 --batch 8
    --steps 2000 --second-steps 300 --out tests/quick.safetensors``, of the train fields alone: it has not seen the
    sample slide.
    """
    return Path(__file__).with_name("quick.safetensors")


@pytest.fixture(scope="session")
def quick_model(quick_file: Path) -> Model:
    return load_model(quick_file)


@pytest.fixture
def small_model() -> Model:
    """A model of the right build with fresh weights: quick to save, damage and compare."""
    card = {"name": "small", "architecture": DEFAULT_CONFIG, "taxonomy": BETHESDA.to_json(), "mpp": 0.5}
    return Model(build(DEFAULT_CONFIG).eval(), card)


@pytest.fixture(scope="session")
def sample() -> Slide:
    return open_slide(sample_slide())


@pytest.fixture(scope="session")
def few_fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replay")
    rows = {
        name: list(csv.DictReader((rounds.REPLAY / name).open(encoding="utf-8")))
        for name in ("images.csv", "points.csv")
    }
    kept = {row["image"] for row in rows["images.csv"][:6]}
    (folder / "images").mkdir()
    for name in kept:
        shutil.copy(rounds.REPLAY / "images" / name, folder / "images")
    for name, all_rows in rows.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, all_rows[0])
            table.writeheader()
            table.writerows(row for row in all_rows if row["image"] in kept)
    return folder


@pytest.fixture
def few_earlier_fields(few_fields: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Rounds in this process replay four earlier fields and watch two, of the 36 that ship: that takes seconds less."""
    monkeypatch.setattr(rounds, "REPLAY", few_fields)
    rounds._replay.cache_clear()
    yield
    rounds._replay.cache_clear()


@pytest.fixture
def labelled_svs(tmp_path: Path) -> Path:
    """An Aperio slide as scanners write it, with a thumbnail, a label (red), a macro image, and a patient's name."""
    path, scanner = tmp_path / "labelled.svs", "Aperio Image Library v11.2.1\r\n"
    pixels = np.full((800, 1200, 3), 230, np.uint8)
    beside = np.full((40, 60, 3), (200, 30, 90), np.uint8)
    with tifffile.TiffWriter(path) as tiff:

        def write(image: np.ndarray, what: str, **settings: object) -> None:
            tiff.write(image, photometric="rgb", metadata=None, description=scanner + what, **settings)

        write(pixels, "1200x800 (256x256) JPEG/RGB Q=85|AppMag = 40|MPP = 0.25|Patient = Jane Doe", tile=(256, 256))
        write(pixels[::8, ::8], "1200x800 -> 150x100 - |AppMag = 40", compression="jpeg")
        write(beside, "label 60x40", compression="lzw", subfiletype=1)
        write(beside[:, ::-1], "macro 60x40", compression="jpeg", subfiletype=9)
    return path


Scratch = Callable[..., Callable[[], None]]


@pytest.fixture
def scratch() -> Scratch:
    """Return a function that blots out the stored tiles around level-0 (x, y) in a copy of the sample slide.

    ``scratch(path, x, y, levels)`` does so in the given levels, each half the size of the one before; it returns a
    function that mends them.
    """

    def blot(path: Path, x: float, y: float, levels: tuple[int, ...] = (0, 1)) -> Callable[[], None]:
        whole = {}
        with tifffile.TiffFile(path) as tiff:
            for level in levels:
                page = tiff.pages[level]
                column, row = (int(v / 2**level) // 256 for v in (x, y))
                number = row * -(-page.imagewidth // 256) + column
                whole[page.dataoffsets[number]] = page.databytecounts[number]
        before = path.read_bytes()

        def write(what: Callable[[int, int], bytes]) -> None:
            with path.open("r+b") as file:
                for offset, size in whole.items():
                    file.seek(offset)
                    file.write(what(offset, size))

        write(lambda offset, size: bytes(size))
        return lambda: write(lambda offset, size: before[offset : offset + size])

    return blot


@pytest.fixture(scope="session")
def sample_truth() -> Path:
    return sample_slide().with_name("cric_sample_points.csv")


@pytest.fixture(scope="session")
def sample_cells(sample_truth: Path) -> dict[str, np.ndarray]:
    """Boxes float32 (n, 4) about the labelled cells of the sample slide, by class."""
    rows = [line.split(",") for line in sample_truth.read_text().splitlines()]
    x, y, name = (rows[0].index(column) for column in ("x", "y", "class"))
    points = np.array([[float(r[x]), float(r[y])] * 2 for r in rows[1:]], np.float32)
    names = np.array([r[name] for r in rows[1:]])
    boxes = points + np.array([-30, -30, 30, 30], np.float32)
    return {kind: boxes[names == kind] for kind in BETHESDA.names}
