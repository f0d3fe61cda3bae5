"""Between the streams of slides, whose tiles come when they come, and napari's layers, which must look again.

napari's reader for slides is the one here: it listens to the streams of what it has read before napari asks them for
the first time, for a stream to which nobody listens waits for its file. Importing this module loads no Qt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..slides import layers as slide_layers
from ..slides.cache import TILES
from ..slides.layers import LayerData
from ..slides.samples import sample_slide
from ..slides.stream import Stream
from ..slides.streamlevel import StreamLevel
from .view import unwrapped

if TYPE_CHECKING:
    from .painter import Painter

__all__ = ["follow", "get_reader", "is_sharp", "open_sample", "read_slides", "stream_of"]

_FIRST_PICTURE = 0.15  # seconds that opening waits for the slide in small; mostly it is there much sooner

_painters: WeakKeyDictionary[Stream, Painter] = WeakKeyDictionary()


def get_reader(path: str | Sequence[str]) -> Callable[[str | Sequence[str]], list[LayerData]] | None:
    """Return napari's reader for slides, or None; see `slides.layers.get_reader`."""
    return None if slide_layers.get_reader(path) is None else read_slides


def read_slides(path: str | Sequence[str]) -> list[LayerData]:
    """Return slides of whatever name as napari layer data, by the settings of the plugin.

    Raises SlideError where one cannot be opened.
    """
    from napari import Viewer
    from napari.settings import get_plugin_settings
    from qtpy.QtWidgets import QApplication

    if QApplication.instance() is None:
        return slide_layers.read(path)  # nobody looks: whoever asks waits for the pixels
    settings = get_plugin_settings("napari-cervcell").slides
    TILES.capacity = settings.cache_mb << 20
    layers = slide_layers.read(path, color_managed=settings.color_managed)
    for viewer in list(Viewer._instances):  # napari has no public list of its windows
        follow(viewer)
    for data, _, _ in layers:
        stream = stream_of(data)
        _painter(stream)
        stream.begin(_FIRST_PICTURE)
    return layers


def open_sample() -> list[LayerData]:
    """Return the sample slide as napari layer data."""
    return read_slides(str(sample_slide()))


def stream_of(data: Any) -> Stream | None:
    """Return the stream that a layer's data come from, None where they come from elsewhere."""
    first = data[0] if isinstance(data, Sequence) and len(data) else None
    return first.stream if isinstance(first, StreamLevel) else None


def follow(viewer: Any) -> None:
    """Draw what lands for every slide that is in `viewer` or will be; to be told so again does no harm."""
    from .frames import hasten

    hasten(viewer)
    events = viewer.layers.events
    events.inserted.connect(_came)
    events.removed.connect(_went)
    for layer in viewer.layers:
        _attach(layer)


def is_sharp(layer: Any) -> bool:
    """Whether a slide's layer shows, as far as it has been drawn, every tile at its right size."""
    stream = stream_of(layer.data)
    return stream is None or (stream.is_sharp and (stream not in _painters or _painters[stream].is_idle))


def _painter(stream: Stream) -> Painter:
    from .painter import Painter

    if stream not in _painters:
        _painters[stream] = Painter(stream)
    return _painters[stream]


def _attach(layer: Any) -> None:
    if (stream := stream_of(layer.data)) is not None:
        _painter(stream).attach(unwrapped(layer))
        stream.begin()  # of a copied layer nobody else does


def _came(event: Any) -> None:
    _attach(event.value)


def _went(event: Any) -> None:
    if (stream := stream_of(event.value.data)) is not None:
        _painter(stream).detach()
        stream.stop()
