"""What lies on a slide beside cells: strokes of a pen, rims of bubbles, edges of the coverslip.

Each is told from cells by what cells never are at once. Ink is dark, wide and even, where cells of that size have
nuclei and borders. Rims and edges are grey, long and thin, where cells that long are stained or broad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["marks"]

# What follows was measured on pixels of 4 µm. Larger ones even cells out, so there a mark must be larger in proportion.
_MICRONS = 4.0

_INK_WIDTH = 90.0  # µm that ink must fill in both directions
_INK_DENSITY = 0.35  # optical density (natural logarithm) of the densest channel, everywhere within that width
_INK_UNEVENNESS = 0.1  # standard deviation over mean within that width; a layer of cells so dense has 0.26 and more
_INK_BLACK = 1.3  # density of the least dense channel from which it is ink however uneven; only piles come near it
_INK_EDGE = 12.0  # µm over which a stroke fades out

_LINE_DENSITY = 0.08
_LINE_COLOUR = 0.25  # how much less the least dense channel may have than the densest, as a part of that
_LINE_LENGTH = 600.0  # µm, of the longer side of its surrounding box; grey parts of smears are up to 420 µm long
_LINE_THICKNESS = 80.0  # µm, on average
_LINE_GLASS = 0.5  # how much of what lies beside it must be glass: between piled cells there are grey strips, too
_LINE_UNEVENNESS = 1.8  # its 95th percentile over its median; strands with cells in them have 2.4 and more
_LINE_EDGE = 16.0  # µm over which a line fades out, as far as that is grey

_GRAIN = 0.03  # optical density that noise alone may have


def marks(pixels: NDArray[np.uint8], glass: NDArray[np.uint8], microns: float) -> NDArray[np.bool_]:
    """Return where something lies that is no cell, bool (h, w).

    Parameters
    ----------
    pixels, glass : uint8 (h, w, 3)
        The slide, and the colour that empty glass has or would have there.
    microns : float
        µm per pixel, a few.
    """
    density = np.log(np.maximum(glass, 1).astype(np.float32)) - np.log(np.maximum(pixels, 1).astype(np.float32))
    ink = _ink(density, microns)
    return ink | _lines(density, ink, microns)


def _ink(density: NDArray[np.float32], microns: float) -> NDArray[np.bool_]:
    from scipy import ndimage  # slow to import

    side = round(_INK_WIDTH / min(microns, _MICRONS))
    dark = density.max(axis=2)
    solid: NDArray[np.bool_] = ndimage.minimum_filter(dark, side) > _INK_DENSITY
    if not solid.any():
        return solid
    bound = _INK_UNEVENNESS * ndimage.uniform_filter(dark, side)
    even = np.ones(solid.shape, np.bool_)
    for channel in np.moveaxis(density, 2, 0):
        mean, square = (ndimage.uniform_filter(v, side) for v in (channel, channel * channel))
        even &= square - mean * mean < bound * bound
    black = ndimage.minimum_filter(density.min(axis=2), side) > _INK_BLACK
    reach = side + 2 * round(_INK_EDGE / microns)
    ink: NDArray[np.bool_] = ndimage.maximum_filter(solid & (even | black), reach)
    return ink


def _lines(density: NDArray[np.float32], ink: NDArray[np.bool_], microns: float) -> NDArray[np.bool_]:
    from scipy import ndimage

    smooth = ndimage.uniform_filter(density, (3, 3, 1))
    dark = smooth.max(axis=2)
    grey = dark - smooth.min(axis=2) < np.maximum(_LINE_COLOUR * dark, _GRAIN)
    grey &= ~ink
    candidates = grey & (dark > _LINE_DENSITY)
    labels, count = ndimage.label(candidates, np.ones((3, 3)))
    depths = ndimage.distance_transform_edt(candidates)
    edge = max(1, round(_LINE_EDGE / microns))
    shortest = _LINE_LENGTH * max(1.0, microns / _MICRONS)
    wanted = np.zeros(count + 1, np.bool_)
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if max(side.stop - side.start for side in box) * microns >= shortest:
            around = tuple(slice(max(0, side.start - 2 * edge), side.stop + 2 * edge) for side in box)
            line = labels[around] == label
            depth = depths[around][line].mean()  # of a strip, a quarter of its thickness
            near, far = (ndimage.binary_dilation(line, np.ones((3, 3)), n) for n in (edge, 2 * edge))
            glass = dark[around][far & ~near] < _LINE_DENSITY
            median, darkest = np.percentile(dark[around][line], (50, 95))
            wanted[label] = (
                4 * depth * microns <= _LINE_THICKNESS
                and glass.mean() >= _LINE_GLASS
                and darkest <= _LINE_UNEVENNESS * median
            )
    lines: NDArray[np.bool_] = wanted[labels]
    if lines.any():
        lines = ndimage.binary_dilation(lines, np.ones((3, 3)), edge, mask=grey)
    return lines
