"""What a slide says about itself, and the pictures of its label: shown to who asks, and to nobody else."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeyEvent, QKeySequence, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QTableWidget,
    QTableWidgetItem,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt.utils import create_worker

from ..errors import CervcellError
from .pictures import as_image

if TYPE_CHECKING:
    from ..slides import Slide

__all__ = ["AssociatedImage", "PropertiesDialog", "summary"]

_PIXEL = "One pixel"
_LARGEST = 480  # px: the longer side of a label as it is shown
_READERS = {
    "direct": "its stored tiles, decoded directly",
    "openslide": "OpenSlide",
    "zarr": "Zarr",
}
_NOT_APPLIED = "yes, not applied: Preferences > Plugins > CervCell has it applied to slides opened from then on"
_WARNED = "⚠  {}"
_NOTICE = "background: rgba(214, 137, 16, 55); border-left: 4px solid #d68910; padding: 5px 8px;"


def summary(slide: Slide) -> list[tuple[str, str]]:
    """Return what one mostly wants to know of a slide, as (name, value) in words; nothing that names a patient."""
    size = f"{slide.width:,} × {slide.height:,} px"
    pixel = "not known"
    if slide.mpp_xy is not None:
        x, y = slide.mpp_xy
        size += f", {slide.width * x / 1000:.2f} × {slide.height * y / 1000:.2f} mm"
        pixel = f"{x:.4g} µm" if np.isclose(x, y) else f"{x:.4g} × {y:.4g} µm"
        with suppress(KeyError, ValueError):
            said = float(slide.properties["openslide.mpp-x"])
            pixel += "" if np.isclose(x, said, rtol=1e-3) else f"; the file says {said:.4g} µm"
    power = slide.objective_power
    levels = ", ".join(f"1:{level.downsample:.4g}" for level in slide.levels)
    profile = "none" if slide.icc is None else "yes, applied" if slide.color_managed else _NOT_APPLIED
    return [
        ("Size", size),
        (_PIXEL, pixel),
        ("Objective", "not known" if power is None else f"{power:g}x"),
        ("Levels", f"{len(slide.levels)} ({levels})"),
        ("Format", slide.format),
        ("Read by", _READERS[slide.reader]),
        ("Colour profile", profile),
        ("File", _file_size(slide)),
    ]


def _file_size(slide: Slide) -> str:
    if os.path.isdir(slide.path):
        return "a folder"
    try:
        size = slide.path.stat().st_size
    except OSError:
        return "no longer there"
    shown = f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
    return f"{shown}, and further files beside it" if slide.format in ("mirax", "dicom", "hamamatsu") else shown


class PropertiesDialog(QDialog):
    """A summary, all that the file says, and its label and macro images, each behind a button of its own.

    Parameters
    ----------
    slide : Slide
    parent : QWidget
    what_hinders : callable
        Returns why the size of a pixel cannot be changed now; empty where it can.
    """

    change_wanted = Signal()
    """another size of a pixel"""

    def __init__(self, slide: Slide, parent: QWidget, what_hinders: Callable[[], str]) -> None:
        super().__init__(parent)
        self.setWindowTitle("Slide properties")
        self.tabs = QTabWidget()
        self.summary = _Summary(slide, what_hinders)
        self.summary.change_wanted.connect(self.change_wanted)
        self.tabs.addTab(self.summary, "Summary")
        self.properties = PropertiesTable(slide)
        self.tabs.addTab(self.properties, "All properties")
        self.images = [AssociatedImage(slide, name) for name in slide.associated_images]
        self.tabs.addTab(_images_page(self.images), "Label and macro")
        close = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        close.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs)
        layout.addWidget(close)
        self.resize(620, 460)


class _Summary(QWidget):
    change_wanted = Signal()

    def __init__(self, slide: Slide, what_hinders: Callable[[], str]) -> None:
        super().__init__()
        self._what_hinders = what_hinders
        self.change = QPushButton("Change …")
        self.change.setToolTip("Give another size of a pixel; what the file says stays in the file")
        self.change.setAutoDefault(False)
        self.change.clicked.connect(self._ask)
        self.problem = _notice("")
        self.problem.hide()
        form = QFormLayout()
        form.setVerticalSpacing(8)
        form.setHorizontalSpacing(18)
        for name, value in summary(slide):
            label = QLabel(value)
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            line = QHBoxLayout()
            line.addWidget(label, 1)
            if name == _PIXEL:
                line.addWidget(self.change)
            form.addRow(f"{name}:", line)
        column = QVBoxLayout(self)
        column.addLayout(form)
        column.addWidget(self.problem)
        column.addStretch()

    def _ask(self) -> None:
        hindrance = self._what_hinders()
        self.problem.setText(_WARNED.format(hindrance))
        self.problem.setVisible(bool(hindrance))
        if not hindrance:
            self.change_wanted.emit()


class _Table(QTableWidget):
    copied = Signal()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copied.emit()  # whole rows; Qt would copy one cell
        else:
            super().keyPressEvent(event)


class PropertiesTable(QWidget):
    """All properties of a slide, to be searched and copied."""

    def __init__(self, slide: Slide) -> None:
        super().__init__()
        self.search = QLineEdit(placeholderText="Search names and values", clearButtonEnabled=True)
        self.search.setToolTip("Show only the properties in which this occurs")
        self.search.textChanged.connect(self._filter)
        self.table = _Table(len(slide.properties), 2)
        self.table.copied.connect(self.copy)
        self.table.setHorizontalHeaderLabels(["Name", "Value"])
        self.table.verticalHeader().hide()
        self.table.horizontalHeader().setStretchLastSection(True)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setWordWrap(False)
        for row, pair in enumerate(sorted(slide.properties.items())):
            for column, text in enumerate(pair):
                item = QTableWidgetItem(text)
                item.setToolTip(text)
                self.table.setItem(row, column, item)
        self.table.setColumnWidth(0, 250)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setToolTip("Copy the selected properties, or all that are shown if none is selected")
        self.copy_button.setAutoDefault(False)
        self.copy_button.clicked.connect(self.copy)
        top = QHBoxLayout()
        top.addWidget(self.search, 1)
        top.addWidget(self.copy_button)
        layout = QVBoxLayout(self)
        layout.addWidget(_notice("These may identify the patient: names, dates, numbers. They are never exported."))
        layout.addLayout(top)
        layout.addWidget(self.table)

    def shown(self) -> list[int]:
        """Return the rows that the search leaves."""
        return [row for row in range(self.table.rowCount()) if not self.table.isRowHidden(row)]

    def copy(self) -> None:
        """Copy the selected rows, or all shown, as tab-separated text."""
        selected = {index.row() for index in self.table.selectionModel().selectedRows()}
        rows = [row for row in self.shown() if row in selected] or self.shown()
        lines = ["\t".join(self.table.item(row, column).text() for column in (0, 1)) for row in rows]
        QApplication.clipboard().setText("\n".join(lines))

    def _filter(self, words: str) -> None:
        words = words.strip().lower()
        for row in range(self.table.rowCount()):
            found = any(words in self.table.item(row, column).text().lower() for column in (0, 1))
            self.table.setRowHidden(row, not found)
        self.table.clearSelection()


def _images_page(images: list[AssociatedImage]) -> QWidget:
    page = QWidget()
    column = QVBoxLayout(page)
    if images:
        column.addWidget(
            _notice("These may show the patient's name. They are shown here only: not exported, not saved.")
        )
    else:
        column.addWidget(QLabel("The slide has no label, macro or other images."))
    inner = QWidget()
    rows = QVBoxLayout(inner)
    for image in images:
        rows.addWidget(image)
    rows.addStretch()
    scroll = QScrollArea(widgetResizable=True)
    scroll.setFrameShape(QScrollArea.Shape.NoFrame)
    scroll.setWidget(inner)
    column.addWidget(scroll, 1)
    return page


class AssociatedImage(QWidget):
    """One picture beside the slide: not read before the button is pressed, and let go of when it is pressed again."""

    def __init__(self, slide: Slide, name: str) -> None:
        super().__init__()
        self._slide = slide
        self._name = name
        self.button = QPushButton(checkable=True)
        self.button.setToolTip(f"Show the {name} image, which may show the patient's name, or hide it again")
        self.button.setAutoDefault(False)
        self.button.toggled.connect(self._toggle)
        self.picture = QLabel()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignLeft)
        column.addWidget(self.picture)
        self._toggle(False)

    def _toggle(self, wanted: bool) -> None:
        self.button.setText(f"{'Hide' if wanted else 'Show'} the {self._name} image")
        self.picture.setVisible(wanted)
        self.picture.clear()
        if wanted:
            self._say("is being read …")
            create_worker(self._read, _connect={"returned": self._show})

    def _read(self) -> np.ndarray | str:
        try:
            return self._slide.read_associated_image(self._name)
        except CervcellError as error:
            return str(error)

    def _show(self, result: np.ndarray | str) -> None:
        if not self.button.isChecked():
            return  # hidden again before it was there
        if isinstance(result, str):
            self._say(result)
            return
        image = as_image(result)
        if max(image.width(), image.height()) > _LARGEST:
            keep, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            image = image.scaled(_LARGEST, _LARGEST, keep, smooth)
        self.picture.setWordWrap(False)  # with it, Qt finds that a picture needs no height
        self.picture.setPixmap(QPixmap.fromImage(image))

    def _say(self, words: str) -> None:
        self.picture.setWordWrap(True)
        self.picture.setText(words)


def _notice(text: str) -> QLabel:
    label = QLabel(_WARNED.format(text))
    label.setWordWrap(True)
    label.setStyleSheet(_NOTICE)
    return label
