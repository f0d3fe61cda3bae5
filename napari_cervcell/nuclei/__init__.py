"""The nucleus of a cell: outlined, measured, and its share of the cell. Computed by numpy, so that no window that shows
nuclei needs torch for it, which takes seconds to load and 600 MB."""

from .measure import Nucleus, NucleusError, nucleus_of
from .outlines import Nuclei, outlines
from .unet import SHIPPED_OUTLINER, Outliner, load_outliner

__all__ = [
    "SHIPPED_OUTLINER",
    "Nuclei",
    "Nucleus",
    "NucleusError",
    "Outliner",
    "load_outliner",
    "nucleus_of",
    "outlines",
]
