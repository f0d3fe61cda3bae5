"""A shade over the parts of a slide that detection skips, for who wants to see what the mask takes for empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.layers import Image
from napari.utils import Colormap
from superqt.utils import create_worker

from ..slides import Foreground, Slide, foreground

if TYPE_CHECKING:
    from .desk import Desk

__all__ = ["Shade"]

_COLORMAP = Colormap([[0, 0, 0, 0], [0.1, 0.12, 0.3, 1]], name="cervcell shade")


class Shade:
    """One image layer right above the slide's, there only while it is wanted.

    Attributes
    ----------
    layer : napari.layers.Image or None
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._wanted = False
        self.layer: Image | None = None

    def show(self, wanted: bool) -> None:
        """Begin to find the foreground in a thread and shade the rest when that is done; or take the shade away."""
        self._wanted = wanted
        slide = self._desk.slide
        if not wanted:
            self._remove()
        elif slide is not None:
            worker = create_worker(lambda: (slide, foreground(slide)), _start_thread=False, _ignore_errors=True)
            worker.returned.connect(self._put)
            worker.errored.connect(self._desk.report)
            worker.start()

    def _put(self, result: tuple[Slide, Foreground]) -> None:
        slide, found = result
        desk, viewer = self._desk, self._desk.viewer
        if not self._wanted or slide is not desk.slide or self.layer is not None:
            return
        step, scale, corner = found.downsample, desk.layer.scale, desk.layer.translate
        self.layer = Image(
            (~found.mask).astype("uint8"),
            name="skipped by detection",
            colormap=_COLORMAP,
            contrast_limits=(0, 1),
            opacity=0.35,
            scale=scale * step,
            translate=corner + scale * (step - 1) / 2,  # pixels have their centre, not their corner, at whole numbers
            units=desk.layer.units,
        )
        viewer.add_layer(self.layer)
        viewer.layers.move(len(viewer.layers) - 1, viewer.layers.index(desk.layer) + 1)
        viewer.layers.selection.active = desk.layer

    def _remove(self) -> None:
        layer, self.layer = self.layer, None
        if layer is not None and layer in self._desk.viewer.layers:
            self._desk.viewer.layers.remove(layer)
