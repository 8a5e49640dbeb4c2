import base64
import hashlib
import html.parser
import itertools
import json
import os
import re
import subprocess
from importlib import resources
from io import BytesIO
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from stream_erc.cli.palette import COLOURS, SPARE_COLOURS, emotion_styles
from stream_erc.cli.report import MAX_PEAKS, ReportAudio, _Peaks, write_report
from stream_erc.exceptions import OutputError
from stream_erc.protocol.encoding import Message

LABELS = ["neutral", "joy", "sadness", "anger", "fear", "surprise", "disgust"]
HOSTILE = (
    "</script><script>alert(1)</script><!-- <img src=x onerror=alert(1)> {{audio}} \u2028 & \ud800 'x' \"y\""
)


def created(session: str = "s1", **fields: object) -> Message:
    source = {"name": "talk.wav", "duration_ms": 2000}
    base = {"type": "session.created", "session_id": session, "seq": 0, "model": "m", "asr": "none"}
    return base | {"labels": LABELS, "source": source} | fields


def final(turn: int, session: str = "s1", **fields: object) -> Message:
    probabilities = {label: 0.04 for label in LABELS} | {"joy": 0.76}
    emotion = {"label": "joy", "confidence": 0.76, "probabilities": probabilities}
    span = {"audio_start_ms": turn * 500, "audio_end_ms": turn * 500 + 400}
    latency = {"endpointing": 400.0, "asr": 100.0, "features": 20.0, "emotion": 5.0, "total": 525.0}
    base = {"type": "turn.final", "session_id": session, "seq": turn + 1, "turn": turn, "speaker": "Anna"}
    return (
        base
        | span
        | {"text": f"turn {turn}", "emotion": emotion, "latency_ms": latency, "revision": 0}
        | fields
    )


def closed(session: str = "s1", audio_ms: int = 2000) -> Message:
    base = {"type": "session.closed", "session_id": session, "seq": 9, "audio_ms": audio_ms}
    return base | {"turns": 2, "failed_turns": 0, "speakers": ["Anna"]}


class Page(html.parser.HTMLParser):
    """A report as parsed by a browser: its elements, and the text of those with an id."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.raw = path.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self.scripts: list[str] = []
        self._in = ""
        self.feed(self.raw)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._in = attributes.get("id") or tag
        if tag == "script" and "type" not in attributes:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._in] = self.texts.get(self._in, "") + data
        if self._in == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict:
        return json.loads(self.texts["data"])

    @property
    def mp3(self) -> bytes:
        return base64.b64decode(self.texts.get("audio", ""))


def report(
    tmp_path: Path, messages: list[Message], title: str = "Talk", audio: ReportAudio | None = None
) -> Page:
    path = tmp_path / "report.html"
    write_report(messages, path, title=title, audio=audio)
    return Page(path)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two seconds at 44.1 kHz stereo: silence, then a tone."""
    seconds = np.arange(88_200) / 44_100
    tone = 0.5 * np.sin(2 * np.pi * 440 * seconds) * (seconds >= 1)
    path = tmp_path / "talk.wav"
    soundfile.write(path, np.stack((tone, tone), 1), 44_100)
    return path


# --- messages -------------------------------------------------------------------------------------


def test_embedded_messages_come_back_as_they_were(tmp_path: Path) -> None:
    messages = [created(), final(0), final(1, text="größer 你好 🎧"), closed()]
    [session] = report(tmp_path, messages).data["sessions"]
    assert session == {"id": "s1", "created": messages[0], "turns": messages[1:3], "closed": messages[3]}


def test_the_last_word_on_a_turn_counts_and_order_is_by_turn(tmp_path: Path) -> None:
    failed = {"type": "turn.failed", "session_id": "s1", "seq": 3, "turn": 2, "message": "broken"}
    partial = final(3, type="turn.partial")
    revised = final(1, type="turn.revised", speaker="Tom", revision=1)
    messages = [created(), final(1), failed, partial, final(0), revised, closed()]
    [session] = report(tmp_path, messages).data["sessions"]
    assert session["turns"] == [messages[4], revised, failed]


def test_text_only_dialogues_are_sessions_of_their_own(tmp_path: Path) -> None:
    null = {"audio_start_ms": None, "audio_end_ms": None}
    one = [created("a", dialogue="d1"), final(0, "a", dialogue="d1", **null), closed("a", 0)]
    two = [created("b", dialogue="d2"), final(0, "b", dialogue="d2", **null), closed("b", 0)]
    page = report(tmp_path, one + two)
    assert [s["created"]["dialogue"] for s in page.data["sessions"]] == ["d1", "d2"]
    assert page.data["sessions"][1]["turns"][0]["audio_start_ms"] is None
    assert page.data["audio"] is None and page.mp3 == b""


@pytest.mark.parametrize("messages", [[], [created()], [final(0)], [created(), closed()]])
def test_incomplete_streams_give_a_page(tmp_path: Path, messages: list[Message]) -> None:
    assert len(report(tmp_path, messages).data["sessions"]) == min(1, len(messages))


# --- safety ---------------------------------------------------------------------------------------


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    plain = report(tmp_path, [created(), final(0), closed()])
    page = report(tmp_path, [created(), final(0, text=HOSTILE, speaker=HOSTILE), closed()], title=HOSTILE)
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    [turn] = page.data["sessions"][0]["turns"]
    assert turn["text"] == turn["speaker"] == page.data["title"] == HOSTILE
    assert page.texts["title"] == HOSTILE.replace("\ud800", "?")


def test_the_page_loads_nothing_from_outside(tmp_path: Path) -> None:
    page = report(tmp_path, [created(), final(0), closed()])
    loading = ("src", "href", "srcset", "action", "data", "poster", "formaction", "ping")
    assert [(tag, key) for tag, attributes in page.elements for key in attributes if key in loading] == []
    assert "link" not in {tag for tag, _ in page.elements}
    # The one address is the name of the SVG namespace, which nothing fetches.
    assert set(re.findall(r"(?:https?:)?//[a-z][\w.]+[^\s\"']*", page.raw)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|WebSocket|import\(", page.raw)


def test_the_policy_allows_only_the_pages_own_script(tmp_path: Path) -> None:
    page = report(tmp_path, [created(), final(0), closed()])
    [policy] = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'")
    [script] = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_script_finds_every_element_that_it_names() -> None:
    assets = resources.files("stream_erc.cli") / "assets"
    script, page = ((assets / name).read_text() for name in ("report.js", "report.html"))
    wanted = set(re.findall(r'\$\("([\w-]+)"\)', script))
    assert wanted and wanted <= set(re.findall(r'id="([\w-]+)"', page))


# --- audio ----------------------------------------------------------------------------------------


def test_audio_is_embedded_and_plays_in_time(tmp_path: Path, recording: Path) -> None:
    page = report(tmp_path, [created(), final(0), closed()], audio=ReportAudio(recording))
    audio = page.data["audio"]
    assert (audio["mime"], audio["duration_ms"], audio["note"]) == ("audio/mpeg", 2000, "")
    with av.open(BytesIO(page.mp3)) as container:
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        assert container.streams.audio[0].codec.name == "mp3float"
    heard = np.concatenate(frames, 1)[0]
    onset_s = np.flatnonzero(np.abs(heard) > 0.1)[0] / 16_000
    assert onset_s == pytest.approx(1.0, abs=0.02)  # a click on a turn lands on its first word
    peaks = np.frombuffer(base64.b64decode(audio["peaks"]), np.int8).reshape(-1, 2)
    assert len(peaks) == 200 and peaks.max() == 127
    assert np.abs(peaks[:95]).max() <= 1 and peaks[105:, 1].min() > 100


@pytest.mark.parametrize(
    ("messages", "heard_ms"),
    [
        ([created(), final(0), closed(audio_ms=700)], 700),  # Ctrl-C after the first turn
        ([created(), final(0), final(1)], 900),  # not closed: up to the last turn's end
        ([created(), final(0), closed(audio_ms=9_000)], 2_000),  # the silence after a recording is not in it
    ],
)
def test_only_what_was_heard_is_embedded(
    tmp_path: Path, recording: Path, messages: list[Message], heard_ms: int
) -> None:
    page = report(tmp_path, messages, audio=ReportAudio(recording))
    assert page.data["audio"]["duration_ms"] == heard_ms
    assert page.data["audio"]["note"] == ""
    with av.open(BytesIO(page.mp3)) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert heard_ms <= samples / 16 < heard_ms + 150  # whole MP3 frames
    assert len(base64.b64decode(page.data["audio"]["peaks"])) == 2 * (heard_ms // 10)


def test_the_beginning_of_a_long_recording_gets_the_bit_rate_of_its_length(
    tmp_path: Path, recording: Path
) -> None:
    """What is not heard takes no room: the size limit counts for what is embedded."""
    messages = [created(), final(0), closed(audio_ms=500)]
    page = report(tmp_path, messages, audio=ReportAudio(recording, max_bytes=6_000))
    assert page.data["audio"]["note"] == "" and 0 < len(page.mp3) <= 6_000


def test_audio_that_does_not_fit_is_left_out_and_said(tmp_path: Path, recording: Path) -> None:
    page = report(tmp_path, [created(), final(0), closed()], audio=ReportAudio(recording, max_bytes=3_000))
    assert page.mp3 == b"" and "left out" in page.data["audio"]["note"]
    assert len(base64.b64decode(page.data["audio"]["peaks"])) == 400  # the waveform is there all the same


def test_a_longer_recording_gets_a_lower_bit_rate(tmp_path: Path, recording: Path) -> None:
    page = report(tmp_path, [created(), final(0), closed()], audio=ReportAudio(recording, max_bytes=9_000))
    assert 5_000 < len(page.mp3) <= 9_000
    assert page.data["audio"]["note"] == ""


def test_unreadable_audio_does_not_lose_the_report(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"not audio at all")
    page = report(tmp_path, [created(), final(0), closed()], audio=ReportAudio(broken))
    assert page.mp3 == b"" and str(broken) in page.data["audio"]["note"]
    assert len(page.data["sessions"][0]["turns"]) == 1


def test_peaks_stay_bounded_and_miss_no_sample() -> None:
    peaks = _Peaks()
    chunk = np.zeros(16_000, np.float32)
    for second in range(400):
        chunk[:] = 0.25
        if second == 200:
            chunk[777] = -1.0
        peaks.push(chunk)
    outline = peaks.quantised()
    assert MAX_PEAKS // 2 < len(outline) <= MAX_PEAKS
    assert int(np.argmin(outline[:, 0])) == pytest.approx(len(outline) * 200.05 / 400, abs=2)
    assert outline.min() == -127 and (outline[:, 1] == 32).all()


# --- places ---------------------------------------------------------------------------------------


def test_a_place_that_cannot_be_written_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "report.html"):
        with pytest.raises(OutputError, match="expected a place that can be written") as caught:
            write_report([], path, title="x")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_failure_leaves_the_earlier_report(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("earlier")
    with pytest.raises(ValueError, match="JSON"):
        write_report([final(0, text=float("nan"))], path, title="x")
    assert path.read_text() == "earlier" and [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "real.html")
    write_report([], link, title="x")
    assert link.is_symlink() and (tmp_path / "real.html").stat().st_size > 1_000


def test_a_pipe_is_written_as_it_stands(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        write_report([], pipe, title="x")
        assert reader.stdout is not None and reader.stdout.read().startswith(b"<!doctype html>")
    assert pipe.is_fifo()


# --- looks ----------------------------------------------------------------------------------------

DEFICIENCIES = {  # Machado et al. 2009, severity 1, on linear RGB
    "none": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    lms = [
        [0.41222147, 0.53633254, 0.05144599],
        [0.2119035, 0.68069955, 0.10739696],
        [0.08830246, 0.28171884, 0.6299787],
    ]
    lab = [
        [0.21045426, 0.79361779, -0.00407205],
        [1.9779985, -2.42859221, 0.45059371],
        [0.02590404, 0.78277177, -0.80867577],
    ]
    return np.array(lab) @ np.cbrt(np.array(lms) @ np.clip(rgb, 0, 1))


@pytest.mark.parametrize("sight", DEFICIENCIES)
@pytest.mark.parametrize("theme", [0, 1])
def test_emotion_colours_stay_apart_for_every_eye(sight: str, theme: int) -> None:
    matrix = np.array(DEFICIENCIES[sight])
    seen = {name: oklab(matrix @ linear(pair[theme])) for name, pair in COLOURS.items()}
    for (a, first), (b, second) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(first - second) > 0.1, (a, b)


def test_every_label_of_a_set_gets_its_own_looks() -> None:
    sets = [
        LABELS,
        ["angry", "calm", "disgust", "fearful", "happy", "neutral", "sad", "surprised"],
        ["joyful", "mad", "neutral", "peaceful", "powerful", "sad", "scared"],
        ["anger", "frustrated", "excited", "happy", "neutral", "sad", "satisfied", "???"],
    ]
    for labels in sets:
        styles = emotion_styles(labels)
        assert list(styles) == labels
        for look in ("code", "light", "dark"):
            assert len({getattr(style, look) for style in styles.values()}) == len(labels), (look, labels)
    assert len(SPARE_COLOURS) >= 5
