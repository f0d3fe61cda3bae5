"""Frozen features of fields, computed once and kept: what makes hundreds of trainings affordable on two cores.

The backbone is EfficientNet-Lite0 as ImageNet left it. It has seen no field, so that whatever is learnt of cells is
learnt from the labels that an experiment gives. The projection onto fewer numbers is fitted to pixels of train fields,
without labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from napari_cervcell.learning.fields import Field
from napari_cervcell.learning.patches import cut_patches
from napari_cervcell.models import DEFAULT_CONFIG, NOTHING, STRIDE, build, to_input
from napari_cervcell.models.backbones import Backbone

__all__ = ["MPP", "Sheet", "crop_features", "imagenet", "sheets", "sheets_by_split", "untrained"]

MPP = 0.4
_WIDTH = 128
_PIXELS = 2000  # of each train field, for the projection


@dataclass(slots=True)
class Sheet:
    """A field as experiments see it; geometry in px of the network's input at `MPP`.

    Attributes
    ----------
    field : Field
    rows : float16 (h, w, d)
        Features at every location of the output grid, stride 4.
    boxes : float32 (n, 4), labels : int16 (n,)
    checked, inside : float32 (1, 4), (4,)
        Where every cell is labelled; where there are pixels.
    """

    field: Field
    rows: NDArray[np.float16]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int16]
    checked: NDArray[np.float32]
    inside: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.rows.shape[0] * STRIDE, self.rows.shape[1] * STRIDE


def imagenet() -> Backbone:
    from train import initialised

    network, _ = initialised(DEFAULT_CONFIG)
    return network.backbone.eval()


def untrained() -> Backbone:
    """Return a backbone with drawn weights, for smoke runs: it is there without a download."""
    torch.manual_seed(0)
    return build(DEFAULT_CONFIG).backbone.eval()


def sheets(fields: Sequence[Field], train: Sequence[str], backbone: Backbone, cache: Path) -> dict[str, Sheet]:
    """Return the sheet of every one of `fields` by name; the projection is fitted to those named in `train`."""
    key = hashlib.sha256(repr((MPP, _WIDTH, sorted(f.name for f in fields), sorted(train))).encode())
    key.update(next(iter(backbone.state_dict().values())).numpy().tobytes())
    folder = cache / key.hexdigest()[:16]
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        raw = {f.name: _raw(f, backbone) for f in fields}
        mean, projection = _projection([raw[n] for n in sorted(train)])
        for name, maps in raw.items():
            stacked = _stacked(maps)
            flat = (stacked.flatten(1).T - mean) @ projection
            np.save(folder / f"{name}.npy", flat.reshape(*stacked.shape[1:], -1).half().numpy())
        (folder / "done").touch()
    return {f.name: _sheet(f, np.load(folder / f"{f.name}.npy", mmap_mode="r")) for f in fields}


def sheets_by_split(fields: Mapping[str, Sequence[Field]], smoke: bool, cache: Path) -> dict[str, list[Sheet]]:
    """Return the sheets of the fields of every split; the projection is fitted to those of train."""
    train = [f.name for f in fields["train"]]
    found = sheets([f for of in fields.values() for f in of], train, untrained() if smoke else imagenet(), cache)
    return {split: [found[f.name] for f in of] for split, of in fields.items()}


def _sheet(field: Field, rows: NDArray[np.float16]) -> Sheet:
    scale = np.float32(field.mpp / MPP)
    height, width = field.rgb.shape[:2]
    field = replace(field, rgb=np.broadcast_to(np.uint8(0), field.rgb.shape))  # only its shape is needed from here on
    inside = np.array([0, 0, width, height], np.float32) * scale
    return Sheet(field, rows, field.boxes * scale, field.labels, field.checked * scale, inside)


def _raw(field: Field, backbone: Backbone) -> list[Tensor]:
    """Return the half-precision maps (c, h, w) at strides 4, 8, 16 and 32."""
    height, width = (round(n * field.mpp / MPP) for n in field.rgb.shape[:2])
    small = np.asarray(Image.fromarray(field.rgb).resize((width, height), Image.Resampling.BILINEAR))
    padded = np.full((-(-height // 32) * 32, -(-width // 32) * 32, 3), NOTHING, np.uint8)
    padded[:height, :width] = small
    with torch.inference_mode():
        return [m[0].half() for m in backbone(to_input(padded[None]))]


def _stacked(maps: list[Tensor]) -> Tensor:
    """Return all maps side by side at stride 4, float32 (c, h, w)."""
    size = maps[0].shape[1:]
    grown = [F.interpolate(m[None].float(), size=size, mode="bilinear", align_corners=False)[0] for m in maps]
    return torch.cat(grown)


def _projection(raw: list[list[Tensor]]) -> tuple[Tensor, Tensor]:
    """Return mean (c,) and projection (c, d) onto the strongest directions of standardised features, whitened."""
    generator = torch.Generator().manual_seed(0)
    drawn = []
    for maps in raw:
        rows = _stacked(maps).flatten(1).T
        drawn.append(rows[torch.randint(len(rows), (_PIXELS,), generator=generator)])
    x = torch.cat(drawn)
    mean, sd = x.mean(0), x.std(0).clamp_min(1e-6)
    values, vectors = torch.linalg.eigh(torch.cov(((x - mean) / sd).T))
    strongest = values.argsort(descending=True)[:_WIDTH]
    return mean, vectors[:, strongest] / values[strongest].clamp_min(1e-3).sqrt() / sd[:, None]


def crop_features(
    fields: Sequence[Field], backbone: Backbone, cache: Path, *, side: int = 80, turns: int = 8
) -> tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.int64]]:
    """Return features (n, turns, d) of every cell's crop, `side` px at 0.25 µm, turned; labels and fields (n,)."""
    key = hashlib.sha256(repr((side, turns, sorted(f.name for f in fields))).encode())
    key.update(next(iter(backbone.state_dict().values())).numpy().tobytes())
    path = cache / f"crops-{key.hexdigest()[:16]}.npy"
    labels = np.concatenate([f.labels for f in fields])
    of = np.repeat(np.arange(len(fields)), [len(f.labels) for f in fields])
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        parts = []
        for field in fields:
            centres = (field.boxes[:, :2] + field.boxes[:, 2:]) / 2
            patches = cut_patches(field, centres, side, 0.25)
            turned = np.stack([_turned(patches, t) for t in range(turns)], 1).reshape(-1, side, side, 3)
            parts.append(_pooled(turned, backbone).reshape(len(patches), turns, -1))
        np.save(path, np.concatenate(parts))
    return np.load(path), labels, of


def _turned(patches: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    turned = np.rot90(patches, turn % 4, (1, 2))
    return turned[:, :, ::-1] if turn > 3 else turned


def _pooled(patches: NDArray[np.uint8], backbone: Backbone) -> NDArray[np.float32]:
    """Return the mean of the crop's middle at strides 8 and 16 and of the whole at 16 and 32, float32 (n, 584)."""
    parts = []
    side = -(-patches.shape[1] // 32) * 32
    with torch.inference_mode():
        for i in range(0, len(patches), 256):
            x = F.interpolate(to_input(patches[i : i + 256]), size=(side, side), mode="bilinear", align_corners=False)
            _, m8, m16, m32 = backbone(x)
            middle = [
                m[:, :, m.shape[2] // 3 : -(m.shape[2] // 3), m.shape[3] // 3 : -(m.shape[3] // 3)] for m in (m8, m16)
            ]
            parts.append(torch.cat([m.mean((2, 3)) for m in (*middle, m16, m32)], 1))
    return torch.cat([torch.zeros(0, 584), *parts]).numpy()


def _middle(m: Tensor) -> Tensor:
    h, w = m.shape[2] // 3, m.shape[3] // 3
    return m[:, :, h:-h, w:-w]
