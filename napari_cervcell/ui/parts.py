"""Small widgets that more than one panel uses."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF, QResizeEvent
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QWidget,
)
from superqt import QCollapsible

from .icons import icon

__all__ = [
    "Button",
    "Curve",
    "MessageBar",
    "Section",
    "confirm",
    "let_shrink",
    "line_up",
    "set_theme_color",
    "text_on",
    "tool_button",
]

_UNLIMITED = 16_777_215  # Qt's QWIDGETSIZE_MAX
_HEADING = (
    "QPushButton, QPushButton:checked { background: rgba(128, 128, 128, 50); border: none; border-radius: 3px; "
    "padding: 3px 6px; font-weight: bold; text-align: left; }"
)
_BADGE = "background: rgba(128, 128, 128, 90); border-radius: 3px; padding: 0px 4px; font-size: 10px;"


def text_on(color: str) -> str:
    """Return black or white, whichever is read better on `color` (``#rrggbb``)."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return "#000000" if 0.299 * r + 0.587 * g + 0.114 * b > 130 else "#ffffff"


class Button(QPushButton):
    """A button with an icon and, at its right end, the key that does the same."""

    def __init__(self, text: str, tip: str, icon_name: str = "", key: str = "", color: str = "") -> None:
        super().__init__(text)
        self.icon_name = icon_name
        self.usual_key = key
        self._tip = tip
        self.setToolTip(tip)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumHeight(28)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        stripe = f"border-left: 7px solid {color};" if color else ""
        self.setStyleSheet(f"QPushButton {{ text-align: left; padding: 4px 6px; {stripe} }}")
        self.setIconSize(QSize(16, 16))
        self._room = 0
        if key:
            self._badge = QLabel()
            self._badge.setStyleSheet(_BADGE)
            self._badge.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            row = QHBoxLayout(self)
            row.setContentsMargins(0, 0, 6, 0)
            row.addStretch()
            row.addWidget(self._badge)
            self.show_key(key)

    def show_key(self, name: str) -> None:
        """Show `name` as the key that does the same."""
        self._badge.setText(name)
        self.setToolTip(f"{self._tip} Key: {name}")
        self.show_badge(not self._badge.isHidden())

    def show_badge(self, shown: bool) -> None:
        """Show the key on the button, or in its tooltip alone; a button without a key has neither."""
        if self.usual_key:
            self._badge.setVisible(shown)
            self._room = self._badge.sizeHint().width() + 10 if shown else 0
            self.updateGeometry()

    def sizeHint(self) -> QSize:
        return super().sizeHint() + QSize(self._room, 0)

    def minimumSizeHint(self) -> QSize:
        return QSize(40 + self._room, super().minimumSizeHint().height())


def tool_button(icon_name: str, tip: str) -> QToolButton:
    """Return a button that is an icon alone."""
    button = QToolButton()
    button.icon_name = icon_name
    button.setIconSize(QSize(18, 18))
    button.setToolTip(tip)
    return button


def let_shrink(combo: QComboBox, letters: int) -> None:
    """Let the longest choice not make the panel wide: `letters` of it are enough."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(letters)


def line_up(form: QWidget, width: int) -> None:
    """Let the fields of a form begin in one line: in napari's style each label is as wide as its own word."""
    for label in form.findChildren(QLabel):
        label.setMinimumWidth(width)


class Section(QCollapsible):
    """A panel under a heading that folds it away."""

    def __init__(self, name: str, panel: QWidget) -> None:
        super().__init__(name, expandedIcon=icon("shown"), collapsedIcon=icon("folded"))
        self.setDuration(0)
        self.layout().setContentsMargins(0, 0, 0, 0)
        self.content().layout().setContentsMargins(4, 2, 2, 6)
        self.toggleButton().setToolTip(f"Show or hide {name}")
        self.toggleButton().setStyleSheet(_HEADING)
        self.toggled.connect(self._let_grow)
        self.addWidget(panel)
        panel.removeEventFilter(self)
        self.expand(animate=False)

    def _let_grow(self, is_open: bool) -> None:
        # QCollapsible holds its content to the height that it had when it was opened; ours grow with their texts
        self.content().setMaximumHeight(_UNLIMITED if is_open else 0)


def confirm(parent: QWidget, words: str, yes: str) -> bool:
    """Ask the user something, `yes` being the button that agrees; return whether it was pressed."""
    box = QMessageBox(QMessageBox.Icon.Question, "CervCell", words, parent=parent)
    agree = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    box.setDefaultButton(box.addButton("Stay", QMessageBox.ButtonRole.RejectRole))
    box.exec()
    agreed = box.clickedButton() is agree
    box.deleteLater()
    return agreed


def set_theme_color(widget: QWidget, color: str) -> None:
    """Give all icons inside `widget` the colour of its text."""
    for button in widget.findChildren(QPushButton) + widget.findChildren(QToolButton):
        if name := getattr(button, "icon_name", ""):
            button.setIcon(icon(name, color))
    for section in widget.findChildren(Section):
        section.setExpandedIcon(icon("shown", color))
        section.setCollapsedIcon(icon("folded", color))


class MessageBar(QFrame):
    """What happened, or went wrong, in words on a dark `color`, until it is dismissed; it never stops the work."""

    def __init__(self, color: str) -> None:
        super().__init__()
        self.setObjectName("message_bar")
        self.setStyleSheet(
            f"#message_bar {{ background: {color}; border-radius: 4px; }} #message_bar QLabel {{ color: white; }}"
        )
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        close = QToolButton()
        close.setIcon(icon("close", "#ffffff"))
        close.setStyleSheet("background: transparent; border: none;")
        close.setToolTip("Dismiss this message")
        close.clicked.connect(self.hide)
        self.close_button = close
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 4, 6)
        row.addWidget(self.text, 1)
        row.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def show_message(self, message: str) -> None:
        self.text.setText(message)
        self.show()
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        # of a label that wraps its words, a layout knows the height only roughly
        self.text.setMinimumHeight(0)  # else the next message is as high as this one at the least
        self.text.setMinimumHeight(max(0, self.text.heightForWidth(self.text.width())))


class Curve(QWidget):
    """A line through values that come one after the other, the newest of them in words.

    Parameters
    ----------
    tip : str
    color : str
    words : str
        How the newest value is written, as for :meth:`str.format`.
    """

    def __init__(self, tip: str, color: str, words: str) -> None:
        super().__init__()
        self.setMinimumHeight(64)
        self.setToolTip(tip)
        self._color, self._words = color, words
        self.values: list[float] = []

    def show_values(self, values: Sequence[float]) -> None:
        """Show `values` in place of those that were shown."""
        self.values = list(values)
        self.update()

    def add(self, value: float) -> None:
        self.values.append(value)
        self.update()

    def paintEvent(self, _event: object) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(128, 128, 128, 110), 1))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
        if len(self.values) < 2:
            return
        low, high = min(self.values), max(self.values)
        margin = 6.0
        width, height = self.width() - 2 * margin, self.height() - 2 * margin
        last = len(self.values) - 1
        points = [
            QPointF(margin + width * i / last, margin + height * (high - value) / max(high - low, 1e-9))
            for i, value in enumerate(self.values)
        ]
        painter.setPen(QPen(QColor(self._color), 2))
        painter.drawPolyline(QPolygonF(points))
        painter.setPen(self.palette().color(self.foregroundRole()))
        newest = self.values[-1]
        beside = Qt.AlignmentFlag.AlignBottom if 2 * newest > low + high else Qt.AlignmentFlag.AlignTop
        words = self._words.format(newest)
        painter.drawText(self.rect().adjusted(8, 4, -8, -4), Qt.AlignmentFlag.AlignRight | beside, words)
