"""The keys of a sitting: they work wherever the focus is, except where one types or has gone with the tab key.

napari's own bindings of the active layer would win over ``viewer.bind_key`` (with a Points layer active, 1 to 5, A and
Delete never arrive), so the keys are taken before any widget sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

from qtpy.QtCore import QEvent, QObject, Qt, Signal
from qtpy.QtGui import QKeyEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QTextEdit,
    QVBoxLayout,
    QWidget,
)

from .kept import keep, recall

__all__ = ["Key", "KeyFilter", "KeySheet", "changed", "name_of"]

_FILE = "keys.json"
_NAMED = {
    Qt.Key.Key_Space: "space",
    Qt.Key.Key_Return: "enter",
    Qt.Key.Key_Enter: "enter",
    Qt.Key.Key_Escape: "esc",
}


@dataclass(frozen=True)
class Key:
    """One thing that the keyboard can do.

    Attributes
    ----------
    names : tuple of str
        What is pressed: ``"x"``, ``"space"``, ``"ctrl+shift+z"``; the first is the one that buttons show.
    what : str
        What it does, for the key sheet.
    act : callable
    repeats : bool
        Whether holding the key down does it again and again.
    fixed : bool
        Whether it is not for the key sheet to change: classes have their keys from the case, and others go together.
    usual : str
        The first name that it has where nobody changed it.
    """

    names: tuple[str, ...]
    what: str
    act: Callable[[], object]
    repeats: bool = False
    fixed: bool = False
    usual: str = ""


def changed(keys: Sequence[Key]) -> list[Key]:
    """Return `keys` with the first names that the user has chosen for them."""
    chosen = recall(_FILE)

    def one(key: Key) -> Key:
        first, *others = key.names
        name = first if key.fixed else str(chosen.get(first, first))
        return replace(key, names=(name, *(n for n in others if n != name)), usual=first)

    return [one(key) for key in keys]


def name_of(event: QKeyEvent) -> str:
    """Return what was pressed in the words of :class:`Key`; letters and signs by what they type in any layout."""
    modifiers, text = event.modifiers(), event.text()
    is_sign = len(text) == 1 and text.isprintable() and not text.isalnum() and not text.isspace()
    if is_sign and modifiers & Qt.KeyboardModifier.AltModifier:
        return text  # many keyboards type signs with Option, or with AltGr, which is ctrl and alt on Windows
    if modifiers & (Qt.KeyboardModifier.ControlModifier | Qt.KeyboardModifier.MetaModifier):
        key = event.key()
        is_digit = Qt.Key.Key_0 <= key <= Qt.Key.Key_9  # which some keyboards type with shift
        shift = "shift+" if modifiers & Qt.KeyboardModifier.ShiftModifier and not is_digit else ""
        return f"ctrl+{shift}{chr(key).lower()}" if 0x20 < key < 0x7F else ""
    if modifiers & Qt.KeyboardModifier.AltModifier:
        return ""
    return _NAMED.get(event.key(), text.lower())


def _types_text(widget: QWidget) -> bool:
    """Say whether keys pressed in `widget` are text."""
    if isinstance(widget, QLineEdit | QPlainTextEdit | QTextEdit):
        return not widget.isReadOnly()
    return isinstance(widget, QAbstractSpinBox) or (isinstance(widget, QComboBox) and widget.isEditable())


class KeyFilter(QObject):
    """Takes the keys of a sitting for the window that `owner` is docked in.

    Parameters
    ----------
    owner : QWidget
        The docked widget.
    active : callable
        Whether there is a sitting; without one every key goes its usual way.
    """

    def __init__(self, owner: QWidget, active: Callable[[], bool]) -> None:
        super().__init__(owner)
        self._owner = owner
        self._active = active
        self._keys: dict[str, Key] = {}
        self._down: set[int] = set()
        self._others: set[int] = set()  # pressed for another widget: what that leaves alone, Qt offers to its parents
        self._tabbed = False  # whether it was the tab key that moved the focus last, and not the mouse
        QApplication.instance().installEventFilter(self)

    def set_keys(self, keys: Sequence[Key]) -> None:
        # where two share a name, the first has it: a class that came later takes its digit back
        self._keys = {name: key for key in reversed(keys) for name in key.names}

    def remove(self) -> None:
        QApplication.instance().removeEventFilter(self)

    def eventFilter(self, target: QObject, event: QEvent) -> bool:
        kind = event.type()
        if kind == QEvent.Type.MouseButtonPress:
            self._tabbed = False
        if kind not in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress, QEvent.Type.KeyRelease):
            return False
        if not self._active() or not isinstance(target, QWidget) or not self._is_ours(target):
            return False
        if kind == QEvent.Type.KeyRelease:
            # napari must not see the release of a key whose press it never saw
            ours = event.key() in self._down
            if not event.isAutoRepeat():
                self._down.discard(event.key())
                self._others.discard(event.key())
            return ours
        if event.key() in (Qt.Key.Key_Tab, Qt.Key.Key_Backtab):
            self._tabbed = True
        name = name_of(event)
        key, is_its_own = self._keys.get(name), self._is_own_key(target, name)
        if kind == QEvent.Type.KeyPress and is_its_own:
            self._others.add(event.key())
        if key is None or is_its_own or event.key() in self._others:
            return False
        event.accept()
        if kind == QEvent.Type.KeyPress:
            self._down.add(event.key())
            if key.repeats or not event.isAutoRepeat():
                key.act()
        return True

    def _is_own_key(self, target: QWidget, name: str) -> bool:
        """Say whether `target` itself answers to a key: a text field to all, a list to enter, which opens what is
        chosen, and a control to space and enter where the tab key has led to it. One that was clicked does not: who
        works with the mouse goes on with verdicts."""
        if _types_text(target):
            return True
        if isinstance(target, QAbstractItemView):
            return name == "enter"
        return self._tabbed and isinstance(target, QAbstractButton | QComboBox) and name in ("space", "enter")

    def _is_ours(self, target: QWidget) -> bool:
        """Say whether `target` is in napari's main window, or with the owner in a window of its own (undocked)."""
        window = target.window()
        here = self._owner.window()
        return window is here or window is here.parentWidget()


class KeySheet(QDialog):
    """The list of all keys, where they can be changed, for all windows to come."""

    changed = Signal()
    """keys have other names now: show them"""

    def __init__(self, keys: Sequence[Key], parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys")
        self.buttons: dict[str, QPushButton] = {}
        self._keys: dict[str, Key] = {}
        self._waiting: Key | None = None
        grid = QGridLayout()
        grid.setHorizontalSpacing(18)
        grid.setVerticalSpacing(2)
        rows = -(-len(keys) // 2)  # in two halves, for small screens
        for i, key in enumerate(keys):
            half, row = divmod(i, rows)
            grid.addWidget(self._shown(key), row, 2 * half)
            grid.addWidget(QLabel(key.what), row, 2 * half + 1)
        ends = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        ends.rejected.connect(self.reject)
        self.close_button = ends.button(QDialogButtonBox.StandardButton.Close)
        self.usual_button = ends.addButton("Usual keys", QDialogButtonBox.ButtonRole.ResetRole)
        self.usual_button.setToolTip("Give every key back the name that it had at first")
        self.usual_button.clicked.connect(lambda: self._keep({}))
        self.note = QLabel()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 16, 18, 14)
        layout.setSpacing(12)
        layout.addLayout(grid)
        layout.addWidget(self.note)
        layout.addWidget(ends)
        self.show_keys(keys)

    def _shown(self, key: Key) -> QWidget:
        if key.fixed:
            return QLabel(_in_bold(key))
        button = self.buttons[key.usual] = QPushButton()
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # the next key is for the sheet
        button.setStyleSheet("text-align: left; font-weight: bold; padding: 1px 6px;")
        button.setToolTip("Choose another key")
        button.clicked.connect(lambda _checked=False, usual=key.usual: self._wait_for(usual))
        return button

    def show_keys(self, keys: Sequence[Key]) -> None:
        """Show the names that `keys` have now."""
        self._keys, self._waiting = {key.usual: key for key in keys}, None
        for usual, button in self.buttons.items():
            button.setText(" or ".join(self._keys[usual].names))
        self.note.setText(
            "They work wherever the focus is, except in a text field. Click one to choose another.\n"
            "With the mouse: drag a corner of the current cell's box to set it right, a side to move it.\n"
            "Drag with shift around cells without a verdict, or click them: the next one is for all."
        )

    def _wait_for(self, usual: str) -> None:
        self.show_keys(list(self._keys.values()))
        self._waiting = self._keys[usual]
        self.buttons[usual].setText("…")
        self.note.setText(f"Press the key to {self._waiting.what}. Esc: leave it as it is.")
        self.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self._waiting is None:
            super().keyPressEvent(event)
            return
        name = name_of(event)
        if name == "esc":
            self.show_keys(list(self._keys.values()))
        elif name in _NAMED.values() or name.startswith("ctrl+") or (len(name) == 1 and name.isprintable()):
            taken = [key for key in self._keys.values() if name in key.names and key is not self._waiting]
            if taken:
                self.note.setText(f"{name} is taken: {taken[0].what}. Press another key, or Esc.")
            else:
                self._keep(recall(_FILE) | {self._waiting.usual: name})

    def _keep(self, names: dict[str, str]) -> None:
        keep(_FILE, names)
        self.changed.emit()


def _in_bold(key: Key) -> str:
    return " or ".join(f"<b>{escape(name)}</b>" for name in key.names)
