"""Marks and letters drawn by the graphics card: their lines keep their width on the canvas at every zoom.

What is given once stays right while the camera moves, so that to pan and to zoom costs nothing here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, Qt
from qtpy.QtGui import QColor, QFont, QImage, QPainter
from vispy import gloo
from vispy.scene.visuals import create_visual_node
from vispy.visuals import Visual

__all__ = ["Outlines", "Shape", "Signs", "Tags"]

FloatArray = NDArray[np.float32]


class Shape(IntEnum):
    """What a sign looks like inside its box."""

    RING = 1
    DIAMOND = 2
    CROSS = 3
    TRIANGLE = 4
    CORNERS = 5


_PLACE = """
attribute vec2 a_centre;
attribute vec2 a_half;
attribute vec2 a_corner;
attribute vec4 a_color;
uniform float u_px;
uniform mat4 u_to_canvas;
uniform mat4 u_to_render;

vec2 on_canvas(vec2 place) {
    vec4 p = u_to_canvas * vec4(place, 0., 1.);
    return p.xy / p.w;
}
"""
_PLACE_RECORD: list[Any] = [("a_centre", "f4", 2), ("a_half", "f4", 2), ("a_corner", "f4", 2), ("a_color", "f4", 4)]

_LINE = """
varying vec2 v_at;
varying vec2 v_half;
varying vec4 v_color;
"""

_PAINT = """
uniform float u_px;

// d: px from the middle of the line
void paint(float d, float line) {
    // the slide has all the colours that classes have: a dark rim (a light one around the dark corners) parts them
    float reach = min(v_half.x, v_half.y) < 5. * u_px ? 0. : u_px;
    float ink = 1. - smoothstep(.5 * line - .5 * u_px, .5 * line + .5 * u_px, d);
    float rim = 1. - smoothstep(.5 * line + reach - .5 * u_px, .5 * line + reach + .5 * u_px, d);
    if (rim < .02) discard;
    bool dark = v_color.r + v_color.g + v_color.b < .1;
    vec4 around = dark ? vec4(1., 1., 1., .9 * rim) : vec4(0., 0., 0., .55 * rim);
    gl_FragColor = vec4(mix(around.rgb, v_color.rgb, ink), max(around.a, ink * v_color.a));
}
"""

_OUTLINE_VERTEX = """
attribute float a_inner;

void main() {
    vec2 centre = on_canvas(a_centre);
    v_half = abs(on_canvas(a_centre + a_half) - centre);
    if (min(a_half.x, a_half.y) > 0.) v_half = max(v_half, vec2(2.5 * u_px));
    v_at = a_corner * (a_inner > .5 ? max(v_half - 3. * u_px, vec2(0.)) : v_half + 3. * u_px);
    v_color = a_color;
    gl_Position = u_to_render * vec4(centre + v_at, 0., 1.);
}
"""

_OUTLINE_FRAGMENT = """
void main() {
    vec2 beyond = abs(v_at) - v_half;
    paint(abs(max(beyond.x, beyond.y)), 2. * u_px);
}
"""

_SIGN_VERTEX = """
attribute float a_shape;
attribute float a_twice;
varying float v_shape;
varying float v_twice;

void main() {
    vec2 centre = on_canvas(a_centre);
    v_half = abs(on_canvas(a_centre + a_half) - centre);
    v_half = a_shape < 4.5 ? max(v_half, vec2(2.5 * u_px)) : max(1.35 * v_half, vec2(9. * u_px));
    v_at = a_corner * (v_half + 6. * u_px);
    v_color = a_color;
    v_shape = a_shape;
    v_twice = a_twice;
    gl_Position = u_to_render * vec4(centre + v_at, 0., 1.);
}
"""

_SIGN_FRAGMENT = """
uniform float u_down;
varying float v_shape;
varying float v_twice;

void main() {
    vec2 p = vec2(abs(v_at.x), u_down * v_at.y);
    vec2 q = abs(p);
    vec2 h = v_half;
    float box = max(q.x - h.x, q.y - h.y);
    float slant = h.x * h.y / max(length(h), .001);
    float d, line = 2. * u_px;
    if (v_shape < 1.5) {
        float k = length(p / h);
        d = k * (k - 1.) / max(length(p / (h * h)), .0001);
    }
    else if (v_shape < 2.5) d = (q.x / h.x + q.y / h.y - 1.) * slant;
    else if (v_shape < 3.5) d = max(abs(q.x / h.x - q.y / h.y) * slant, box);
    else if (v_shape < 4.5) {
        vec2 n = normalize(vec2(2. * h.y, -h.x));
        d = max(dot(vec2(q.x, p.y + h.y), n), p.y - h.y);
    } else {
        d = box;
        line = 2.5 * u_px;
        if (min(q.x / h.x, q.y / h.y) < .55) discard;
    }
    d = abs(d);
    if (v_twice > .5) d = min(d, abs(abs(box) - 4. * u_px * step(0., box)));
    paint(d, line);
}
"""

_TAG_VERTEX = """
attribute float a_letter;
uniform float u_from;
uniform float u_letters;
uniform float u_down;
varying vec2 v_texture;
varying vec4 v_color;

void main() {
    vec2 centre = on_canvas(a_centre);
    vec2 half_ = abs(on_canvas(a_centre + a_half) - centre);
    float side = 14. * u_px;
    vec2 inner = .5 * (a_corner + 1.);  // 0 to 1, to the right and down
    vec2 place = centre + vec2(1., u_down) * (-half_ + vec2(-1. * u_px) + inner * side);
    bool shown = 2. * min(half_.x, half_.y) >= u_from * u_px;
    v_texture = vec2((a_letter + inner.x) / u_letters, inner.y);
    v_color = a_color;
    gl_Position = shown ? u_to_render * vec4(place, 0., 1.) : vec4(2., 2., 2., 1.);
}
"""

_TAG_FRAGMENT = """
uniform sampler2D u_atlas;
varying vec2 v_texture;
varying vec4 v_color;

void main() {
    float ink = texture2D(u_atlas, v_texture).r;
    gl_FragColor = vec4(mix(v_color.rgb, vec3(0.), ink), v_color.a);
}
"""

_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
_QUAD = np.array([0, 1, 2, 0, 2, 3], np.uint32)
_BAND = np.array([[i, (i + 1) % 4, 4 + i, 4 + i, (i + 1) % 4, 4 + (i + 1) % 4] for i in range(4)], np.uint32).ravel()


class _Boxes(Visual):  # type: ignore[misc]
    """A few triangles for each of n boxes, their corners found on the canvas."""

    _record: np.dtype[Any]
    _corners = _CORNERS
    _triangles = _QUAD
    _knows_down = True  # whether up and down differ in what is drawn

    def __init__(self, vertex: str, fragment: str) -> None:
        super().__init__(vcode=_PLACE + vertex, fcode=fragment)
        self._draw_mode = "triangles"
        self._vertices = gloo.VertexBuffer(np.zeros(len(self._corners), self._record))
        self._index_buffer = gloo.IndexBuffer(self._triangles)
        self._n = 0
        self._zoom = 1.0
        self.shared_program.bind(self._vertices)
        self.shared_program["u_px"] = 1.0
        self.set_gl_state("translucent", depth_test=False, cull_face=False)

    def _give(self, boxes: FloatArray, **values: Any) -> None:
        self._n = len(boxes)
        if self._n:
            data = np.empty((self._n, len(self._corners)), self._record)
            data["a_centre"] = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
            data["a_half"] = ((boxes[:, 2:] - boxes[:, :2]) / 2)[:, None]
            data["a_corner"] = self._corners
            for name, value in values.items():
                data[name] = value
            self._vertices.set_data(data.ravel())
            starts = len(self._corners) * np.arange(self._n, dtype=np.uint32)[:, None]
            self._index_buffer.set_data((starts + self._triangles).ravel())
        self.update()

    def _prepare_transforms(self, view: Any) -> None:
        return None  # they are one matrix each, see below: the card would go through the chain for every corner

    def _prepare_draw(self, view: Any) -> bool | None:
        if not self._n:
            return False
        program, transforms = view.view_program, view.transforms
        to_canvas = transforms.get_transform("visual", "framebuffer").map(np.eye(4))
        self._zoom = float(np.abs(to_canvas[:2, :2]).max()) / transforms.pixel_scale  # canvas px for one of level 0
        program["u_to_canvas"] = to_canvas
        program["u_to_render"] = transforms.get_transform("framebuffer", "render").map(np.eye(4))
        program["u_px"] = float(transforms.pixel_scale)
        # which way is down in the framebuffer: OpenGL counts from below, but not when it draws for a screenshot
        if self._knows_down:
            program["u_down"] = 1.0 if to_canvas[1, 1] > 0 else -1.0
        return None

    def _compute_bounds(self, axis: int, view: Any) -> None:
        return None


class OutlinesVisual(_Boxes):
    """Boxes, level-0 px, as lines 2 canvas px wide; a box of no width or height is one line.

    Only a band along the line is painted: with many boxes what is in them would be most of the work.
    """

    _record = np.dtype([*_PLACE_RECORD, ("a_inner", "f4")])
    _corners = np.concatenate([_CORNERS, _CORNERS])
    _triangles = _BAND
    _knows_down = False

    def __init__(self) -> None:
        super().__init__(_LINE + _OUTLINE_VERTEX, _LINE + _PAINT + _OUTLINE_FRAGMENT)

    def set_data(self, boxes: FloatArray, colors: FloatArray) -> None:
        """Draw boxes (n, 4), level-0 px, in colours (n, 4)."""
        self._give(boxes, a_inner=np.arange(len(_CORNERS) * 2) >= len(_CORNERS), a_color=colors[:, None])


class SignsVisual(_Boxes):
    """Signs in boxes, level-0 px, in the colour and shape of each; lines are 2 canvas px wide."""

    _record = np.dtype([*_PLACE_RECORD, ("a_shape", "f4"), ("a_twice", "f4")])

    def __init__(self) -> None:
        super().__init__(_LINE + _SIGN_VERTEX, _LINE + _PAINT + _SIGN_FRAGMENT)

    def set_data(
        self, boxes: FloatArray, colors: FloatArray, shapes: NDArray[Any], twice: NDArray[np.bool_] | None = None
    ) -> None:
        """Draw `Shape`s (n,) in boxes (n, 4), level-0 px, in colours (n, 4); with a second line around if `twice`."""
        twice = np.zeros(len(boxes), bool) if twice is None else twice
        self._give(boxes, a_color=colors[:, None], a_shape=shapes[:, None], a_twice=twice[:, None])


class TagsVisual(_Boxes):
    """A small plate with a letter at the upper left corner of boxes, where these are large enough on the canvas.

    Parameters
    ----------
    letters : list of str
        One for each class.
    smallest : float
        Side in canvas px from which a box has a letter.
    """

    _record = np.dtype([*_PLACE_RECORD, ("a_letter", "f4")])

    def __init__(self, letters: list[str], smallest: float) -> None:
        super().__init__(_TAG_VERTEX, _TAG_FRAGMENT)
        self.shared_program["u_letters"] = float(len(letters))
        self._smallest = smallest
        self._largest = 0.0
        self.shared_program["u_from"] = smallest
        self.shared_program["u_atlas"] = gloo.Texture2D(_atlas(letters), interpolation="linear")

    def set_data(self, boxes: FloatArray, colors: FloatArray, labels: NDArray[Any]) -> None:
        """Draw the letters of the classes `labels` (n,) at boxes (n, 4), level-0 px, on plates in colours (n, 4)."""
        self._largest = float((boxes[:, 2:] - boxes[:, :2]).max(initial=0.0))
        self._give(boxes, a_color=colors[:, None], a_letter=labels[:, None])

    def _prepare_draw(self, view: Any) -> bool | None:
        if super()._prepare_draw(view) is False:
            return False
        return None if self._largest * self._zoom >= self._smallest else False  # none is large enough for a letter


def _atlas(letters: list[str], side: int = 56) -> NDArray[np.uint8]:
    """Return uint8 (side, side * n), the letters side by side, 255 where there is ink."""
    image = QImage(side * len(letters), side, QImage.Format.Format_RGB32)
    image.fill(QColor("black"))
    painter = QPainter(image)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    font = QFont("sans-serif")
    font.setBold(True)
    font.setPixelSize(round(0.8 * side))
    painter.setFont(font)
    painter.setPen(QColor("white"))
    for i, letter in enumerate(letters):
        painter.drawText(QRectF(i * side, 0, side, side), int(Qt.AlignmentFlag.AlignCenter), letter)
    painter.end()
    pointer = image.constBits()
    if hasattr(pointer, "setsize"):
        pointer.setsize(image.sizeInBytes())
    pixels = np.frombuffer(pointer, np.uint8).reshape(side, -1, 4)  # type: ignore[call-overload]
    return np.ascontiguousarray(pixels[:, : side * len(letters), 0])


Outlines = create_visual_node(OutlinesVisual)
Signs = create_visual_node(SignsVisual)
Tags = create_visual_node(TagsVisual)
