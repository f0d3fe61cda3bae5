"""Figures that anyone can measure again, each beside those of its peers in the same run: ``cervcell bench``.

``cervcell make-slide smooth.svs --size 100000 100000`` makes a slide to measure on, a smooth one; with ``--noise 10
--quality 90`` its tiles are as hard to decode as those of a scanner's best setting (0.3 bytes a pixel). Both are worth
measuring: what a reader costs beside the decoding weighs more on a smooth slide.
"""

from __future__ import annotations

__all__: list[str] = []
