"""Where things are: between napari's world, the slide's level-0 pixels and the canvas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import napari.viewer
    from napari.layers import Image

__all__ = ["View", "canvas_of", "unwrapped"]

Rectangle = tuple[float, float, float, float]
Place = tuple[float, float, float]

_FORTYFOLD = 40 * 0.25  # µm: 40x is 0.25 µm per screen px, whatever the objective was

_FRAMED = 0.8  # of the canvas that is taken by what is framed: there is room for words beside it

CLOSE_UP = 40.0
"""canvas px: a cell that one is taken to is at least this large"""


def canvas_of(viewer: napari.viewer.Viewer) -> Any:
    """Return napari's canvas; it has no public name, and nothing but this knows where it is."""
    return unwrapped(viewer).window._qt_viewer.canvas


def unwrapped(thing: Any) -> Any:
    """Return a viewer or a layer itself, where napari has given a plugin a stand-in that hides its private parts."""
    return getattr(thing, "__wrapped__", thing)


class View:
    """The part of a slide that the canvas shows.

    napari's coordinates, (row, column) with pixel centres at whole numbers, appear here and in the overlay only;
    everything else speaks level-0 pixels, (x, y), in which the first pixel reaches from 0 to 1.

    Parameters
    ----------
    viewer : napari.viewer.Viewer
    layer : napari.layers.Image
        The slide's layer.
    """

    def __init__(self, viewer: napari.viewer.Viewer, layer: Image) -> None:
        self.viewer = viewer
        self.layer = layer

    @property
    def camera(self) -> Any:
        return self.viewer.scene.camera

    @property
    def canvas(self) -> Any:
        return canvas_of(self.viewer)

    @property
    def zoom(self) -> float:
        """Canvas px per level-0 px, in x."""
        return float(self.camera.zoom * self.layer.scale[-1])

    @zoom.setter
    def zoom(self, zoom: float) -> None:
        self.camera.zoom = zoom / float(self.layer.scale[-1])

    @property
    def _zoom_y(self) -> float:
        # not all scanners move as far from line to line as their pixels are wide
        return float(self.camera.zoom * self.layer.scale[-2])

    @property
    def centre(self) -> tuple[float, float]:
        """Level-0 (x, y) in the middle of the canvas."""
        return self.to_slide(self.camera.center)

    @centre.setter
    def centre(self, place: tuple[float, float]) -> None:
        self.camera.center = self.to_world(*place)

    @property
    def place(self) -> Place:
        """What is looked at, in any window: the centre, level-0 (x, y), and canvas px per level-0 px."""
        return *self.centre, self.zoom

    @place.setter
    def place(self, place: Place) -> None:
        self.centre = place[:2]
        self.zoom = place[2]

    def rectangle(self) -> Rectangle:
        """Return (x1, y1, x2, y2), level-0 px, of what the canvas shows; it may reach beyond the slide."""
        return self._around(*self.centre)

    def rectangle_about(self, box: Any) -> Rectangle:
        """Return what the canvas would show with the middle of `box`, level-0 px, in its own."""
        return self._around(*_middle(box))

    def _around(self, x: float, y: float) -> Rectangle:
        height, width = self.viewer.canvas.size
        half_w, half_h = width / self.zoom / 2, height / self._zoom_y / 2
        return x - half_w, y - half_h, x + half_w, y + half_h

    def magnification_at(self, zoom: float) -> float | None:
        """Return the magnification at a number of screen px per level-0 px: 40.0 for 0.25 µm per screen px.

        By the objective where the slide does not say its µm per pixel; None where it says neither.
        """
        slide = self.layer.metadata["slide"]
        if slide.mpp_xy is not None:
            return float(zoom * _FORTYFOLD / slide.mpp_xy[0])
        return None if slide.objective_power is None else float(zoom * slide.objective_power)

    def zoom_to(self, zoom: float, about: tuple[float, float] | None = None) -> None:
        """Show `zoom` canvas px per level-0 px; `about`, level-0 (x, y), stays where it is, else the centre does."""
        (x, y), ratio = self.centre, self.zoom / zoom
        self.zoom = zoom
        if about is not None:
            self.centre = about[0] + (x - about[0]) * ratio, about[1] + (y - about[1]) * ratio

    def fit(self) -> None:
        """Show the whole slide."""
        self.viewer.fit_to_view(layers=[self.layer])

    def to_slide(self, world: Any) -> tuple[float, float]:
        """Turn a position in napari's world, (..., y, x), into level-0 (x, y)."""
        scale, shift = self.layer.scale, self.layer.translate
        y, x = ((world[i] - shift[i]) / scale[i] + 0.5 for i in (-2, -1))
        return float(x), float(y)

    def to_world(self, x: float, y: float) -> tuple[float, float]:
        """Turn level-0 (x, y) into napari's world (y, x)."""
        scale, shift = self.layer.scale, self.layer.translate
        return float((y - 0.5) * scale[-2] + shift[-2]), float((x - 0.5) * scale[-1] + shift[-1])

    def from_canvas(self, position: Any) -> tuple[float, float]:
        """Turn a position on the canvas, (x, y) in canvas px, into level-0 (x, y)."""
        x1, y1, _, _ = self.rectangle()
        return x1 + float(position[0]) / self.zoom, y1 + float(position[1]) / self._zoom_y

    def to_canvas(self, x: float, y: float) -> tuple[float, float]:
        """Turn level-0 (x, y) into canvas px (x, y)."""
        x1, y1, _, _ = self.rectangle()
        return (x - x1) * self.zoom, (y - y1) * self._zoom_y

    def shows(self, box: Any) -> bool:
        """Say whether all of `box` (x1, y1, x2, y2) is on the canvas."""
        x1, y1, x2, y2 = self.rectangle()
        return bool(x1 <= box[0] and y1 <= box[1] and box[2] <= x2 and box[3] <= y2)

    def frame(self, box: Any) -> None:
        """Show all of `box`, level-0 px, as large as the canvas allows but for a margin."""
        self.centre = _middle(box)
        x1, y1, x2, y2 = self.rectangle()
        self.zoom *= _FRAMED * min((x2 - x1) / (box[2] - box[0]), (y2 - y1) / (box[3] - box[1]))

    def is_about(self, box: Any) -> bool:
        """Say whether the middle of `box` (x1, y1, x2, y2) is on the canvas."""
        x, y = _middle(box)
        return self.shows((x, y, x, y))

    def go_to(self, box: Any, smallest: float = 0.0) -> None:
        """Centre the canvas on `box`; zoom in where the box would be smaller than `smallest` canvas px."""
        self.centre = _middle(box)
        side = max(float(box[2] - box[0]), float(box[3] - box[1]), 1.0)
        if side * self.zoom < smallest:
            self.zoom = 1.5 * smallest / side


def _middle(box: Any) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
