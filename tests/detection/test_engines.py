"""What computes: every engine finds the same cells, wherever tiles begin, and goes on where memory is short."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from napari_cervcell.cells import Cells
from napari_cervcell.detection import AnySize, Block, DetectionError, Scan, pick_device
from napari_cervcell.detection.engines import Engine, TorchEngine, infer, make_engine
from napari_cervcell.learning import evaluate, read_fields
from napari_cervcell.learning.rounds import REPLAY
from napari_cervcell.models import ACCURATE_MODEL, SHIPPED_MODEL, Model, decode, decode_embedded, load_model
from napari_cervcell.models.heads import Dense
from napari_cervcell.slides import Slide, open_slide, sample_slide

from .same import EXACT

SIDE = 512

needs_openvino = pytest.mark.skipif(pick_device("cpu") != "cpu-openvino", reason="no OpenVINO for this machine")


@pytest.fixture(scope="module")
def tiles(sample: Slide) -> np.ndarray:
    """Three fields full of cells, uint8 (3, 512, 512, 3), as the shipped model wants to see them."""
    return np.stack([sample.read_grid(x, 2500, SIDE, SIDE, 1.6, 1.6) for x in (2000, 3500, 5000)])


def assert_same(a: Cells, b: Cells, sure: float, px: float = 1.0, score: float = 0.01) -> None:
    """Each cell of one that is surer than `sure` is in the other, once, within `px` and `score`."""
    assert_all_in(a, b, sure, px, score)
    assert_all_in(b, a, sure, px, score)


def assert_all_in(these: Cells, others: Cells, sure: float, px: float = 1.0, score: float = 0.01) -> None:
    for i in np.flatnonzero(these.scores > sure + score):
        near = np.abs(others.boxes - these.boxes[i]).max(1) <= px
        assert near.sum() == 1, f"{these.boxes[i]} of {these.scores[i]:.3f} is there {near.sum()} times"
        assert np.abs(others.scores[near] - these.scores[i]).max() <= score


@needs_openvino
@pytest.mark.parametrize("file", [SHIPPED_MODEL, ACCURATE_MODEL])
def test_openvino_finds_what_torch_finds(file: Path, tiles: np.ndarray) -> None:
    model = load_model(file)
    exact = make_engine(model, "cpu-openvino-f32", SIDE, SIDE)
    fast = make_engine(model, "cpu-openvino", SIDE, SIDE)
    assert (exact.name, fast.name) == ("cpu-openvino-f32", "cpu-openvino")
    assert "OpenVINO" in fast.words
    torch_cells = decode(TorchEngine(model, "cpu-torch")(tiles), 0.1)
    assert sum(map(len, torch_cells)) > 20
    for a, b in zip(torch_cells, decode(exact(tiles), 0.1), strict=True):
        assert_same(a, b, 0.1)
    for a, b in zip(torch_cells, decode(fast(tiles), 0.1), strict=True):
        assert_same(a, b, 0.5, px=8.0, score=0.06)  # bfloat16 has three digits: the next place may be the peak


@needs_openvino
def test_openvino_says_what_cells_look_like_as_torch_does(shipped_model: Model, tiles: np.ndarray) -> None:
    (cells, looks, _), *_ = decode_embedded(TorchEngine(shipped_model, "cpu-torch")(tiles[:1]), 0.5)
    assert looks.shape == (len(cells), 128)
    for name, like in (("cpu-openvino-f32", 0.9999), ("cpu-openvino", 0.98)):
        others, their_looks, _ = decode_embedded(make_engine(shipped_model, name, SIDE, SIDE)(tiles[:1]), 0.3)[0]
        for box, look in zip(cells.boxes, looks, strict=True):
            same = np.abs(others.boxes - box).max(1) <= 1
            assert (their_looks[same] @ look).min(initial=1) > like
            assert same.any() or name == "cpu-openvino"


class Odd(nn.Module):
    """A network with a step in it that OpenVINO does not know."""

    rotations = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 11, 4, stride=4)

    def forward(self, x: Tensor) -> Dense:
        y = self.conv(x + 0 * torch.linalg.eigvals(x[0, 0, :2, :2]).real.sum())
        return Dense(y[:, 0], y[:, 1:7], y[:, 7:].exp())


@needs_openvino
def test_what_openvino_cannot_run_goes_to_torch_and_says_so(shipped_model: Model, tiles: np.ndarray) -> None:
    odd = Model(Odd().eval(), shipped_model.card)  # type: ignore[arg-type]
    engine = make_engine(odd, "cpu-openvino", SIDE, SIDE)
    assert engine.name == "cpu-torch"
    assert "torch" in engine.words
    assert "OpenVINO cannot run this model" in engine.words
    assert engine(tiles).cell.shape == (3, SIDE // 4, SIDE // 4)


class SmallCard(TorchEngine):
    """A device whose memory holds a few tiles only."""

    holds = 2
    says: Exception

    def __call__(self, pixels: np.ndarray) -> Dense:
        if len(pixels) > self.holds:
            raise self.says
        return super().__call__(pixels)


@pytest.mark.parametrize(
    "says",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("could not create a primitive"),  # oneDNN's way to say so
        MemoryError(),
    ],
    ids=["cuda", "onednn", "python"],
)
def test_where_memory_is_short_batches_get_smaller(shipped_model: Model, tiles: np.ndarray, says: Exception) -> None:
    small = np.concatenate([tiles, tiles])[:5, :128, :128]
    card = SmallCard(shipped_model, "cpu-torch")
    card.batch, card.says = 8, says
    dense = infer(card, small)
    assert card.batch <= card.holds
    each = [TorchEngine(shipped_model, "cpu-torch")(small[i : i + 1]) for i in range(5)]
    np.testing.assert_allclose(dense.cell, torch.cat([d.cell for d in each]), atol=1e-4)

    card.holds = 0
    with pytest.raises(DetectionError, match=r"not enough memory.*kept"):
        infer(card, small)


class LostCard(TorchEngine):
    """A device that is gone."""

    def __call__(self, pixels: np.ndarray) -> Dense:
        raise RuntimeError("CUDA error: device-side assert triggered\nCompile with ...")


def test_a_device_lost_half_way_is_explained(shipped_model: Model, tiles: np.ndarray) -> None:
    with pytest.raises(DetectionError, match=r"device-side assert.*so far is kept.*another device"):
        infer(LostCard(shipped_model, "cpu-torch"), tiles)


def test_an_error_without_words_is_named(quick_model: Model, tiles: np.ndarray) -> None:
    card = SmallCard(quick_model, "cpu-torch")
    card.holds, card.says = 0, RuntimeError()
    with pytest.raises(DetectionError, match=r"failed: RuntimeError\. What"):
        infer(card, tiles[:1])


@needs_openvino
def test_what_openvino_says_is_wrong_is_passed_on(quick_model: Model, tiles: np.ndarray) -> None:
    """Not where in its sources it was found."""
    engine = make_engine(quick_model, "cpu-openvino-f32", 64, 64)
    with pytest.raises(DetectionError, match="failed: Can't set the input tensor"):
        infer(engine, tiles[:1, :96, :96])


@needs_openvino
@pytest.mark.parametrize(("device", "made", "most"), [("cpu-openvino-f32", 4, 2), ("cpu-torch", 1, 1)])
def test_images_of_many_sizes_take_no_more_memory_than_those_of_two(
    device: str, made: int, most: int, quick_model: Model, tiles: np.ndarray
) -> None:
    engines: list[weakref.ref[Engine]] = []

    def make(model: Model, device: str, height: int, width: int) -> Engine:
        engine = make_engine(model, device, height, width)
        engines.append(weakref.ref(engine))
        return engine

    look = AnySize(quick_model, device, make)
    for side in (64, 96, 128, 160):
        assert look(tiles[:1, :side, :side]).cell.shape == (1, side // 4, side // 4)
    assert len(engines) == made
    assert sum(engine() is not None for engine in engines) == most


@pytest.mark.parametrize(
    ("says", "explained"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), r"not enough memory.*CUDA.*kept"),
        (RuntimeError("CUDA error: the device was lost\nCompile with ..."), r"CUDA.*device was lost\..*another device"),
    ],
    ids=["full", "lost"],
)
def test_a_card_that_does_not_take_the_model_is_explained(
    shipped_model: Model, monkeypatch: pytest.MonkeyPatch, says: Exception, explained: str
) -> None:
    def to(*_: object) -> nn.Module:
        raise says

    monkeypatch.setattr(nn.Module, "to", to)
    with pytest.raises(DetectionError, match=explained):
        make_engine(shipped_model, "cuda", SIDE, SIDE)


@needs_openvino
def test_the_engine_costs_no_accuracy(shipped_model: Model) -> None:
    """Half as many digits, or whatever else it does, for at most 0.003 of AP."""
    fields = read_fields(REPLAY, shipped_model.taxonomy)[:6]
    engine = AnySize(shipped_model, "cpu-openvino")
    exact, fast = evaluate(shipped_model, fields), evaluate(shipped_model, fields, look=engine)
    assert engine.name == "cpu-openvino"
    assert fast["ap"] > exact["ap"] - 0.003


def test_where_tiles_begin_makes_no_difference(shipped_model: Model) -> None:
    """The same cells, none twice and none missing at borders, with the grid moved by multiples of the stride."""
    found = []
    with open_slide(sample_slide(), mpp=0.2) as slide:  # two px of the slide are one of the network, in whole numbers
        for dx, dy in ((0, 0), (320, 704)):
            scan = Scan(slide, shipped_model, region=(4000, 4200, 4200, 4300), device=EXACT)
            scan.blocks = [Block.of(replace(t, x=t.x + dx, y=t.y + dy)) for t in scan.tiles]
            assert {(t.x - dx, t.y - dy, t.size) for t in scan.tiles} == {(2048, 4096, 2048), (4096, 4096, 2048)}
            cells = Cells.concatenate([step.cells for step in scan.run()])
            found.append(cells.moved(0, 0, 0.5))  # px of the network

    def within(cells: Cells, margin: float) -> Cells:
        """Return those that both grids look at, so far from their edge."""
        x, y = cells.centres.T
        return cells[(x > 1184 + margin) & (x < 3072 - margin) & (y > 2400 + margin) & (y < 3072 - margin)]

    assert len(within(found[0], 20)) > 20
    assert_all_in(within(found[0], 20), within(found[1], 10), 0.1)
    assert_all_in(within(found[1], 20), within(found[0], 10), 0.1)
