"""What the frozen part of a network sees, kept: on it a round that teaches only the head takes seconds."""

from __future__ import annotations

import hashlib
import math
import os
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..files import written_whole
from ..models import Model, Network
from ..models.heads import Dense
from ..models.modelfile import digest_of
from .evaluation import evaluate
from .fields import Field

__all__ = ["FeatureMemory", "HeadAlone", "Remembering"]


class FeatureMemory:
    """Features of pixels that a backbone and its neck have looked at before, by what pixels and whose they are.

    Two networks that differ in their heads alone share them: a quick round leaves all of them good for the next.

    Parameters
    ----------
    limit : int
        Bytes, here and in the folder each; beyond them the features that were wanted longest ago go first.
    folder : Path, optional
        Where they are kept for later sittings too; that it cannot be read or written costs time, no more.
    """

    def __init__(self, limit: int = 512 << 20, folder: Path | None = None) -> None:
        self.limit = limit
        self.size = 0
        self.folder = folder
        self._figures: dict[str, dict[str, Any]] = {}
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def measure(self, model: Model, earlier: list[Field]) -> dict[str, Any]:
        """Return how `model` does on the earlier fields; the model in use is measured once, not in every round."""
        if model.id not in self._figures:
            self._figures[model.id] = evaluate(model, earlier)
        return self._figures[model.id]

    def get(self, key: str) -> Tensor | None:
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if self.folder is not None:
            with suppress(OSError, ValueError, EOFError):  # the last for a file without a byte
                path = self.folder / f"{key}.npy"
                features = torch.from_numpy(np.load(path))
                os.utime(path)
                self._keep(key, features)
                return features
        return None

    def put(self, key: str, features: Tensor) -> None:
        self._keep(key, features)
        if self.folder is not None:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                with written_whole(self.folder / f"{key}.npy") as part, part.open("wb") as file:
                    np.save(file, features.numpy())

    def tidy(self) -> None:
        """Take from the folder what is too much."""
        if self.folder is None:
            return
        with suppress(OSError):
            files = [(entry.stat(), entry.path) for entry in os.scandir(self.folder)]
            room = self.limit
            for status, path in sorted(files, key=lambda file: -file[0].st_mtime):
                room -= status.st_size
                if room < 0:
                    os.unlink(path)

    def _keep(self, key: str, features: Tensor) -> None:
        self._kept[key] = features
        self.size += features.nbytes
        while self.size > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self.size -= oldest.nbytes


class Remembering(Network):
    """`network`, sharing its weights, that looks at the same pixels once and remembers their features in `memory`.

    For a network whose backbone and neck stay as they are. Features are kept in half precision.
    """

    def __init__(self, network: Network, memory: FeatureMemory) -> None:
        super().__init__(network.backbone, network.neck, network.head)
        self.rotations = network.rotations
        self.memory = memory
        self._digest = digest_of(nn.ModuleList([network.backbone, network.neck]))
        self.eval()

    def forward(self, x: Tensor) -> Dense:
        dense: Dense = HeadAlone(self)(self.features(x))
        return dense

    @torch.no_grad()
    def features(self, x: Tensor, rim: int = 0) -> Tensor:
        """Return the features float16 (n, c, h, w) of `x` without those of `rim` px on every side.

        They are the neck's, and with them the backbone's finest, folded to the same grid.
        """
        rows: list[Tensor] = []
        for image in x:
            key = hashlib.sha256(f"{self._digest} {rim} {tuple(image.shape)}".encode())
            key.update(image.contiguous().numpy().tobytes())
            features = self.memory.get(key.hexdigest())
            if features is None:
                features = self._folded(image[None], rim)
                self.memory.put(key.hexdigest(), features)
            rows.append(features)
        return torch.stack(rows)

    def _folded(self, x: Tensor, rim: int) -> Tensor:
        merged, fine = self.look(x)
        factor = fine.shape[-1] // merged.shape[-1]
        whole = torch.cat([merged, F.pixel_unshuffle(fine, factor)], 1)[0].half()
        cut = rim * whole.shape[-1] // x.shape[-1]
        return whole[:, cut : whole.shape[1] - cut, cut : whole.shape[2] - cut].contiguous()


class HeadAlone(nn.Module):
    """The head of a network, sharing its weights, on features from :meth:`Remembering.features`."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.head = network.head
        self._width, self._fine = network.neck.width, network.backbone.channels[0]

    def forward(self, features: Tensor) -> Dense:
        factor = math.isqrt((features.shape[1] - self._width) // self._fine)
        merged, fine = features[:, : self._width].float(), features[:, self._width :].float()
        dense: Dense = self.head(merged, F.pixel_shuffle(fine, factor))
        return dense
