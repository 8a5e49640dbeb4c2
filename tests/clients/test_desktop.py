"""The desktop window: what it knows (no Qt), what it shows (offscreen), and both against a real server."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from films import Sound, heard_spans, near, tone, write_film
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT, SAMPLE

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip(
    "PySide6.QtWidgets",
    reason="the window needs PySide6-Essentials and what it draws with",
    exc_type=ImportError,
)
pytest.importorskip("pyqtgraph", reason="the window needs pyqtgraph")
pytest.importorskip("stream_erc_client", reason="the window needs clients/python")
pytest.importorskip("stream_erc_desktop", reason="not installed: pip install -e clients/desktop")

from fakes import conversation as spoken
from fakes import open_session, play
from PySide6.QtCore import (
    QByteArray,
    QEvent,
    QMimeData,
    QObject,
    QPoint,
    QPointF,
    QSettings,
    Qt,
    QTimer,
    QUrl,
    Signal,
)
from PySide6.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QKeyEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMessageBox,
)
from serving import real_engine, serve
from stream_erc_client import (
    Configuration,
    Disconnected,
    EmotionReading,
    EmotionShift,
    EmotionTotals,
    Failed,
    Heartbeat,
    InputAcknowledged,
    LatencyParts,
    ModelInfo,
    Reconnected,
    SessionClosed,
    SessionCreated,
    SessionGoingAway,
    SessionResumed,
    SessionUpdated,
    SpeakerSummary,
    SpeakerUpdated,
    SpeechStarted,
    SpeechStopped,
    TurnFailed,
    TurnFinal,
    TurnPartial,
    TurnRevised,
    Unknown,
    VoiceEnrolled,
    Warned,
    parse,
)
from stream_erc_client.events import AudioFormat, Limits
from stream_erc_desktop import __main__ as command
from stream_erc_desktop import captions, display, files
from stream_erc_desktop import palette as look
from stream_erc_desktop.course import Phase
from stream_erc_desktop.event_log import EventLog
from stream_erc_desktop.feed import Feed, Options, find_inputs
from stream_erc_desktop.host import Host
from stream_erc_desktop.model import ConnectionState, Conversation, Notice, Tone, Turn, clock
from stream_erc_desktop.monitors import Monitor, MonitorRecorder, Pair, PairRecorder, find_monitors
from stream_erc_desktop.outline import BLOCK_MS, Outline
from stream_erc_desktop.playback import KEPT, NO_OUTPUT, Playback
from stream_erc_desktop.player import ChannelChoice, Recording
from stream_erc_desktop.preferences import Preferences
from stream_erc_desktop.recorder import Microphone, Recorder, find_microphones
from stream_erc_desktop.rows import language_name
from stream_erc_desktop.sample import sample_url
from stream_erc_desktop.sound_card import Streams
from stream_erc_desktop.sources import Source, SourceError
from stream_erc_desktop.transcript import Transcript
from stream_erc_desktop.voice_dialog import FOR_NOW, VoiceDialog
from stream_erc_desktop.window import Window

from stream_erc.cli import palette as report_palette
from stream_erc.events import EmotionEvent
from stream_erc.exports.files import FORMATS
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.channels import carry_different_speech as server_tells

LABELS = ("neutral", "joy", "anger")
LATENCY = LatencyParts(endpointing=320.0, asr=90.0, features=30.0, emotion=5.0, total=445.0)
LIMITS = Limits(2**20, 10_000, 10_000, 60_000, 600_000, 30_000)
MICROPHONE = Microphone(index=0, name="Desk microphone", channels=1, rate_hz=48_000, is_default=True)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Put back what the command replaces: the handler of Ctrl-C, which other tests of the process press."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


# --- events ---------------------------------------------------------------------------------------


def configuration(labels: tuple[str, ...] = LABELS) -> Configuration:
    audio = AudioFormat("pcm_s16le", 16_000)
    return Configuration(audio, "heard", "hash", labels, "en", None, True, 320, "live")


def created(**fields: object) -> SessionCreated:
    known = {"models": (ModelInfo("hash", LABELS), ModelInfo("other", LABELS)), "languages": ("en", "de")}
    known |= {"configuration": configuration(), "resume_token": "secret"}
    said = {"session_id": "s_1", "seq": 0, "model": "hash", "asr": "ears", "labels": LABELS}
    return SessionCreated(**(said | known | fields))  # type: ignore[arg-type]


def reading(label: str = "joy", sure: float = 0.7) -> EmotionReading:
    rest = (1 - sure) / (len(LABELS) - 1)
    return EmotionReading(label, sure, {name: sure if name == label else rest for name in LABELS})


def started(start_ms: int | None) -> SpeechStarted:
    return SpeechStarted(session_id="s_1", seq=1, audio_start_ms=start_ms)


def stopped(end_ms: int | None) -> SpeechStopped:
    return SpeechStopped(session_id="s_1", seq=1, audio_end_ms=end_ms)


def partial(turn: int, text: str = "hel", speaker: str | None = "Anna", **fields: object) -> TurnPartial:
    span = {"audio_start_ms": 1_000 * turn, "audio_end_ms": 1_000 * turn + 400, "emotion": reading()}
    said = {"session_id": "s_1", "seq": 1, "turn": turn, "speaker": speaker, "text": text}
    return TurnPartial(**(said | span | fields))  # type: ignore[arg-type]


def final(turn: int, text: str = "hello", speaker: str = "Anna", **fields: object) -> TurnFinal:
    return TurnFinal(**(_turn(turn, text, speaker) | fields))  # type: ignore[arg-type]


def revised(turn: int, text: str = "hello", speaker: str = "Tom", **fields: object) -> TurnRevised:
    return TurnRevised(**(_turn(turn, text, speaker) | {"revision": 1} | fields))  # type: ignore[arg-type]


def _turn(turn: int, text: str, speaker: str) -> dict[str, object]:
    return {
        "session_id": "s_1",
        "seq": 1,
        "event_id": turn + 1,
        "turn": turn,
        "speaker": speaker,
        "audio_start_ms": 1_000 * turn,
        "audio_end_ms": 1_000 * turn + 800,
        "text": text,
        "emotion": reading(),
        "latency_ms": LATENCY,
        "revision": 0,
    }


def failed(turn: int) -> TurnFailed:
    span = {"audio_start_ms": 1_000 * turn, "audio_end_ms": 1_000 * turn + 800}
    return TurnFailed(session_id="s_1", seq=1, event_id=1, turn=turn, message="no words", **span)


def renamed(old: str, new: str) -> SpeakerUpdated:
    return SpeakerUpdated(session_id="s_1", seq=1, event_id=9, speaker=old, name=new)


def closed(turns: int = 1) -> SessionClosed:
    return SessionClosed(
        session_id="s_1", seq=9, event_id=9, audio_ms=9_000, turns=turns, failed_turns=0, speakers=("Anna",)
    )


def told(*events: object, **fields: object) -> Conversation:
    conversation = Conversation(**fields)  # type: ignore[arg-type]
    for event in events:
        conversation.apply(event)
    return conversation


# --- the conversation as the window knows it --------------------------------------------------------


def test_the_configuration_that_holds_is_the_last_one_told() -> None:
    updated = SessionUpdated(session_id="s_1", seq=1, configuration=configuration(("joy", "anger")))
    conversation = told(created())
    assert (conversation.connection, conversation.labels) == (ConnectionState.CONNECTED, LABELS)
    assert (conversation.models, conversation.languages) == (("hash", "other"), ("en", "de"))
    conversation.apply(updated)
    assert conversation.labels == ("joy", "anger")


def test_a_created_message_of_a_file_has_no_choices() -> None:
    conversation = told(created(models=None, languages=None, configuration=None))
    assert (conversation.models, conversation.languages, conversation.labels) == ((), (), LABELS)


def test_a_partial_turn_is_replaced_by_the_next_and_by_the_final_one() -> None:
    conversation = told(created(), started(0), partial(0, "he"), partial(0, "hello wor"))
    (row,) = conversation.rows
    assert (row.text, row.partial, conversation.turns) == ("hello wor", True, 0)
    conversation.apply(final(0, "hello world"))
    (row,) = conversation.rows
    assert (row.text, row.partial, conversation.turns) == ("hello world", False, 1)


def test_a_partial_turn_that_comes_late_is_passed_over() -> None:
    assert [row.text for row in told(final(0, "done"), partial(0, "late")).rows] == ["done"]


def test_a_partial_turn_may_know_neither_speaker_nor_emotion() -> None:
    conversation = told(partial(0, speaker=None, emotion=None))
    assert (conversation.speakers, conversation.last_turn) == ([], None)
    assert conversation.rows[0].sentence == "Somebody is saying: hel"


def test_two_turns_can_be_spoken_while_none_is_final() -> None:
    conversation = told(partial(1, "second"), partial(0, "first"))
    assert [row.text for row in conversation.rows] == ["first", "second"]


def test_finished_turns_stand_in_order_even_if_they_come_out_of_it() -> None:
    conversation = told(final(1), final(0), final(2))
    assert [row.index for row in conversation.rows] == [0, 1, 2]


def test_a_revised_turn_replaces_the_earlier_one_and_its_latency_is_not_counted() -> None:
    slow = replace(LATENCY, total=9_000.0)
    conversation = told(final(0), final(1), revised(0, latency_ms=slow))
    assert [(row.speaker, row.revision) for row in conversation.rows] == [("Tom", 1), ("Anna", 0)]
    assert max(stage.p95 for stage in conversation.latencies.stages()) == 445.0


def test_a_failed_turn_keeps_its_place_and_says_why() -> None:
    conversation = told(final(0), failed(1))
    assert [row.failed for row in conversation.rows] == ["", "no words"]
    assert conversation.turns == 2
    assert conversation.rows[1].sentence == "Turn 2 failed: no words"


def test_a_turn_that_fails_after_a_correction_keeps_its_words_and_can_come_again() -> None:
    conversation = told(final(0, "hello"), failed(0))
    assert (conversation.rows[0].text, conversation.rows[0].failed) == ("hello", "no words")
    conversation.apply(revised(0))
    assert conversation.rows[0].failed == ""


def test_a_new_name_holds_for_all_turns_also_those_being_spoken() -> None:
    conversation = told(final(0), final(1, speaker="Tom"), partial(2), renamed("Anna", "Anne"))
    assert [row.speaker for row in conversation.rows] == ["Anne", "Tom", "Anne"]
    assert conversation.speakers == ["Anne", "Tom"]


def test_a_correction_does_not_move_the_other_speakers_and_a_speaker_without_turns_is_gone() -> None:
    conversation = told(final(0), final(1, speaker="Bob"), final(2, speaker="Tom"), revised(0))
    assert conversation.speakers == ["Bob", "Tom"]
    conversation.apply(final(3))
    assert conversation.speakers == ["Anna", "Bob", "Tom"]  # where it was before


def test_an_unsure_speaker_and_overlap_are_told_in_words() -> None:
    also = {"overlap": 0.3, "others": ("Anna", "Tom", "Cem")}
    conversation = told(final(0), final(1, speaker="Bob", speaker_unsure=True, **also))
    conversation.apply(final(2, overlap=0.07))
    conversation.apply(final(3, others=("Bob",)))
    conversation.apply(renamed("Anna", "Eve"))
    texts = [row.overlap_text for row in conversation.rows]
    assert texts == ["", "overlaps Eve, Tom and Cem, 30%", "overlap 7%", "overlaps Bob"]
    assert [row.who for row in conversation.rows] == ["Eve", "probably Bob", "Eve", "Eve"]
    assert conversation.rows[1].sentence.startswith("probably Bob: hello, ")
    assert conversation.rows[1].sentence.endswith(", overlaps Eve, Tom and Cem, 30%")


def test_a_turn_that_ends_within_anothers_speech_leaves_that_speech() -> None:
    assert told(started(0), started(700), final(0)).pending_ms == [(700, None)]


def test_channels_are_spoken_in_at_once_and_end_for_themselves() -> None:
    def began(start_ms: int, channel: int) -> SpeechStarted:
        return SpeechStarted(session_id="s_1", seq=1, audio_start_ms=start_ms, channel=channel)

    conversation = told(began(100, 0), began(100, 1), partial(0, "a", "You", channel=0, audio_start_ms=100))
    conversation.apply(partial(0, "b", "Computer", channel=1, audio_start_ms=100))
    assert [(turn.speaker, turn.text) for turn in conversation.rows] == [("You", "a"), ("Computer", "b")]
    conversation.apply(SpeechStopped(session_id="s_1", seq=1, audio_end_ms=800, channel=0))
    assert conversation.pending_ms == [(100, 800), (100, None)]
    conversation.apply(final(0, "a", "You", channel=0))
    conversation.apply(partial(1, "b c", "Computer", channel=1, audio_start_ms=100))
    assert [turn.text for turn in conversation.rows] == ["a", "b c"]
    assert conversation.pending_ms == [(100, None)]


def test_a_turn_that_begins_before_its_speech_ends_that_speech() -> None:
    assert told(started(40), started(900), final(0)).pending_ms == [(900, None)]


def test_speech_is_pending_until_a_finished_turn_covers_it() -> None:
    conversation = told(started(0), stopped(800), started(1_000))
    assert conversation.pending_ms == [(0, 800), (1_000, None)]
    conversation.apply(partial(0))
    assert conversation.pending_ms == [(0, 800), (1_000, None)]
    conversation.apply(final(0))
    assert conversation.pending_ms == [(1_000, None)]
    conversation.apply(failed(1))
    assert conversation.pending_ms == []
    assert told(started(None), stopped(None)).pending_ms == []


def test_speech_that_is_known_from_a_partial_turn_alone_is_pending_too() -> None:
    assert told(partial(1), stopped(1_700)).pending_ms == [(1_000, 1_700)]


def test_a_turn_without_audio_is_shown_without_a_place_in_time() -> None:
    conversation = told(final(0, audio_start_ms=None, audio_end_ms=None))
    assert (conversation.rows[0].start_ms, conversation.pending_ms) == (None, [])


def test_a_lost_connection_drops_what_is_being_spoken_and_nothing_else() -> None:
    conversation = told(created(), final(0), started(1_000), partial(1))
    conversation.apply(Disconnected("the cable", 3, 2.0))
    assert (conversation.connection, conversation.connection_detail) == (
        ConnectionState.RECONNECTING,
        "the cable, attempt 3",
    )
    assert [row.index for row in conversation.rows] == [0]
    assert conversation.pending_ms == []


def test_a_connection_that_is_back_says_what_was_missed() -> None:
    resumed = SessionResumed(
        session_id="s_1",
        seq=0,
        audio_ms=0,
        input_id=0,
        event_id=2,
        configuration=configuration(),
        limits=LIMITS,
    )
    conversation = told(created(), Disconnected("", 1, 0.0), resumed)
    assert conversation.connection is ConnectionState.CONNECTED
    conversation.apply(Reconnected(2))
    assert conversation.notice == Notice("Reconnected; nothing was lost. 2 events came meanwhile.", Tone.GOOD)
    conversation.apply(Reconnected(0, 3, lost_audio_ms=2_400, lost_inputs=1))
    assert conversation.notice.text == "Reconnected; the server lost 2 s of audio and 1 input."
    conversation.apply(Reconnected(0))
    assert conversation.notice == Notice("Reconnected; nothing was lost.", Tone.GOOD)


def test_the_end_brings_totals_and_leaves_nothing_unfinished() -> None:
    conversation = told(created(), final(0), started(900), partial(1), closed())
    assert (conversation.connection, conversation.totals.turns) == (ConnectionState.FINISHED, 1)
    assert [row.partial for row in conversation.rows] == [False]
    assert conversation.pending_ms == []


def test_a_conversation_that_cannot_go_on_says_why() -> None:
    conversation = told(created(), partial(0))
    conversation.failed("no server")
    assert (conversation.connection, conversation.rows) == (ConnectionState.FAILED, [])
    assert conversation.notice == Notice("no server", Tone.BAD)


def test_notices_come_from_warnings_errors_and_a_server_that_stops() -> None:
    warned = Warned(session_id="s_1", seq=1, code="slow", message="it is slow")
    error = Failed(session_id="s_1", seq=1, code="invalid_speaker", message="nobody", retryable=False)
    away = SessionGoingAway(session_id="s_1", seq=1, reason="deploy", time_left_ms=100)
    assert told(warned).notice == Notice("it is slow")
    assert told(error).notice == Notice("nobody", Tone.BAD)
    assert told(away).notice.tone is Tone.PLAIN


def test_what_tells_nothing_changes_nothing() -> None:
    before = told(created(), final(0))
    after = told(
        created(),
        final(0),
        Heartbeat(session_id="s_1", seq=1, audio_ms=1),
        InputAcknowledged(session_id="s_1", seq=1, audio_ms=1, input_id=0),
        Unknown("new.thing", {}),
        object(),
    )
    assert after == before


def test_a_long_conversation_keeps_its_newest_turns_and_counts_all() -> None:
    conversation = told(*(final(n, speaker=f"voice {n}") for n in range(50)), revised(3), max_turns=10)
    assert [row.index for row in conversation.rows] == list(range(40, 50))
    assert (conversation.turns, conversation.dropped) == (50, 40)
    assert len(conversation.speakers) == 10
    assert "the first 40 no longer shown" in captions.count(conversation)


def test_latency_is_told_by_stage() -> None:
    parts = [LatencyParts(320.0, 10.0 * n, 0.0, 5.0, 325.0 + 10 * n) for n in range(1, 12)]
    conversation = told(*(final(n, latency_ms=part) for n, part in enumerate(parts)))
    stages = {stage.name: stage for stage in conversation.latencies.stages()}
    assert list(stages) == ["Waiting for silence", "Speech recognition", "Emotion", "Total"]
    asr = stages["Speech recognition"]
    assert (asr.last, asr.median, asr.p95) == (110.0, 60.0, 105.0)
    assert told(created()).latencies.stages() == []


def test_only_so_many_latencies_are_kept() -> None:
    conversation = told(*(final(n) for n in range(1_500)), max_turns=5)
    assert len(conversation.latencies._kept) == 1_000


some_events = st.lists(
    st.one_of(
        st.integers(0, 6).map(partial),
        st.integers(0, 6).map(final),
        st.integers(0, 6).map(revised),
        st.integers(0, 6).map(failed),
        st.integers(0, 7_000).map(started),
        st.integers(0, 7_000).map(stopped),
        st.sampled_from([renamed("Anna", "Eve"), Disconnected("", 1, 0.0), Reconnected(0)]),
    ),
    max_size=40,
)


@given(some_events, st.integers(1, 8))
def test_whatever_comes_rows_are_in_order_and_one_for_each_turn(events: list[object], most: int) -> None:
    conversation = told(*events, max_turns=most)
    rows = conversation.rows
    finished = [row.index for row in rows if not row.partial]
    spoken = [row.index for row in rows if row.partial]
    assert finished == sorted(set(finished)) and spoken == sorted(set(spoken))
    assert not set(finished) & set(spoken)
    assert len(finished) <= most
    assert len(set(conversation.speakers)) == len(conversation.speakers)
    last = {e.turn: e for e in events if isinstance(e, TurnFinal | TurnRevised | TurnFailed)}
    assert all(
        isinstance(last[index], TurnFailed) == bool(conversation.turn(index).failed) for index in finished
    )


def test_times_and_counts_in_words() -> None:
    assert [clock(0), clock(61_400), clock(3_661_000)] == ["00:00", "01:01", "1:01:01"]
    assert clock(61_449, tenths=True) == "01:01.4"
    conversation = told(created(), final(0))
    assert captions.facts(conversation, 67_000) == [
        "01:07", "1 turn", "1 speaker", "model hash", "speech recognition ears",
    ]  # fmt: skip


def test_the_empty_page_says_what_to_do() -> None:
    def words(conversation: Conversation, phase: Phase, why: str = "") -> tuple[str, str]:
        return captions.empty(conversation, phase, "ws://here", microphone=not why)

    ready, lost = told(created()), told(created())
    lost.failed("nobody answers")
    assert words(Conversation(), Phase.WAITING) == ("Connecting …", "ws://here")
    assert words(ready, Phase.WAITING)[1].startswith("Start listening")
    assert words(ready, Phase.WAITING, "No sound card")[1].startswith("Drop a recording")
    assert words(ready, Phase.HEARING)[0] == "Listening …"
    assert words(ready, Phase.OVER)[0] == "No speech was heard."
    slow = told(created(), started(0), started(1_000), started(2_000))
    assert words(slow, Phase.OPEN) == ("Listening …", "3 turns being processed.")
    assert captions.state(slow, Phase.HEARING) == "3 turns behind"
    assert captions.source_ended(slow, from_file=True).startswith(
        "The recording has ended, 3 turns still being processed."
    )
    assert captions.source_ended(ready, from_file=False).startswith("The microphone is off. Names")
    assert words(lost, Phase.OVER) == ("Not connected", "nobody answers")
    assert {captions.state(ready, phase) for phase in Phase} >= {"ready", "listening", "finishing"}


# --- the waveform -----------------------------------------------------------------------------------


def blocks_of(samples: np.ndarray, rate_hz: int) -> np.ndarray:
    size = rate_hz * BLOCK_MS // 1_000
    whole = samples[: len(samples) // size * size].reshape(-1, size)
    return np.stack((whole.min(1) >> 8, whole.max(1) >> 8), 1)


@given(st.lists(st.integers(0, 3_000), max_size=30), st.integers(1, 40), st.sampled_from([8_000, 16_000]))
def test_the_outline_is_that_of_the_blocks_however_audio_arrives(
    cuts: list[int], columns: int, rate_hz: int
) -> None:
    rng = np.random.default_rng(len(cuts))
    samples = rng.integers(-32_768, 32_767, sum(cuts), dtype=np.int16)
    outline, at = Outline(rate_hz), 0
    for cut in cuts:
        outline.push(samples[at : at + cut].tobytes())
        at += cut
    expected = blocks_of(samples, rate_hz)
    end_ms = len(expected) * BLOCK_MS
    found = outline.peaks(0, columns * BLOCK_MS, columns)
    assert np.array_equal(found[: len(expected)], expected[:columns])
    assert not found[len(expected) :].any()
    if len(expected):
        (whole,) = outline.peaks(0, end_ms, 1)
        assert whole.tolist() == [expected[:, 0].min(), expected[:, 1].max()]
    assert outline.end_ms == len(samples) * 1_000 // rate_hz


def test_the_outline_takes_bounded_memory_and_forgets_the_oldest() -> None:
    outline = Outline(16_000, kept_ms=10_000)
    for second in range(100):
        outline.push(np.full(16_000, 256 * second, np.int16).tobytes())
    assert outline._peaks.nbytes < 4 * 500 * 2
    assert outline.end_ms == 100_000
    assert not outline.peaks(0, 50_000, 10).any()
    assert outline.peaks(98_000, 99_000, 1)[0, 1] == 98


def test_the_level_is_that_of_the_last_moment() -> None:
    outline = Outline()
    assert outline.level == 0
    outline.push(np.full(3_200, 16_384, np.int16).tobytes())
    assert outline.level == pytest.approx(0.5, abs=0.01)
    outline.push(bytes(2 * 3_200))
    assert outline.level == 0


# --- looks ------------------------------------------------------------------------------------------


def test_emotions_look_as_in_the_report() -> None:
    labels = ("neutral", "joy", "anger", "sad", "curious", "happy", "surprise", "fear", "disgust")
    ours, theirs = look.emotion_styles(labels), report_palette.emotion_styles(labels)
    assert [(s.label, s.code, s.light, s.dark) for s in ours.values()] == [
        (s.label, s.code, s.light, s.dark) for s in theirs.values()
    ]
    assert ours["happy"].face == "" != ours["joy"].face  # a second of the same family shows its letters


@pytest.mark.parametrize("theme", [look.LIGHT, look.DARK], ids=lambda theme: theme.name)
def test_words_are_legible(theme: look.Theme) -> None:
    for ground in (theme.background, theme.surface, theme.hover):
        assert look.contrast(theme.ink, ground) >= 7
        assert look.contrast(theme.soft, ground) >= 4.5
    assert look.contrast(theme.error, theme.error_background) >= 4.5
    assert look.contrast(look.ink_on(theme.record), theme.record) >= 4.5
    for style in look.emotion_styles(tuple(look.COLOURS)).values():
        for sure in (0.2, 0.5, 0.8, 1.0):
            fill = look.tint(style, sure, theme)
            assert look.contrast(look.ink_on(fill), fill) >= 3.0, (style.label, sure)


# --- the file of events -----------------------------------------------------------------------------


def test_the_file_of_events_has_what_was_told_but_the_secret(tmp_path: Path) -> None:
    events = [created(), partial(0), final(0), Heartbeat(session_id="s_1", seq=1, audio_ms=1), closed()]
    log = EventLog()
    for event in [*events, Unknown("new.thing", {"session_id": "s_1"}), Disconnected("", 1, 0.0)]:
        log.append(event)
    log.copy_to(tmp_path / "events.jsonl")
    log.append(final(1))  # writing goes on where it was
    log.copy_to(tmp_path / "more.jsonl")
    lines = (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    types = ["session.created", "turn.partial", "turn.final", "session.closed", "new.thing"]
    assert [json.loads(line)["type"] for line in lines] == types
    assert "secret" not in "".join(lines)
    assert parse(lines[2]) == final(0)
    assert len((tmp_path / "more.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    assert not list(tmp_path.glob(".*"))
    log.clear()
    log.copy_to(tmp_path / "empty.jsonl")
    assert (tmp_path / "empty.jsonl").read_text(encoding="utf-8") == ""
    log.close()


# --- recordings -------------------------------------------------------------------------------------


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 16_000, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return path


def bursts(*lengths_ms: int, rest_ms: int = 500) -> np.ndarray:
    """Loud tones with silence between and at the end: turns, as `fakes.LoudnessVad` hears them."""
    rest = np.zeros(rest_ms * 16)
    tones = [np.sin(np.arange(ms * 16) * 0.2) * 12_000 for ms in lengths_ms]
    return np.concatenate([part for tone in tones for part in (tone, rest)]).astype(np.int16)


async def gathered(source: Source, most: int = 10**9) -> bytes:
    heard = bytearray()
    async for block in source.blocks():
        heard += block
        if len(heard) >= most:
            source.stop()
    return bytes(heard)


def test_a_wav_file_comes_as_it_is_at_its_own_rate(tmp_path: Path) -> None:
    samples = bursts(300)
    recording = Recording(write_wav(tmp_path / "a.wav", samples, 22_050), live=False)
    recording.open()
    assert (recording.sample_rate_hz, recording.duration_ms) == (22_050, len(samples) * 1_000 // 22_050)
    assert asyncio.run(gathered(recording)) == samples.tobytes()


def test_channels_are_mixed(tmp_path: Path) -> None:
    both = np.stack((np.full(1_600, 100), np.full(1_600, 300)), 1)
    recording = Recording(write_wav(tmp_path / "a.wav", both, channels=2), live=False)
    recording.open()
    assert set(np.frombuffer(asyncio.run(gathered(recording)), "<i2").tolist()) == {200}


def test_a_film_is_heard_on_its_own_clock(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.mp4", Sound(tone(2.0), shift=lambda at: 3.0))
    recording = Recording(path, live=False)
    recording.open()
    heard = np.frombuffer(asyncio.run(gathered(recording)), "<i2") / 32_768
    assert near(heard_spans(heard), [(3.0, 5.0)])


def test_another_format_is_decoded_to_16_khz() -> None:
    recording = Recording(SAMPLE / "conversation.flac", live=False)
    recording.open()
    pcm = asyncio.run(gathered(recording))
    assert recording.sample_rate_hz == 16_000
    assert abs(len(pcm) / 32 - recording.duration_ms) < 50
    assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() > 3_000


def test_live_takes_its_time_and_a_pause_holds_it(tmp_path: Path) -> None:
    recording = Recording(write_wav(tmp_path / "a.wav", bursts(200, rest_ms=200)))
    recording.open()

    async def heard() -> tuple[float, float]:
        loop, began, count = asyncio.get_running_loop(), time.monotonic(), 0
        async for _ in recording.blocks():
            count += 1
            if count == 3:
                recording.pause(True)
                loop.call_later(0.3, recording.pause, False)
        return time.monotonic() - began, count

    took, count = asyncio.run(heard())
    assert count == 10
    assert 0.65 <= took < 10.0  # a loaded machine takes longer


def test_a_recording_can_be_stopped_while_it_is_paused(tmp_path: Path) -> None:
    recording = Recording(write_wav(tmp_path / "a.wav", bursts(2_000)))
    recording.open()

    async def heard() -> int:
        recording.pause(True)
        asyncio.get_running_loop().call_later(0.1, recording.stop)
        return len(await gathered(recording))

    assert asyncio.run(heard()) == 0


@pytest.mark.parametrize(
    ("name", "content", "told_why"),
    [
        ("gone.wav", None, "expected a file"),
        ("text.wav", b"not audio at all", "expected an audio or video file"),
        ("notes.txt", b"words", "expected an audio or video file"),
    ],
)
def test_a_file_that_is_no_recording_is_refused(
    tmp_path: Path, name: str, content: bytes | None, told_why: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=told_why):
        Recording(tmp_path / name).open()


def test_without_pyav_other_formats_are_refused_and_wav_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    Recording(write_wav(tmp_path / "a.wav", bursts(100))).open()
    with pytest.raises(SourceError, match="pip install av"):
        Recording(SAMPLE / "conversation.flac").open()


# --- the microphone ---------------------------------------------------------------------------------


class SoundCard:
    """What sounddevice would be, on a computer with a microphone that takes some rates."""

    class PortAudioError(Exception):
        pass

    def __init__(self, rates_hz: tuple[int, ...] = (48_000,), channels: int = 1) -> None:
        self.rates_hz, self.channels = rates_hz, channels
        self.streams: list[SimpleNamespace] = []
        self.default = SimpleNamespace(device=(1, 0))

    def query_devices(self) -> list[dict[str, object]]:
        speakers = {"index": 0, "name": "Speakers", "max_input_channels": 0, "default_samplerate": 48_000.0}
        desk = {
            "index": 1,
            "name": "Desk",
            "max_input_channels": self.channels,
            "default_samplerate": 48_000.0,
        }
        return [speakers, desk]

    def RawInputStream(self, **options: object) -> SimpleNamespace:  # noqa: N802
        if options["samplerate"] not in self.rates_hz or options["channels"] != self.channels:
            raise self.PortAudioError("no such rate")
        stream = SimpleNamespace(options=SimpleNamespace(**options), active=False, closed=False)
        stream.start = lambda: setattr(stream, "active", True)
        stream.close = lambda: setattr(stream, "closed", True)
        self.streams.append(stream)
        return stream


def test_microphones_are_found() -> None:
    (found,) = find_microphones(SoundCard())
    assert found == Microphone(index=1, name="Desk", channels=1, rate_hz=48_000, is_default=True)


def test_no_microphone_says_why() -> None:
    card = SoundCard(channels=0)
    with pytest.raises(SourceError, match="no microphone"):
        find_microphones(card)

    def broken() -> None:
        raise card.PortAudioError("host down")

    card.query_devices = broken  # type: ignore[assignment,method-assign]
    with pytest.raises(SourceError, match="host down"):
        find_microphones(card)


def test_without_sounddevice_the_microphone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(SourceError, match="pip install sounddevice"):
        find_microphones()


@pytest.mark.parametrize(
    ("rates_hz", "channels", "taken"), [((16_000, 48_000), 1, 16_000), ((48_000,), 2, 48_000)]
)
def test_a_microphone_opens_at_16_khz_or_at_its_own_rate(
    rates_hz: tuple[int, ...], channels: int, taken: int
) -> None:
    card = SoundCard(rates_hz, channels)
    recorder = Recorder(find_microphones(card)[0], library=card)
    recorder.open()
    assert recorder.sample_rate_hz == taken


def test_a_microphone_that_does_not_open_says_so() -> None:
    card = SoundCard(())
    with pytest.raises(SourceError, match="no such rate"):
        Recorder(find_microphones(card)[0], library=card).open()


def test_what_is_heard_is_mixed_silenced_and_kept_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc_desktop.recorder.QUEUE_BLOCKS", 3)
    card = SoundCard((48_000,), 2)
    recorder = Recorder(find_microphones(card)[0], library=card)
    recorder.open()
    (stream,) = card.streams
    loud = np.tile(np.array([[1_000, 3_000]], "<i2"), (480, 1)).tobytes()

    async def heard() -> bytes:
        blocks = recorder.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0.01)
        stream.options.callback(loud, 480, None, None)
        got = await first
        recorder.pause(True)
        stream.options.callback(loud, 480, None, None)
        recorder.pause(False)
        for _ in range(4):  # two more than there is room for
            stream.options.callback(loud, 480, None, None)
        await asyncio.sleep(0.01)
        got += await anext(blocks)
        stream.options.callback(loud, 480, None, None)
        await asyncio.sleep(0.01)
        recorder.stop()
        async for block in blocks:
            got += block
        return got

    samples = np.frombuffer(asyncio.run(heard()), "<i2").reshape(-1, 480)
    assert stream.closed
    # spoken, silenced, spoken twice, two lost and made silence, spoken
    assert samples[:, 0].tolist() == [2_000, 0, 2_000, 2_000, 0, 0, 2_000]


def test_a_microphone_that_is_pulled_out_ends_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc_desktop.recorder.DEVICE_TIMEOUT_S", 0.05)
    monkeypatch.setattr("stream_erc_desktop.recorder.RETURN_S", 0.2)
    monkeypatch.setattr("stream_erc_desktop.recorder.AGAIN_S", 0.05)
    card = SoundCard((16_000,))
    recorder = Recorder(find_microphones(card)[0], library=card)
    recorder.open()
    with pytest.raises(SourceError, match="The microphone Desk was disconnected"):
        asyncio.run(gathered(recorder))  # it can be opened again and again, and brings nothing
    assert len(card.streams) > 2 and all(stream.closed for stream in card.streams)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fraction of the time that is waited for a microphone; no other test's stream is open."""
    monkeypatch.setattr("stream_erc_desktop.recorder.DEVICE_TIMEOUT_S", 0.2)
    monkeypatch.setattr("stream_erc_desktop.recorder.AGAIN_S", 0.05)
    monkeypatch.setattr("stream_erc_desktop.recorder.STREAMS", Streams())


class Leaving:
    """A card whose microphone leaves, and is back when it has been looked for three times.

    Args:
        name: of what is back.
        rate_hz: the only rate that it takes then.
    """

    def __init__(self, name: str = "Desk", rate_hz: int = 16_000) -> None:
        self.card, self.looks = SoundCard((16_000,)), 0
        self._name, self._rate_hz, self._found = name, rate_hz, self.card.query_devices
        self.card._terminate = lambda: None  # type: ignore[attr-defined]
        self.card._initialize = self._look  # type: ignore[attr-defined]

    def leave(self) -> None:
        self.looks = 0
        self.card.query_devices = self._devices  # type: ignore[method-assign]
        self.card.rates_hz = (self._rate_hz,)

    def _look(self) -> None:
        self.looks += 1

    def _devices(self) -> list[dict[str, object]]:
        return [] if self.looks < 3 else [device | {"name": self._name} for device in self._found()]


async def through_an_absence(
    source: Recorder | PairRecorder, leaving: Leaving, sound: bytes, again: bytes
) -> list[bytes]:
    """Return the blocks of a source whose microphone brings a sound, leaves, is back and brings another."""
    streams, found = leaving.card.streams, []
    async with aclosing(source.blocks()) as blocks:
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0)  # it starts
        streams[0].options.callback(sound, len(sound) // 2, None, None)
        found.append(await first)
        leaving.leave()
        async for block in blocks:
            found.append(block)
            if len(streams) == 2 and streams[1].active and again:
                streams[1].options.callback(again, len(again) // 2, None, None)
                again = b""
                asyncio.get_running_loop().call_soon(source.stop)
    return found


@pytest.mark.parametrize("name", ["Desk", "Headset"])
def test_a_microphone_that_is_back_or_replaced_is_taken_up_again(impatient: None, name: str) -> None:
    """As of a device that vanishes: PortAudio looks for devices again before."""
    leaving = Leaving(name)
    recorder = Recorder(find_microphones(leaving.card)[0], library=leaving.card)
    told: list[str] = []
    recorder.tell = told.append
    recorder.open()
    first, *away, last = asyncio.run(through_an_absence(recorder, leaving, b"aa" * 640, b"bb" * 640))
    assert (first, last) == (b"aa" * 640, b"bb" * 640)
    silent = b"".join(away)
    assert not any(silent) and len(silent) >= 2 * 0.2 * 16_000  # time went on
    assert all(stream.closed for stream in leaving.card.streams)
    assert told == [
        "The microphone Desk was disconnected; listening goes on when it is back.",
        "The microphone Desk is heard again.",
    ]


def test_a_microphone_that_is_back_with_another_rate_is_heard_at_the_first_one(impatient: None) -> None:
    leaving = Leaving(rate_hz=48_000)
    recorder = Recorder(find_microphones(leaving.card)[0], library=leaving.card)
    recorder.open()
    tone = (8_000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 48_000)).astype("<i2")
    blocks = asyncio.run(through_an_absence(recorder, leaving, b"aa" * 640, tone.tobytes()))
    assert leaving.card.streams[1].options.samplerate == 48_000 and recorder.sample_rate_hz == 16_000
    heard = np.frombuffer(blocks[-1], "<i2")
    assert len(heard) == pytest.approx(16_000, abs=500)  # the filter's lag is missing at the end
    np.testing.assert_allclose(heard[500:-500], tone[::3][500 : len(heard) - 500], atol=80)


def test_a_microphone_that_is_too_fast_for_the_protocol_is_heard_at_16_khz() -> None:
    card = SoundCard((96_000,))
    recorder = Recorder(replace(find_microphones(card)[0], rate_hz=96_000), library=card)
    recorder.open()
    assert recorder.sample_rate_hz == 16_000 and card.streams[0].options.samplerate == 96_000


def test_what_the_computer_plays_is_heard_while_the_microphone_is_away(pulse: Path, impatient: None) -> None:
    (pulse.parent / "bin" / "parec").write_text(
        "#!/bin/sh\nhead -c 128000 /dev/zero | tr '\\0' 'b'\nexec sleep 5\n"
    )
    leaving = Leaving()
    pair = PairRecorder(Recorder(find_microphones(leaving.card)[0], library=leaving.card), find_monitors()[0])
    pair.open()
    blocks = asyncio.run(through_an_absence(pair, leaving, b"aa" * 640, b"aa" * 640))
    away = np.frombuffer(b"".join(blocks[1:-1]), "<i2").reshape(-1, 2)
    assert not away[:, 0].any()
    assert (away[:, 1] == int.from_bytes(b"bb")).mean() > 0.5


def test_portaudio_does_not_look_for_devices_while_a_stream_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream_erc_desktop.recorder.STREAMS", Streams())
    card, looks = SoundCard((16_000,)), []
    card._initialize = lambda: looks.append(1)  # type: ignore[attr-defined]
    card._terminate = lambda: None  # type: ignore[attr-defined]
    recorder = Recorder(find_microphones(card)[0], library=card)
    assert len(looks) == 1
    recorder.open()
    find_microphones(card)
    assert len(looks) == 1
    recorder.close()
    find_microphones(card)
    assert len(looks) == 2


# --- what the computer plays -------------------------------------------------------------------------

PACTL = """#!/bin/sh
case "$*" in
*info) echo '{"default_sink_name": "usb"}' ;;
*) echo '[{"name": "hdmi.monitor", "description": "Monitor of Screen"}, {"name": "mic", "description": "Mic"},
  {"name": "usb.monitor", "description": "Monitor of Headset"}]' ;;
esac
"""
PAREC = """#!/bin/sh
echo "$@" >> {log}
exec head -c {size} /dev/zero
"""


@pytest.fixture
def pulse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PulseAudio's two programs; `parec` notes its options, records a fifth of a second and ends."""
    folder = tmp_path / "bin"
    folder.mkdir()
    log = tmp_path / "parec.log"
    for name, text in (("pactl", PACTL), ("parec", PAREC.format(log=log, size=2 * 3_200))):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_monitors_are_named_for_a_person_the_default_output_first(
    pulse: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_monitors() == [
        Monitor("usb.monitor", "What this computer plays (Headset)"),
        Monitor("hdmi.monitor", "What this computer plays (Screen)"),
    ]
    monkeypatch.setattr("stream_erc_desktop.feed.find_microphones", lambda: [MICROPHONE])
    found = find_inputs()
    assert [one.name for one in found] == [
        "Desk microphone",
        "Microphone and what this computer plays",
        "What this computer plays (Headset)",
        "What this computer plays (Screen)",
    ]

    def none() -> list[Microphone]:
        raise SourceError("This computer has no microphone")

    monkeypatch.setattr("stream_erc_desktop.feed.find_microphones", none)
    assert len(find_inputs()) == 2
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_monitors() == [] and find_inputs() == "This computer has no microphone"


def test_a_monitor_is_recorded_and_taken_up_again(pulse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc_desktop.monitors.AGAIN_S", 0.05)
    recorder = MonitorRecorder(find_monitors()[0], 16_000)
    told: list[str] = []
    recorder.tell = told.append
    recorder.open()

    async def heard() -> int:
        size = 0
        async for block in recorder.blocks():
            size += len(block)
            if size == 2 * 2 * 3_200:  # twice what one program records
                recorder.stop()
        return size

    assert asyncio.run(heard()) == 2 * 2 * 3_200
    options = pulse.read_text().splitlines()
    assert len(options) >= 2 and "--device=usb.monitor --format=s16le --channels=1" in options[0]
    assert "--rate=16000" in options[0]
    name = "What this computer plays (Headset)"
    assert told[:2] == [
        f"{name} was interrupted; listening goes on when it is back.",
        f"{name} is heard again.",
    ]


def test_a_monitor_that_is_gone_ends_with_a_reason(pulse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream_erc_desktop.monitors.AGAIN_S", 0.05)
    monkeypatch.setattr("stream_erc_desktop.monitors.RETURN_S", 0.2)
    (pulse.parent / "bin" / "parec").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(SourceError, match="can no longer be recorded"):
        asyncio.run(gathered(MonitorRecorder(find_monitors()[0])))


def test_a_microphone_and_a_monitor_are_two_channels_on_one_clock(pulse: Path) -> None:
    card = SoundCard((16_000,))
    pair = PairRecorder(Recorder(find_microphones(card)[0], library=card), find_monitors()[0])
    (pulse.parent / "bin" / "parec").write_text(
        "#!/bin/sh\nhead -c 3840 /dev/zero | tr '\\0' 'b'\nexec sleep 5\n"
    )
    pair.open()
    assert pair.channels == ("You", "Computer") and pair.sample_rate_hz == 16_000

    async def heard() -> bytes:
        blocks = pair.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await asyncio.sleep(0.5)  # the monitor is there
        for _ in range(4):
            card.streams[0].options.callback(b"aa" * 640, 640, None, None)
        got = await first
        for _ in range(3):
            got += await anext(blocks)
        pair.stop()
        async for block in blocks:
            got += block
        return got

    samples = np.frombuffer(asyncio.run(heard()), "<i2").reshape(-1, 2)
    assert len(samples) == 4 * 640 and (samples[:, 0] == int.from_bytes(b"aa")).all()
    theirs = samples[:, 1]
    assert (theirs[:1_920] == int.from_bytes(b"bb")).all() and (theirs[1_920:] == 0).all()


def test_different_speech_is_told_as_the_server_and_the_page_tell_it(tmp_path: Path) -> None:
    one, other = spoken([(1.0, 300.0)] * 4, gap=1.6), spoken([(1.0, 900.0)] * 4, gap=1.6)
    call = np.zeros((len(one) + 20_800, 2), np.float32)
    call[: len(one), 0], call[20_800:, 1] = one, other
    room = np.stack([call.sum(axis=1), 0.7 * call.sum(axis=1)], axis=1)
    alone = np.stack([call[:, 0], 0 * call[:, 0]], axis=1)
    script = (
        "import(process.argv[1]).then(async ({ carryDifferentSpeech }) => {"
        "const { readFileSync } = await import('node:fs');"
        "const all = new Float32Array(readFileSync(process.argv[2]).buffer.slice(0));"
        "const one = (c) => all.filter((_, i) => i % 2 === c);"
        "console.log(carryDifferentSpeech([one(0), one(1)], 16000)); })"
    )
    for name, samples, expected in (("call", call, True), ("room", room, False), ("alone", alone, False)):
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, samples, 16_000, subtype="PCM_16")
        assert server_tells(AudioFile(path)) is expected, name
        recording = Recording(path)
        recording.open()
        assert recording.channels == ((None, None) if expected else None), name
        if (node := shutil.which("node")) is not None:
            raw = tmp_path / f"{name}.f32"
            raw.write_bytes(samples.astype("<f4").tobytes())
            page = ROOT / "clients" / "web" / "channels.js"
            done = subprocess.run(
                [node, "-e", script, str(page), str(raw)], capture_output=True, text=True, check=True
            )
            assert done.stdout.strip() == str(expected).lower(), name


@pytest.mark.parametrize(("choice", "channels"), [("auto", 2), ("separate", 2), ("mix", 1)])
def test_the_channels_of_a_recording_are_heard_as_chosen(
    tmp_path: Path, choice: ChannelChoice, channels: int
) -> None:
    seconds = np.arange(64_000) / 16_000
    left, right = 0.5 * (seconds % 2 < 1), 0.25 * (seconds % 2 >= 1)
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([left, right], 1), 16_000, subtype="PCM_16")
    recording = Recording(path, live=False, choice=choice)
    recording.open()
    heard = np.frombuffer(asyncio.run(gathered(recording)), "<i2")
    assert len(heard) == 64_000 * channels
    first = heard[:channels].tolist()
    assert first == ([16_384, 0] if channels == 2 else [8_192])


# --- the window, told by a script -------------------------------------------------------------------


@pytest.fixture(scope="session")
def application() -> Iterator[QApplication]:
    running = QApplication.instance() or QApplication(["test"])
    assert isinstance(running, QApplication)
    running.setStyle("Fusion")
    yield running


@pytest.fixture
def preferences(application: QApplication, tmp_path: Path) -> Preferences:
    chosen = Preferences(QSettings(str(tmp_path / "desktop.ini"), QSettings.Format.IniFormat))
    chosen.notice_read = True
    return chosen


class ScriptedFeed(QObject):
    """A feed without a thread and a server: it remembers what it is asked for."""

    connecting = Signal()
    event_received = Signal(object)
    audio_sent = Signal(bytes)
    started = Signal(object)
    source_ended = Signal()
    failed = Signal(str, bool)
    refused = Signal(str)
    saved = Signal(str)
    microphones = Signal(object)
    told = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.url, self.token = "ws://scripted", None
        self.asked: list[tuple[object, ...]] = []

    def reach(self, url: str) -> None:
        self.url = url
        self.asked.append(("reach", url))

    def open(self, options: Options) -> None:
        self.asked.append(("open", options))

    def hear(self, source: Source, options: Options) -> None:
        self.asked.append(("hear", source, options))

    def end_source(self) -> None:
        self.asked.append(("end_source",))

    def finish(self) -> None:
        self.asked.append(("finish",))

    def pause(self, paused: bool) -> None:
        self.asked.append(("pause", paused))

    def rename(self, speaker: str, name: str) -> None:
        self.asked.append(("rename", speaker, name))

    def correct(self, turn: int, speaker: str) -> None:
        self.asked.append(("correct", turn, speaker))

    def enrol(self, turn: int, name: str, keep: bool) -> None:
        self.asked.append(("enrol", turn, name, keep))

    def save(self, path: Path) -> None:
        self.asked.append(("save", path))

    def look_for_microphones(self) -> None:
        self.asked.append(("look_for_microphones",))

    def stop(self) -> None:
        self.asked.append(("stop",))


@pytest.fixture
def feed() -> ScriptedFeed:
    return ScriptedFeed()


@pytest.fixture
def window(feed: ScriptedFeed, preferences: Preferences) -> Iterator[Window]:
    opened = Window(feed, preferences)  # type: ignore[arg-type]
    opened.show()
    QTest.qWaitForWindowActive(opened)
    yield opened
    opened.course.unsaved = False
    opened.close()
    opened.deleteLater()
    QTest.qWait(1)


def tell(window: Window, *events: object) -> None:
    for event in events:
        window.feed.event_received.emit(event)
    window.refresh()


def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        QTest.qWait(10)


def answering(button: QMessageBox.StandardButton) -> None:
    """Press a button of the question that will be asked."""

    def press() -> None:
        box = QApplication.activeModalWidget()
        assert isinstance(box, QMessageBox)
        box.button(button).click()

    QTimer.singleShot(50, press)


def listening(window: Window, source: Source | None = None) -> None:
    """A conversation that hears something."""
    tell(window, created())
    window.feed.started.emit(source or Recorder(MICROPHONE))
    window.refresh()


def test_the_scripted_feed_is_like_the_real_one() -> None:
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_") and name != "staticMetaObject"}

    assert names(ScriptedFeed) == names(Feed)


def test_the_window_asks_for_a_connection_and_for_microphones_at_once(
    window: Window, feed: ScriptedFeed
) -> None:
    assert feed.asked == [("look_for_microphones",), ("open", Options())]
    assert window.page.header.status.text() == "Connecting …"
    assert window.page.empty.text() == "Connecting …"


def test_without_a_microphone_recording_is_off_and_says_why(window: Window, feed: ScriptedFeed) -> None:
    feed.microphones.emit("This computer has no microphone")
    tell(window, created())
    assert not window.page.controls.primary.isEnabled()
    assert window.page.controls.primary.toolTip() == "This computer has no microphone"
    assert window.page.no_microphone.text() == "This computer has no microphone"
    assert not window.page.controls.ptt.isEnabled()


def test_the_default_microphone_is_chosen_and_can_be_looked_for_again(
    window: Window, feed: ScriptedFeed
) -> None:
    other = replace(MICROPHONE, index=5, name="Other", is_default=False)
    feed.microphones.emit([other, MICROPHONE])
    assert window.page.controls.chosen == MICROPHONE
    devices = window.page.controls.devices
    devices.setCurrentIndex(0)
    feed.microphones.emit([MICROPHONE, other])
    assert window.page.controls.chosen == other  # the choice stays
    feed.asked.clear()
    devices.setCurrentIndex(devices.count() - 1)
    devices.activated.emit(devices.count() - 1)
    assert feed.asked == [("look_for_microphones",)]


def test_record_and_finish(window: Window, feed: ScriptedFeed) -> None:
    feed.microphones.emit([MICROPHONE])
    tell(window, created())
    QTest.keyClick(window, Qt.Key.Key_R)
    kind, source, options = feed.asked[-1]
    assert kind == "hear" and isinstance(source, Recorder) and source.talking
    assert options == Options()
    feed.started.emit(source)
    window.refresh()
    assert window.page.controls.primary.text() == "Stop"
    assert not window.page.controls.devices.isEnabled()
    QTest.keyClick(window, Qt.Key.Key_R)
    assert feed.asked[-1] == ("end_source",)
    feed.source_ended.emit()
    assert (window.course.phase, window.page.controls.primary.text()) == (Phase.OPEN, "Finish")
    QTest.mouseClick(window.page.controls.primary, Qt.MouseButton.LeftButton)
    assert feed.asked[-1] == ("finish",)
    assert not window.page.controls.primary.isEnabled()
    tell(window, closed(0))
    assert (window.course.phase, window.page.header.status.text()) == (Phase.OVER, "Finished")
    assert window.page.controls.primary.text() == "New conversation"


def test_turns_come_grey_then_final_then_revised(window: Window) -> None:
    listening(window)
    tell(window, started(0), partial(0, "hel"))
    assert window.page.pages.currentIndex() == 1
    (row,) = window.page.transcript.list.turns
    assert row.partial
    tell(window, final(0, "hello"), final(1, "good day", "Tom"), partial(2))
    assert [turn.text for turn in window.page.transcript.list.turns] == ["hello", "good day", "hel"]
    tell(window, revised(0, "hello", "Tom"))
    assert [turn.speaker for turn in window.page.transcript.list.turns] == ["Tom", "Tom", "Anna"]
    assert window.page.count.text() == "2 turns"


def test_bands_of_speech_that_waits_leave_the_pauses_between(window: Window) -> None:
    listening(window)
    window.feed.audio_sent.emit(bytes(32 * 5_000))
    tell(window, final(0), started(1_000), stopped(1_800), started(2_500), stopped(3_000), started(4_200))
    waveform = window.page.timeline.waveform
    assert waveform.speech == [(0, 800)]
    assert waveform.pending == [(1_000, 1_800), (2_500, 3_000), (4_200, 5_000)]


def test_a_correction_changes_rows_in_place(window: Window) -> None:
    speakers = ["Anna", "Cem", *["Bob", "Anna"] * 30]
    tell(window, created(), *(final(turn, speaker=who) for turn, who in enumerate(speakers)))
    transcript, lanes = window.page.transcript, window.page.timeline.lanes
    until(lambda: transcript.verticalScrollBar().maximum() > 600)
    transcript.setCurrentIndex(transcript.list.index(25))
    transcript.setFocus()
    transcript.verticalScrollBar().setValue(500)
    QTest.qWait(50)
    first = transcript.indexAt(QPoint(1, 1)).row()
    top, bob = transcript.visualRect(transcript.list.index(first)).top(), lanes.name_of("Bob")
    assert 3 < first < 25
    changes: list[object] = []
    transcript.list.dataChanged.connect(lambda *_: changes.append(1))
    transcript.list.modelReset.connect(lambda: changes.append("reset"))
    moved = {0: "Bob", 1: "Anna"}
    longer = "words that need more than one line of the transcript " * 5
    tell(window, *(revised(t, longer, moved.get(t, who), revision=1) for t, who in enumerate(speakers)))
    QTest.qWait(50)
    assert changes == [1]  # one update for all of them
    assert transcript.list.rowCount() == len(speakers)
    assert abs(transcript.visualRect(transcript.list.index(first)).top() - top) <= 1
    assert (transcript.currentIndex().row(), transcript.hasFocus()) == (25, True)
    assert window.course.conversation.speakers == ["Anna", "Bob"]  # Cem has no turn any more
    assert lanes.name_of("Cem") is None and lanes.name_of("Bob") is bob


def test_of_two_turns_at_once_in_a_lane_both_can_be_chosen(window: Window) -> None:
    tell(window, created(), final(0, audio_start_ms=3_000, audio_end_ms=4_000, speaker_unsure=True))
    tell(window, final(1, audio_start_ms=1_000, audio_end_ms=9_000))
    strip = window.page.timeline.lanes.strip

    def at(ms: float) -> int | None:
        turn = strip.turn_at(strip.getViewBox().mapViewToScene(QPointF(ms, 0.5)))
        return None if turn is None else turn.index

    assert [at(ms) for ms in (500, 2_000, 3_500, 5_000)] == [None, 1, 0, 1]


def test_the_panels_at_the_side_scroll_inside_their_card(window: Window) -> None:
    window.resize(window.minimumSize())
    listening(window)
    tell(window, final(0))
    panel = window.page.latency.parentWidget()
    scroller = panel.parentWidget().parentWidget()
    until(lambda: scroller.verticalScrollBar().isVisible())
    card = scroller.parentWidget()
    assert card.rect().contains(scroller.geometry())
    assert card.objectName() == "card" and card.geometry().bottom() < window.page.controls.geometry().top()


SUMMARY = SpeakerSummary(
    speaker="Anna <b>",
    turns=3,
    speaking_ms=61_000,
    share=0.754,
    emotions={
        "neutral": EmotionTotals(turns=1, speaking_ms=1_000, probability=0.4),
        "joy": EmotionTotals(turns=2, speaking_ms=60_000, probability=0.6),
        "anger": EmotionTotals(turns=0, speaking_ms=0, probability=0.0),
    },
    shifts=(EmotionShift(before="joy", after="neutral", count=2),),
    interruptions=1,
)


def test_the_whole_of_the_conversation_is_shown_at_its_end(window: Window) -> None:
    listening(window)
    tell(window, final(0), final(1, speaker="Tom"))
    panel = window.page.whole
    assert not panel.isVisible()
    text = replace(SUMMARY, speaker="Tom", turns=1, share=None, shifts=())
    tell(window, replace(closed(2), summary=(SUMMARY, text)))
    assert panel.isVisible()
    labels = [label.text() for label in panel.findChildren(QLabel)]
    assert labels == [
        "The whole of the conversation",
        "Anna <b>",
        "3 turns, 01:01 of speech, 75% of all",
        "joy 2, neutral 1",
        "2 shifts of emotion, most often joy to neutral (2 times); 1 interruption",
        "Tom",
        "1 turn",
        "joy 2, neutral 1",
        "0 shifts of emotion",
    ]
    assert panel.width() <= window.page.latency.parentWidget().width()
    window.feed.connecting.emit()  # another conversation
    until(lambda: not panel.isVisible())


def test_a_final_turn_is_darker_than_a_partial_one(window: Window) -> None:
    def darkest(row: int) -> float:
        box = window.page.transcript.visualRect(window.page.transcript.list.index(row))
        box.moveTo(window.page.transcript.viewport().mapTo(window, box.topLeft()))
        image, words = window.grab(box).toImage(), range(190, 300)
        assert image.height() > 20
        colours = (image.pixelColor(x, y).name() for x in words for y in range(5, image.height() - 5))
        return min(look.luminance(colour) for colour in set(colours))

    listening(window)
    tell(window, final(0, "the words of a turn"), partial(1, "the words of a turn"))
    QTest.qWait(50)
    assert darkest(0) < 0.05 < 0.09 < darkest(1)


def test_rows_that_change_are_the_only_ones_told(window: Window) -> None:
    changes: list[tuple[str, int, int]] = []
    rows = window.page.transcript.list
    rows.rowsInserted.connect(lambda _, first, last: changes.append(("in", first, last)))
    rows.rowsRemoved.connect(lambda _, first, last: changes.append(("out", first, last)))
    rows.dataChanged.connect(lambda first, last: changes.append(("new", first.row(), last.row())))
    turn = Turn(0, "Anna", 0, 1, "a", None)
    turns = [replace(turn, index=n) for n in range(6)]
    rows.sync(turns)
    rows.sync(turns)
    rows.sync(turns[2:])
    rows.sync([*turns[2:5], replace(turns[5], text="b")])
    rows.sync(turns[2:4])
    rows.sync([])
    assert changes == [("in", 0, 5), ("out", 0, 1), ("new", 3, 3), ("out", 2, 3), ("out", 0, 1)]


def test_a_translation_stands_beneath_the_words(window: Window, tmp_path: Path) -> None:
    listening(window)
    words, english = "Das Tuch liegt auf dem Tisch.", "The cloth lies on the table."
    german = {"speaker": "Anna", "language": "de"}
    tell(window, final(0, "Hello.", language="en"), final(1, words, translation=english, **german))
    transcript = window.page.transcript
    plain, translated = (transcript.visualRect(transcript.list.index(row)) for row in (0, 1))
    assert translated.height() >= plain.height() + 6
    sentence = transcript.list.data(transcript.list.index(1), Qt.ItemDataRole.AccessibleTextRole)
    assert sentence == f"Anna: {words}, in English: {english}, joy 70%"
    shown = transcript.viewport().grab(translated).toImage()
    tell(window, revised(1, words, revision=0, **german))
    until(lambda: transcript.visualRect(transcript.list.index(1)).height() == plain.height())
    assert transcript.viewport().grab(translated).toImage() != shown
    tell(window, revised(1, words, revision=0, translation=english, **german))
    folder = Path(os.environ.get("STREAM_ERC_SHOTS", tmp_path))
    assert window.grab().save(str(folder / "window-translation.png"))


@pytest.mark.parametrize(("code", "name"), [("de", "German"), ("yue", "Cantonese"), ("xx", "xx")])
def test_a_language_is_told_by_its_name(code: str, name: str) -> None:
    assert language_name(code) == name


def test_lanes_stand_below_each_other_and_a_click_selects(window: Window) -> None:
    listening(window)
    window.feed.audio_sent.emit(bytes(32 * 6_000))
    tell(window, final(0), final(1, speaker="Tom"), final(2), final(3, speaker="Tom"))
    QTest.qWait(50)
    assert [window.page.timeline.lanes.name_of(s) is not None for s in ("Anna", "Tom")] == [True, True]
    strip = window.page.timeline.lanes.strip
    place = strip.getViewBox().mapViewToScene(QPointF(3_400, 1.5))
    QTest.mouseClick(strip.viewport(), Qt.MouseButton.LeftButton, pos=strip.mapFromScene(place))
    until(lambda: window.page.transcript.current_turn is not None)
    window.refresh()
    assert window.page.transcript.current_turn.index == 3
    assert window.page.reading.turn.index == 3
    assert strip.turn_at(strip.getViewBox().mapViewToScene(QPointF(3_400, 0.5))) is None
    QTest.keyClick(window.page.transcript, Qt.Key.Key_Up)
    window.refresh()
    assert window.page.reading.turn.index == 2
    QTest.keyClick(window.page.transcript, Qt.Key.Key_Escape)
    tell(window, final(4))
    assert window.page.reading.turn.index == 4  # the newest again


def test_the_lanes_and_the_waveform_show_the_same_time(window: Window) -> None:
    waveform, strip = window.page.timeline.waveform, window.page.timeline.lanes.strip
    listening(window)
    tell(window, final(0))
    assert strip.span_ms == pytest.approx(waveform.span_ms)
    assert waveform.span_ms == pytest.approx((0, 30_000))
    window.feed.audio_sent.emit(bytes(32 * 90_000))
    window.refresh()
    assert waveform.span_ms == pytest.approx((60_000, 90_000))
    for act in (waveform.show_whole, lambda: waveform.zoom(0.25), lambda: waveform.show_span(100, 200)):
        act()
        assert strip.span_ms == pytest.approx(waveform.span_ms)
        assert not waveform.following
    at_left = [view.getViewBox().mapViewToScene(QPointF(100, 0)).x() for view in (waveform, strip)]
    assert at_left[0] == pytest.approx(at_left[1], abs=1)
    QTest.keyClick(window, Qt.Key.Key_F)
    assert waveform.following and waveform.span_ms == pytest.approx((60_000, 90_000))


def test_what_the_user_moves_is_followed_while_the_newest_audio_is_seen(window: Window) -> None:
    listening(window)
    window.feed.audio_sent.emit(bytes(32 * 60_000))
    window.refresh()
    waveform = window.page.timeline.waveform
    waveform.move_by_hand(50_000, 60_000)  # the wheel, at the right edge
    assert waveform.following
    window.feed.audio_sent.emit(bytes(32 * 5_000))
    window.refresh()
    assert waveform.span_ms == pytest.approx((55_000, 65_000))
    waveform.move_by_hand(0, 10_000)
    window.feed.audio_sent.emit(bytes(32 * 5_000))
    window.refresh()
    assert not waveform.following and waveform.span_ms == pytest.approx((0, 10_000))


def test_a_speaker_is_renamed_by_a_click(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    tell(window, final(0))
    name = window.page.timeline.lanes.name_of("Anna")
    QTest.mouseClick(name.findChild(QAbstractButton), Qt.MouseButton.LeftButton)
    field = name.findChild(QLineEdit)
    assert (name.currentWidget(), field.selectedText()) == (field, "Anna")
    tell(window, final(1))  # a turn that comes meanwhile does not take the field away
    QTest.keyClicks(field, "Anne R")
    assert window.course.phase is Phase.HEARING  # R was a letter
    QTest.keyClick(field, Qt.Key.Key_Return)
    assert feed.asked[-1] == ("rename", "Anna", "Anne R")
    assert name.button.text() == "Anne R …"  # until the server says so
    feed.refused.emit("somebody has that name")
    assert name.button.text() == "Anna"
    tell(window, renamed("Anna", "Anne R"))
    assert window.page.timeline.lanes.name_of("Anna") is None
    assert window.page.timeline.lanes.name_of("Anne R") is not None
    assert window.page.transcript.list.turns[0].speaker == "Anne R"


def test_escape_leaves_the_name(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    tell(window, final(0))
    QTest.keyClick(window, Qt.Key.Key_F2)
    name = window.page.timeline.lanes.name_of("Anna")
    field = name.findChild(QLineEdit)
    QTest.keyClicks(field, "Nobody")
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert not [asked for asked in feed.asked if asked[0] == "rename"]
    assert isinstance(name.currentWidget(), QAbstractButton)


def test_a_turns_speaker_is_corrected_by_a_digit_or_from_the_menu(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    tell(window, final(0), final(1, speaker="Tom"), partial(2))
    transcript = window.page.transcript
    transcript.setFocus()
    transcript.setCurrentIndex(transcript.list.index(0))
    QTest.keyClick(transcript, Qt.Key.Key_2)
    assert feed.asked[-1] == ("correct", 0, "Tom")
    count = len(feed.asked)
    for key in (Qt.Key.Key_1, Qt.Key.Key_9):  # the speaker it has; nobody
        QTest.keyClick(transcript, key)
    transcript.setCurrentIndex(transcript.list.index(2))
    QTest.keyClick(transcript, Qt.Key.Key_2)  # it is still being spoken
    assert len(feed.asked) == count
    menu = transcript.who_menu(transcript.list.turns[1])
    speakers = [action for action in menu.actions() if action.isCheckable()]
    assert [(action.text(), action.isChecked()) for action in speakers] == [
        ("Anna\t1", False),
        ("Tom\t2", True),
    ]
    speakers[0].trigger()
    assert feed.asked[-1] == ("correct", 1, "Anna")
    menu.deleteLater()


def test_a_click_on_the_name_of_a_row_asks_who_spoke(window: Window) -> None:
    listening(window)
    tell(window, final(0))
    transcript = window.page.transcript
    row = transcript.visualRect(transcript.list.index(0))
    QTest.mouseClick(transcript.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(90, row.center().y()))
    menu = QApplication.activePopupWidget()
    assert menu is not None and menu.accessibleName() == "Who said this?"
    menu.close()
    QTest.mouseClick(transcript.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(300, row.center().y()))
    assert QApplication.activePopupWidget() is None


def test_a_turns_voice_is_named_and_kept_where_the_server_keeps_voices(
    window: Window, feed: ScriptedFeed
) -> None:
    listening(window)
    tell(window, created(voices=("Zoe",), keeps_voices=True), final(0), final(1, speaker="Tom"))
    transcript = window.page.transcript
    menu = transcript.who_menu(transcript.list.turns[1])
    menu.actions()[-1].trigger()
    menu.deleteLater()
    dialog = QApplication.activeModalWidget()
    assert isinstance(dialog, VoiceDialog)
    assert [dialog.name.itemText(row) for row in range(dialog.name.count())] == ["Anna", "Zoe"]
    dialog.accept()  # nobody was named yet
    assert dialog.isVisible()
    assert "Only with the person's consent" in dialog.consent.text() and FOR_NOW in dialog.consent.text()
    dialog.keep.setChecked(True)
    assert "stream-erc voices remove" in dialog.consent.text()
    dialog.name.setCurrentText("  Tim ")
    dialog.accept()
    assert feed.asked[-1] == ("enrol", 1, "Tim", True)
    enrolled = VoiceEnrolled(session_id="s_1", seq=1, event_id=9, name="Tim", turn=1, kept=True)
    tell(window, renamed("Tom", "Tim"), enrolled)
    assert "The voice of Tim is known from now on, and kept" in window.page.notice_bar.words.text()
    assert window.course.conversation.speakers == ["Anna", "Tim"]


def test_a_server_that_keeps_no_voices_offers_nothing_to_keep(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    tell(window, created(), final(0))
    window.page.transcript.voice_asked.emit(window.course.conversation.turn(0))
    dialog = QApplication.activeModalWidget()
    assert isinstance(dialog, VoiceDialog) and not dialog.keep.isVisible()
    dialog.name.setCurrentText("Anne")
    dialog.accept()
    assert feed.asked[-1] == ("enrol", 0, "Anne", False)


def test_the_newest_turn_stays_in_view_unless_the_reader_went_up(window: Window) -> None:
    listening(window)
    bar = window.page.transcript.verticalScrollBar()
    tell(window, *(final(n) for n in range(40)))
    until(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    bar.setValue(0)
    tell(window, *(final(n) for n in range(40, 60)))
    QTest.qWait(50)
    assert bar.value() == 0
    bar.setValue(bar.maximum())
    tell(window, *(final(n) for n in range(60, 80)))
    until(lambda: bar.value() == bar.maximum())


def test_push_to_talk_is_heard_while_space_is_held(window: Window, feed: ScriptedFeed) -> None:
    feed.microphones.emit([MICROPHONE])
    tell(window, created())
    QTest.keyClick(window, Qt.Key.Key_P)
    QTest.keyClick(window, Qt.Key.Key_R)
    _, source, _ = feed.asked[-1]
    assert not source.talking
    feed.started.emit(source)
    window.refresh()
    assert window.page.controls.talk.isVisible()
    for focus in (window.page.transcript, window.page.controls.primary, window.page.controls.ptt):
        feed.asked.clear()
        focus.setFocus()
        QTest.keyPress(focus, Qt.Key.Key_Space)
        assert (feed.asked, window.page.controls.talk.text()) == ([("pause", False)], "Talking")
        again = QKeyEvent(QEvent.Type.KeyPress, Qt.Key.Key_Space, Qt.KeyboardModifier.NoModifier, " ", True)
        QApplication.sendEvent(focus, again)
        QTest.keyRelease(focus, Qt.Key.Key_Space)
        assert (feed.asked, window.page.controls.talk.text()) == (
            [("pause", False), ("pause", True)],
            "Hold to talk",
        )
    QTest.mousePress(window.page.controls.talk, Qt.MouseButton.LeftButton)
    QTest.mouseRelease(window.page.controls.talk, Qt.MouseButton.LeftButton)
    assert feed.asked[-2:] == [("pause", False), ("pause", True)]
    QTest.keyClick(window, Qt.Key.Key_P)  # open again
    assert feed.asked[-1] == ("pause", False)


def test_space_pauses_a_recording_but_presses_a_button_that_has_the_focus(
    window: Window, feed: ScriptedFeed, tmp_path: Path
) -> None:
    listening(window, Recording(tmp_path / "talk.wav"))
    assert (window.page.header.title.text(), window.page.controls.pause.isVisible()) == ("talk.wav", True)
    QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Space)
    assert feed.asked[-1] == ("pause", True)
    assert window.page.controls.pause.text() == "Continue"
    window.page.controls.pause.setFocus()
    QTest.keyClick(window.page.controls.pause, Qt.Key.Key_Space)
    assert feed.asked[-1] == ("pause", False)


def test_a_file_that_is_dropped_is_heard(window: Window, feed: ScriptedFeed, tmp_path: Path) -> None:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(tmp_path / "talk.wav"))])
    buttons = (Qt.DropAction.CopyAction, mime, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier)
    enter = QDragEnterEvent(QPoint(300, 300), *buttons)
    QApplication.sendEvent(window, enter)
    assert enter.isAccepted() and window.page.timeline.property("drop")
    QApplication.sendEvent(window, QDropEvent(QPointF(300, 300), *buttons))
    assert not window.page.timeline.property("drop")
    until(lambda: feed.asked[-1][0] == "hear")
    assert feed.asked[-1][1].path == tmp_path / "talk.wav"
    words = QMimeData()
    words.setText("not a file")
    enter = QDragEnterEvent(QPoint(3, 3), Qt.DropAction.CopyAction, words, *buttons[2:])
    enter.ignore()
    QApplication.sendEvent(window, enter)
    assert not enter.isAccepted()


def test_what_was_spoken_is_not_lost_without_a_question(
    window: Window, feed: ScriptedFeed, tmp_path: Path
) -> None:
    listening(window)
    tell(window, final(0), closed())
    count = len(feed.asked)
    answering(QMessageBox.StandardButton.Cancel)
    window.open_recording(tmp_path / "talk.wav")
    assert len(feed.asked) == count
    answering(QMessageBox.StandardButton.Discard)
    window.open_recording(tmp_path / "talk.wav")
    assert feed.asked[-1][0] == "hear"
    feed.saved.emit("events.jsonl")
    window.open_recording(tmp_path / "talk.wav")  # no question
    assert len(feed.asked) == count + 2


def test_a_new_conversation_begins_empty(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    feed.audio_sent.emit(bytes(32 * 5_000))
    tell(window, final(0), closed())
    feed.connecting.emit()
    window.refresh()
    assert (window.page.transcript.list.turns, window.course.outline.end_ms, window.course.phase) == (
        [],
        0,
        Phase.WAITING,
    )
    assert window.page.timeline.clock.text() == "00:00"
    assert window.page.timeline.waveform.following


def test_losing_the_connection_is_shown_and_coming_back_too(window: Window) -> None:
    listening(window)
    tell(window, final(0), partial(1), Disconnected("the cable", 1, 0.0))
    assert window.page.header.status.text() == "Reconnecting …"
    assert "the cable" in window.page.header.status.toolTip()
    assert len(window.page.transcript.list.turns) == 1
    tell(window, Reconnected(1))
    assert window.page.header.status.text() == "Connected"
    assert window.page.notice_bar.words.text().startswith("Reconnected")


def test_the_conversation_is_saved_as_what_the_server_offers(
    window: Window, feed: ScriptedFeed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tell(window, created(exports=("srt", "textgrid", "docx")), final(0))
    asked: list[tuple[str, str]] = []

    def answering_with(name: str, kind: str) -> None:
        def ask(parent: object, title: str, proposed: str, kinds: str, **_: object) -> tuple[str, str]:
            asked.append((proposed, kinds))
            return name, kind

        monkeypatch.setattr(QFileDialog, "getSaveFileName", ask)

    kinds = ["Events (JSONL) (*.jsonl)", "Subtitles (SRT) (*.srt)", "Praat (TextGrid) (*.TextGrid)"]
    for name, kind, expected in (
        ("talk", kinds[2], "talk.TextGrid"),
        ("conversation.jsonl", kinds[1], "conversation.srt"),  # the proposed ending, of another kind
        ("mine.srt", kinds[0], "mine.srt"),  # an ending that was typed
        ("conversation.jsonl", kinds[0], "conversation.jsonl"),
        ("v1.2", kinds[1], "v1.2.srt"),
    ):
        answering_with(str(tmp_path / name), kind)
        window.page.header.save.click()
        assert feed.asked[-1] == ("save", tmp_path / expected)
    assert asked[0] == ("conversation.jsonl", ";;".join([*kinds, "DOCX (*.docx)"]))
    count = len(feed.asked)
    answering_with("", "")
    window.page.header.save.click()
    assert len(feed.asked) == count


def test_page_and_window_name_files_the_same() -> None:
    page = (ROOT / "clients" / "web" / "exporting.js").read_text()
    assert set(files.NAMES) == {ending.removeprefix(".") for ending in FORMATS}
    for kind, (name, ending) in files.NAMES.items():
        other = "" if ending == kind else f', "{ending}"'
        assert f'{kind}: ["{name}"{other}]' in page


def test_finish_is_always_there_and_ctrl_enter_does_it(window: Window, feed: ScriptedFeed) -> None:
    controls = window.page.controls
    QTest.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert ("finish",) not in feed.asked  # nothing has begun
    assert not controls.finishing.isVisible()
    listening(window)
    assert controls.finishing.isVisible() and "Ctrl+Enter" in controls.finishing.toolTip()
    QTest.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert feed.asked[-1] == ("finish",) and window.course.phase is Phase.FINISHING
    QTest.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
    assert feed.asked.count(("finish",)) == 1


def test_what_is_chosen_is_heard(window: Window, feed: ScriptedFeed) -> None:
    monitor = Monitor("usb.monitor", "What this computer plays (Headset)")
    pair = Pair(MICROPHONE, monitor)
    feed.microphones.emit([MICROPHONE, pair, monitor])
    controls, kinds = window.page.controls, []
    for row in range(3):
        controls.devices.setCurrentIndex(row)
        controls.devices.activated.emit(row)
        assert controls.ptt.isEnabled() == (row < 2)
        controls.record.emit(controls.chosen)
        kinds.append(type(feed.asked[-1][1]))
    assert kinds == [Recorder, PairRecorder, MonitorRecorder]


def test_the_notice_is_shown_until_it_is_read(
    feed: ScriptedFeed, preferences: Preferences, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferences.notice_read = False
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    for reads in (False, True):
        window = Window(feed, preferences)  # type: ignore[arg-type]
        window.show()
        bar = window.page.first
        assert bar.isVisible() and bar.words.text() == captions.NOTICE[0]
        bar.more.click()
        assert bar.isVisible()
        window.page.notice_bar.show_notice(Notice("something else"))
        assert bar.words.text() == captions.NOTICE[0]
        if reads:
            bar.shut.click()
            assert not bar.isVisible()
        window.close()
        window.deleteLater()
    assert opened == ["http://scripted/responsible-use.txt"] * 2
    assert preferences.notice_read
    page = (ROOT / "clients" / "web" / "notice.js").read_text()
    assert all(text in page for text in captions.NOTICE)


def test_what_a_source_tells_is_shown(window: Window, feed: ScriptedFeed) -> None:
    feed.told.emit("The microphone Desk is heard again.")
    assert window.page.notice_bar.words.text() == "The microphone Desk is heard again."


def test_a_failure_offers_to_try_again(window: Window, feed: ScriptedFeed) -> None:
    feed.failed.emit("nobody answers", False)
    window.refresh()
    assert (window.page.empty.text(), window.page.empty_detail.text()) == ("Not connected", "nobody answers")
    assert not window.page.notice_bar.isVisible()  # once is enough
    QTest.mouseClick(window.page.retry.same, Qt.MouseButton.LeftButton)
    assert feed.asked[-1] == ("open", Options())


def test_a_failure_after_the_first_turn_leaves_the_turns_and_says_why_above_them(
    window: Window, feed: ScriptedFeed
) -> None:
    listening(window)
    tell(window, final(0))
    feed.failed.emit("nobody answers", False)
    window.refresh()
    assert window.page.notice_bar.isVisible() and window.page.header.retry.isVisible()
    answering(QMessageBox.StandardButton.Cancel)
    QTest.mouseClick(window.page.header.retry.same, Qt.MouseButton.LeftButton)
    assert ("open", Options()) not in feed.asked[2:]  # what was spoken would be lost
    feed.saved.emit("events.jsonl")
    QTest.mouseClick(window.page.header.retry.same, Qt.MouseButton.LeftButton)
    assert feed.asked[-1] == ("open", Options())


def test_what_is_refused_is_said_and_the_conversation_goes_on(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    feed.refused.emit("somebody has that name")
    assert window.page.notice_bar.words.text() == "somebody has that name"
    assert window.page.notice_bar.property("tone") == "bad"
    assert window.course.phase is Phase.HEARING
    window.page.notice_bar.shut.click()
    assert not window.page.notice_bar.isVisible()


def test_the_look_follows_the_system_until_it_is_chosen(window: Window, preferences: Preferences) -> None:
    preferences.look = "system"
    assert window.theme is look.LIGHT
    QTest.keyClick(window, Qt.Key.Key_T, Qt.KeyboardModifier.ControlModifier)
    assert (window.theme, preferences.look) == (look.DARK, "dark")
    window.refresh()
    QTest.qWait(20)
    ground = window.grab().toImage().pixelColor(4, 4).name()
    assert ground == look.DARK.background
    QTest.mouseClick(window.page.header.look, Qt.MouseButton.LeftButton)
    assert (window.theme, preferences.look) == (look.LIGHT, "light")


def test_settings_are_those_of_the_server_and_are_remembered(
    window: Window, feed: ScriptedFeed, preferences: Preferences
) -> None:
    tell(window, created())
    QTest.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    dialog = QApplication.activeModalWidget()
    models = [dialog.model.itemText(row) for row in range(dialog.model.count())]
    assert models == ["Server default (hash)", "hash", "other"]
    dialog.model.setCurrentText("other")
    dialog.language.setCurrentText("de")
    dialog.speakers.setCurrentIndex(2)
    dialog.partials.setChecked(False)
    dialog.pace.setCurrentIndex(1)
    dialog.look.setCurrentIndex(2)
    dialog.accept()
    assert preferences.options == Options("other", "de", 2, False)
    assert (preferences.live, window.theme) == (False, look.DARK)
    window.open_recording(Path("talk.wav"))
    _, source, options = feed.asked[-1]
    assert (source.live, options) == (False, Options("other", "de", 2, False))


def test_known_voices_are_recognized_where_the_user_wants_it(
    window: Window, preferences: Preferences
) -> None:
    tell(window, created())
    QTest.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    nobody = QApplication.activeModalWidget()
    assert not nobody.voices.isVisible()
    nobody.accept()
    assert preferences.options.voices is False
    tell(window, created(voices=("Anna", "Ben")))
    QTest.keyClick(window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    dialog = QApplication.activeModalWidget()
    assert dialog.voices.isVisible() and dialog.voices.toolTip() == "Anna, Ben"
    dialog.voices.setChecked(True)
    dialog.accept()
    assert preferences.options.voices is True


def test_nothing_is_remembered_that_cannot_be_used(tmp_path: Path) -> None:
    store = QSettings(str(tmp_path / "s.ini"), QSettings.Format.IniFormat)
    store.setValue("look", "purple")
    store.setValue("geometry", "nonsense")
    found = Preferences(store)
    assert (found.look, found.geometry, found.options, found.live) == ("system", None, Options(), True)
    found.geometry = QByteArray(b"x")
    assert found.geometry == QByteArray(b"x")


def test_everything_can_be_reached_and_is_named(window: Window, feed: ScriptedFeed) -> None:
    feed.microphones.emit([MICROPHONE])
    listening(window, Recording(Path("talk.wav")))
    tell(window, final(0), final(1, speaker="Tom"))
    for kind in (QAbstractButton, QComboBox, Transcript):
        for widget in window.findChildren(kind):
            if widget.isVisible():
                assert widget.accessibleName() or widget.text(), widget
    QTest.qWait(20)
    reached, widget = set(), window.page.controls.open
    widget.setFocus()
    for _ in range(40):
        QTest.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        reached.add(QApplication.focusWidget())
    wanted = {
        window.page.transcript,
        window.page.controls.primary,
        window.page.header.save,
        window.page.header.look,
    }
    wanted |= {
        window.page.timeline.lanes.name_of("Anna").findChild(QAbstractButton),
        window.page.controls.devices,
    }
    assert wanted <= reached
    row = window.page.transcript.list.index(0)
    assert row.data(Qt.ItemDataRole.AccessibleTextRole) == "Anna: hello, joy 70%"
    assert "joy 70%" in window.page.reading.accessibleDescription()


def test_the_shortcuts_are_listed(window: Window) -> None:
    QTest.keyClick(window, Qt.Key.Key_F1)
    box = QApplication.activeModalWidget()
    assert isinstance(box, QMessageBox) and "push to talk" in box.text()
    box.close()


def test_a_long_conversation_is_drawn_fast_enough(window: Window) -> None:
    listening(window)
    window.course.conversation = told(
        created(), *(final(n, "some words of a turn " * 6, f"voice {n % 6}") for n in range(2_000))
    )
    window.feed.audio_sent.emit(bytes(32 * 600_000))
    window._soon(changed=True)
    window.refresh()
    window.grab()
    began = time.thread_time()  # of this thread, however loaded the machine is
    for n in range(10):
        tell(window, partial(2_000, "more words " * n))
        window.page.timeline.grab()
    assert (time.thread_time() - began) / 10 < 0.25


# --- a turn heard again -----------------------------------------------------------------------------


class Loudspeaker:
    """What sounddevice would be, on a computer with a sound output that takes one rate."""

    class PortAudioError(Exception):
        pass

    def __init__(self, rate_hz: int = 16_000, *, present: bool = True) -> None:
        self.rate_hz, self.present = rate_hz, present
        self.heard, self.aborted, self.closed = bytearray(), 0, 0
        self.going = threading.Event()
        self.going.set()

    def query_devices(self, kind: str) -> dict[str, float]:
        if not self.present:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": float(self.rate_hz)}

    def RawOutputStream(self, samplerate: int, channels: int, dtype: str) -> object:  # noqa: N802
        assert (channels, dtype) == (1, "int16")
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self.closed += 1

    def abort(self) -> None:
        self.aborted += 1

    def write(self, block: bytes) -> None:
        assert self.going.wait(10)
        self.heard += block


class PickyLoudspeaker(Loudspeaker):
    def RawOutputStream(self, samplerate: int, channels: int, dtype: str) -> object:  # noqa: N802
        if samplerate != self.rate_hz:
            raise self.PortAudioError("Invalid sample rate")
        return super().RawOutputStream(samplerate, channels, dtype)


def with_output(window: Window, library: Loudspeaker) -> Loudspeaker:
    window.playback._library = library  # type: ignore[assignment]
    return library


def playing_turn(window: Window) -> int | None:
    return window.page.transcript._delegate.playing


def click_on_time(window: Window, row: int) -> None:
    transcript = window.page.transcript
    place = transcript.visualRect(transcript.list.index(row))
    QTest.mouseClick(transcript.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(30, place.center().y()))


@pytest.mark.parametrize("rate_hz", [16_000, 44_100])
def test_a_turn_is_heard_again(window: Window, feed: ScriptedFeed, rate_hz: int) -> None:
    source = Recording(Path("talk.wav"))
    source.sample_rate_hz = rate_hz
    listening(window, source)
    samples = np.arange(4 * rate_hz, dtype=np.int64).astype("<i2")
    for part in np.split(samples, 8):
        feed.audio_sent.emit(part.tobytes())
    tell(window, final(0), final(1), final(2), failed(3))
    out = with_output(window, Loudspeaker(rate_hz))
    click_on_time(window, 2)
    assert playing_turn(window) == 2
    until(lambda: playing_turn(window) is None)
    assert out.heard == samples[2 * rate_hz : 2 * rate_hz + rate_hz * 8 // 10].tobytes()
    assert (out.closed, out.aborted) == (1, 0)
    out.heard.clear()
    QTest.keyClick(window, Qt.Key.Key_L)  # the one that is selected
    until(lambda: out.closed == 2)
    assert out.heard[:2] == samples[2 * rate_hz].tobytes()
    click_on_time(window, 3)  # a failed turn, too
    until(lambda: out.closed == 3)


def test_the_same_turn_again_stops_it_and_another_one_takes_its_place(
    window: Window, feed: ScriptedFeed
) -> None:
    listening(window, Recording(Path("talk.wav")))
    feed.audio_sent.emit(bytes(32 * 5_000))
    tell(window, final(0), final(1))
    out = with_output(window, Loudspeaker())
    out.going.clear()
    click_on_time(window, 0)
    click_on_time(window, 1)
    assert playing_turn(window) == 1
    click_on_time(window, 1)
    assert playing_turn(window) is None
    out.going.set()
    until(lambda: out.aborted == 2)
    assert len(out.heard) < 32 * 800
    out.going.clear()
    click_on_time(window, 0)
    feed.connecting.emit()  # another conversation
    assert playing_turn(window) is None
    out.going.set()


def test_a_turn_is_not_played_into_the_microphone(window: Window, feed: ScriptedFeed) -> None:
    listening(window)
    feed.audio_sent.emit(bytes(32 * 2_000))
    tell(window, final(0), partial(1))
    out = with_output(window, Loudspeaker())
    click_on_time(window, 0)
    assert "when the microphone is off" in window.page.notice_bar.words.text()
    feed.source_ended.emit()
    click_on_time(window, 1)  # it is still being spoken
    assert playing_turn(window) is None
    click_on_time(window, 0)
    until(lambda: out.closed == 1)


def test_without_a_sound_output_a_line_says_so(window: Window, feed: ScriptedFeed) -> None:
    listening(window, Recording(Path("talk.wav")))
    feed.audio_sent.emit(bytes(32 * 2_000))
    tell(window, final(0))
    with_output(window, Loudspeaker(present=False))
    click_on_time(window, 0)
    until(lambda: window.page.notice_bar.words.text() == NO_OUTPUT)
    assert window.page.notice_bar.property("tone") == "plain"
    until(lambda: playing_turn(window) is None)


def test_an_output_that_does_not_take_the_rate_gets_its_own(application: QApplication) -> None:
    out = PickyLoudspeaker(48_000)
    playback = Playback(out)  # type: ignore[arg-type]
    wave_16k = (np.sin(np.arange(16_000) * 0.05) * 9_000).astype("<i2")
    playback.push(wave_16k.tobytes())
    playback.play(Turn(0, "Anna", 0, 1_000, "", None))
    until(lambda: out.closed == 1)
    playback.close()
    heard = np.frombuffer(bytes(out.heard), "<i2")
    assert len(heard) == 48_000 and np.abs(heard[::3] - wave_16k).max() <= 1


def test_only_the_last_half_hour_is_kept(application: QApplication) -> None:
    out, said = Loudspeaker(), list[str]()
    playback = Playback(out)  # type: ignore[arg-type]
    playback.failed.connect(said.append)
    minute = np.full(60 * 16_000, 0, "<i2")
    for number in range(35):
        playback.push((minute + number).tobytes())
    assert KEPT <= len(playback._pcm) <= KEPT * 17 // 16
    playback.play(Turn(0, "Anna", 0, 1_000, "", None))
    playback.play(Turn(1, "Anna", None, None, "", None))
    assert said == ["The audio of this turn is no longer kept", "This turn came without audio"]
    playback.play(Turn(2, "Anna", 34 * 60_000, 34 * 60_000 + 100, "", None))
    until(lambda: out.closed == 1)
    assert set(np.frombuffer(bytes(out.heard), "<i2").tolist()) == {34}
    playback.close()


# --- the window, before there is a server -----------------------------------------------------------


class Starter:
    """The other end of a window's host: tells it lines, and hears what it asks."""

    def __init__(self) -> None:
        (told, self._tell), (self._asked, asks) = os.pipe(), os.pipe()
        self._ours = [open(told, "rb", buffering=0), open(asks, "wb", buffering=0)]
        self.host = Host(*self._ours)  # type: ignore[arg-type]

    def say(self, line: str) -> None:
        os.write(self._tell, f"{line}\n".encode())

    def asked(self) -> bytes:
        return os.read(self._asked, 100)

    def end(self) -> None:
        os.close(self._tell)
        os.close(self._asked)


@pytest.fixture
def starter() -> Iterator[Starter]:
    made = Starter()
    yield made
    with suppress(OSError):
        made.end()
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "host"])
    for end in made._ours:
        end.close()


@pytest.fixture
def starting(feed: ScriptedFeed, preferences: Preferences, starter: Starter) -> Iterator[Window]:
    """A window whose server is still being started."""
    feed.url = ""
    opened = Window(feed, preferences, starter.host)  # type: ignore[arg-type]
    opened.show()
    feed.connecting.emit()
    opened.refresh()
    yield opened
    opened.close()
    opened.deleteLater()
    QTest.qWait(1)


def test_the_window_is_there_before_its_server(
    starting: Window, feed: ScriptedFeed, starter: Starter
) -> None:
    assert starting.page.header.status.text() == "Starting …"
    assert starting.page.empty.text() == "Starting the server …"
    starting.open_recording(Path("talk.wav"))
    starting.refresh()
    assert starting.page.empty_detail.text() == "talk.wav is heard as soon as the server is ready."
    starter.say("ready http://127.0.0.1:1234")
    until(lambda: feed.asked[-1] == ("reach", "http://127.0.0.1:1234"))
    starting.refresh()
    assert starting.page.empty.text() == "Connecting …"
    tell(starting, created())
    assert starting.page.header.status.text() == "Connected"


def test_a_server_that_does_not_start_says_why_and_can_be_tried_again(
    starting: Window, feed: ScriptedFeed, starter: Starter
) -> None:
    page = starting.page
    starter.say("failed expected a model, got “nosuch”")
    until(lambda: page.empty.text() == "The server did not start")
    assert page.empty_detail.text() == "expected a model, got “nosuch”"
    QTest.mouseClick(page.retry.same, Qt.MouseButton.LeftButton)
    assert starter.asked() == b"again\n"
    starting.refresh()
    assert page.empty.text() == "Starting the server …" and not page.notice_bar.isVisible()
    starter.say("failed once more")
    until(lambda: page.empty_detail.text() == "once more")
    starting.open_recording(Path("talk.wav"))  # asks for the server as well
    assert starter.asked() == b"again\n" and feed.asked[-1][0] == "hear"
    starter.end()
    until(lambda: "ended before it was ready" in page.empty_detail.text())
    QTest.mouseClick(page.retry.same, Qt.MouseButton.LeftButton)
    until(lambda: "ended before it was ready" in page.empty_detail.text())


def test_another_server_can_be_chosen(starting: Window, feed: ScriptedFeed, starter: Starter) -> None:
    def type_it(url: str) -> None:
        dialog = QApplication.activeModalWidget()
        dialog.setTextValue(url)
        dialog.accept()

    starter.say("failed no room")
    until(lambda: starting.page.retry.other.isVisible())
    QTimer.singleShot(50, lambda: type_it("ws://elsewhere:1"))
    starting.page.retry.other.click()
    assert feed.asked[-1] == ("reach", "ws://elsewhere:1")  # the conversation that waited goes on
    starter.end()
    QTest.qWait(50)
    assert starting.page.header.status.text() == "Connecting …"
    feed.failed.emit("nobody there", False)
    QTimer.singleShot(50, lambda: type_it("ws://elsewhere:2"))
    starting.page.retry.other.click()
    assert feed.asked[-2:] == [("reach", "ws://elsewhere:2"), ("open", Options())]


def test_a_recording_that_is_opened_while_the_server_starts_is_heard(
    talk: Path, preferences: Preferences, starter: Starter
) -> None:
    preferences.live = False
    with serve() as server:
        window = Window(Feed(), preferences, starter.host)
        window.show()
        until(lambda: window.page.empty.text() == "Starting the server …")
        window.open_recording(talk)
        QTest.qWait(50)
        starter.say(f"ready {server.url}")
        until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == len(VOICES))
        window.close()
        window.deleteLater()
        QTest.qWait(1)


STAND_IN = """
import os, socket, sys, time, urllib.parse

def told():
    kind, _, rest = sys.stdin.readline().strip().partition(" ")
    print(kind, rest, file=sys.stderr, flush=True)
    return rest

{deeds}
sys.exit(7)
"""


def stand_in(folder: Path, deeds: str, *options: str) -> subprocess.Popen[str]:
    """``stream-erc desktop`` with another program as its window."""
    (folder / "stream_erc_desktop").mkdir()
    (folder / "stream_erc_desktop" / "__init__.py").touch()
    (folder / "stream_erc_desktop" / "__main__.py").write_text(STAND_IN.format(deeds=deeds), encoding="utf-8")
    program = [sys.executable, "-m", "stream_erc", "desktop", "--asr", "none", *options]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True)


def with_stand_in(folder: Path, deeds: str, *options: str) -> tuple[int, list[str]]:
    """The exit code, and what the window was told."""
    with stand_in(folder, deeds, *options) as command:
        _, told_on_stderr = command.communicate(timeout=120)
    return command.returncode, told_on_stderr.splitlines()


STAYS = "print(os.getpid(), file=sys.stderr, flush=True); time.sleep(100)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("deeds", "options"),
    [
        pytest.param(STAYS, ()),
        pytest.param("told(); " + STAYS, ("--model", "nosuch"), marks=pytest.mark.slow),
        pytest.param("told(); " + STAYS, (), marks=pytest.mark.slow),
    ],
    ids=["loading", "failed", "serving"],
)
def test_a_signal_ends_the_command_and_its_window(
    tmp_path: Path, number: signal.Signals, deeds: str, options: tuple[str, ...]
) -> None:
    with stand_in(tmp_path, deeds, *options) as command:
        assert command.stderr is not None
        window = next(int(line) for line in command.stderr if line.strip().isdecimal())
        command.send_signal(number)
        _, rest = command.communicate(timeout=30)
    assert (command.returncode, rest) == (130, "")
    with pytest.raises(ProcessLookupError):
        os.kill(window, 0)


SIGNAL_AT_START = """
import os, subprocess

class Popen(subprocess.Popen):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        if "stream_erc_desktop" in args[0]:
            self.stdout.readline()
            os.kill(os.getpid(), {number:d})

subprocess.Popen = Popen
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_window_that_is_just_being_started(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_AT_START.format(number=number), encoding="utf-8")
    deeds = 'print("started", flush=True); time.sleep(5); print("left alone", file=sys.stderr)'
    assert with_stand_in(tmp_path, deeds) == (130, [])


def test_a_window_that_is_closed_while_the_models_load_ends_the_command(tmp_path: Path) -> None:
    assert with_stand_in(tmp_path, "") == (7, [])


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_to_the_window(tmp_path: Path) -> None:
    code, told = with_stand_in(tmp_path, 'told(); print("again", flush=True); told()', "--model", "nosuch")
    assert code == 7 and len(told) == 2
    assert all(line.startswith("failed ") and "nosuch" in line for line in told)


@pytest.mark.slow
def test_the_server_ends_with_its_window(tmp_path: Path) -> None:
    deeds = "at = urllib.parse.urlsplit(told()); socket.create_connection((at.hostname, at.port)).close()"
    code, told = with_stand_in(tmp_path, deeds)
    assert code == 7
    (line,) = told
    port = QUrl(line.removeprefix("ready ")).port()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


# --- the window, and a real server ------------------------------------------------------------------

VOICES = ((0.9, 200.0), (0.7, 900.0), (0.8, 210.0), (0.6, 900.0), (0.9, 205.0))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five turns of two voices, as tones."""
    pcm = (spoken(VOICES) * 32_767).round().astype(np.int16)
    return write_wav(tmp_path_factory.mktemp("talk") / "talk.wav", pcm)


def expected_turns() -> list[tuple[str, str, str]]:
    """Speaker, words and emotion of each turn, as a session says that hears the same without a network."""
    pcm = np.round(spoken(VOICES) * 32_767).astype(np.int16)
    heard = play(open_session(), pcm.astype(np.float32) / 32_768, [640])
    turns = {e.turn.index: e for e in heard if isinstance(e, EmotionEvent)}
    return [(e.speaker_name, e.turn.text, e.emotion.label) for _, e in sorted(turns.items())]


def shown_turns(window: Window) -> list[tuple[str | None, str, str]]:
    final = [turn for turn in window.page.transcript.list.turns if turn.emotion and not turn.partial]
    return [(turn.speaker, turn.text, turn.emotion.label) for turn in final]


@contextmanager
def opened(url: str, preferences: Preferences, token: str | None = None) -> Iterator[Window]:
    """A window with a real feed, closed again with its thread."""
    window = Window(Feed(url, token), preferences)
    window.show()
    try:
        yield window
    finally:
        window.course.unsaved = False
        window.close()
        window.deleteLater()
        QTest.qWait(1)
    assert not [thread for thread in threading.enumerate() if thread.name == "feed"]


def connected(window: Window) -> None:
    until(lambda: window.page.header.status.text() == "Connected")


class Cable:
    """A TCP proxy that can be cut: what runs through it breaks, and new connections find nobody."""

    def __init__(self, url: str) -> None:
        parts = QUrl(url)
        self._to = (parts.host(), parts.port())
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[socket.socket] = []
        self.whole, self.carried = True, 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut(self) -> None:
        self.whole = False
        for end in self._pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def mend(self) -> None:
        self.whole = True

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if not self.whole:
                    near.close()
                    continue
                far = socket.create_connection(self._to)
                self._pairs += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError), source:
            while data := source.recv(65_536):
                self.carried += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


def test_a_recording_is_heard_as_without_a_network(
    talk: Path, preferences: Preferences, tmp_path: Path
) -> None:
    preferences.live = False
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(talk)
        until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == len(VOICES))
        assert shown_turns(window) == expected_turns()
        assert window.page.timeline.clock.text() == "00:07"
        assert not window.course.conversation.pending_ms
        window.finish()
        until(lambda: window.course.phase is Phase.OVER)
        assert window.course.conversation.totals.turns == len(VOICES)
        assert window.course.conversation.connection is ConnectionState.FINISHED
        window.feed.save(tmp_path / "events.jsonl")
        until(lambda: (tmp_path / "events.jsonl").exists())
    lines = (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    kinds = [type(parse(line)).__name__ for line in lines]
    assert kinds[:2] == ["SessionCreated", "SessionUpdated"] and kinds[-1] == "SessionClosed"
    assert kinds.count("TurnFinal") == len(VOICES)
    assert "resume_token" not in "".join(lines)


def test_the_sample_comes_from_the_server(preferences: Preferences) -> None:
    preferences.live = False
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        until(window.page.sample.isVisible)
        window.page.sample.click()
        until(lambda: window.course.phase is Phase.OPEN, 60)
        assert window.page.header.title.text() == "Sample conversation"
        assert window.course.outline.end_ms > 60_000
        assert not window.page.sample.isVisible()


def test_a_server_without_the_sample_is_told(preferences: Preferences, tmp_path: Path) -> None:
    with serve(web=tmp_path) as server, opened(server.url, preferences) as window:
        connected(window)
        until(window.page.sample.isVisible)
        window.page.sample.click()
        until(lambda: "The sample could not be loaded" in window.page.notice_bar.words.text())
        assert window.page.sample.isVisible()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ws://here:1", "http://here:1/sample.flac"),
        ("http://here:1/", "http://here:1/sample.flac"),
        ("wss://there/erc/v1/session", "https://there/erc/sample.flac"),
    ],
)
def test_the_sample_is_beside_the_page(url: str, expected: str) -> None:
    assert sample_url(url) == expected


@pytest.mark.slow
def test_live_shows_turns_while_they_are_spoken_and_they_end_the_same(
    talk: Path, preferences: Preferences
) -> None:
    seen = []
    with serve() as server, opened(server.url, preferences) as window:
        window.feed.event_received.connect(seen.append)
        connected(window)
        began = time.monotonic()
        window.open_recording(talk)
        until(lambda: window.course.phase is Phase.OPEN, 60)
        assert time.monotonic() - began > 6.4  # as long as it takes to speak
        until(lambda: len(shown_turns(window)) == len(VOICES))
        assert shown_turns(window) == expected_turns()
    assert [event for event in seen if isinstance(event, TurnPartial)]


def test_names_and_speakers_are_put_right_after_a_recording(talk: Path, preferences: Preferences) -> None:
    preferences.live = False
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(talk)
        until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == len(VOICES))
        window.page.timeline.renamed.emit("speaker_1", "Anna")
        until(lambda: window.course.conversation.speakers == ["Anna", "speaker_2"])
        window.page.transcript.corrected.emit(1, "Anna")
        until(
            lambda: (
                window.course.conversation.turn(1).speaker == "Anna"
                and window.course.conversation.turn(1).revision
            )
        )
        window.page.timeline.renamed.emit("Anna", "speaker_2")  # somebody has that name
        until(lambda: window.page.notice_bar.property("tone") == "bad")
        assert "speaker_2" in window.page.notice_bar.words.text()
        window.finish()
        until(lambda: window.course.phase is Phase.OVER)
        window.page.timeline.renamed.emit("Anna", "Too late")
        until(lambda: "has ended" in window.page.notice_bar.words.text())
        assert window.course.conversation.turn(1).speaker == "Anna"


def test_a_voice_that_was_kept_is_recognized_in_the_next_conversation(
    tmp_path: Path, preferences: Preferences
) -> None:
    preferences.live = False
    path, voices = tmp_path / "two.wav", tmp_path / "voices.json"
    audio = spoken([(1.2, 200), (1.2, 900), (1.3, 200), (1.2, 900)])
    write_wav(path, (audio * 32_767).round().astype(np.int16))
    with serve(voices=voices, keep_voices=True) as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(path)
        until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == 4)
        window.feed.enrol(1, "Anna", True)
        until(lambda: window.course.conversation.speakers == ["speaker_1", "Anna"])
        until(lambda: "kept on the server" in window.page.notice_bar.words.text())
        window.course.unsaved = False
        preferences.options = replace(preferences.options, voices=True)
        window.open_recording(path)
        until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == 4)
        assert window.course.conversation.speakers == ["speaker_1", "Anna"]
        window.course.unsaved = False


@pytest.mark.slow
def test_nothing_is_lost_when_the_cable_is_cut(talk: Path, preferences: Preferences) -> None:
    statuses: list[str] = []
    with serve() as server:
        cable = Cable(server.url)
        with opened(cable.url, preferences) as window:
            connected(window)
            window.open_recording(talk)
            for at_ms in (1_500, 4_000):
                until(lambda at=at_ms: window.course.outline.end_ms > at)
                cable.cut()
                until(lambda: window.page.header.status.text() == "Reconnecting …")
                assert not [turn for turn in window.course.conversation.rows if turn.partial]
                statuses.append(window.page.header.status.text())
                heard_ms = window.course.outline.end_ms
                until(lambda before=heard_ms: window.course.outline.end_ms > before + 300)  # hearing goes on
                cable.mend()
                connected(window)
            until(lambda: window.course.phase is Phase.OPEN and len(shown_turns(window)) == len(VOICES), 60)
            assert shown_turns(window) == expected_turns()
            window.finish()
            until(lambda: window.course.phase is Phase.OVER)
            assert window.course.conversation.totals.turns == len(VOICES)
            assert (
                window.course.conversation.notice is None
                or window.course.conversation.notice.tone is not Tone.BAD
            )
        cable.close()
    assert len(statuses) == 2


@pytest.mark.parametrize("at_once", [False, True])
def test_a_recording_that_is_stopped_ends_the_conversation_with_what_was_heard(
    talk: Path, preferences: Preferences, at_once: bool
) -> None:
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(talk)
        until(lambda: window.course.outline.end_ms > 2_000)
        if at_once:
            window.finish()
        else:
            QTest.keyClick(window, Qt.Key.Key_R)
            until(lambda: window.course.phase is Phase.OPEN)
            QTest.keyClick(window, Qt.Key.Key_R)
        assert window.course.phase is Phase.FINISHING
        until(lambda: window.course.phase is Phase.OVER)
        assert window.course.conversation.totals.audio_ms == window.course.outline.end_ms < 6_000


def test_another_recording_takes_the_place_of_the_one_that_runs(
    talk: Path, preferences: Preferences, tmp_path: Path
) -> None:
    other = write_wav(tmp_path / "other.wav", bursts(400), 8_000)
    with serve(max_sessions=1) as server, opened(server.url, preferences) as window:
        connected(window)
        first = window.course.conversation.session_id
        window.open_recording(talk)
        until(lambda: window.course.outline.end_ms > 1_000)
        assert window.course.conversation.session_id == first  # the one that waited
        window.open_recording(other)
        until(
            lambda: window.page.header.title.text() == "other.wav" and window.course.phase is Phase.OPEN, 40
        )
        assert window.course.conversation.session_id != first
        assert window.course.conversation.turns <= 1
        window.open_recording(tmp_path / "gone.wav")
        until(lambda: "expected a file" in window.page.notice_bar.words.text())
        assert window.page.header.title.text() == "other.wav"


def test_a_recorded_call_is_heard_by_its_channels_and_saved_as_subtitles(
    preferences: Preferences, tmp_path: Path
) -> None:
    one, other = spoken([(1.0, 300.0)] * 3, gap=1.6), spoken([(1.0, 900.0)] * 3, gap=1.6)
    call = np.zeros((len(one) + 20_800, 2), np.float32)
    call[: len(one), 0], call[20_800:, 1] = one, other
    path = tmp_path / "call.wav"
    soundfile.write(path, call, 16_000, subtype="PCM_16")
    preferences.live = False
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        assert window.course.conversation.exports[:2] == ("srt", "vtt")
        window.open_recording(path)
        until(lambda: window.course.conversation.turns == 6)
        assert window.feed._active is not None and window.feed._active.session is not None
        assert window.feed._active.session.configuration.audio.channels == 2
        until(lambda: window.course.phase is Phase.OPEN)
        window.feed.rename("speaker_1", "Anna")
        until(lambda: "Anna" in window.course.conversation.speakers)
        QTest.keyClick(window, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        until(lambda: window.course.phase is Phase.OVER)
        assert window.course.conversation.totals is not None
        assert window.course.conversation.totals.audio_ms == window.course.outline.end_ms
        for name in ("talk.srt", "talk.csv", "talk.jsonl"):
            window.feed.save(tmp_path / name)
            until(lambda name=name: window.page.notice_bar.words.text().endswith(name))
        assert (tmp_path / "talk.srt").read_text().count(" --> ") == 6
        assert "Anna" in (tmp_path / "talk.csv").read_text()
        window.feed.save(tmp_path / "talk.docx")
        until(
            lambda: "talk.docx could not be saved: expected one of srt" in window.page.notice_bar.words.text()
        )


def test_a_microphone_is_heard(preferences: Preferences, monkeypatch: pytest.MonkeyPatch) -> None:
    card = SoundCard((16_000,))
    monkeypatch.setattr("stream_erc_desktop.recorder.sound_library", lambda purpose: card)
    monkeypatch.setattr("stream_erc_desktop.recorder.DEVICE_TIMEOUT_S", 60.0)  # nothing comes after the talk
    pcm = (spoken(VOICES[:2]) * 32_767).round().astype("<i2")
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        until(lambda: window.page.controls.chosen is not None)
        QTest.keyClick(window, Qt.Key.Key_R)
        until(lambda: card.streams and card.streams[0].active)
        for at in range(0, len(pcm), 640):
            card.streams[0].options.callback(
                pcm[at : at + 640].tobytes(), len(pcm[at : at + 640]), None, None
            )
        until(lambda: window.course.conversation.turns == 2)
        assert window.course.outline.end_ms == len(pcm) // 16
        assert window.page.header.title.text() == "Conversation"
        QTest.keyClick(window, Qt.Key.Key_R)
        until(lambda: window.course.phase is Phase.OPEN)
        assert card.streams[0].closed
        window.page.timeline.renamed.emit("speaker_1", "Anna")  # after the last word, before the end
        until(lambda: "Anna" in window.course.conversation.speakers)
        QTest.keyClick(window, Qt.Key.Key_R)
        until(lambda: window.course.phase is Phase.OVER)
        assert window.course.conversation.totals.audio_ms == window.course.outline.end_ms > len(pcm) // 16


def test_a_server_that_is_not_there_can_be_tried_again(preferences: Preferences) -> None:
    with serve() as server:
        cable = Cable(server.url)
        cable.cut()
        with opened(cable.url, preferences) as window:
            until(lambda: window.page.header.status.text() == "Not connected")
            cable.mend()
            QTest.mouseClick(window.page.retry.same, Qt.MouseButton.LeftButton)
            connected(window)
        cable.close()


def test_a_token_is_asked_for(preferences: Preferences, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("open-sesame\n", encoding="utf-8")

    def type_it() -> None:
        dialog = QApplication.activeModalWidget()
        dialog.setTextValue("open-sesame")
        dialog.accept()

    with serve(token_file=str(tmp_path / "tokens")) as server:
        with opened(server.url, preferences, "wrong") as window:
            watcher = QTimer()
            watcher.timeout.connect(lambda: QApplication.activeModalWidget() and type_it())
            watcher.start(50)
            connected(window)
            watcher.stop()
        with opened(server.url, preferences, "open-sesame") as window:
            connected(window)


def test_a_server_that_stops_is_waited_for(talk: Path, preferences: Preferences) -> None:
    with serve() as server:
        with opened(server.url, preferences) as window:
            connected(window)
            window.open_recording(talk)
            until(lambda: window.course.outline.end_ms > 1_000)
            server.stop()
            until(lambda: window.page.header.status.text() == "Reconnecting …")
            heard_ms = window.course.outline.end_ms
            until(lambda: window.course.outline.end_ms > heard_ms + 200)


@pytest.mark.slow
def test_the_window_stays_responsive_while_a_recording_is_read_as_fast_as_possible(
    preferences: Preferences, tmp_path: Path
) -> None:
    preferences.live = False
    minutes = np.tile((spoken(VOICES) * 32_767).round().astype(np.int16), 10)
    path = write_wav(tmp_path / "long.wav", minutes)
    longest_s, busiest_s = 0.0, 0.0
    with serve() as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(path)
        until(lambda: window.course.phase is Phase.HEARING)
        end = time.monotonic() + 120
        while not (
            window.course.phase is Phase.OPEN and window.course.conversation.turns == 10 * len(VOICES)
        ):
            assert time.monotonic() < end
            last, worked = time.monotonic(), time.thread_time()
            QApplication.processEvents()
            longest_s = max(longest_s, time.monotonic() - last)
            busiest_s = max(busiest_s, time.thread_time() - worked)
            time.sleep(0.005)
    assert busiest_s < 1.0 and longest_s < 5.0  # the latter is longer on a loaded machine


@pytest.mark.slow
def test_the_command_opens_the_window_and_hears_the_file(talk: Path) -> None:
    with serve() as server:
        cable = Cable(server.url)
        options = ["--url", cable.url, "--file", str(talk)]
        environment = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "XDG_CONFIG_HOME": str(talk.parent)}
        program = [sys.executable, "-m", "stream_erc_desktop", *options]
        with subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True) as window:
            try:
                end = time.monotonic() + 30
                while cable.carried < 100_000 and window.poll() is None and time.monotonic() < end:
                    time.sleep(0.05)
            finally:
                window.send_signal(signal.SIGINT)
            _, told_on_stderr = window.communicate(timeout=20)
        cable.close()
    assert cable.carried >= 100_000, told_on_stderr
    assert "Traceback" not in told_on_stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux names displays")
def test_without_a_display_the_command_says_so_in_one_line() -> None:
    names = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    environment = {key: value for key, value in os.environ.items() if key not in names}
    program = [sys.executable, "-m", "stream_erc_desktop"]
    for named in ({}, {"DISPLAY": ":7777"}):
        told = subprocess.run(program, env=environment | named, capture_output=True, text=True, check=False)
        assert told.returncode == 2
        (line,) = told.stderr.splitlines()
        assert line.startswith("the window expected ")


def test_what_a_display_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":5")
    lacks = "no minimalegl: libEGL.so.1: cannot open shared object file\n"
    lacks += 'libqxcb.so" cannot load: libxcb-cursor.so.0: cannot open shared object file: No such file\n'
    assert "libxcb-cursor.so.0, got none" in display.explain(lacks)
    assert "apt-get install libxcb-cursor0" in display.explain(lacks)
    assert "got DISPLAY=:5, which does not respond; over SSH" in display.explain(
        "could not connect to display"
    )
    assert display.debian_package("libEGL.so.1") == "libegl1"
    assert display.debian_package("libxkbcommon-x11.so.0") == "libxkbcommon-x11-0"


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--token-file", str(tmp_path / "none")]) == 2
    assert "No such file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_sample_with_the_real_engine(preferences: Preferences, tmp_path: Path) -> None:
    preferences.live = False
    truth = json.loads((SAMPLE / "conversation.json").read_text(encoding="utf-8"))
    engines = {"si-lstm": real_engine()}
    with serve(engines, idle_timeout_s=300.0) as server, opened(server.url, preferences) as window:
        connected(window)
        window.open_recording(SAMPLE / "conversation.flac")
        until(lambda: "sounds good" in " ".join(text for _, text, _ in shown_turns(window)).lower(), 400)
        until(lambda: window.course.phase is Phase.OPEN)
        assert len(window.course.conversation.speakers) == 2
        calm = [turn["speaker"] for turn in truth[:6]]  # the others overlap
        shown = shown_turns(window)
        assert len(set(zip(calm, [speaker for speaker, _, _ in shown[:6]], strict=True))) == 2
        assert [emotion for _, _, emotion in shown[:5]] == [turn["emotion"] for turn in truth[:5]]
        assert all(turn.text for turn in window.page.transcript.list.turns)
        window.finish()
        until(lambda: window.course.phase is Phase.OVER, 60)
        assert window.course.conversation.totals.failed_turns == 0
        folder = Path(os.environ.get("STREAM_ERC_SHOTS", tmp_path))
        for theme in (look.LIGHT, look.DARK):
            window.set_theme(theme)
            window.refresh()
            QTest.qWait(50)
            assert window.grab().save(str(folder / f"sample-{theme.name}.png"))
