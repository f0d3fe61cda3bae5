"""The rounds so far: what each came to, and what can be done with its model."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMenu,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from ..casefile import SUFFIX
from ..review.models import STANDARD, name_of, state_of
from .comparison_dialog import ComparisonDialog

if TYPE_CHECKING:
    from ..casefile import Round
    from ..taxonomy import Taxonomy
    from .desk import Desk

__all__ = ["RoundsList"]

_MODELS = f"Models and cases (*.safetensors *{SUFFIX})"
_SHIPPED = "The model that comes with the plugin, from which every case begins"


class RoundsList(QWidget):
    """One row a round that made a model, the newest first, the standard model last."""

    def __init__(self, desk: Desk) -> None:
        super().__init__()
        self._desk = desk
        self._grid = QGridLayout()
        self._grid.setSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self.uses: dict[int | None, QPushButton] = {}
        self.menus: dict[int, QMenu] = {}
        self.back_button = QPushButton("Roll back")
        self.back_button.clicked.connect(self._roll_back)
        self.import_button = QPushButton("Import a model …")
        self.import_button.setToolTip(
            "Keep a model file, or the model that another case uses, as a round of this case; it is not used at once."
        )
        self.import_button.clicked.connect(self._ask_and_import)
        below = QHBoxLayout()
        below.addWidget(self.back_button)
        below.addWidget(self.import_button)
        others = _more("Other models")
        self.other_menu = others.menu()
        self.other_menu.setToolTipsVisible(True)
        begin = self.other_menu.addAction("Begin with nothing", desk.begin_with_nothing)
        begin.setToolTip(
            "For cells that no model knows: use one that has seen none yet, and learns from yours alone.\n"
            "Draw at least five of them first. Roll back returns to the model in use."
        )
        below.addWidget(others)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(self._grid)
        layout.addLayout(below)
        desk.models_changed.connect(self.refresh)
        desk.opened.connect(self.refresh)

    def refresh(self) -> None:
        """List the rounds again."""
        while (item := self._grid.takeAt(0)) is not None:
            item.widget().deleteLater()
        self._grid.invalidate()  # taking items away does not, and their room would stay
        self.uses, self.menus = {}, {}
        case = self._desk.case
        if case is None:
            return
        active = case.active_round
        rounds = [r for r in case.rounds() if r.has_model]
        for round_ in reversed(rounds):
            short = "<br>".join(filter(None, [_in_short(round_), _per_class(round_, case.taxonomy)]))
            self._add(name_of(round_), short, _at_length(round_), round_.id, active)
            self._add_menu(round_)
        if rounds:
            self._add(STANDARD, "", _SHIPPED, None, active)
        self.back_button.setEnabled(active is not None)
        names: dict[int | None, str] = {None: STANDARD, **{r.id: name_of(r) for r in rounds}}
        self.back_button.setToolTip(
            "The standard model is in use."
            if active is None
            else f"Use what {names[active]} began from again: {names[case.round_before(active)]}."
        )

    def _add(self, name: str, short: str, tip: str, round_id: int | None, active: int | None) -> None:
        in_use = round_id == active
        text = QLabel(f"<b>{name}</b>" if in_use else name)
        if short:
            text.setText(f"{text.text()}<br><small>{short}</small>")
        text.setWordWrap(True)
        text.setToolTip(tip)
        text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        use = QPushButton("in use" if in_use else "use")
        use.setToolTip("Detect with this model, and go on learning from it")
        use.setEnabled(not in_use)
        use.clicked.connect(lambda: self._desk.use_round(round_id))
        self.uses[round_id] = use
        row = self._grid.rowCount()
        self._grid.addWidget(text, row, 0)
        self._grid.addWidget(use, row, 1, Qt.AlignmentFlag.AlignTop)

    def _add_menu(self, round_: Round) -> None:
        more = _more(f"{name_of(round_)}: compare or export it")
        menu = self.menus[round_.id] = more.menu()
        menu.addAction("Compare with the model before …", lambda: self.compare(round_))
        menu.addAction("Export the model …", lambda: self._ask_and_export(round_.id))
        self._grid.addWidget(more, self._grid.rowCount() - 1, 2, Qt.AlignmentFlag.AlignTop)

    def compare(self, round_: Round) -> None:
        """Show what a round finds that the model before did not, and the other way round."""
        dialog = ComparisonDialog(self._desk, round_, self)
        dialog.show()

    def _roll_back(self) -> None:
        case = self._desk.case
        if case is not None and (active := case.active_round) is not None:
            self._desk.use_round(case.round_before(active))

    def _ask_and_export(self, round_id: int) -> None:
        suggestion = f"{self._desk.slide.path.stem}-round{round_id}.safetensors"
        path, _ = QFileDialog.getSaveFileName(self, "Export the model", suggestion, "Models (*.safetensors)")
        if path:
            self._desk.export_model(round_id, Path(path))

    def _ask_and_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import a model", "", _MODELS)
        if path:
            self._desk.import_model(Path(path))


def _more(tip: str) -> QToolButton:
    """A ⋯ with a menu, empty yet."""
    button = QToolButton()
    button.setText("⋯")
    button.setStyleSheet("QToolButton::menu-indicator { image: none; }")
    button.setToolTip(tip)
    button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    button.setMenu(QMenu(button))
    return button


def _in_short(round_: Round) -> str:
    """Return "candidate · 14:32 · 61 → 72 % of 9 · ada"."""
    parts = [state_of(round_)]
    started = datetime.fromisoformat(round_.started).astimezone()
    parts.append(f"{started:%H:%M}" if started.date() == datetime.now().date() else f"{started:%d %b}")
    if agreement := round_.metrics.get("agreement"):
        parts.append(f"{100 * agreement['before']:.0f} → {agreement['after']:.0%} of {round_.metrics['held_back']}")
    return " · ".join([*parts, *filter(None, [round_.reviewer])])


def _per_class(round_: Round, taxonomy: Taxonomy) -> str:
    """Return "N 80 → 85 · H 52 → 71 · rejected 64 → 90%", classes by their letters."""
    letters = {name: taxonomy[taxonomy.index(name)].letter for name in round_.metrics.get("classes", {})}
    # a figure is not torn from its class where the line ends
    parts = [
        f"{letters.get(name, name)}&nbsp;{100 * of['before']:.0f}&nbsp;→&nbsp;{100 * of['after']:.0f}"
        for name, of in _figures(round_)
    ]
    return f"{' · '.join(parts)}%" if parts else ""


def _at_length(round_: Round) -> str:
    started = datetime.fromisoformat(round_.started).astimezone()
    by = f" by {escape(round_.reviewer)}" if round_.reviewer else ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td align=right>{of['held_back']}</td>"
        f"<td align=right>{of['before']:.0%}</td><td align=right>{of['after']:.0%}</td></tr>"
        for name, of in _figures(round_)
    )
    table = (
        f"<p>Agreement with the corrections held back:</p><table cellspacing=6><tr><th></th><th>held back</th>"
        f"<th>before</th><th>after</th></tr>{rows}</table>"
    )
    return f"<p>{escape(round_.message)}<br>Begun{by} on {started:%d %b %Y at %H:%M}.</p>{table if rows else ''}"


def _figures(round_: Round) -> list[tuple[str, dict[str, Any]]]:
    """Return those of each class and of the rejections; rounds of before they were kept have none."""
    rejections = {"rejected": round_.metrics["rejections"]} if "rejections" in round_.metrics else {}
    return [*round_.metrics.get("classes", {}).items(), *rejections.items()]
