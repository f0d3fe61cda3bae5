"""Networks: backbones, necks, heads, and the model file. Pure torch; knows nothing of slides, cases or losses."""

from .modelfile import SHIPPED_MODEL, Model, ModelError, load_model, model_from_bytes, save_model
from .network import DEFAULT_CONFIG, NOTHING, OVERLAP, STRIDE, Network, build, decode, predict, to_input

__all__ = [
    "DEFAULT_CONFIG",
    "NOTHING",
    "OVERLAP",
    "SHIPPED_MODEL",
    "STRIDE",
    "Model",
    "ModelError",
    "Network",
    "build",
    "decode",
    "load_model",
    "model_from_bytes",
    "predict",
    "save_model",
    "to_input",
]
