"""The Review widget: the panel that is docked beside the slide, and the bar below it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari.utils.notifications import show_error, show_info
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, QObject, QSize, Qt, QTimer
from qtpy.QtGui import QHideEvent, QShowEvent
from qtpy.QtWidgets import (
    QApplication,
    QDialog,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QStackedWidget,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)
from superqt import QElidingLabel

from ..slides import sample_slide
from .below import Below
from .case_panel import CasePanel
from .commands import Commands
from .desk import Desk, close_with_slide
from .detect_panel import DetectPanel
from .gallery_panel import GalleryPanel
from .habits import Habits
from .icons import icon
from .incoming import Incoming
from .keys import Key, KeyFilter, KeySheet
from .learn_panel import LearnPanel
from .look_through import LookThrough
from .mpp_dialog import MppDialog
from .overlay import Overlay
from .overview_panel import OverviewPanel
from .parts import Button, MessageBar, Section, confirm, set_theme_color, tool_button
from .pointer import Pointer
from .properties_dialog import PropertiesDialog
from .queue_panel import QueuePanel
from .review_bar import ReviewBar
from .streaming import follow, read_slides
from .view import canvas_of
from .worklist_panel import WorklistPanel

if TYPE_CHECKING:
    import napari.viewer

    from ..review.worklist import Item

__all__ = ["ReviewWidget"]

_WIDTH = 380
_NOTE_MS, _LETTER_MS = 4000, 60  # that a note stays, and for each letter longer
_REST_MS = 60  # on a cell, before the next one's surroundings are read


class ReviewWidget(QWidget):
    """Detect, review, learn: everything but the slide itself.

    Parameters
    ----------
    napari_viewer : napari.viewer.Viewer
        The slide layers that are in it, or come into it later, are opened for review.
    """

    def __init__(self, napari_viewer: napari.viewer.Viewer) -> None:
        super().__init__()
        self._viewer = napari_viewer
        self.desk = Desk(napari_viewer, self)
        self.overlay: Overlay | None = None
        self.pointer: Pointer | None = None
        self.looking = LookThrough(self.desk)
        self.commands = Commands(self)
        self._foresee = QTimer(self, singleShot=True, interval=_REST_MS)
        self._foresee.timeout.connect(self.commands.foresee)
        self._is_settled = False
        self._filter = KeyFilter(self, lambda: self.desk.session is not None)
        self._build()
        self._connect()
        self.habits = Habits(self)
        self._repaint_icons()
        follow(napari_viewer)
        self.incoming = Incoming(self.desk, self._may_stop_work)
        self.incoming.take_latest()

    # --------------------------------------------------------------------------------------------------- build

    def _build(self) -> None:
        self.error_bar = MessageBar("#8c2f2a")
        self.note_bar = MessageBar("#3c4654")
        self._note_read = QTimer(self, singleShot=True)
        self._note_read.timeout.connect(self.note_bar.hide)
        self.title = QElidingLabel()
        self.overview = OverviewPanel(self.desk)
        self.overview_button = tool_button("overview", "Show or hide the overview of the slide.")
        self.overview_button.setCheckable(True)
        self.overview_button.setChecked(True)
        self.overview_button.toggled.connect(self.overview.setVisible)
        self.properties_button = tool_button("properties", "Show what the slide says about itself, and its label.")
        self.properties_button.clicked.connect(self.show_properties)
        self.keys_button = tool_button("keys", "Show all keys.")
        self.keys_button.clicked.connect(self.show_keys)
        self.detect_panel = DetectPanel(self.desk)
        self.queue_panel = QueuePanel(self.desk, self.commands.toggle_overlay)
        self.learn_panel = LearnPanel(self.desk)
        self.case_panel = CasePanel(self.desk)
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        for button in (self.overview_button, self.properties_button, self.keys_button):
            head.addWidget(button)
        self.top = QWidget()  # stays in sight while the panels below scroll
        above = QVBoxLayout(self.top)
        above.setContentsMargins(6, 4, 6, 2)
        above.setSpacing(4)
        above.addLayout(head)
        above.addWidget(self.overview)
        self.top.hide()
        sitting = QWidget()
        column = QVBoxLayout(sitting)
        column.setContentsMargins(6, 4, 6, 6)
        column.setSpacing(4)
        panels = {
            "Detect": self.detect_panel,
            "Queue": self.queue_panel,
            "Learn": self.learn_panel,
            "Case": self.case_panel,
        }
        self.sections = {name: Section(name, panel) for name, panel in panels.items()}
        for section in self.sections.values():
            column.addWidget(section)
        column.addStretch()
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        scroll.setWidget(sitting)
        self.stack = QStackedWidget()
        self.stack.addWidget(self._empty_state())
        self.gallery_panel = GalleryPanel(self.desk)
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.tabBar().setDrawBase(False)
        self.tabs.addTab(scroll, "Review")
        self.tabs.addTab(self.gallery_panel, "Gallery")
        self.worklist_panel = WorklistPanel(self.desk)
        self.tabs.addTab(self.worklist_panel, "Worklist")
        self.stack.addWidget(self.tabs)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.error_bar)
        layout.addWidget(self.top)
        layout.addWidget(self.stack, 1)
        layout.addWidget(self.note_bar)  # below: what is above stays where it is
        self.review_bar = ReviewBar(self.desk, self.commands.of_buttons(), self.commands.set_class, self.commands.go_to)
        self._below: Below | None = None  # where the bar is, once a slide is open
        self.setMinimumWidth(_WIDTH)
        # else napari puts empty space below
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Expanding)

    def sizeHint(self) -> QSize:
        return QSize(_WIDTH, 800)

    def _empty_state(self) -> QWidget:
        page = QWidget()
        picture = QLabel()
        picture.setPixmap(icon("cervcell").pixmap(96, 96))
        picture.setAlignment(Qt.AlignmentFlag.AlignCenter)
        words = QLabel("<h3>Open a slide,<br>or try the sample slide</h3>Cells are found, you correct some, it learns.")
        words.setWordWrap(True)
        words.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.open_button = Button("Open a slide …", "Choose a slide file. Or drag it onto the window.", "open")
        self.open_button.clicked.connect(self._ask_and_open)
        self.sample_button = Button("Open the sample slide", "A small slide that comes with the plugin.", "sample")
        self.sample_button.clicked.connect(lambda: self.open_slide(sample_slide()))
        self.folder_button = Button("Open a folder of slides …", "Its slides become your worklist.", "worklist")
        self.folder_button.clicked.connect(lambda: self.worklist_panel.ask_for_folder())
        column = QVBoxLayout(page)
        column.setContentsMargins(24, 24, 24, 24)
        column.addStretch(1)
        for widget in (picture, words, self.open_button, self.folder_button, self.sample_button):
            column.addWidget(widget)
        column.addStretch(2)
        return page

    def _connect(self) -> None:
        desk = self.desk
        desk.shown.connect(self._shown)
        desk.opened.connect(self._opened)
        desk.closing.connect(self._closing)
        desk.closed.connect(self._show_page)
        desk.mpp_missing.connect(self._ask_mpp)
        desk.failed.connect(self._show_error)
        desk.said.connect(self._show_note)
        desk.selected_changed.connect(self._show_selected)
        self.looking.changed.connect(self._show_place)
        self.worklist_panel.wanted.connect(self.open_item)
        self.gallery_panel.gallery.selection_changed.connect(self._selected_in_gallery)
        self.tabs.currentChanged.connect(self._show_selected)
        self._viewer.events.theme.connect(self._repaint_icons)
        QApplication.instance().aboutToQuit.connect(self.shut_down)

    def _repaint_icons(self, _event: Any = None) -> None:
        color = get_theme(self._viewer.theme).text.as_hex(format="long")
        for part in (self, self.review_bar):
            set_theme_color(part, color)

    # ------------------------------------------------------------------------------------------ slide comes, goes

    def open_slide(self, path: str | Path, case_path: Path | None = None) -> None:
        """Open a slide file of any name, with the case file `case_path` or the one where cases are.

        Work that is running on another slide is stopped: whoever calls this for a person asks first.
        """
        self.desk.next_case_path = case_path
        try:
            with self.desk.guard():
                # past napari's choice among readers: it goes by names, and does not say what is wrong with a file
                for data, settings, _ in read_slides(str(path)):
                    self.desk.stop_work()
                    self._viewer.add_image(data, **settings)
        finally:
            self.desk.next_case_path = None  # whatever came of it, the next slide has a case of its own

    def open_item(self, item: Item) -> None:
        """Open a slide of the worklist in place of the one that is open; where work is running on that, ask first."""
        if not self._may_stop_work():
            return
        tab = self.tabs.currentWidget()
        before = [layer for layer in self._viewer.layers if "slide" in layer.metadata]
        self.open_slide(item.slide, item.case)
        opened = self.desk.layer is not None and self.desk.layer not in before
        for layer in before if opened else ():
            self._viewer.layers.remove(layer)
        if opened and tab is self.worklist_panel:
            self.tabs.setCurrentIndex(0)
            self.desk.view.canvas.native.setFocus()  # where space is a verdict
        elif opened:
            self.tabs.setCurrentWidget(tab)
        self._show_page()

    def _ask_and_open(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Open a slide")
        if path:
            self.open_slide(path)

    def _shown(self) -> None:
        path = self.desk.slide.path
        self.title.setText(path.name)
        self.title.setToolTip(str(path))
        if self._below is None:
            self._below = below = Below("Review bar", self.review_bar, self.desk.view.canvas.native)
            self.destroyed.connect(below.deleteLater)
        self._below.show()
        self.top.show()

    def _opened(self) -> None:
        desk = self.desk
        self.error_bar.hide()
        self.note_bar.hide()
        self.overlay = Overlay(desk)
        self.pointer = Pointer(desk, self.overlay)
        self.pointer.clicked.connect(self.commands.click)
        self.pointer.gathered.connect(self.commands.select_too)
        self.gallery_panel.gallery.chosen.connect(desk.session.select)
        self.detect_panel.pointer = self.pointer
        desk.session.current_changed.connect(self.commands.follow)
        desk.session.current_changed.connect(self._foresee_soon)
        desk.layer.events.help.connect(_without_help)
        desk.layer.help = ""
        self._viewer.canvas.overlays.scale_bar.visible = True
        self._take_keys()
        self._repaint_icons()
        self.overlay.update()
        self._show_page()

    def _selected_in_gallery(self) -> None:
        if len(self.gallery_panel.gallery.selection):
            self.desk.select()
        self._show_selected()

    def _show_selected(self, *_: object) -> None:
        if self.desk.session is not None:
            self.review_bar.show_selected(self.commands.selected())

    def _show_place(self) -> None:
        if self.looking.place is not None:
            self.note_bar.hide()  # it has been found
        self.overlay.show_place(self.looking.place)

    def _foresee_soon(self, _row: int | None) -> None:
        self._foresee.start()

    def _closing(self) -> None:
        self._foresee.stop()
        self.desk.layer.events.help.disconnect(_without_help)
        self.gallery_panel.gallery.chosen.disconnect()
        self.pointer.remove()
        self.overlay.remove()
        self.pointer = self.overlay = None

    def _show_page(self) -> None:
        for part in (self.top, self._below):
            if part is not None:
                part.setVisible(self.desk.layer is not None)
        sitting, listed = self.desk.session is not None, self.worklist_panel.worklist is not None
        self.stack.setCurrentIndex(1 if sitting or listed else 0)
        if listed:
            for i in range(self.tabs.count() - 1):
                self.tabs.setTabEnabled(i, sitting)  # without a sitting, the worklist is left

    def _ask_mpp(self) -> None:
        layer, slide = self.desk.layer, self.desk.slide
        dialog = MppDialog(slide.path.name, self, slide.mpp)
        dialog.answered.connect(self.desk.set_mpp)

        def refused() -> None:
            if self.desk.layer is layer and slide.mpp is None:  # else the slide has gone, and the question with it
                self._show_error(
                    "Without the size of a pixel the slide can be looked at, but not searched for cells. "
                    "To be asked again, press Change … in its properties, the i above."
                )

        dialog.rejected.connect(refused)
        close_with_slide(dialog, self.desk)
        dialog.open()

    def _show_error(self, message: str) -> None:
        self.error_bar.show_message(message)
        if not self.error_bar.isVisible():  # the dock is hidden, or behind another
            show_error(message)

    def _show_note(self, message: str) -> None:
        self.note_bar.show_message(message)
        self._note_read.start(_NOTE_MS + _LETTER_MS * len(message))
        if not self.note_bar.isVisible():
            show_info(message)

    def shut_down(self) -> None:
        """Stop all work and close the case; nothing is lost, everything is on disk."""
        self.worklist_panel.stop()
        self.desk.clear()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        if self._main_window().isHidden():  # napari is closing; hiding the dock alone ends nothing
            self.shut_down()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.ParentChange:
            self.incoming.resting = self.parentWidget() is None
            if self.incoming.resting:
                self.shut_down()  # somebody has closed the dock for good; the slide stays in the window
        return super().event(event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if not self._is_settled:
            self._is_settled = True
            self._main_window().installEventFilter(self)
            QTimer.singleShot(0, self.habits.restore_dock)  # the window gives docks their sizes first
        if self.desk.layer is None:
            self.incoming.take_latest()

    def eventFilter(self, target: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Close and target is self._main_window() and self._is_closed_by_hand():
            self.habits.keep_window()
            if not self._may_stop_work("Stop it and close", self.desk.writing.running):
                event.ignore()
                return True
        return False

    def _is_closed_by_hand(self) -> bool:
        """Whether a person closes napari's window, who is asked: a script has napari close the canvas before it."""
        return self._main_window().isVisible() and canvas_of(self._viewer).native.isVisible()

    def _may_stop_work(self, yes: str = "Stop it and go on", more: str = "") -> bool:
        """Whether nothing is running, on the slide or `more`, or the user presses `yes`."""
        work = " and ".join(filter(None, (self.desk.work, more)))
        return not work or confirm(self, f"{work}. What was found and said so far is kept.", yes)

    def _main_window(self) -> QWidget:
        window = self.window()
        return window.parentWidget() or window  # a floating dock is a window of its own, with napari's as parent

    # ------------------------------------------------------------------------------------------------- dialogs

    def show_keys(self) -> None:
        """Show the key sheet."""
        sheet = KeySheet(self.commands.key_table(), self)
        sheet.changed.connect(lambda: sheet.show_keys(self._take_keys()))
        self._show_dialog(sheet)

    def _take_keys(self) -> list[Key]:
        """Listen to the keys as they are called now, show them on the buttons, and return them."""
        keys = self.commands.key_table()
        self._filter.set_keys(keys)
        names = {key.usual: key.names[0] for key in keys}
        for button in self.findChildren(Button) + self.review_bar.findChildren(Button):
            if button.usual_key in names:
                button.show_key(names[button.usual_key])
        self.review_bar.show_keys(names)
        self.queue_panel.show_threshold_keys(names["["], names["]"])
        self.tabs.tabBar().setToolTip(f"One cell after the other, or all side by side. Key: {names['g']}")
        self.keys_button.setToolTip(f"Show all keys. Key: {names['?']}")
        return keys

    def show_properties(self) -> None:
        """Show what the slide says about itself."""
        dialog = PropertiesDialog(self.desk.slide, self, lambda: self.desk.what_hinders("The size of a pixel"))
        dialog.change_wanted.connect(dialog.close)  # the question takes its place
        dialog.change_wanted.connect(self._ask_mpp)
        self._show_dialog(dialog)

    def _show_dialog(self, dialog: QDialog) -> None:
        """Show a dialog in the place of an earlier one of its kind."""
        for other in self.findChildren(type(dialog)):
            if other is not dialog:
                other.close()
        close_with_slide(dialog, self.desk)
        dialog.show()


def _without_help(event: Any) -> None:
    """Have napari's status bar not name keys of its own ("use <2> for transform"): in a sitting they are ours."""
    event.source.help = ""
