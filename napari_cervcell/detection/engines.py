"""What computes: a graphics card, or the processor through OpenVINO or plain torch. Pixels in, `Dense` out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import CervcellError, lacks_memory
from ..models import Model, predict, to_input
from ..models.heads import Dense
from .conversion import converted, openvino, quantized

__all__ = ["DEVICES", "AnySize", "DetectionError", "Engine", "NoRoomError", "infer", "make_engine", "pick_device"]

DEVICES = ("auto", "cuda", "mps", "cpu", "cpu-openvino", "cpu-openvino-f32", "cpu-torch")
"""What can be asked for. "cpu" is the faster of the processor's engines; "cpu-openvino-f32" computes in full precision
also where the processor has units for less or the model was quantized, so that the last digits of scores are those of
any other machine."""

_CUDA_PIXELS = 8 * 1536**2  # of a batch
_TORCH_WORDS = {"cuda": "graphics card (CUDA)", "mps": "Apple GPU", "cpu-torch": "processor (torch)"}


class DetectionError(CervcellError):
    """A scan cannot be done, or not go on."""


class NoRoomError(DetectionError):
    """Memory does not suffice for one image of a size."""


class Engine(Protocol):
    """A model made ready for one device.

    Attributes
    ----------
    name : str
        Of the device, as in `DEVICES`.
    words : str
        The same for people, with why it was taken where it was not the first choice.
    batch : int
        Images a call that it is quickest with. Halved by whoever finds that memory does not suffice.
    """

    name: str
    words: str
    batch: int

    def __call__(self, pixels: NDArray[np.uint8]) -> Dense:
        """Return what the model says of images uint8 (n, h, w, 3), on the CPU."""
        ...


def pick_device(wanted: str = "auto") -> str:
    """Return which of `DEVICES` serves `wanted`, never "auto" or "cpu". Raises DetectionError if it is not there.

    Only an engine that is made says what computes in the end: a model that OpenVINO cannot run goes to torch.
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu-openvino": openvino is not None,
        "cpu-torch": True,
    }
    there["cpu-openvino-f32"] = there["cpu-openvino"]
    if wanted in ("auto", "cpu"):
        order = ("cuda", "mps", "cpu-openvino", "cpu-torch")
        return next(name for name in order if there[name] and (wanted == "auto" or name.startswith(wanted)))
    if not there.get(wanted, False):
        raise DetectionError(f"This machine has no {wanted!r} device for detection. Choose auto or cpu.")
    return wanted


def make_engine(model: Model, device: str, height: int, width: int, threads: int | None = None) -> Engine:
    """Return `model` ready for images of `height` x `width` px on `device`, a name from :func:`pick_device`.

    `threads` bounds the CPU threads of the network. Where OpenVINO cannot run the model, plain torch does. Raises
    DetectionError where the device has no room for the model, or fails.
    """
    if not device.startswith("cpu-openvino"):
        batch = max(1, _CUDA_PIXELS // (height * width)) if device == "cuda" else 1
        try:
            return TorchEngine(model, device, threads, batch)
        except (RuntimeError, MemoryError) as error:
            raise _explained(error, _TORCH_WORDS[device]) from error
    try:
        core = openvino.Core()
        whole = quantized(model, core) if device == "cpu-openvino" else None
        return OpenVINOEngine(whole or converted(model, core), device, height, width, threads, int8=whole is not None)
    except Exception as error:  # whatever a converter and a compiler can raise
        engine = TorchEngine(model, "cpu-torch", threads)
        engine.words += f", for OpenVINO cannot run this model ({_last_line(error)})"
        return engine


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1][:120]


def _gist(error: Exception) -> str:
    """Return the line that says what is wrong: torch begins with it, OpenVINO with where in its sources that was."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1 if lines[0].startswith("Exception from") else 0][:200]


class AnySize:
    """An engine for images of whatever size comes: `make`, given all of this and the size, is asked for one for each.

    Plain torch has one for all, of others those of the last two sizes stay: each takes as much memory as a model.
    `name` is that of the last one used.
    """

    def __init__(self, model: Model, device: str, make: Callable[[Model, str, int, int], Engine] = make_engine) -> None:
        self.name = self.words = device
        self.batch = 1
        self._of_size = lru_cache(2)(partial(make, model, device))
        self._of_all: Engine | None = None

    def __call__(self, pixels: NDArray[np.uint8]) -> Dense:
        engine = self._of_all or self._of_size(*pixels.shape[1:3])
        if isinstance(engine, TorchEngine):
            self._of_all = engine
        self.name, self.words = engine.name, engine.words
        return infer(engine, pixels)


class TorchEngine:
    """Plain torch on any device; half precision on CUDA."""

    def __init__(self, model: Model, device: str, threads: int | None = None, batch: int = 1) -> None:
        self.name = device
        self.words = _TORCH_WORDS[device]
        self.batch = batch
        self._device = device.removesuffix("-torch")
        self._threads = threads
        # a copy: the model itself stays on the CPU, where it is saved and trained
        self._network = model.network
        if self._device != "cpu":
            self._network = copy.deepcopy(model.network).to(self._device).to(memory_format=torch.channels_last)

    def __call__(self, pixels: NDArray[np.uint8]) -> Dense:
        if self._threads:
            torch.set_num_threads(self._threads)
        tiles = torch.from_numpy(pixels)
        with torch.inference_mode(), torch.autocast("cuda", enabled=self._device == "cuda"):
            if self._device == "cuda":
                tiles = tiles.pin_memory().to(self._device, non_blocking=True)
            dense = predict(self._network, to_input(tiles.to(self._device)))
        return _each(lambda t: t.float().cpu(), dense)


class OpenVINOEngine:
    """OpenVINO on the processor: in bfloat16 where that has units for it, else in float32.

    One image is computed at a time, by all cores: for images as large as a scan's that is as quick as several at once,
    and takes no more memory the more cores there are.

    Parameters
    ----------
    converted : OpenVINO model
        Its shape becomes that of the images.
    device : str
        A name from `DEVICES`.
    height, width : int
        Of the images.
    threads : int, optional
    int8 : bool
        Whether `converted` is quantized: what it still has in floating point is then all that the above is about.
    """

    def __init__(
        self, converted: Any, device: str, height: int, width: int, threads: int | None = None, int8: bool = False
    ) -> None:
        core = openvino.Core()
        short = device == "cpu-openvino" and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if short else "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        converted.reshape([1, height, width, 3])
        compiled = core.compile_model(converted, "CPU", settings)
        self.name = device
        precision = "8-bit integers" if int8 else "bfloat16" if short else "float32"
        self.words = f"processor (OpenVINO, {precision})"
        self.batch = 1
        self._request = compiled.create_infer_request()

    def __call__(self, pixels: NDArray[np.uint8]) -> Dense:
        parts: list[Dense] = []
        for image in pixels:
            self._request.infer([image[None]], share_inputs=True)
            # copied: the next one writes to the same memory
            parts.append(Dense(*(torch.from_numpy(np.array(t.data)) for t in self._request.output_tensors)))
        return _each(lambda *tensors: torch.cat(tensors), *parts)


def infer(engine: Engine, pixels: NDArray[np.uint8]) -> Dense:
    """Return what `engine` says of images uint8 (n, h, w, 3); where memory does not suffice, in smaller batches.

    Raises NoRoomError where one image is too much, and DetectionError where the device fails.
    """
    try:
        return engine(pixels)
    except (RuntimeError, MemoryError) as error:
        if len(pixels) == 1 or not lacks_memory(error):
            raise _explained(error, engine.words) from error
    engine.batch = half = len(pixels) // 2
    first, second = infer(engine, pixels[:half]), infer(engine, pixels[half:])
    return _each(lambda *tensors: torch.cat(tensors), first, second)


def _explained(error: RuntimeError | MemoryError, words: str) -> DetectionError:
    """Return what to say of an `error` of the device that is called `words`."""
    if lacks_memory(error):
        return NoRoomError(
            f"There is not enough memory to detect cells on the {words}. What was found so far is kept. Close other "
            "programs or choose another device, and detect again to go on."
        )
    return DetectionError(
        f"Detection on the {words} failed: {_gist(error).removesuffix('.')}. What was found so far is kept. "
        "Detect again to go on, if need be on another device."
    )


def _each(work: Callable[..., Tensor], *dense: Dense) -> Dense:
    """Return what `work` makes of each kind of tensor, as far as the network has it."""
    return Dense(*(work(*kind) for kind in zip(*dense, strict=True) if kind[0] is not None))
