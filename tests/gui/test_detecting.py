"""What the Detect panel says of work that is running, or was called off."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cervcell.ui.hands import Hands


@pytest.mark.engine
def test_a_scan_that_is_called_off_before_anything_was_looked_at_says_so(sit_down, slide_path: Path) -> None:
    hands: Hands = sit_down(slide_path)
    panel, desk = hands.widget.detect_panel, hands.widget.desk
    hands.click(panel.start)
    assert panel.status.text() == "Getting the model ready …"
    hands.press("d")
    assert panel.status.text().startswith("Paused")
    hands.press("d")
    assert panel.status.text() == "Getting the model ready …"  # and not still "Paused"
    hands.click(panel.cancel)
    assert panel.status.text() == "Stopping …"
    assert not panel.cancel.isEnabled()
    assert not panel.pause.isEnabled()
    hands.wait("the scan has ended", lambda: not desk.detection.running, 400)
    assert panel.status.text() == "Cancelled before anything was looked at. Detect again to begin."
    assert panel.start.isEnabled()
