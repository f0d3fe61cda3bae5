"""napari's menus and its command palette offer what the panel does."""

from __future__ import annotations

from pathlib import Path

import pytest
from qtpy.QtWidgets import QAction, QFileDialog, QMenu

from napari_cervcell.ui.hands import Hands


def entry(hands: Hands, *titles: str) -> QAction:
    """Return what stands in napari's menus below `titles`, as a hand opens them."""
    actions = hands.viewer.window._qt_window.menuBar().actions()
    for i, title in enumerate(titles):
        found = next(a for a in actions if a.text().replace("&", "").startswith(title))
        if i < len(titles) - 1:
            menu: QMenu = found.menu()
            menu.aboutToShow.emit()
            actions = menu.actions()
    return found


def test_the_gallery_is_in_the_menus(sit_down, slide_path: Path, case_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    widget = hands.widget
    assert widget.tabs.currentWidget() is not widget.gallery_panel
    entry(hands, "Layers", "Annotate", "Show all cells side by side").trigger()
    assert widget.tabs.currentWidget() is widget.gallery_panel


def test_the_slide_is_exported_from_the_menus(
    sit_down, slide_path: Path, case_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hands: Hands = sit_down(slide_path)
    out = tmp_path / "cells.csv"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(out), ""))
    entry(hands, "File", "IO Utilities", "Export the cells of a slide").trigger()
    hands.wait("it is written", out.exists)
    assert out.stat().st_size > 0


def test_without_a_slide_the_menus_say_so(sit_down) -> None:
    hands: Hands = sit_down()
    entry(hands, "Layers", "Classify", "Detect cells").trigger()
    assert hands.widget.error_bar.isVisible()
    assert "no slide yet" in hands.widget.error_bar.text.text()


def test_the_command_palette_knows_them_all(sit_down) -> None:
    from napari._app_model import get_app_model

    sit_down()
    commands = get_app_model().commands
    for name in ("detect", "gallery", "learn", "export", "worklist", "keys"):
        assert f"napari-cervcell.{name}" in commands
