"""A display where there is none: Xvfb, for the scripted sitting and for the tests of the window. Loads no Qt."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ..errors import CervcellError

__all__ = ["DisplayError", "has_display", "virtual_display"]

_PATIENCE = 30.0  # seconds
# in the background, until the pipe that is the shell's input closes, which the end of this process does too
_SERVE = 'exec 3<&0; { Xvfb "$@" 3<&- & read -r _ <&3; kill $!; } &'


class DisplayError(CervcellError):
    """No virtual display can be had."""


def has_display() -> bool:
    """Whether a window that is opened now is seen by somebody."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def virtual_display(width: int = 1600, height: int = 1000) -> Iterator[None]:
    """Run Xvfb with a screen of `width` x `height` px; what Qt opens meanwhile is shown there.

    To be entered before Qt has started, for Qt looks for its display once. Where Qt was started, the server stays
    until this process ends, however it does: Qt ends a process whose display has gone. Raises DisplayError.
    """
    if shutil.which("Xvfb") is None:
        raise DisplayError("There is no display and no Xvfb to stand in for one. Install it: apt install xvfb.")
    read_end, write_end = os.pipe()
    arguments = ["-displayfd", str(write_end), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    until, alive = os.pipe()
    subprocess.run(
        ["sh", "-c", _SERVE, "sh", *arguments],
        pass_fds=[write_end],
        stdin=until,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    os.close(until)
    os.close(write_end)
    before = {name: os.environ.get(name) for name in ("DISPLAY", "QT_QPA_PLATFORM")}
    try:
        ready, _, _ = select.select([read_end], [], [], _PATIENCE)
        number = os.read(read_end, 16).decode().strip() if ready else ""
        if not number:
            raise DisplayError("Xvfb does not start. Run it by hand to see why: Xvfb :99")
        os.environ.update(DISPLAY=f":{number}", QT_QPA_PLATFORM="xcb")
        yield
    finally:
        os.close(read_end)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        widgets = sys.modules.get("qtpy.QtWidgets")
        if widgets is None or widgets.QApplication.instance() is None:
            os.close(alive)
