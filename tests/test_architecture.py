"""The house rules that keep the rooms apart."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import napari_cervcell

PACKAGE = Path(napari_cervcell.__file__).parent

GROUND = {"errors", "files", "priority", "weights", "taxonomy", "cells"}
MAY_USE: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "priority": set(),
    "weights": {"errors", "files"},
    "taxonomy": set(),
    "cells": set(),
    "slides": GROUND,
    "models": GROUND,
    "casefile": GROUND,
    "nuclei": {"slides"} | GROUND,
    "detection": {"models", "casefile", "slides"} | GROUND,
    "learning": {"models", "casefile", "slides"} | GROUND,
    "review": {"learning", "detection", "models", "casefile", "slides"} | GROUND,
    "ui": {"review", "learning", "detection", "nuclei", "models", "casefile", "slides"} | GROUND,
    "batch": {"review", "learning", "detection", "models", "casefile", "slides"} | GROUND,
    "quantizing": {"learning", "detection", "models", "casefile"} | GROUND,
    "simulation": {"review", "learning", "detection", "models", "casefile", "slides"} | GROUND,
    "bench": {"ui", "review", "learning", "detection", "models", "casefile", "slides"} | GROUND,
    "cli": {"simulation", "bench", "batch", "quantizing", "ui", "review", "learning", "detection", "models"}
    | {"casefile", "slides"}
    | GROUND,
}
WINDOW = {"napari", "qtpy", "superqt", "magicgui", "vispy", "PyQt5", "PyQt6", "PySide6"}
# run alone, in processes of their own
MEASURED_WINDOWS = {PACKAGE / "bench" / f"{name}.py" for name in ("window", "cellwindow", "sittingwindow", "scenes")}
HEAVY = {"torch", "torchvision"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """Return (rooms of the package, top-level packages from outside) that a module imports anywhere in it."""
    rooms, outside = set(), set()
    here = ["napari_cervcell", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            whole_package = module == ["napari_cervcell"]
            names = [".".join([*module, a.name]) for a in node.names] if whole_package else [".".join(module)]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "napari_cervcell":
                rooms.add(rest.partition(".")[0])
            else:
                outside.add(first)
    return rooms - {""}, outside


MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.parent != PACKAGE or p.stem != "__init__")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_dependencies_point_one_way(path: Path) -> None:
    room = room_of(path)
    rooms, outside = imports_of(path)
    rooms -= {"__version__", room}
    assert rooms <= MAY_USE[room], f"{room} may not use {rooms - MAY_USE[room]}"
    if room != "ui" and path not in MEASURED_WINDOWS:
        assert not outside & WINDOW, "only ui knows of a window"
    if room not in {"models", "detection", "learning"}:
        assert not outside & HEAVY, "only models, detection and learning know of torch"


@pytest.mark.parametrize(
    "code",
    [
        "import napari_cervcell",
        "from napari_cervcell.slides import layers, sample_slide; p = str(sample_slide()); layers.get_reader(p)(p)",
        "import napari_cervcell.casefile",
        "import napari_cervcell.cli",
        "from napari_cervcell.learning import TrainingProcess",
    ],
)
def test_a_slide_opens_without_loading_torch_or_a_window(code: str) -> None:
    """Start-up time: torch alone takes seconds."""
    check = "; import sys; print(sorted({'torch', 'napari', 'qtpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["detection.scan", "learning.worker", "models", "batch"])
def test_a_detector_is_ready_without_loading_torchvision(module: str) -> None:
    """Start-up time: it brings torch's compiler along, which takes as long to load as torch itself."""
    check = f"import sys, napari_cervcell.{module}, napari_cervcell.models as m; m.load_model()"
    check += "; print(sorted({'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_modules_can_be_read_in_one_sitting() -> None:
    long = {p.name: n for p in MODULES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 450}
    assert not long
