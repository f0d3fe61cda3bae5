"""Networks: backbones, necks, heads, and the model file. Pure torch; knows nothing of slides, cases or losses."""

from ..weights import ModelError
from .modelfile import (
    ACCURATE_MODEL,
    SHIPPED_MODEL,
    Model,
    Stored,
    check_place,
    load_model,
    model_from_bytes,
    save_model,
)
from .network import (
    BACKBONES,
    DEFAULT_CONFIG,
    HEADS,
    NOTHING,
    OVERLAP,
    STRIDE,
    Decoded,
    Network,
    build,
    config_of,
    decode,
    decode_embedded,
    predict,
    to_input,
)
from .unet import UNet, build_unet

__all__ = [
    "ACCURATE_MODEL",
    "BACKBONES",
    "DEFAULT_CONFIG",
    "HEADS",
    "NOTHING",
    "OVERLAP",
    "SHIPPED_MODEL",
    "STRIDE",
    "Decoded",
    "Model",
    "ModelError",
    "Network",
    "Stored",
    "UNet",
    "build",
    "build_unet",
    "check_place",
    "config_of",
    "decode",
    "decode_embedded",
    "load_model",
    "model_from_bytes",
    "predict",
    "save_model",
    "to_input",
]
