"""Networks: backbones, necks, heads, and the model file. Pure torch; knows nothing of slides, cases or losses."""

from .modelfile import (
    SHIPPED_MODEL,
    SHIPPED_OUTLINER,
    Model,
    ModelError,
    Outliner,
    load_model,
    load_outliner,
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
    Network,
    build,
    config_of,
    decode,
    decode_embedded,
    predict,
    to_input,
)
from .outlines import Nuclei, outlines
from .unet import UNet, build_unet

__all__ = [
    "BACKBONES",
    "DEFAULT_CONFIG",
    "HEADS",
    "NOTHING",
    "OVERLAP",
    "SHIPPED_MODEL",
    "SHIPPED_OUTLINER",
    "STRIDE",
    "Model",
    "ModelError",
    "Network",
    "Nuclei",
    "Outliner",
    "UNet",
    "build",
    "build_unet",
    "config_of",
    "decode",
    "decode_embedded",
    "load_model",
    "load_outliner",
    "model_from_bytes",
    "outlines",
    "predict",
    "save_model",
    "to_input",
]
