"""The window: passes the user's actions to the feed, and shows the feed's events."""

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QEvent, Qt, QTimer, QUrl
from PySide6.QtGui import QCloseEvent, QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QMainWindow
from stream_erc_client import Failed, SessionClosed, TurnFinal

from stream_erc_desktop import captions, questions
from stream_erc_desktop.course import Course, Phase
from stream_erc_desktop.drop import DropArea
from stream_erc_desktop.feed import Feed
from stream_erc_desktop.header import announce
from stream_erc_desktop.host import Host
from stream_erc_desktop.keys import SpaceBar, add_shortcuts, application, show_shortcuts
from stream_erc_desktop.model import ConnectionState, Notice, Tone, Turn
from stream_erc_desktop.monitors import Input, Monitor, MonitorRecorder, Pair, PairRecorder
from stream_erc_desktop.page import Page
from stream_erc_desktop.palette import DARK, LIGHT, Theme
from stream_erc_desktop.playback import Playback
from stream_erc_desktop.player import Recording
from stream_erc_desktop.preferences import Preferences
from stream_erc_desktop.recorder import Recorder
from stream_erc_desktop.sample import Sample, beside_page
from stream_erc_desktop.settings import SettingsDialog
from stream_erc_desktop.sources import Source
from stream_erc_desktop.theme import apply_theme, chosen_theme
from stream_erc_desktop.voice_dialog import VoiceDialog

FRAME_MS = 33  # between two redraws, while something changes


class Window(QMainWindow):
    """The main window.

    Args:
        feed: the connection to the server.
        preferences: the user's saved choices.
        host: the program that starts the server, if the feed does not know a server yet.
    """

    def __init__(self, feed: Feed, preferences: Preferences, host: Host | None = None) -> None:
        super().__init__()
        self.feed, self.preferences, self._host = feed, preferences, host
        self._next: Source | None = None  # requested and not started yet
        self.course = Course()
        self.page, self.playback = Page(), Playback()
        self.theme: Theme = LIGHT
        self._changed = True  # whether more than the audio has changed since the last redraw
        self.setWindowTitle("Stream ERC")
        self.setMinimumSize(840, 560)
        self.setCentralWidget(self.page)
        self._listen_to_feed()
        self._listen_to_page()
        add_shortcuts(self, self._shortcuts())
        self._space = SpaceBar(self, self.page.controls.space_talks, self.page.controls.space_pauses)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self.refresh)
        if preferences.geometry is None or not self.restoreGeometry(preferences.geometry):
            self.resize(1200, 820)
        self._apply_look()
        self.refresh()
        self.page.controls.open.setFocus()
        self._show_first()
        feed.look_for_microphones()
        feed.open(preferences.options)
        if host is not None:
            host.ready.connect(self._reach)
            host.failed.connect(self._not_started)
            # Not earlier: the start of the first conversation would hide the host's messages.
            feed.connecting.connect(host.listen, Qt.ConnectionType.SingleShotConnection)

    def _listen_to_feed(self) -> None:
        feed, page = self.feed, self.page
        feed.connecting.connect(self._begin)
        feed.event_received.connect(self._take_event)
        feed.audio_sent.connect(self._take_audio)
        feed.started.connect(self._source_started)
        feed.source_ended.connect(self._source_ended)
        feed.failed.connect(self._failed)
        feed.refused.connect(self._refused)
        feed.saved.connect(self._saved)
        feed.microphones.connect(self._show_microphones)
        feed.told.connect(lambda text: page.notice_bar.show_notice(Notice(text)))

    def _listen_to_page(self) -> None:
        feed, page, controls = self.feed, self.page, self.page.controls
        controls.record.connect(self.record)
        controls.stop.connect(feed.end_source)
        controls.finish.connect(self.finish)
        controls.open_file.connect(self._ask_file)
        page.sample.clicked.connect(self.hear_sample)
        controls.paused.connect(feed.pause)
        controls.talking.connect(lambda talking: feed.pause(not talking))
        controls.look_for_microphones.connect(self._look_for_microphones)
        for retry in (page.retry, page.header.retry):
            retry.again.connect(self._try_again)
            retry.elsewhere.connect(self._ask_server)
        page.header.save.clicked.connect(self._ask_where_to_save)
        page.header.settings.clicked.connect(self._ask_settings)
        page.header.help.clicked.connect(lambda: show_shortcuts(self))
        page.header.look.clicked.connect(self._switch_look)
        page.timeline.renamed.connect(feed.rename)
        page.timeline.chosen.connect(self.select)
        page.transcript.chosen.connect(self.select)
        page.transcript.left.connect(self._leave_turn)
        page.transcript.corrected.connect(self._correct)
        page.transcript.voice_asked.connect(self._ask_voice)
        page.transcript.again.connect(self._hear_again)
        self.playback.playing.connect(page.transcript.show_playing)
        self.playback.failed.connect(lambda reason: page.notice_bar.show_notice(Notice(reason)))
        dropping = DropArea(self)
        dropping.over.connect(page.timeline.show_drop)
        dropping.dropped.connect(self.open_recording)
        QGuiApplication.styleHints().colorSchemeChanged.connect(self._apply_look)

    def _shortcuts(self) -> dict[str, Callable[[], object]]:
        return self.page.shortcuts() | {
            "L": lambda: self._hear_again(self.course.turn),
            "F1": lambda: show_shortcuts(self),
            "F2": self._rename_selected,
            "Ctrl+O": self._ask_file,
            "Ctrl+Return": self._finish_begun,
            "Ctrl+Enter": self._finish_begun,
            "Ctrl+T": self._switch_look,
            "Ctrl+,": self._ask_settings,
            "Ctrl+Q": self.close,
        }

    # --- the user's actions -------------------------------------------------------------------------

    def record(self, chosen: Input) -> None:
        """Hear a microphone, what the computer plays, or both."""
        if isinstance(chosen, Monitor):
            self._hear(MonitorRecorder(chosen))
            return
        microphone = chosen.microphone if isinstance(chosen, Pair) else chosen
        recorder = Recorder(microphone, talking=not self.page.controls.ptt.isChecked())
        self._hear(PairRecorder(recorder, chosen.monitor) if isinstance(chosen, Pair) else recorder)

    def open_recording(self, path: Path) -> None:
        """Hear a file."""
        self._hear(Recording(path, live=self.preferences.live, choice=self.preferences.channels))

    def hear_sample(self) -> None:
        """Hear the server's sample conversation."""
        self._hear(Sample(self.feed.url, live=self.preferences.live))

    def _hear(self, source: Source) -> None:
        if not self._may_discard():
            return
        self._next = source
        if not self.feed.url:
            self._start()
        self.feed.hear(source, self.preferences.options)

    def finish(self) -> None:
        """End the conversation: the last turns are processed, and nothing can be corrected afterwards."""
        self.page.notice_bar.hide()
        self.feed.finish()
        self._set_phase(Phase.FINISHING)

    def _finish_begun(self) -> None:
        if self.course.phase in (Phase.HEARING, Phase.OPEN):
            self.finish()

    def _look_for_microphones(self) -> None:
        self.playback.close()  # PortAudio looks for devices only while it has no stream
        self.feed.look_for_microphones()

    def _show_first(self) -> None:
        """Show what everybody who uses the window should know, until it has been read."""
        if not self.preferences.notice_read:
            text, more = captions.NOTICE
            self.page.first.show_lasting(text, more, self._read_on, self._remember_notice)

    def _read_on(self) -> None:
        if self.feed.url:
            QDesktopServices.openUrl(QUrl(beside_page(self.feed.url, "responsible-use.txt")))

    def _remember_notice(self) -> None:
        self.preferences.notice_read = True

    def select(self, index: int) -> None:
        """Show one turn: its row, its span on the timeline and its probabilities."""
        self.course.selected = index
        self.page.transcript.select(index)
        turn = self.course.conversation.turn(index)
        if turn is not None and turn.start_ms is not None and turn.end_ms is not None:
            self.page.timeline.waveform.show_span(turn.start_ms, turn.end_ms)
        self._soon()

    def _hear_again(self, turn: Turn | None) -> None:
        if self.page.controls.recording:  # the microphone would hear it too
            self.page.notice_bar.show_notice(Notice("A turn can be heard again when the microphone is off."))
        elif turn is not None and not turn.partial:
            self.playback.play(turn)

    def _may_discard(self) -> bool:
        return not self.course.would_be_lost or questions.may_discard(self)

    def _try_again(self) -> None:
        if not self.feed.url:
            self._start()
        elif self._may_discard():
            self.feed.open(self.preferences.options)

    def _ask_server(self) -> None:
        url = questions.server(self, self.feed.url or "ws://") if self._may_discard() else None
        if url is not None:
            waiting = not self.feed.url
            self._reach(url)
            if not waiting:
                self.feed.open(self.preferences.options)

    def _ask_file(self) -> None:
        path = questions.recording(self)
        if path is not None:
            self.open_recording(path)

    def _ask_where_to_save(self) -> None:
        recording = self.course.recording
        stem = Path(recording.name).stem if recording else "conversation"
        path = questions.save_path(self, stem, self.course.conversation.exports)
        if path is not None:
            self.feed.save(path)

    def _ask_settings(self) -> None:
        known = self.course.conversation
        dialog = SettingsDialog(
            self,
            self.preferences,
            models=known.models,
            languages=known.languages,
            voices=known.known_voices,
        )
        dialog.accepted.connect(self._apply_look)
        dialog.open()

    def _leave_turn(self) -> None:
        self.course.selected = None
        self._soon()

    def _correct(self, turn: int, speaker: str) -> None:
        self.feed.correct(turn, speaker)
        text = f"Turn {turn + 1} is now {speaker}'s; the turns after it are processed again."
        self.page.notice_bar.show_notice(Notice(text))

    def _ask_voice(self, turn: Turn) -> None:
        """Ask whose voice a turn has, and name it."""
        known = self.course.conversation
        others = [name for name in (*known.speakers, *known.known_voices) if name != turn.speaker]
        names = list(dict.fromkeys(others))
        dialog = VoiceDialog(self, turn.speaker or "this speaker", names, keeps=known.keeps_voices)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(
            lambda: self.feed.enrol(turn.index, dialog.chosen, dialog.keep.isChecked() and known.keeps_voices)
        )
        dialog.open()

    def _rename_selected(self) -> None:
        turn, speakers = self.page.transcript.current_turn, self.course.conversation.speakers
        speaker = turn.speaker if turn is not None else next(iter(speakers), None)
        name = None if speaker is None else self.page.timeline.lanes.name_of(speaker)
        if name is not None:
            name.edit()

    # --- the feed's signals -------------------------------------------------------------------------

    def _start(self) -> None:
        """Show that the server is starting; ask for another attempt if it failed."""
        conversation = self.course.conversation
        if self._host is not None and conversation.connection is ConnectionState.FAILED:
            self._host.again()
        conversation.starting(captions.starting(self._next.name if self._next else None))
        self.page.notice_bar.hide()
        self._set_phase(Phase.WAITING)

    def _reach(self, url: str) -> None:
        self.feed.reach(url)
        self.course.conversation.connecting()
        self.page.notice_bar.hide()
        self._set_phase(Phase.WAITING)

    def _not_started(self, reason: str) -> None:
        if not self.feed.url:  # otherwise the user has chosen another server
            self._failed(reason, asks_for_token=False)

    def _begin(self) -> None:
        """Begin a new conversation, and clear the previous one."""
        self.course = Course()
        self.playback.clear()
        self.page.notice_bar.hide()
        if not self.feed.url:
            self._start()
        self.page.timeline.waveform.follow()
        self._set_phase(Phase.WAITING)

    def _take_event(self, event: object) -> None:
        self.course.take(event)
        if isinstance(event, TurnFinal) and (turn := self.course.conversation.turn(event.turn)) is not None:
            announce(self.page.transcript, turn.sentence)
        if isinstance(event, Failed):
            self.page.timeline.lanes.restore_names()
        if isinstance(event, SessionClosed):
            self._set_phase(Phase.OVER)
            self.page.timeline.waveform.show_whole()
        self._soon(changed=True)

    def _take_audio(self, pcm: bytes) -> None:
        self.course.outline.push(pcm)
        self.playback.push(pcm)
        self._soon()

    def _source_started(self, source: Source) -> None:
        self._next = None
        self.course.start(source)
        self.playback.clear(source.sample_rate_hz)
        self._set_phase(Phase.HEARING)
        self.setFocus()  # not on a button: Space talks or pauses now, and must not press Finish
        if source.channels and not any(source.channels):
            text = captions.separate(len(source.channels))
            self.page.notice_bar.show_notice(Notice(text))
        if isinstance(source, Recorder | PairRecorder):
            self.page.controls.show_talking(source.talking)

    def _source_ended(self) -> None:
        if self.course.phase is Phase.HEARING:
            self._set_phase(Phase.OPEN)
            from_file = self.course.recording is not None
            text = captions.source_ended(self.course.conversation, from_file=from_file)
            self.page.notice_bar.show_notice(Notice(text))

    def _failed(self, reason: str, asks_for_token: bool) -> None:
        self.course.fail(reason)
        self._set_phase(Phase.OVER)
        token = questions.token(self) if asks_for_token else None
        if token is not None:
            self.feed.token = token
            self.feed.open(self.preferences.options)

    def _refused(self, reason: str) -> None:
        self._next = None
        self.page.timeline.lanes.restore_names()
        self.page.notice_bar.show_notice(Notice(reason, Tone.BAD))

    def _saved(self, path: str) -> None:
        self.course.unsaved = False
        self.page.notice_bar.show_notice(Notice(f"Saved to {path}", Tone.GOOD))

    def _show_microphones(self, found: list[Input] | str) -> None:
        self.page.controls.show_microphones(found)
        self._soon(changed=True)

    def _set_phase(self, phase: Phase) -> None:
        self.course.phase = phase
        self.page.controls.show_phase(phase, from_file=self.course.recording is not None)
        self._soon(changed=True)

    # --- drawing ------------------------------------------------------------------------------------

    def _soon(self, *, changed: bool = False) -> None:
        """Redraw with the next frame, once for many events."""
        self._changed |= changed
        if not self._timer.isActive():
            self._timer.start(FRAME_MS)

    def refresh(self) -> None:
        """Bring every part up to date."""
        if self._changed:
            self._changed = False
            self.page.show_texts(self.course, self.feed.url)
        if self.page.show_timeline(self.course):
            self._soon()

    def _apply_look(self) -> None:
        self.set_theme(chosen_theme(self.preferences.look))

    def set_theme(self, theme: Theme) -> None:
        """Apply a theme."""
        self.theme = theme
        apply_theme(theme)
        self.page.set_theme(theme)
        self._soon(changed=True)

    def _switch_look(self) -> None:
        self.preferences.look = "light" if self.theme is DARK else "dark"
        self._apply_look()

    # --- Qt's own events ----------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Release a held key when the window loses the focus."""
        super().changeEvent(event)
        if event.type() is QEvent.Type.ActivationChange and not self.isActiveWindow():
            self.page.controls.space_talks(False)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Close the feed and the sound card, unless the user keeps the conversation."""
        if not self._may_discard():
            event.ignore()
            return
        self.preferences.geometry = self.saveGeometry()
        application().removeEventFilter(self._space)
        QGuiApplication.styleHints().colorSchemeChanged.disconnect(self._apply_look)
        self._timer.stop()
        self.hide()
        self.playback.close()
        self.feed.stop()
        super().closeEvent(event)
