"""The content of the window: arranges the parts, and passes each its share of the conversation."""

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from stream_erc_desktop import captions
from stream_erc_desktop.controls import Controls
from stream_erc_desktop.course import Course, Phase
from stream_erc_desktop.header import Header, NoticeBar, Retry, announce
from stream_erc_desktop.latency import LatencyPanel, ReadingPanel
from stream_erc_desktop.model import ConnectionState, Notice
from stream_erc_desktop.palette import EmotionStyle, Theme, emotion_styles
from stream_erc_desktop.timeline import Timeline
from stream_erc_desktop.transcript import Transcript
from stream_erc_desktop.whole import WholePanel

SIDE_PX = 352


class Page(QWidget):
    """All parts of the window."""

    def __init__(self) -> None:
        super().__init__()
        self.header, self.timeline = Header(), Timeline()
        self.notice_bar, self.first = NoticeBar(), NoticeBar()
        self.controls = Controls()
        self._styles: dict[str, EmotionStyle] = {}
        self._notice: Notice | None = None
        body = QHBoxLayout()
        body.setSpacing(14)
        body.addWidget(self._talk_card(), 1)
        body.addWidget(self._side())
        page = QVBoxLayout()
        page.setContentsMargins(24, 18, 24, 16)
        page.setSpacing(14)
        page.addWidget(self.header)
        page.addWidget(self.first)
        page.addWidget(self.notice_bar)
        page.addWidget(self.timeline)
        page.addLayout(body, 1)
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(page, 1)
        whole.addWidget(self.controls)

    def shortcuts(self) -> dict[str, Callable[[], object]]:
        """Return the shortcuts that act on a part of the window."""
        controls, waveform = self.controls, self.timeline.waveform
        return {
            "R": controls.primary.click,
            "P": controls.ptt.toggle,
            "F": waveform.follow,
            "W": waveform.show_whole,
            "+": lambda: waveform.zoom(0.5),
            "=": lambda: waveform.zoom(0.5),
            "-": lambda: waveform.zoom(2.0),
            "Ctrl+S": self.header.save.click,
        }

    def show_texts(self, course: Course, url: str) -> None:
        """Show everything but the timeline and the emotion."""
        conversation, rows = course.conversation, course.conversation.rows
        if tuple(self._styles) != conversation.labels:
            self._styles = emotion_styles(conversation.labels)
        self.transcript.show_turns(rows, conversation.speakers, self._styles)
        self.whole.show_summary(conversation.summary)
        self.latency.show_stages(conversation.latencies.stages())
        failed = conversation.connection is ConnectionState.FAILED
        self.header.show_connection(
            conversation.connection, conversation.connection_detail, retry=failed and bool(rows)
        )
        title = course.recording.name if course.recording else "Conversation"
        duration_ms = course.source.duration_ms if course.source else None
        self.header.show_facts(title, captions.facts(conversation, duration_ms))
        self.header.save.setEnabled(conversation.turns > 0)
        self.count.setText(captions.count(conversation))
        self.pages.setCurrentIndex(1 if rows else 0)
        problem = self.controls.why_no_microphone
        title, more = captions.empty(conversation, course.phase, url, microphone=not problem)
        self.empty.setText(title)
        self.empty_detail.setText(more)
        ready = conversation.connection is ConnectionState.CONNECTED and course.phase is Phase.WAITING
        self.sample.setVisible(ready)
        self.no_microphone.setText(problem if ready else "")
        self.retry.setVisible(failed)
        self.timeline.state.setText(captions.state(conversation, course.phase))
        notice, self._notice = self._notice, conversation.notice
        if conversation.notice is not None and conversation.notice is not notice:
            if failed and not rows:  # already shown in place of the transcript
                announce(self.empty, f"{title}: {more}")
            else:
                self.notice_bar.show_notice(conversation.notice)

    def show_timeline(self, course: Course) -> bool:
        """Show the timeline, the emotion and the level; return whether the level is still falling."""
        conversation, rows = course.conversation, course.conversation.rows
        self.timeline.show_turns(rows, conversation.speakers, self._styles, course.selected)
        self.timeline.show_audio(course.outline, rows, conversation.pending_ms)
        self.reading.show_turn(course.turn, self._styles)
        return self.controls.meter.show_level(course.outline.level if course.phase is Phase.HEARING else 0.0)

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        for part in (self.header, self.timeline, self.transcript, self.reading, self.latency, self.controls):
            part.set_theme(theme)

    def _talk_card(self) -> QWidget:
        """Build the card of the transcript and of what is shown while it is empty."""
        self.transcript, self.pages = Transcript(), QStackedWidget()
        self.count, self.empty, self.empty_detail = _label("soft"), _label("empty"), _label("soft")
        self.no_microphone = _label("small")
        self.sample, self.retry = QPushButton("Hear the sample conversation"), Retry()
        empty = QWidget()
        middle = QVBoxLayout(empty)
        middle.setContentsMargins(8, 0, 8, 0)
        middle.setSpacing(6)
        middle.addStretch(2)
        for label in (self.empty, self.empty_detail, self.no_microphone):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
        middle.addWidget(self.empty)
        middle.addWidget(self.empty_detail)
        middle.addSpacing(4)
        for widget in (self.sample, self.retry):
            middle.addWidget(widget, 0, Qt.AlignmentFlag.AlignHCenter)
        middle.addStretch(3)
        middle.addWidget(self.no_microphone)
        self.pages.addWidget(empty)
        self.pages.addWidget(self.transcript)
        head = QHBoxLayout()
        head.setContentsMargins(14, 0, 14, 0)
        head.addWidget(_label("heading", "Transcript"))
        head.addWidget(self.count, 1)
        card = QFrame()
        card.setObjectName("card")
        layout = QVBoxLayout(card)
        layout.setContentsMargins(4, 14, 4, 8)
        layout.addLayout(head)
        layout.addWidget(self.pages, 1)
        return card

    def _side(self) -> QWidget:
        """Build the panels right of the transcript, which scroll if the window is low."""
        self.whole, self.reading, self.latency = WholePanel(), ReadingPanel(), LatencyPanel()
        panels = QWidget()
        layout = QVBoxLayout(panels)
        layout.setContentsMargins(14, 0, 14, 0)
        layout.setSpacing(4)
        layout.addWidget(self.whole)
        layout.addWidget(_label("heading", "Expressed emotion"))
        layout.addWidget(self.reading)
        layout.addSpacing(8)
        layout.addWidget(_label("heading", "Latency"))
        layout.addWidget(self.latency)
        layout.addStretch(1)
        scroller = QScrollArea()
        scroller.setWidget(panels)
        scroller.setWidgetResizable(True)
        scroller.setFrameShape(QFrame.Shape.NoFrame)
        scroller.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroller.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        card = QFrame()
        card.setObjectName("card")
        card.setFixedWidth(SIDE_PX)
        around = QVBoxLayout(card)
        around.setContentsMargins(4, 14, 4, 8)
        around.addWidget(scroller)
        return card


def _label(name: str, text: str = "") -> QLabel:
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label
