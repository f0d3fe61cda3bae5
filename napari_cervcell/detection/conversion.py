"""Networks as OpenVINO computes them: converted once, kept on disk, on request in whole numbers of 8 bits."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..models import Model, Network, to_input
from ..models.modelfile import digest_of
from ..models.network import both_looks, looks

# OpenVINO tells its makers over the network that it is used, unless this package of theirs is missing
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
try:
    import openvino
except ImportError:  # there are no wheels of it for some machines
    openvino = None

__all__ = ["converted", "forget_quantized", "keep_quantized", "openvino", "quantize", "quantized"]

_KEPT = 12  # converted models kept on disk
_INT8 = "-int8"  # in the names of quantized ones


class _Eyes(nn.Module):
    """The part of a network that most rounds leave as it is, from bytes to features; with `_Head`, all of it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor) -> tuple[Tensor, ...]:
        return tuple(t for x in looks(self.network, to_input(rgb)) for t in self.network.look(x))


class _Head(nn.Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.head = network.head

    def forward(self, *features: Tensor) -> tuple[Tensor, ...]:
        said = [self.head(*features[i : i + 2]) for i in range(0, len(features), 2)]
        return tuple(t for t in both_looks(*said) if t is not None)


def converted(model: Model, core: Any) -> Any:
    """Return `model` as an OpenVINO model for images of any size, from disk as far as it was converted before.

    Its head is converted by itself: after a quick round nothing else is new, and the rest takes many times as long.
    """
    network = model.network
    example = torch.zeros(1, 64, 64, 3, dtype=torch.uint8)

    def whole() -> Any:
        features = _Eyes(network).eval()(example)
        head = _convert(_Head(network), features)
        frozen = nn.ModuleList([network.backbone, network.neck])
        eyes = _kept(
            f"{digest_of(frozen, str(network.rotations))[:12]}-eyes", core, lambda: _convert(_Eyes(network), example)
        )
        for parameter, result in zip(head.get_parameters(), eyes.get_results(), strict=True):
            for reader in parameter.output(0).get_target_inputs():
                reader.replace_source_output(result.input_value(0))
        return openvino.Model(head.get_results(), eyes.get_parameters())

    with torch.no_grad():
        return _kept(model.id, core, whole)


def quantize(model: Model, pictures: Sequence[NDArray[np.uint8]]) -> Any:
    """Return `model` as an OpenVINO model in whole numbers of 8 bits, whose ranges are those met on `pictures`.

    `pictures` are uint8 (h, w, 3) of one size at the model's µm per px. Whether it still finds the same is for the
    caller to check before :func:`keep_quantized`. To be called in a process of its own: NNCF, which does it, changes
    torch itself. Raises ImportError where NNCF is not installed.
    """
    import nncf

    nncf.set_log_level(40)  # errors

    source = converted(model, openvino.Core())
    source.reshape([1, -1, -1, 3])
    with redirect_stdout(StringIO()):  # progress bars of its own
        return nncf.quantize(
            source,
            nncf.Dataset([picture[None] for picture in pictures]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(pictures),
            fast_bias_correction=False,
        )


def keep_quantized(model: Model, made: Any) -> None:
    """Keep what :func:`quantize` made of `model` for every engine to come. Raises OSError or RuntimeError."""
    forget_quantized(model)
    _keep(_int8(model), made)


def quantized(model: Model, core: Any) -> Any | None:
    """Return what was kept of `model` in whole numbers of 8 bits, None where there is nothing."""
    return _read(_int8(model), core)


def forget_quantized(model: Model) -> None:
    """Keep no longer what :func:`quantize` made of `model`."""
    if openvino is not None:  # without it there is none
        shutil.rmtree(_place(_int8(model)), ignore_errors=True)


def _int8(model: Model) -> str:
    return f"{model.id}{_INT8}"


def _convert(module: nn.Module, example: Tensor | tuple[Tensor, ...]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracing
        traced = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(traced, example_input=example)


def _place(name: str) -> Path:
    """Return the folder of the OpenVINO model `name`."""
    version = openvino.get_version().replace("/", "_")
    cache = Path(platformdirs.user_cache_dir("napari-cervcell", appauthor=False))
    return cache / "openvino" / f"{name}-{version}"


def _kept(name: str, core: Any, make: Callable[[], Any]) -> Any:
    """Return the OpenVINO model `name` from disk, or what `make` makes, kept there for the next time."""
    if (known := _read(name, core)) is not None:
        return known
    made = make()
    with suppress(OSError, RuntimeError):  # a cache that cannot be written costs seconds at the next start, no more
        _keep(name, made)
    return made


def _read(name: str, core: Any) -> Any | None:
    file = _place(name) / "model.xml"
    with suppress(RuntimeError, OSError):
        if file.exists():
            os.utime(file.parent)  # what is used stays
            return core.read_model(file)
    return None


def _keep(name: str, made: Any) -> None:
    place = _place(name)
    place.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=place.parent))
    try:
        openvino.save_model(made, part / "model.xml", compress_to_fp16=False)
        part.rename(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    # a quantized one takes minutes to make, and somebody has asked for it
    others = [folder for folder in place.parent.iterdir() if _INT8 not in folder.name]
    for old in sorted(others, key=os.path.getmtime)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)
