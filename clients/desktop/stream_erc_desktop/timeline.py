"""The timeline card: waveform, lanes, and the clock beside them."""

from collections.abc import Sequence
from itertools import pairwise

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from stream_erc_desktop.icons import icon
from stream_erc_desktop.lanes import LANE_PX, MAX_LANES_SEEN, NAMES_PX, Lanes
from stream_erc_desktop.model import Turn, clock
from stream_erc_desktop.outline import Outline
from stream_erc_desktop.palette import EmotionStyle, Theme
from stream_erc_desktop.waveform import Waveform


class Timeline(QFrame):
    """Everything on the time axis.

    Signals:
        renamed: a speaker and the new name.
        chosen: index of the turn that was clicked.
    """

    renamed = Signal(str, str)
    chosen = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setObjectName("card")
        self.waveform = Waveform()
        self.lanes = Lanes(self.waveform)
        self.lanes.renamed.connect(self.renamed)
        self.lanes.chosen.connect(self.chosen)
        self.clock = QLabel("00:00")
        self.clock.setObjectName("clock")
        self.clock.setAccessibleName("Audio heard")
        self.state = QLabel()
        self.state.setObjectName("soft")
        self.follow = self._plain("Follow the newest audio (F)")
        self.whole = self._plain("Show the whole conversation (W)")
        self.follow.clicked.connect(self.waveform.follow)
        self.whole.clicked.connect(self.waveform.show_whole)
        self._scroller = QScrollArea()
        self._scroller.setWidget(self.lanes)
        self._scroller.setWidgetResizable(True)
        self._scroller.setFrameShape(self.Shape.NoFrame)
        self._scroller.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._scroller.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        layout = QGridLayout(self)
        layout.setContentsMargins(8, 8, 16, 12)
        layout.setSpacing(0)
        layout.addWidget(self._corner(), 0, 0)
        layout.addWidget(self.waveform, 0, 1)
        layout.addWidget(self._scroller, 1, 0, 1, 2)
        layout.setColumnStretch(1, 1)
        self.lanes.tab_after = self.whole

    def show_turns(
        self,
        rows: Sequence[Turn],
        speakers: Sequence[str],
        styles: dict[str, EmotionStyle],
        selected: int | None,
    ) -> None:
        """Show the turns of each speaker."""
        self.lanes.show_turns(rows, speakers, styles, selected)
        seen = min(max(1, len(speakers)), MAX_LANES_SEEN)
        self._scroller.setFixedHeight(seen * LANE_PX)
        many = len(speakers) > MAX_LANES_SEEN
        policy = Qt.ScrollBarPolicy.ScrollBarAsNeeded if many else Qt.ScrollBarPolicy.ScrollBarAlwaysOff
        self._scroller.setVerticalScrollBarPolicy(policy)

    def show_audio(
        self, outline: Outline, rows: Sequence[Turn], pending_ms: Sequence[tuple[int, int | None]]
    ) -> None:
        """Show the audio, the speech of finished turns, and the speech without a finished turn."""
        spans = [
            (float(turn.start_ms), float(turn.end_ms))
            for turn in rows
            if turn.start_ms is not None and turn.end_ms is not None and not turn.partial
        ]
        now_ms = outline.end_ms
        heard = [(start, now_ms if end is None else end) for start, end in pending_ms if start < now_ms]
        pending = [
            (float(start), float(min(end, following)))
            for (start, end), (following, _) in pairwise([*heard, (now_ms, now_ms)])
        ]
        self.waveform.show_audio(outline, spans, pending)
        self.clock.setText(clock(outline.end_ms))

    def show_drop(self, over: bool) -> None:
        """Show whether a file can be dropped now."""
        self.setProperty("drop", over)
        self.style().unpolish(self)
        self.style().polish(self)

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.waveform.set_theme(theme)
        self.lanes.strip.set_theme(theme)
        self.follow.setIcon(icon("follow", theme.soft))
        self.whole.setIcon(icon("whole", theme.soft))

    def _corner(self) -> QWidget:
        """Build the corner left of the waveform: clock, state and buttons."""
        buttons = QHBoxLayout()
        buttons.setSpacing(0)
        buttons.addWidget(self.follow)
        buttons.addWidget(self.whole)
        buttons.addStretch(1)
        corner = QWidget()
        corner.setFixedWidth(NAMES_PX)
        layout = QVBoxLayout(corner)
        layout.setContentsMargins(12, 4, 4, 4)
        layout.setSpacing(0)
        layout.addWidget(self.clock)
        layout.addWidget(self.state)
        layout.addStretch(1)
        layout.addLayout(buttons)
        return corner

    def _plain(self, name: str) -> QPushButton:
        button = QPushButton()
        button.setObjectName("plain")
        button.setToolTip(name)
        button.setAccessibleName(name.partition(" (")[0])
        button.setIconSize(QSize(18, 18))
        button.setFixedSize(32, 32)
        return button
