"""Making the model quicker, begun, cancelled and ended from the window."""

from __future__ import annotations

from pathlib import Path

from napari_cervcell.casefile import open_case
from napari_cervcell.slides import open_slide
from napari_cervcell.taxonomy import CellClass, Taxonomy
from napari_cervcell.ui.hands import Hands


def test_it_can_be_cancelled(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    hands.click(hands.widget.detect_panel.more)
    quicker = hands.widget.detect_panel.quicker
    assert quicker.isVisible()
    hands.click(quicker.button)
    hands.wait("it is under way", lambda: "Converting" in quicker.words.text(), 240)
    process = quicker._process.processId()
    hands.click(quicker.button)
    assert not quicker.running
    assert "Cancelled" in quicker.words.text()
    assert not Path(f"/proc/{process}").exists() or "Z" in Path(f"/proc/{process}/stat").read_text().split()[2]


def test_what_goes_wrong_is_said(sit_down, slide_path: Path) -> None:
    """Here: that the model in use is not for the classes of the case."""
    red = CellClass("erythrocyte", "E", "#d04545", "1", "blood", 0)
    path = slide_path.with_name(slide_path.name + ".cervcell")
    with open_slide(slide_path) as slide, open_case(path, slide, "tester", Taxonomy("Blood", (red,))):
        pass
    hands: Hands = sit_down(slide_path)
    hands.click(hands.widget.detect_panel.more)
    quicker = hands.widget.detect_panel.quicker
    hands.click(quicker.button)
    hands.wait("it has ended", lambda: not quicker.running, 240)
    assert "erythrocyte" in quicker.words.text()
    assert quicker.button.text() == "Make it quicker"
