"""The window: the parts, put together and told what happened."""

from pathlib import Path

from PySide6.QtCore import QEvent, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QGuiApplication
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QInputDialog,
    QLabel,
    QLineEdit,
    QMainWindow,
    QMessageBox,
    QScrollArea,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)
from stream_erc_client import Failed, SessionClosed, TurnFinal, TurnRevised

from stream_erc_desktop import captions
from stream_erc_desktop.controls import Controls
from stream_erc_desktop.feed import Feed
from stream_erc_desktop.header import Header, NoticeBar, announce
from stream_erc_desktop.keys import SpaceBar, add_shortcuts, application, show_shortcuts
from stream_erc_desktop.latency import LatencyPanel, ReadingPanel
from stream_erc_desktop.model import Conversation, Notice, Tone, Turn
from stream_erc_desktop.outline import Outline
from stream_erc_desktop.palette import DARK, LIGHT, EmotionStyle, Theme, emotion_styles
from stream_erc_desktop.phase import Phase
from stream_erc_desktop.player import Recording
from stream_erc_desktop.preferences import Preferences
from stream_erc_desktop.recorder import Microphone, Recorder
from stream_erc_desktop.settings import SettingsDialog
from stream_erc_desktop.sources import Source
from stream_erc_desktop.theme import qt_palette, style_sheet
from stream_erc_desktop.timeline import Timeline
from stream_erc_desktop.transcript import Transcript

SIDE_PX = 344
FRAME_MS = 33  # between two drawings, while something changes
RECORDINGS = (
    "Recordings (*.wav *.flac *.mp3 *.m4a *.aac *.ogg *.opus *.mp4 *.mkv *.webm *.mov);;All files (*)"
)


class Window(QMainWindow):
    """The whole window.

    Args:
        feed: the way to the server.
        preferences: what the user chose before.
    """

    def __init__(self, feed: Feed, preferences: Preferences) -> None:
        super().__init__()
        self.feed, self.preferences = feed, preferences
        self.conversation = Conversation()
        self.outline = Outline()
        self.phase = Phase.WAITING
        self.theme: Theme = LIGHT
        self._source: Source | None = None
        self._styles: dict[str, EmotionStyle] = {}
        self._selected: int | None = None
        self._unsaved = False
        self._changed = True  # more than the audio, since the last drawing
        self._notice: Notice | None = None
        self.setWindowTitle("Stream ERC")
        self.setAcceptDrops(True)
        self.setMinimumSize(840, 560)
        self._build()
        self._connect()
        self._space = SpaceBar(self, self._space_talks, self._space_pauses)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        if preferences.geometry is None or not self.restoreGeometry(preferences.geometry):
            self.resize(1200, 820)
        self._apply_look()
        self.refresh()
        self.controls.open.setFocus()
        feed.look_for_microphones()
        feed.open(preferences.options)

    # --- the parts ----------------------------------------------------------------------------------

    def _build(self) -> None:
        self.header, self.notice_bar, self.timeline = Header(), NoticeBar(), Timeline()
        self.controls = Controls()
        body = QHBoxLayout()
        body.setSpacing(14)
        body.addWidget(self._talk_card(), 1)
        body.addWidget(self._side())
        page = QVBoxLayout()
        page.setContentsMargins(24, 18, 24, 16)
        page.setSpacing(14)
        page.addWidget(self.header)
        page.addWidget(self.notice_bar)
        page.addWidget(self.timeline)
        page.addLayout(body, 1)
        centre = QWidget()
        whole = QVBoxLayout(centre)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        whole.addLayout(page, 1)
        whole.addWidget(self.controls)
        self.setCentralWidget(centre)

    def _talk_card(self) -> QWidget:
        """The transcript, or what to do while there is none."""
        self.transcript, self.pages = Transcript(), QStackedWidget()
        self.count, self.empty, self.empty_detail = _label("soft"), _label("empty"), _label("soft")
        empty = QWidget()
        middle = QVBoxLayout(empty)
        middle.setSpacing(8)
        middle.addStretch(2)
        for label in (self.empty, self.empty_detail):
            label.setAlignment(Qt.AlignmentFlag.AlignCenter)
            label.setWordWrap(True)
            middle.addWidget(label)
        middle.addStretch(3)
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
        """The panels right of the transcript; they scroll where the window is low."""
        self.reading, self.latency = ReadingPanel(), LatencyPanel()
        card = QFrame()
        card.setObjectName("card")
        layout = QVBoxLayout(card)
        layout.setContentsMargins(18, 14, 18, 16)
        layout.setSpacing(7)
        layout.addWidget(_label("heading", "Expressed emotion"))
        layout.addWidget(self.reading)
        layout.addSpacing(10)
        layout.addWidget(_label("heading", "Latency"))
        layout.addWidget(self.latency)
        layout.addStretch(1)
        scroller = QScrollArea()
        scroller.setWidget(card)
        scroller.setWidgetResizable(True)
        scroller.setFrameShape(QFrame.Shape.NoFrame)
        scroller.setFixedWidth(SIDE_PX)
        scroller.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroller.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        return scroller

    def _connect(self) -> None:
        feed, controls, waveform = self.feed, self.controls, self.timeline.waveform
        feed.connecting.connect(self._begin)
        feed.told.connect(self._take_event)
        feed.heard.connect(self._take_audio)
        feed.started.connect(self._source_started)
        feed.source_ended.connect(self._source_ended)
        feed.failed.connect(self._failed)
        feed.refused.connect(self._refused)
        feed.saved.connect(self._saved)
        feed.microphones.connect(self._show_microphones)
        controls.record.connect(self.record)
        controls.stop.connect(feed.end_source)
        controls.finish.connect(self.finish)
        controls.open_file.connect(self._ask_file)
        controls.paused.connect(feed.pause)
        controls.talking.connect(self._talk)
        controls.push_to_talk.connect(self._push_to_talk)
        controls.look_for_microphones.connect(feed.look_for_microphones)
        self.header.try_again.connect(lambda: feed.open(self.preferences.options))
        self.header.save.clicked.connect(self._ask_where_to_save)
        self.header.settings.clicked.connect(self._ask_settings)
        self.header.help.clicked.connect(lambda: show_shortcuts(self))
        self.header.look.clicked.connect(self._switch_look)
        self.timeline.renamed.connect(feed.rename)
        self.timeline.chosen.connect(self.select)
        self.transcript.chosen.connect(self.select)
        self.transcript.left.connect(self._leave_turn)
        self.transcript.corrected.connect(self._correct)
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._apply_look)
        actions = {
            "R": controls.primary.click,
            "P": controls.ptt.toggle,
            "F": waveform.follow,
            "W": waveform.show_whole,
            "+": lambda: waveform.zoom(0.5),
            "=": lambda: waveform.zoom(0.5),
            "-": lambda: waveform.zoom(2.0),
            "F1": lambda: show_shortcuts(self),
            "F2": self._rename_selected,
            "Ctrl+O": self._ask_file,
            "Ctrl+S": self.header.save.click,
            "Ctrl+T": self._switch_look,
            "Ctrl+,": self._ask_settings,
            "Ctrl+Q": self.close,
        }
        add_shortcuts(self, actions)

    # --- what the user asks for ---------------------------------------------------------------------

    def record(self, microphone: Microphone) -> None:
        """Hear a microphone."""
        if self._may_let_go():
            recorder = Recorder(microphone, talking=not self.controls.ptt.isChecked())
            self.feed.hear(recorder, self.preferences.options)

    def open_recording(self, path: Path) -> None:
        """Hear a file."""
        if self._may_let_go():
            self.feed.hear(Recording(path, live=self.preferences.live), self.preferences.options)

    def finish(self) -> None:
        """End the conversation."""
        self.feed.finish()
        self._set_phase(Phase.FINISHING)

    def select(self, index: int) -> None:
        """Show one turn: its row, its place in time and its probabilities."""
        self._selected = index
        self.transcript.select(index)
        turn = self.conversation.turn(index)
        if turn is not None and turn.start_ms is not None and turn.end_ms is not None:
            self.timeline.waveform.show_span(turn.start_ms, turn.end_ms)
        self._soon()

    def _may_let_go(self) -> bool:
        """Ask about what would be lost: a recording can be heard again, what was spoken cannot."""
        if not self._unsaved or self._source is None or self._source.duration_ms is not None:
            return True
        buttons = QMessageBox.StandardButton
        question = "The conversation is not saved. Go on without it?"
        answer = QMessageBox.question(
            self, "Stream ERC", question, buttons.Discard | buttons.Cancel, buttons.Cancel
        )
        return answer == buttons.Discard

    def _ask_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self, "Open a recording", "", RECORDINGS)
        if name:
            self.open_recording(Path(name))

    def _ask_where_to_save(self) -> None:
        name, _ = QFileDialog.getSaveFileName(self, "Save the events", "events.jsonl", "Events (*.jsonl)")
        if name:
            self.feed.save(Path(name))

    def _ask_settings(self) -> None:
        known = self.conversation
        dialog = SettingsDialog(self, self.preferences, models=known.models, languages=known.languages)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(self._apply_look)
        dialog.open()

    def _leave_turn(self) -> None:
        self._selected = None
        self._soon()

    def _correct(self, turn: int, speaker: str) -> None:
        self.feed.correct(turn, speaker)
        words = f"Turn {turn + 1} goes to {speaker}; the turns after it are read again."
        self.notice_bar.show_notice(Notice(words))

    def _rename_selected(self) -> None:
        turn, speakers = self.transcript.current_turn, self.conversation.speakers
        speaker = turn.speaker if turn is not None else next(iter(speakers), None)
        name = None if speaker is None else self.timeline.lanes.name_of(speaker)
        if name is not None:
            name.edit()

    @property
    def _records(self) -> bool:
        return self.phase is Phase.HEARING and isinstance(self._source, Recorder)

    def _talk(self, talking: bool) -> None:
        self.feed.pause(not talking)
        self.controls.show_talking(talking)

    def _push_to_talk(self, held: bool) -> None:
        if self._records:
            self._talk(not held)

    def _space_talks(self, down: bool) -> bool:
        if not (self._records and self.controls.ptt.isChecked()):
            return False
        self._talk(down)
        return True

    def _space_pauses(self) -> bool:
        if self.phase is not Phase.HEARING or self._records:
            return False
        self.controls.pause.toggle()
        return True

    # --- what happens -------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A new conversation: nothing of the last one is shown."""
        self.conversation, self.outline = Conversation(), Outline()
        self._source, self._selected, self._notice = None, None, None
        self._unsaved = False
        self.timeline.waveform.follow()
        self._set_phase(Phase.WAITING)

    def _take_event(self, event: object) -> None:
        self.conversation.apply(event)
        if isinstance(event, TurnFinal | TurnRevised):
            self._unsaved = True
        if isinstance(event, TurnFinal) and (turn := self.conversation.turn(event.turn)) is not None:
            announce(self.transcript, turn.said)
        if isinstance(event, Failed):
            self.timeline.lanes.take_back_names()
        if isinstance(event, SessionClosed):
            self._set_phase(Phase.OVER)
            self.timeline.waveform.show_whole()
        self._soon(changed=True)

    def _take_audio(self, pcm: bytes) -> None:
        self.outline.push(pcm)
        self._soon()

    def _source_started(self, source: Source) -> None:
        self._source, self.outline = source, Outline(source.sample_rate_hz)
        self._set_phase(Phase.HEARING)
        self.setFocus()  # not on a button: the space bar talks or pauses now, and must not press Finish
        if isinstance(source, Recorder):
            self.controls.show_talking(source.talking)

    def _source_ended(self) -> None:
        if self.phase is Phase.HEARING:
            self._set_phase(Phase.OPEN)
            words = "Nothing more is heard. Names and speakers can be put right until you finish."
            self.notice_bar.show_notice(Notice(words))

    def _failed(self, reason: str, asks_for_token: bool) -> None:
        self.conversation.failed(reason)
        self._set_phase(Phase.OVER)
        if asks_for_token:
            words, hidden = "The server asks for a token.", QLineEdit.EchoMode.Password
            token, given = QInputDialog.getText(self, "Stream ERC", words, hidden)
            if given and token.strip():
                self.feed.token = token.strip()
                self.feed.open(self.preferences.options)

    def _refused(self, reason: str) -> None:
        self.timeline.lanes.take_back_names()
        self.notice_bar.show_notice(Notice(reason, Tone.BAD))

    def _saved(self, path: str) -> None:
        self._unsaved = False
        self.notice_bar.show_notice(Notice(f"Saved to {path}", Tone.GOOD))

    def _show_microphones(self, found: list[Microphone] | str) -> None:
        self.controls.show_microphones(found)
        self._soon(changed=True)

    def _set_phase(self, phase: Phase) -> None:
        self.phase = phase
        self.controls.show_phase(phase, from_file=isinstance(self._source, Recording))
        self._soon(changed=True)

    # --- drawing ------------------------------------------------------------------------------------

    def _soon(self, *, changed: bool = False) -> None:
        """Draw with the next frame: many events make one drawing."""
        self._changed |= changed
        if not self._timer.isActive():
            self._timer.start(FRAME_MS)

    def refresh(self) -> None:
        """Bring every part up to date."""
        conversation = self.conversation
        rows = conversation.rows
        if self._changed:
            self._changed = False
            self._refresh_words(rows)
        self.timeline.show_turns(rows, conversation.speakers, self._styles, self._selected)
        self.timeline.show_audio(self.outline, rows, conversation.pending_ms)
        if self.controls.meter.show_level(self.outline.level if self.phase is Phase.HEARING else 0.0):
            self._soon()
        chosen = None if self._selected is None else conversation.turn(self._selected)
        self.reading.show_turn(chosen or conversation.last_turn, self._styles)

    def _refresh_words(self, rows: list[Turn]) -> None:
        conversation, source = self.conversation, self._source
        if tuple(self._styles) != conversation.labels:
            self._styles = emotion_styles(conversation.labels)
        self.transcript.show_turns(rows, conversation.speakers, self._styles)
        self.latency.show_stages(conversation.stages())
        self.header.show_link(conversation.link, conversation.link_detail)
        title = source.name if isinstance(source, Recording) else "Conversation"
        self.header.show_facts(title, captions.facts(conversation, source.duration_ms if source else None))
        self.header.save.setEnabled(conversation.turns > 0)
        self.count.setText(captions.count(conversation))
        self.pages.setCurrentIndex(1 if rows else 0)
        what, more = captions.empty(conversation, self.phase, self.feed.url, self.controls.why_no_microphone)
        self.empty.setText(what)
        self.empty_detail.setText(more)
        self.timeline.state.setText(captions.state(conversation, self.phase))
        if conversation.notice is not None and conversation.notice is not self._notice:
            self._notice = conversation.notice
            self.notice_bar.show_notice(conversation.notice)

    # --- looks --------------------------------------------------------------------------------------

    def _apply_look(self) -> None:
        look, system = self.preferences.look, QGuiApplication.styleHints().colorScheme()
        dark = look == "dark" or (look == "system" and system is Qt.ColorScheme.Dark)
        self.set_theme(DARK if dark else LIGHT)

    def set_theme(self, theme: Theme) -> None:
        """Take the colours of a theme."""
        self.theme = theme
        QApplication.setPalette(qt_palette(theme))
        application().setStyleSheet(style_sheet(theme))
        for part in (self.header, self.timeline, self.transcript, self.reading, self.latency, self.controls):
            part.set_theme(theme)
        self._soon(changed=True)

    def _switch_look(self) -> None:
        self.preferences.look = "light" if self.theme is DARK else "dark"
        self._apply_look()

    # --- Qt's own events ----------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """A key that is held while the window loses the focus is let go."""
        super().changeEvent(event)
        if event.type() is QEvent.Type.ActivationChange and not self.isActiveWindow():
            if self._records and self.controls.ptt.isChecked():
                self._talk(False)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """A file may be dropped."""
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()
            self._show_drop(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:  # noqa: N802
        """It went elsewhere."""
        self._show_drop(False)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Hear the first of the files."""
        self._show_drop(False)
        files = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if files:
            event.acceptProposedAction()
            # After the drag is over: a question may be asked, and the other program waits until then.
            QTimer.singleShot(0, lambda: self.open_recording(Path(files[0])))

    def _show_drop(self, over: bool) -> None:
        self.timeline.setProperty("drop", over)
        self.timeline.style().unpolish(self.timeline)
        self.timeline.style().polish(self.timeline)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Let everything go."""
        if not self._may_let_go():
            event.ignore()
            return
        self.preferences.geometry = self.saveGeometry()
        application().removeEventFilter(self._space)
        QGuiApplication.styleHints().colorSchemeChanged.disconnect(self._apply_look)
        self._timer.stop()
        self.hide()
        self.feed.stop()
        super().closeEvent(event)


def _label(name: str, text: str = "") -> QLabel:
    label = QLabel(text)
    label.setObjectName(name)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label
