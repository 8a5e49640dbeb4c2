"""The bar at the bottom: start and finish, open a file, choose a microphone, push to talk."""

from collections.abc import Sequence

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QPushButton, QWidget

from stream_erc_desktop.course import Phase
from stream_erc_desktop.icons import icon, rounded
from stream_erc_desktop.monitors import Input, Monitor, Pair
from stream_erc_desktop.palette import LIGHT, Theme, ink_on
from stream_erc_desktop.recorder import Microphone

LOOK_AGAIN = "Look again"
FINISH = (
    "Finish (Ctrl+Enter): the last turns are processed, then the whole of the conversation is shown; "
    "nothing can be corrected afterwards"
)
PRIMARY = {
    Phase.WAITING: ("Start listening", "Hear the microphone (R)"),
    Phase.HEARING: ("Stop", "Stop listening; names and speakers can still be corrected (R)"),
    Phase.OPEN: ("Finish", FINISH),
    Phase.FINISHING: ("Finishing", "The server is processing the rest"),
    Phase.OVER: ("New conversation", "Hear the microphone in a new conversation (R)"),
}
"""The text and the tooltip of the large button in each phase."""


class Meter(QWidget):
    """The level meter."""

    def __init__(self) -> None:
        super().__init__()
        self.theme: Theme = LIGHT
        self.level = 0.0
        self.setFixedSize(96, 8)
        self.setAccessibleName("Level")

    def show_level(self, level: float) -> bool:
        """Show a level, 0 to 1, which falls slowly; return whether it is still falling."""
        shown = max(level, self.level - 0.04, 0.0)
        if shown != self.level:
            self.level = shown
            self.update()
        return shown > level

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Draw it."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.fillPath(rounded(QRectF(self.rect()), 4), QColor(self.theme.line))
        wide = self.width() * self.level**0.5
        if wide >= 1:
            colour = self.theme.record if self.level > 0.97 else self.theme.speech
            painter.fillPath(rounded(QRectF(0, 0, max(8.0, wide), self.height()), 4), QColor(colour))
        painter.end()


class Controls(QFrame):
    """The buttons.

    Signals:
        record: start with this microphone, monitor or both.
        stop: stop the source.
        finish: end the conversation.
        open_file: ask for a file.
        paused: whether the recording is to pause.
        talking: whether the microphone is to be heard.
        look_for_microphones: look for microphones again.
    """

    record = Signal(object)
    stop = Signal()
    finish = Signal()
    open_file = Signal()
    paused = Signal(bool)
    talking = Signal(bool)
    look_for_microphones = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("bar")
        self.theme: Theme = LIGHT
        self.phase = Phase.WAITING
        self._inputs: list[Input] = []
        self.why_no_microphone = "Looking for microphones …"
        self._from_file = False
        self.primary = QPushButton()
        self.primary.setObjectName("primary")
        self.primary.clicked.connect(self._primary_clicked)
        self.pause = QPushButton("Pause")
        self.pause.setCheckable(True)
        self.pause.toggled.connect(self._pause_toggled)
        self.open = QPushButton("Open …")
        self.open.setAccessibleName("Open a recording")
        self.open.setToolTip("Hear a recording (Ctrl+O); or drop one on the window")
        self.open.clicked.connect(self.open_file)
        self.devices = QComboBox()
        self.devices.setAccessibleName("Source")
        self.devices.setMinimumWidth(120)
        self.devices.setMaximumWidth(260)
        self.devices.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.devices.setMinimumContentsLength(14)
        self.devices.activated.connect(self._device_chosen)
        self.ptt = QPushButton("Push to talk")
        self.ptt.setCheckable(True)
        self.ptt.setToolTip("The microphone is heard only while Space, or the button, is held (P)")
        self.ptt.toggled.connect(self._ptt_toggled)
        self.talk = QPushButton("Hold to talk")
        self.talk.setCheckable(True)
        self.talk.setAccessibleDescription("Hold to be heard; the Space key does the same")
        self.talk.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # its key is Space, wherever the focus is
        self.talk.pressed.connect(lambda: self._talk(True))
        self.talk.released.connect(lambda: self._talk(False))
        self.finishing = QPushButton("Finish")
        self.finishing.setToolTip(FINISH)
        self.finishing.setAccessibleDescription(FINISH)
        self.finishing.clicked.connect(self.finish)
        self.meter = Meter()
        self.hint = QLabel()
        self.hint.setObjectName("soft")
        layout = QHBoxLayout(self)
        layout.setContentsMargins(24, 12, 24, 12)
        layout.setSpacing(10)
        for widget in (self.primary, self.pause, self.open, self.devices, self.ptt, self.talk):
            layout.addWidget(widget)
        layout.addStretch(1)
        layout.addWidget(self.finishing)
        layout.addWidget(self.hint)
        layout.addWidget(self.meter)
        self.show_phase(Phase.WAITING, from_file=False)

    @property
    def chosen(self) -> Input | None:
        """The chosen microphone, monitor, or both."""
        found = self.devices.currentData()
        return found if isinstance(found, Microphone | Monitor | Pair) else None

    @property
    def recording(self) -> bool:
        """Whether a microphone is heard now."""
        return self.phase is Phase.HEARING and not self._from_file

    def space_talks(self, down: bool) -> bool:
        """Talk while Space is held, if push to talk is on; return whether it is."""
        talks = self.recording and self.ptt.isChecked() and self.ptt.isEnabled()
        if talks:
            self._talk(down)
        return talks

    def space_pauses(self) -> bool:
        """Pause or continue a recording, if one is playing; return whether one is."""
        pauses = self.phase is Phase.HEARING and self._from_file
        if pauses:
            self.pause.toggle()
        return pauses

    def show_microphones(self, found: Sequence[Input] | str) -> None:
        """Offer these microphones and monitors, or show why there is none."""
        chosen = self.chosen
        self.devices.clear()
        self._inputs = [] if isinstance(found, str) else list(found)
        self.why_no_microphone = found if isinstance(found, str) else ""
        for one in self._inputs:
            self.devices.addItem(one.name, one)
            same = chosen is not None and one.name == chosen.name
            if same or (chosen is None and one.is_default):
                self.devices.setCurrentIndex(self.devices.count() - 1)
        if not self._inputs:
            self.devices.addItem("No microphone")
        self.devices.addItem(LOOK_AGAIN)
        self.devices.setToolTip(self.why_no_microphone)
        self.devices.setAccessibleDescription(self.why_no_microphone)
        self._refresh()

    def show_phase(self, phase: Phase, *, from_file: bool) -> None:
        """Show the buttons of a phase."""
        if phase is not self.phase and phase is Phase.HEARING:
            self.pause.setChecked(False)
        self.phase, self._from_file = phase, from_file
        self._refresh()

    def show_talking(self, talking: bool) -> None:
        """Show whether the microphone is heard."""
        self.talk.setChecked(talking)
        self.talk.setText("Talking" if talking else "Hold to talk")

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = self.meter.theme = theme
        self.open.setIcon(icon("open", theme.ink))
        self._refresh()

    def _refresh(self) -> None:
        text, tip = PRIMARY[self.phase]
        going = self.phase in (Phase.HEARING, Phase.OPEN)
        finishing = self.phase is Phase.FINISHING
        ready = bool(self._inputs)
        self.primary.setText(text)
        self.primary.setEnabled(not finishing and (going or ready))
        on = ink_on(self.theme.record) if self.primary.isEnabled() else self.theme.soft
        pictures = {Phase.HEARING: "stop", Phase.OPEN: "done"}
        self.primary.setIcon(icon(pictures.get(self.phase, "record"), on))
        self.primary.setIconSize(QSize(20, 20))
        self.primary.setToolTip(tip if going or ready else self.why_no_microphone)
        self.primary.setAccessibleDescription(self.primary.toolTip())
        playing = self.phase is Phase.HEARING and self._from_file
        self.pause.setVisible(playing)
        self.pause.setIcon(
            icon("play" if self.pause.isChecked() else "pause", self.theme.background)
            if self.pause.isChecked()
            else icon("pause", self.theme.ink)
        )
        self.finishing.setVisible(self.phase is Phase.HEARING)
        self.open.setVisible(not self.recording)
        self.devices.setEnabled(not self.recording)
        self.ptt.setEnabled(ready and not isinstance(self.chosen, Monitor))
        self.talk.setVisible(self.ptt.isChecked() and self.ptt.isEnabled() and self.recording)
        self.hint.setText("Hold Space to talk" if self.talk.isVisibleTo(self) else "")

    def _primary_clicked(self) -> None:
        if self.phase is Phase.HEARING:
            self.stop.emit()
        elif self.phase is Phase.OPEN:
            self.finish.emit()
        elif self.chosen is not None:
            self.record.emit(self.chosen)

    def _pause_toggled(self, paused: bool) -> None:
        self.pause.setText("Continue" if paused else "Pause")
        self._refresh()
        self.paused.emit(paused)

    def _ptt_toggled(self, held: bool) -> None:
        self._refresh()
        if self.recording:
            self._talk(not held)

    def _talk(self, talking: bool) -> None:
        self.show_talking(talking)
        self.talking.emit(talking)

    def _device_chosen(self, row: int) -> None:
        if self.devices.itemText(row) == LOOK_AGAIN and row == self.devices.count() - 1:
            self.devices.setCurrentIndex(0)
            self.look_for_microphones.emit()
        self._refresh()
