"""The web page: its modules in Node, and the page in a headless Chromium against a real server.

The server answers with stand-ins (`serving.FakeEngine`), whose state is a chain over everything that was
said: one turn lost, doubled or out of order shows in every later one. One slow test hears the sample with the
real engine.
"""

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from fakes import conversation, open_session, play
from paths import ROOT
from serving import CHROMIUM_OPTIONS, Running, real_engine, serve

from stream_erc.cli.palette import emotion_styles
from stream_erc.cli.report import write_report
from stream_erc.events import EmotionEvent, Samples
from stream_erc.exports.files import FORMATS
from stream_erc.sources.voice_files import read_voices

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

WEB = ROOT / "clients" / "web"
TURNS = [(1.0, 300.0), (0.8, 900.0), (1.2, 300.0), (0.7, 900.0), (0.9, 300.0)]
LONG_TURNS = [(1.2, 200.0), (1.2, 900.0), (1.3, 200.0), (1.2, 900.0)]  # enough speech to know a voice by
ON_THE_WAY = re.compile("WebSocket connection to .* failed")
"""What the browser itself writes to the console where a socket is refused; no script can prevent it."""


# --- without a browser ----------------------------------------------------------------------------


def node(*arguments: str) -> str:
    """What Node prints."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("Node is not here")
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4_000:] + done.stderr[-2_000:]
    return done.stdout


def test_the_modules_pass_their_own_tests() -> None:
    tests = sorted(str(path) for path in (ROOT / "tests" / "clients" / "web").glob("*.test.mjs"))
    assert len(tests) >= 4
    node("--test", *tests)


@pytest.mark.parametrize(
    "labels",
    [
        ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"],
        ["happy", "excited", "frustrated", "angry", "sad", "no_emotion"],
        ["Anger", "anguish", "anxious", "ab", "abc", "a", "", "ünruhig"],
    ],
)
def test_emotions_look_as_in_the_report(labels: list[str]) -> None:
    script = (
        "import(process.argv[1]).then((m) => console.log(JSON.stringify("
        "[...m.emotionStyles(JSON.parse(process.argv[2])).values()])))"
    )
    styles = json.loads(node("-e", script, str(WEB / "palette.js"), json.dumps(labels)))
    keys = ("label", "code", "face", "light", "dark")
    expected = [{key: getattr(style, key) for key in keys} for style in emotion_styles(labels).values()]
    assert [{key: style[key] for key in keys} for style in styles] == expected


def test_the_sample_is_the_bundled_one() -> None:
    assert (WEB / "sample.flac").read_bytes() == (ROOT / "stream_erc/sample/conversation.flac").read_bytes()


def test_the_page_keeps_a_strict_policy_and_names_no_other_place() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", page)
    for path in WEB.iterdir():
        if path.suffix in {".html", ".css", ".js"}:
            found = re.findall(r"(?:https?|wss?)://[\w.-]*\w", path.read_text(encoding="utf-8"))
            assert set(found) <= {"http://www.w3.org", "http://localhost"}, path.name  # a name, and advice


def test_the_scripts_find_every_element_that_they_name() -> None:
    page = (WEB / "index.html").read_text(encoding="utf-8")
    ids = set(re.findall(r'\sid="([\w-]+)"', page))
    for path in WEB.glob("*.js"):
        wanted = set(re.findall(r'(?:\$|\bon)\("([\w-]+)"', path.read_text(encoding="utf-8")))
        assert wanted <= ids, f"{path.name}: {wanted - ids}"


# --- the browser ----------------------------------------------------------------------------------


def talk(repeats: int = 1) -> Samples:
    """Two voices by turns, with silence around them, as a 16-bit recording holds it."""
    audio = conversation(TURNS * repeats)
    return (np.round(audio * 32_768) / 32_768).astype(np.float32)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Browser"]:
    """A headless Chromium whose microphone hears the two voices."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not here")
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    soundfile.write(spoken, np.repeat(talk(6), 3), 48_000, subtype="PCM_16")
    options = [
        *CHROMIUM_OPTIONS,
        f"--use-file-for-fake-audio-capture={spoken}%noloop",
    ]
    with playwright.sync_playwright() as starter:
        opened = starter.chromium.launch(executable_path=chromium, args=options)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


class Watched:
    """Pages of which everything is noted that should not be: errors, and requests to other places."""

    def __init__(self, context: "BrowserContext") -> None:
        self.context, self.faults, self.requests = context, [], []  # type: ignore[var-annotated]
        context.add_init_script("localStorage.setItem('stream-erc-notice', 'read')")

    def open(self, url: str) -> "Page":
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("console", self._console)
        page.on("request", lambda request: self._asked(request.url, url))
        page.on("websocket", lambda opened: self._asked(opened.url, url))
        page.goto(url)
        return page

    def ready(self, url: str) -> "Page":
        page = self.open(url)
        page.locator("#talk-button:enabled").wait_for()
        return page

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning") and not ON_THE_WAY.search(message.text):
            self.faults.append(f"{message.type}: {message.text}")

    def _asked(self, address: str, home: str) -> None:
        self.requests.append(address)
        place = home.split("://")[1].split("/")[0]
        if not re.match(rf"(?:(?:http|ws)://{re.escape(place)}/|blob:|data:)", address):
            self.faults.append(f"asked {address}")


@pytest.fixture
def watched(browser: "Browser") -> Iterator[Watched]:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    seen = Watched(context)
    yield seen
    context.close()
    assert seen.faults == []


class Wire:
    """A TCP proxy before a server: it can be cut, and then lets the page through but no WebSocket."""

    def __init__(self, url: str) -> None:
        host, port = url.split("://")[1].split(":")
        self._target, self._lock = (host, int(port)), threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.whole = True
        self.sockets = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, *, for_good: bool = False) -> None:
        """Break every connection at once."""
        with self._lock:
            self.whole = not for_good
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _shut(*pair)

    def mend(self) -> None:
        self.whole = True

    def close(self) -> None:
        _shut(self._listener)
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client: socket.socket) -> None:
        try:
            first = client.recv(65_536)
            upgrade = first.startswith(b"GET /v1/session")
            with self._lock:
                if not first or (upgrade and not self.whole):
                    _shut(client)
                    return
                server = socket.create_connection(self._target)
                self.sockets += upgrade
                if upgrade:
                    self._pairs.append((client, server))
            server.sendall(first)
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            _pump(client, server)
        except OSError:
            _shut(client)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    _shut(source, sink)


def _shut(*sockets: socket.socket) -> None:
    for one in sockets:
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@pytest.fixture
def wire(server: Running) -> Iterator[Wire]:
    opened = Wire(server.url)
    yield opened
    opened.close()


# --- what a person does ---------------------------------------------------------------------------


def turns(page: "Page") -> "Locator":
    return page.locator("#turns .turn:not(.partial)")


def expect(what: Any, timeout_s: float = 30) -> Any:
    from playwright.sync_api import expect as expecting

    expecting.set_options(timeout=1_000 * timeout_s)
    return expecting(what)


def file_of(path: Path, audio: Samples | None = None) -> Path:
    soundfile.write(path, talk() if audio is None else audio, 16_000, subtype="PCM_16")
    return path


def finish(page: "Page", timeout_s: float = 30) -> None:
    """Wait until a file was heard and told, and finish."""
    expect(page.locator("#hint"), timeout_s).to_have_text(
        re.compile("The recording has ended: names and speakers can be corrected")
    )
    expect(page.locator("#talk-text")).to_have_text("Finish")
    page.click("#talk-button")
    expect(page.locator("#connection-text")).to_have_text("Finished")


def choose(page: "Page", **values: object) -> None:
    """Set settings, by their ids."""
    page.click("#open-settings")
    for name, value in values.items():
        field = page.locator(f"#{name.replace('_', '-')}")
        if isinstance(value, bool):
            field.set_checked(value)
        else:
            field.select_option(str(value))
    page.locator("#settings button").click()


def download(page: "Page", button: str, folder: Path) -> Path:
    """Save the conversation as the button of the dialog says."""
    with page.expect_download() as caught:
        page.click("#save")
        page.click(button)
    path = folder / caught.value.suggested_filename
    caught.value.save_as(path)
    return path


def told(page: "Page", folder: Path) -> list[dict[str, Any]]:
    """The events that the page holds."""
    lines = download(page, "#save-events", folder).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def summary(messages: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The last word on each turn, with the last name of its speaker."""
    last: dict[int, dict[str, Any]] = {}
    for m in messages:
        if m["type"] in ("turn.final", "turn.revised"):
            last[m["turn"]] = dict(m)
        elif m["type"] == "speaker.updated":
            for turn in last.values():
                if turn["speaker"] == m["speaker"]:
                    turn["speaker"] = m["name"]
    return [
        (m["turn"], m["speaker"], m["text"], m["emotion"]["label"], round(m["emotion"]["confidence"], 4))
        for _, m in sorted(last.items())
    ]


def heard_alone(audio: Samples) -> list[tuple[Any, ...]]:
    """The same of a session in this process: no browser, no server, no connection."""
    last: dict[int, EmotionEvent] = {}
    for event in play(open_session(), audio, [640]):
        if isinstance(event, EmotionEvent):
            last[event.turn.index] = event
    return [
        (turn, e.speaker_name, e.turn.text, e.emotion.label, round(e.emotion.confidence, 4))
        for turn, e in sorted(last.items())
    ]


# --- hearing --------------------------------------------------------------------------------------


def test_the_microphone_becomes_turns_on_the_screen(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    expect(page.locator("#empty-title")).to_have_text("Nothing has been said yet.")
    expect(page.locator("#recognizer-first")).to_have_text("Words are written by hash.")
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial .said")).to_have_text(re.compile("heard"))
    expect(turns(page).nth(2)).to_be_visible()
    expect(page.locator("#names .name")).to_have_count(2)
    expect(page.locator("#connection-text")).to_have_text("Connected")
    expect(page.locator("#talk-text")).to_have_text("Pause")
    expect(page.locator("#recognizer-name")).to_have_text("speech recognition hash")
    assert turns(page).first.locator(".felt").inner_text().split()[0] in ("neutral", "joy", "anger")
    expect(page.locator("#announce")).to_have_text(re.compile(r"speaker_\d, \w+ \d+%: heard"))
    expect(page.locator("#emotion .first b")).to_have_text(re.compile(r"\w+ \d+%"))
    stages = page.locator("#stages tr:not(.bars) th").all_inner_texts()
    assert stages[-2:] == ["Total", "Seen in the page"]
    drawn = """(id) => {
        const c = document.getElementById(id);
        const pixels = new Uint32Array(c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer);
        return new Set(pixels).size;
    }"""
    assert all(page.evaluate(drawn, name) > 5 for name in ("wave", "lanes", "overview"))
    page.click("#finish")
    expect(page.locator("#hint")).to_have_text(re.compile(r"Finished: \d+ turns"))
    expect(page.locator("#connection-text")).to_have_text("Finished")


def test_pausing_lets_go_of_the_microphone_and_ends_the_turn(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.click("#talk-button")
    expect(page.locator("#talk-text")).to_have_text("Continue listening")
    expect(turns(page).first).to_be_visible()  # silence was sent after it: it does not wait for more sound
    expect(page.locator("#turns .turn.partial")).to_have_count(0)
    heard = turns(page).count()
    before = page.locator("#clock").inner_text()
    page.wait_for_timeout(1_200)
    assert page.locator("#clock").inner_text() == before
    page.click("#talk-button")
    expect(turns(page).nth(heard)).to_be_visible()


SLOW_MICROPHONE = """
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.opened = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((go) => { setTimeout(go, 700); });
        const stream = await open(wanted);
        window.opened.push(stream);
        return stream;
    };
"""


def test_a_microphone_that_opens_late_is_heard_once(watched: Watched, server: Running) -> None:
    watched.context.add_init_script(SLOW_MICROPHONE)
    page = watched.ready(server.url)
    for words in ("Pause", "Continue listening", "Pause"):
        page.click("#talk-button")
        expect(page.locator("#talk-text")).to_have_text(words)
    page.wait_for_timeout(2_500)
    alive = "opened.map((stream) => stream.getTracks()[0].readyState)"
    assert sorted(page.evaluate(alive)) == ["ended", "live"]
    page.click("#talk-button")
    page.wait_for_timeout(1_000)
    assert page.evaluate(alive) == ["ended", "ended"]
    expect(page.locator("#notes")).to_be_empty()


def test_push_to_talk_sends_silence_until_it_is_held(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.locator("label.switch").click()
    page.click("#talk-button")
    expect(page.locator("#hint")).to_have_text("Hold Space to talk")
    expect(page.locator("#clock")).to_have_text("00:03")  # the audio clock goes on
    assert turns(page).count() == 0 and page.locator("#turns .turn.partial").count() == 0
    page.keyboard.down("Space")
    expect(page.locator("#hold")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.keyboard.up("Space")
    expect(turns(page).first).to_be_visible()
    page.wait_for_timeout(2_500)
    spoken = turns(page).count()
    page.wait_for_timeout(2_500)
    assert turns(page).count() == spoken
    box = page.locator("#hold").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.down()
    expect(page.locator("#hold")).to_have_text("Talking")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.mouse.up()
    expect(page.locator("#hold")).to_have_attribute("aria-pressed", "false")
    expect(turns(page).nth(spoken)).to_be_visible()


@pytest.mark.parametrize("pace", ["live", "replay"])
def test_a_dropped_file_is_heard_sample_for_sample(
    watched: Watched, server: Running, tmp_path: Path, pace: str
) -> None:
    page = watched.ready(server.url)
    choose(page, pace=pace)
    dropped = page.evaluate_handle(
        """(text) => {
            const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
            const all = new DataTransfer();
            all.items.add(new File([bytes], "talk.wav", { type: "audio/wav" }));
            return all;
        }""",
        base64.b64encode(file_of(tmp_path / "talk.wav").read_bytes()).decode(),
    )
    page.dispatch_event("body", "dragover", {"dataTransfer": dropped})
    expect(page.locator("#drop")).to_be_visible()
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    expect(page.locator("#drop")).to_be_hidden()
    expect(turns(page)).to_have_count(len(TURNS))
    finish(page)
    expect(page.locator("#hint")).to_have_text(f"Finished: {len(TURNS)} turns, 00:07")
    assert summary(told(page, tmp_path)) == heard_alone(talk())


def test_a_turn_can_be_heard_again(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.ready(server.url)
    choose(page, pace="replay")
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(page.locator("#hint")).to_have_text(re.compile("The recording has ended:"))
    turns(page).nth(2).locator(".when").click()
    expect(page.locator("#turns .turn.playing")).to_have_attribute("data-turn", "2")
    expect(page.locator("#turns .turn.current")).to_have_attribute("data-turn", "2")
    expect(page.locator("#turns .turn.playing")).to_have_count(0)  # it comes to its end
    turns(page).nth(2).locator(".when").click()
    expect(page.locator("#turns .turn.playing")).to_have_count(1)
    turns(page).nth(2).locator(".when").click()
    expect(page.locator("#turns .turn.playing")).to_have_count(0, timeout=600)  # pressed again: stopped
    turns(page).nth(1).locator(".said").click()  # anywhere on it
    expect(page.locator("#turns .turn.playing")).to_have_attribute("data-turn", "1")
    page.click("#hush")
    expect(page.locator("#turns .turn.playing")).to_have_count(0, timeout=600)
    expect(page.locator("#hush")).to_be_hidden()


def test_a_file_that_is_none_is_said_so(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.ready(server.url)
    (tmp_path / "letter.txt").write_text("not audio")
    page.set_input_files("#file", tmp_path / "letter.txt")
    expect(page.locator("#notes")).to_contain_text(
        "letter.txt could not be read: expected an audio or video file"
    )
    page.get_by_label("Dismiss").click()
    expect(page.locator("#notes")).to_be_empty()
    expect(page.locator("#talk-button")).to_be_enabled()


def test_a_microphone_that_is_refused_is_said_so(browser: "Browser", server: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia = async () => { throw new DOMException('', 'NotAllowedError'); }"
    )
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#notes")).to_contain_text("was not allowed to use the microphone")
    expect(page.locator("#notes button", has_text="Hear the sample conversation")).to_be_visible()
    expect(page.locator("#talk-text")).to_have_text("Start listening")
    context.close()


# --- the sound of a tab, and channels --------------------------------------------------------------

SHARED_TAB = """
    const tone = () => {
        const context = new AudioContext(), out = context.createMediaStreamDestination();
        const source = new OscillatorNode(context, { frequency: 900 });
        const volume = new GainNode(context, { gain: 0 });
        for (let i = 0; i < 40; i++) {
            volume.gain.setValueAtTime(0.4, 2 * i + 0.2);
            volume.gain.setValueAtTime(0, 2 * i + 1.2);
        }
        source.connect(volume).connect(out);
        source.start();
        window.tab = out.stream;
        return out.stream;
    };
    navigator.mediaDevices.getDisplayMedia = async (wanted) => {
        window.wanted = wanted;
        const pictures = document.createElement("canvas").captureStream().getTracks();
        return new MediaStream(window.silent ? pictures : [...tone().getTracks(), ...pictures]);
    };
"""
"""A shared tab that makes a sound of one voice's pitch for a second, every two seconds."""


def sent_to(page: "Page") -> list[dict[str, Any]]:
    """The messages that the page sends, as they come."""
    frames: list[dict[str, Any]] = []

    def note(frame: Any) -> None:
        if isinstance(frame, str):
            frames.append(json.loads(frame))

    page.on("websocket", lambda opened: opened.on("framesent", note))
    return frames


def test_microphone_and_tab_are_two_channels(watched: Watched, server: Running, tmp_path: Path) -> None:
    watched.context.add_init_script(SHARED_TAB)
    page = watched.context.new_page()
    frames = sent_to(page)
    page.goto(server.url)
    page.locator("#talk-button:enabled").wait_for()
    page.select_option("#device", label="Microphone and tab")
    page.click("#talk-button")
    expect(page.locator("#names .name")).to_have_count(2)
    assert sorted(page.locator("#names .name .text").all_inner_texts()) == ["Tab", "You"]
    [update] = [frame for frame in frames if frame["type"] == "session.update"]
    assert update["audio"]["channels"] == 2 and update["channel_names"] == ["You", "Tab"]
    assert page.evaluate("wanted.audio.echoCancellation") is False
    assert page.evaluate("tab.getAudioTracks()[0].readyState") == "live"
    page.evaluate("tab.getAudioTracks()[0].dispatchEvent(new Event('ended'))")
    expect(page.locator("#notes")).to_contain_text("is shared no more. Continue to share it again.")
    expect(page.locator("#talk-text")).to_have_text("Continue listening")
    assert page.locator("#device option:not([disabled])").all_inner_texts() == ["Microphone and tab"]
    page.click("#finish")
    expect(page.locator("#connection-text")).to_have_text("Finished")
    heard = {m["channel"] for m in told(page, tmp_path) if m["type"] == "turn.final"}
    assert heard == {0, 1}
    assert page.evaluate("tab.getTracks().map((track) => track.readyState)") == ["ended"]


def test_the_sound_of_a_tab_is_heard_alone(watched: Watched, server: Running) -> None:
    watched.context.add_init_script(SHARED_TAB)
    page = watched.ready(server.url)
    page.select_option("#device", label="Tab or system audio")
    expect(page.locator("label.switch")).to_be_hidden()  # push to talk is for a microphone
    page.evaluate("window.silent = true")
    page.click("#talk-button")
    expect(page.locator("#notes")).to_contain_text("What was shared has no sound.")
    expect(page.locator("#talk-text")).to_have_text("Start listening")
    page.evaluate("window.silent = false")
    page.click("#talk-button")
    expect(turns(page).first).to_be_visible()
    expect(page.locator("#notes")).to_be_empty()
    expect(page.locator("#names .name")).to_have_count(1)


def call_of_two(path: Path) -> Path:
    """A recording of a call: a voice in each channel, by turns."""
    one, other = conversation([(1.0, 300.0)] * 3, gap=1.6), conversation([(1.0, 900.0)] * 3, gap=1.6)
    longest = max(len(one), len(other)) + 20_800
    both = np.zeros((longest, 2), np.float32)
    both[: len(one), 0] = one
    both[20_800 : 20_800 + len(other), 1] = other
    soundfile.write(path, both, 16_000, subtype="PCM_16")
    return path


@pytest.mark.parametrize(("choice", "channels"), [("auto", 2), ("separate", 2), ("mix", 1)])
def test_a_recorded_call_is_heard_by_its_channels(
    watched: Watched, server: Running, tmp_path: Path, choice: str, channels: int
) -> None:
    page = watched.context.new_page()
    frames = sent_to(page)
    page.goto(server.url)
    page.locator("#talk-button:enabled").wait_for()
    choose(page, pace="replay", channels=choice)
    page.set_input_files("#file", call_of_two(tmp_path / "call.wav"))
    expect(turns(page)).to_have_count(6)
    if channels == 2:
        expect(page.locator("#notes")).to_contain_text(
            "The 2 channels of this recording are heard separately"
        )
        turns(page).first.locator(".who").click()
        expect(page.locator("#who-know")).to_be_hidden()  # no voice is known where channels are
        page.click("#who-cancel")
    finish(page)
    [update] = [frame for frame in frames if frame["type"] == "session.update"]
    assert update["audio"].get("channels", 1) == channels
    finals = [m for m in told(page, tmp_path) if m["type"] == "turn.final"]
    assert {m.get("channel") for m in finals} == ({0, 1} if channels == 2 else {None})
    length_s = soundfile.info(tmp_path / "call.wav").duration
    expect(page.locator("#hint")).to_have_text(f"Finished: 6 turns, 00:{int(length_s):02d}")


# --- a microphone that comes and goes ---------------------------------------------------------------

COMING_AND_GOING = """
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.opened = [];
    window.away = false;
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        if (window.away) throw new DOMException("", "NotFoundError");
        const stream = await open(wanted);
        window.opened.push(stream);
        return stream;
    };
    window.pull = () => {
        const [track] = opened.at(-1).getAudioTracks();
        track.stop();
        track.dispatchEvent(new Event("ended"));
    };
    window.plug = () => {
        window.away = false;
        navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    };
"""


def test_a_microphone_that_is_pulled_out_is_taken_up_again(watched: Watched, server: Running) -> None:
    watched.context.add_init_script(COMING_AND_GOING)
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.evaluate("away = true; pull()")
    expect(page.locator("#notes")).to_contain_text("Listening goes on when it is back")
    expect(page.locator("#talk-text")).to_have_text("Continue listening")
    expect(page.locator("#turns .turn.partial")).to_have_count(0)  # what was said before is told
    heard = turns(page).count()
    page.evaluate("plug()")
    expect(page.locator("#notes")).to_contain_text("was interrupted, and is heard again")
    expect(page.locator("#talk-text")).to_have_text("Pause")
    expect(turns(page).nth(heard)).to_be_visible()
    page.evaluate("pull()")  # as when another one takes its place at once
    expect(page.locator("#talk-text")).to_have_text("Pause")
    page.wait_for_function("() => opened.length === 3")
    page.click("#talk-button")
    page.evaluate("plug()")  # a pause of the user's stays one
    page.wait_for_timeout(500)
    expect(page.locator("#talk-text")).to_have_text("Continue listening")


def test_a_microphone_that_another_program_took_is_taken_up_without_a_word_from_the_browser(
    watched: Watched, server: Running
) -> None:
    watched.context.add_init_script(COMING_AND_GOING)
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.evaluate("away = true; pull()")
    expect(page.locator("#notes")).to_contain_text("Listening goes on when it is back")
    page.evaluate("away = false")  # no devicechange
    expect(page.locator("#talk-text")).to_have_text("Pause")
    expect(page.locator("#notes")).to_contain_text("was interrupted, and is heard again")
    assert page.evaluate("opened.length") == 2


def test_a_muted_microphone_is_told(watched: Watched, server: Running) -> None:
    watched.context.add_init_script(COMING_AND_GOING)
    watched.context.add_init_script(
        "window.mute = (muted) => { const [track] = opened.at(-1).getAudioTracks();"
        "Object.defineProperty(track, 'muted', { value: muted, configurable: true });"
        "track.dispatchEvent(new Event(muted ? 'mute' : 'unmute')); };"
    )
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    expect(page.locator("#notes")).not_to_contain_text("muted")
    page.evaluate("mute(true)")
    expect(page.locator("#notes")).to_contain_text(
        "The microphone is muted, by a switch on it or by the system"
    )
    page.evaluate("mute(false)")
    expect(page.locator("#notes")).not_to_contain_text("muted")
    page.evaluate("mute(true)")
    page.click("#talk-button")  # a pause lets go of it
    expect(page.locator("#notes")).not_to_contain_text("muted")


def test_a_microphone_that_falls_silent_for_good_is_opened_again(watched: Watched, server: Running) -> None:
    """As when a device changes its rate and the browser says nothing: no more audio comes."""
    watched.context.add_init_script(COMING_AND_GOING)
    watched.context.add_init_script(
        "const Native = AudioContext; window.contexts = [];"
        "window.AudioContext = class extends Native { constructor(o) { super(o); contexts.push(this); } };"
    )
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    page.evaluate("contexts[0].onstatechange = null; contexts[0].suspend()")
    page.wait_for_function("() => opened.length === 2", timeout=15_000)
    expect(page.locator("#talk-text")).to_have_text("Pause")
    expect(page.locator("#notes")).to_contain_text("was interrupted, and is heard again")


# --- settings -------------------------------------------------------------------------------------


def test_settings_reach_the_server_and_outlive_the_visit(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    sent: list[str] = []
    page.on("websocket", lambda opened: opened.on("framesent", lambda frame: sent.append(str(frame))))
    choose(page, partials=False, speakers=2, model="hash", language="en", pace="live")
    page.reload()
    page.locator("#talk-button:enabled").wait_for()
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(turns(page).first).to_be_visible()
    [update] = [json.loads(text) for text in sent if "session.update" in text]
    asked = {"partials": False, "speakers": 2, "model": "hash", "language": "en", "pace": "live"}
    assert asked.items() <= update.items()
    assert update["audio"] == {"encoding": "pcm_s16le", "sample_rate_hz": 16_000}
    page.locator("#turns .turn.partial", has_text="listening").wait_for()  # speech is told, words are not
    assert "heard" not in page.locator("#turns .turn.partial").inner_text()


# --- names and corrections ------------------------------------------------------------------------


def test_a_speaker_is_renamed_and_a_turn_corrected_by_keyboard(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(page.locator("#names .name")).to_have_count(2)
    page.click("#talk-button")
    expect(page.locator("#talk-text")).to_have_text("Continue listening")
    page.locator("#names .name").first.focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    expect(page.locator("#names .name .text").first).to_have_text("Anna")
    expect(turns(page).first.locator(".who")).to_contain_text("Anna")
    assert page.evaluate("document.activeElement.matches('#names .name')")
    assert page.locator("#names .rename").count() == 0  # Enter gave the name, and pressed nothing else

    page.locator("#names .name").nth(1).focus()
    page.keyboard.press("Enter")
    page.keyboard.type("Bob")
    page.keyboard.press("Escape")
    expect(page.locator("#names .name .text").nth(1)).to_have_text("speaker_2")
    page.keyboard.press("Enter")
    page.keyboard.type("Anna")  # somebody has it
    page.keyboard.press("Enter")
    expect(page.locator("#notes")).to_contain_text("The name Anna was refused")
    expect(page.locator("#names .name .text").nth(1)).to_have_text("speaker_2")

    turns(page).nth(1).locator(".who").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#who-dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#who-dialog")).to_be_hidden()
    turns(page).nth(1).locator(".who").click()
    page.locator("#who-choices").get_by_text("Anna").click()
    expect(turns(page).nth(1).locator(".who")).to_contain_text("Anna")
    expect(turns(page).nth(1).locator(".revised")).to_be_visible()
    turns(page).first.locator(".who").click()
    page.fill("#who-new", "Clara")
    page.keyboard.press("Enter")
    expect(turns(page).first.locator(".who")).to_contain_text("Clara")
    events = told(page, tmp_path)
    assert [m["name"] for m in events if m["type"] == "speaker.updated"] == ["Anna"]
    assert summary(events)[0][1] == "Clara" and summary(events)[1][1] == "Anna"


def test_a_turn_s_voice_is_named_kept_and_recognized_in_the_next_conversation(
    watched: Watched, tmp_path: Path
) -> None:
    voices, recording = tmp_path / "voices.json", file_of(tmp_path / "talk.wav", conversation(LONG_TURNS))
    with serve(voices=voices, keep_voices=True) as server:
        page = watched.ready(server.url)
        page.click("#open-settings")
        expect(page.locator("#voices-choice")).to_be_hidden()  # nobody is known yet
        page.locator("#settings button").click()
        choose(page, pace="replay")
        page.set_input_files("#file", recording)
        expect(turns(page)).to_have_count(len(LONG_TURNS))

        turns(page).nth(1).locator(".who").click()
        expect(page.locator("#who-keep-choice")).to_be_hidden()
        expect(page.locator("#who-consent")).to_be_hidden()
        page.check("#who-know")
        expect(page.locator("#who-consent")).to_contain_text("Only with the person's consent")
        expect(page.locator("#who-consent")).to_contain_text("until this conversation is over")
        page.check("#who-keep")
        expect(page.locator("#who-consent")).to_contain_text("stream-erc voices remove")
        page.fill("#who-new", "Anna")
        page.keyboard.press("Enter")
        expect(page.locator("#notes")).to_contain_text("The voice of Anna is known from now on, and kept")
        expect(turns(page).nth(1).locator(".who")).to_contain_text("Anna")
        expect(turns(page).nth(3).locator(".who")).to_contain_text("Anna")
        assert read_voices(voices, None).names == ("Anna",)

        turns(page).nth(0).locator(".who").click()
        page.check("#who-know")
        page.locator("#who-choices").get_by_text("speaker_1").click()  # no name to know a voice by
        expect(page.locator("#notes")).to_contain_text("speaker_1 for the voice of turn 1 was refused")
        finish(page)
        assert [m["name"] for m in told(page, tmp_path) if m["type"] == "voice.enrolled"] == ["Anna"]

        other = watched.ready(server.url)
        other.click("#open-settings")
        expect(other.locator("#voices-names")).to_have_text("Anna")
        other.locator("#settings button").click()
        choose(other, pace="replay", voices=True)
        other.set_input_files("#file", recording)
        expect(turns(other)).to_have_count(len(LONG_TURNS))
        expect(turns(other).nth(1).locator(".who")).to_contain_text("Anna")
        expect(turns(other).nth(0).locator(".who")).to_contain_text("speaker_1")


def test_a_server_that_keeps_no_voices_offers_nothing_to_keep(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(turns(page).first).to_be_visible()
    page.click("#talk-button")
    turns(page).first.locator(".who").click()
    page.check("#who-know")
    expect(page.locator("#who-consent")).to_be_visible()
    expect(page.locator("#who-keep-choice")).to_be_hidden()
    page.keyboard.press("Escape")


# --- unsure speakers, overlap and late corrections --------------------------------------------------


class Told:
    """A page on a server that hears silence, and is told turns by the test."""

    def __init__(self, page: "Page", path: Path) -> None:
        self.page, self._event_id = page, 0
        page.add_init_script(
            """window.WebSocket = class extends WebSocket {
                constructor(...to) { super(...to); window.socket = this; }
            }"""
        )
        page.reload()
        page.locator("#talk-button:enabled").wait_for()
        choose(page, pace="replay")
        page.set_input_files("#file", file_of(path, np.zeros(20 * 16_000, np.float32)))
        expect(page.locator("#hint")).to_have_text(re.compile("The recording has ended:"))

    def tell(self, *events: dict[str, Any]) -> None:
        """Have the page receive these events at once, and wait until they are shown."""
        lines = []
        for fields in events:
            self._event_id += 1
            lines.append(json.dumps({"event_id": self._event_id} | fields))
        self.page.evaluate(
            """(lines) => {
                for (const data of lines) socket.dispatchEvent(new MessageEvent("message", { data }));
                return new Promise((shown) => requestAnimationFrame(() => requestAnimationFrame(shown)));
            }""",
            lines,
        )


def told_turn(turn: int, speaker: str, span_ms: tuple[int, int], **fields: Any) -> dict[str, Any]:
    """A `turn.final`, or a `turn.revised` where a revision is given."""
    reading = {"label": "joy", "confidence": 0.8, "probabilities": {"neutral": 0.2, "joy": 0.8}}
    latency = {"endpointing": 300, "asr": 100, "features": 10, "emotion": 5, "total": 415}
    message = {"type": "turn.revised" if "revision" in fields else "turn.final", "session_id": "s", "seq": 9}
    message |= {"turn": turn, "speaker": speaker, "audio_start_ms": span_ms[0], "audio_end_ms": span_ms[1]}
    message |= {"text": f"words {turn}", "emotion": reading, "latency_ms": latency, "revision": 0}
    return message | fields


def test_an_unsure_speaker_and_overlap_are_seen_and_said(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    told_page = Told(page, tmp_path / "silence.wav")
    told_page.tell(
        told_turn(0, "Anna", (0, 4_000)),
        told_turn(1, "Bob", (3_000, 5_000), speaker_unsure=True, overlap=0.3, others=["Anna"]),
        told_turn(2, "Anna", (6_000, 7_000), overlap=0.05),
    )
    expect(turns(page).nth(0).locator(".unsure, .overlap")).to_have_count(0)
    name = page.get_by_role("button", name=re.compile("^probably Bob ?: correct the speaker$"))
    assert name.locator(".unsure").inner_text() == "?"
    expect(turns(page).nth(1).locator(".overlap")).to_have_text("overlaps Anna, 30%")
    expect(turns(page).nth(2).locator(".overlap")).to_have_text("overlap 5%")
    lanes = page.locator("#lanes").bounding_box()
    assert lanes is not None
    for lane, who in ((17, "Anna · joy 80%"), (51, "probably Bob · joy 80%")):  # both at 3.5 s
        page.mouse.move(lanes["x"] + lanes["width"] * 3.5 / 20, lanes["y"] + lane)
        expect(page.locator("#tip b")).to_have_text(who)
    expect(page.locator("#tip")).to_contain_text("overlaps Anna, 30%")
    told_page.tell({"type": "speaker.updated", "session_id": "s", "seq": 9, "speaker": "Anna", "name": "Eve"})
    expect(turns(page).nth(1).locator(".overlap")).to_have_text("overlaps Eve, 30%")


def test_a_report_shows_unsure_speakers_and_overlap(watched: Watched, tmp_path: Path) -> None:
    created = {"type": "session.created", "session_id": "s", "seq": 0, "model": "m", "asr": "a"}
    messages: list[Any] = [
        created | {"labels": ["neutral", "joy"]},
        told_turn(0, "Bob", (3_000, 4_000), speaker_unsure=True, overlap=0.3, others=["Anna"]),
        told_turn(1, "Bob", (1_000, 9_000)),
    ]
    write_report(messages, tmp_path / "report.html", title="report")
    page = watched.context.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.locator(".turn .who").first).to_have_text("Bob?")
    expect(page.locator(".turn .overlap")).to_have_text("overlaps Anna, 30%")
    page.get_by_role("button", name="Play turn 1, at 00:03.0, probably Bob").wait_for()
    page.locator(".block").last.hover()  # the shorter one lies above the longer one
    expect(page.locator("#tip b")).to_have_text("probably Bob · joy 80%")
    page.fill("#search", "words")
    expect(page.locator(".turn .overlap")).to_have_text("overlaps Anna, 30%")


def test_a_correction_changes_turns_in_place(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.ready(server.url)
    told_page = Told(page, tmp_path / "silence.wav")
    speakers = ["Anna", "Cem", *["Bob", "Anna"] * 20]
    spans = [(450 * turn, 450 * turn + 400) for turn in range(len(speakers))]
    told_page.tell(*(told_turn(turn, who, spans[turn]) for turn, who in enumerate(speakers)))
    expect(page.locator("#names .text")).to_have_text(["Anna", "Cem", "Bob"])
    page.locator("#names .name").nth(2).focus()
    page.evaluate("window.kept = document.activeElement")
    told_page.tell(told_turn(42, "Bob", (19_000, 19_500)))
    assert page.evaluate("kept === document.activeElement") is False  # Bob's count changed ...
    assert page.evaluate("document.activeElement.closest('li').dataset.speaker") == "Bob"  # ... the focus not

    page.locator("#transcript").evaluate("(box) => { box.scrollTop = 600 }")
    page.wait_for_timeout(100)
    turns(page).nth(20).locator(".who").focus()
    page.evaluate(
        """() => {
            window.list = document.getElementById("turns");
            const top = list.parentElement.getBoundingClientRect().top;
            window.first = [...list.children].findIndex((row) => row.getBoundingClientRect().bottom > top);
            const from = (element) => element.getBoundingClientRect().top;
            window.place = () => from(list.children[first]) - from(list.parentElement);
            window.before = place();
            window.batches = 0;
            window.watching = new MutationObserver(() => { batches += 1; });
            watching.observe(list, { childList: true });
        }"""
    )
    moved = {0: "Bob", 1: "Anna", 20: "Anna"}
    told_page.tell(
        *(
            told_turn(
                turn, moved.get(turn, who), spans[turn], revision=1, text=f"words {turn}, " * (turn // 2)
            )
            for turn, who in enumerate(speakers)
        )
    )
    expect(page.locator("#names .text")).to_have_text(["Anna", "Bob"])  # Cem has no turn any more
    assert page.evaluate("batches") == 1
    assert 5 < page.evaluate("first") < 20
    assert abs(page.evaluate("place() - before")) <= 1
    assert page.evaluate("[...list.children].map((row) => Number(row.dataset.turn))") == list(range(43))
    focused = page.evaluate(
        "[document.activeElement.className, document.activeElement.closest('li').dataset.turn]"
    )
    assert focused == ["who same", "20"]
    told_page.tell(told_turn(20, "Bob", spans[20], revision=2))
    focused = page.evaluate(
        "[document.activeElement.className, document.activeElement.closest('li').dataset.turn]"
    )
    assert focused == ["who", "20"]
    assert page.evaluate("document.getElementById('latest').hidden") is False  # the user still looks back


# --- losing nothing -------------------------------------------------------------------------------


def test_cut_connections_lose_nothing(watched: Watched, wire: Wire, tmp_path: Path) -> None:
    page = watched.ready(wire.url)
    page.set_input_files("#file", file_of(tmp_path / "talk.wav", talk(2)))
    expect(page.locator("#turns .turn.partial")).to_be_visible()
    wire.cut()  # in the middle of a turn
    expect(turns(page).nth(0)).to_be_visible()
    wire.cut(for_good=True)
    expect(page.locator("#connection-text")).to_have_text(re.compile("Connection lost.*s of audio kept"))
    page.locator("#names .name").first.click()  # what is changed meanwhile waits, too
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    page.wait_for_timeout(1_500)
    wire.mend()
    expect(page.locator("#connection-text")).to_have_text("Connected")
    wire.cut()
    expect(page.locator("#hint"), 60).to_have_text(re.compile("The recording has ended:"))
    finish(page)
    expect(page.locator("#hint")).to_have_text(f"Finished: {2 * len(TURNS)} turns, 00:14")
    assert wire.sockets >= 4
    expected = [(i, who.replace("speaker_1", "Anna"), *rest) for i, who, *rest in heard_alone(talk(2))]
    events = told(page, tmp_path)
    assert [m["event_id"] for m in events[1:]] == list(range(1, len(events)))
    assert summary(events) == expected
    assert page.locator("#turns .who:not(.same)").first.inner_text().startswith("Anna")


def test_a_reload_shows_everything_again_and_sends_what_was_kept(
    watched: Watched, wire: Wire, tmp_path: Path
) -> None:
    page = watched.ready(wire.url)
    page.click("#talk-button")
    expect(turns(page).nth(0)).to_be_visible()
    before = turns(page).nth(0).inner_text()
    wire.cut(for_good=True)
    expect(page.locator("#connection-text")).to_have_text(re.compile("(3|4|5|6) s of audio kept"))
    said = page.locator("#clock").inner_text()
    page.reload()
    expect(page.locator("#connection-text")).to_have_text(re.compile("Connection lost|No server"))
    wire.mend()
    expect(turns(page).nth(0)).to_have_text(re.compile(re.escape(before.split("\n")[0])))
    expect(turns(page).nth(1)).to_be_visible()  # it was spoken while there was no server, before the reload
    expect(page.locator("#talk-text")).to_have_text("Continue listening")
    minutes, seconds = page.locator("#clock").inner_text().split(":")
    assert 60 * int(minutes) + int(seconds) >= int(said.split(":")[1]) - 1
    page.click("#talk-button")
    expect(turns(page).nth(3)).to_be_visible()
    page.click("#finish")
    expect(page.locator("#hint")).to_have_text(re.compile(r"Finished: \d+ turns"))
    events = told(page, tmp_path)
    assert [m["event_id"] for m in events[1:]] == list(range(1, len(events)))
    assert sorted({m["turn"] for m in events if "turn" in m}) == list(range(events[-1]["turns"]))
    page.reload()  # over: a reload begins with nothing
    expect(page.locator("#talk-text")).to_have_text("Start listening")
    assert turns(page).count() == 0


def test_a_reload_while_a_file_plays_says_what_is_missing(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(turns(page).nth(0)).to_be_visible()
    page.reload()
    expect(turns(page).nth(0)).to_be_visible()
    expect(page.locator("#notes")).to_contain_text("no longer has talk.wav")
    page.click("#talk-button")  # "Finish"
    expect(page.locator("#hint")).to_have_text(re.compile("Finished: [1-4] turns?"))


def test_a_session_that_is_taken_over_is_left_alone(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(turns(page).nth(0)).to_be_visible()
    kept = page.evaluate("(dispatchEvent(new Event('pagehide')), sessionStorage['stream-erc-session'])")
    other = watched.ready(server.url)
    other.evaluate("(kept) => { sessionStorage['stream-erc-session'] = kept }", kept)
    # A tab remembers its own session as it is left; the copied one has to win here.
    other.add_init_script(f"sessionStorage['stream-erc-session'] = {json.dumps(kept)}")
    other.reload()
    expect(turns(other).nth(0)).to_be_visible()
    expect(page.locator("#notes")).to_contain_text("continued in another tab")
    expect(page.locator("#talk-text")).to_have_text("New conversation")
    page.reload()  # does not take it back
    expect(page.locator("#connection-text")).to_have_text("Connected")
    page.wait_for_timeout(500)
    expect(page.locator("#talk-text")).to_have_text("Start listening")
    expect(turns(page)).to_have_count(0)
    expect(other.locator("#connection-text")).to_have_text("Connected")


def test_a_server_that_restarts_without_the_session_is_said_so(watched: Watched, tmp_path: Path) -> None:
    with serve() as first:
        wire = Wire(first.url)
        page = watched.ready(wire.url)
        page.click("#talk-button")
        expect(turns(page).nth(0)).to_be_visible()
        with serve() as second:  # a store of its own
            wire._target = ("127.0.0.1", int(second.url.rsplit(":", 1)[1]))
            wire.cut(for_good=True)
            expect(page.locator("#connection-text")).to_have_text(re.compile("[2-9] s of audio kept"))
            wire.mend()
            expect(page.locator("#notes")).to_contain_text("no longer knows this conversation")
            with page.expect_download() as caught:
                page.get_by_text(re.compile("Save the last")).click()
            caught.value.save_as(tmp_path / "unheard.wav")
            samples, rate = soundfile.read(tmp_path / "unheard.wav")
            assert rate == 16_000 and len(samples) > 16_000 and np.abs(samples).max() > 0.2
            assert turns(page).count() >= 1
            page.click("#talk-button")  # "New conversation"
            expect(page.locator("#empty")).to_be_visible()
            page.locator("#talk-button:enabled").click()
            expect(turns(page).nth(0)).to_be_visible()
            wire.close()


def test_a_token_is_asked_for_and_kept_for_the_tab(watched: Watched, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("open-sesame\n")
    with serve(token_file=str(tokens)) as running:
        page = watched.open(running.url)
        expect(page.locator("#token-dialog")).to_be_visible()
        page.fill("#token", "wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-note")).not_to_have_text(re.compile("Ask whoever runs"))
        expect(page.locator("#token-dialog")).to_be_visible()
        page.fill("#token", "open-sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#connection-text")).to_have_text("Connected")
        page.reload()
        expect(page.locator("#connection-text")).to_have_text("Connected")
        page.click("#talk-button")
        expect(turns(page).nth(0)).to_be_visible()


# --- keeping --------------------------------------------------------------------------------------


def test_what_was_heard_of_a_file_can_be_corrected_until_the_end(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    expect(page.locator("#device")).to_be_visible()
    choose(page, pace="replay")
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(page.locator("#device")).to_be_hidden()
    expect(turns(page)).to_have_count(len(TURNS))
    expect(page.locator("#hint")).to_have_text(re.compile("The recording has ended:"))
    page.wait_for_timeout(1_000)  # the last audio is kept, or acknowledged
    page.reload()  # it goes on as it was
    expect(page.locator("#hint")).to_have_text(re.compile("The recording has ended:"))
    expect(page.locator("#notes")).to_be_empty()
    turns(page).nth(1).locator(".who").click()
    page.fill("#who-new", "Clara")
    page.keyboard.press("Enter")
    expect(turns(page).nth(1).locator(".who")).to_contain_text("Clara")
    expect(page.locator("#who-dialog")).to_be_hidden()
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    finish(page)
    expect(turns(page).nth(1).locator(".who")).to_be_disabled()
    assert [row[1] for row in summary(told(page, tmp_path))][1] == "Clara"
    page.reload()  # all of it is in a file
    expect(turns(page)).to_have_count(0)
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    finish(page)
    page.reload()
    expect(turns(page)).to_have_count(0)
    assert asked == ["beforeunload"]


def test_events_and_report_can_be_kept(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.ready(server.url)
    choose(page, pace="replay")
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(turns(page)).to_have_count(len(TURNS))
    finish(page)
    path = download(page, "#save-events", tmp_path)
    assert path.name == "talk.events.jsonl"
    messages = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [m["seq"] for m in messages] == list(range(len(messages)))
    assert [messages[0]["type"], messages[-1]["type"]] == ["session.created", "session.closed"]
    assert "resume_token" not in path.read_text(encoding="utf-8")
    write_report(messages, tmp_path / "again.html", title="again")  # the command line reads it as its own

    told_by_server = messages[-1]["summary"]
    expect(page.locator("#wholes > li")).to_have_count(len(told_by_server))
    expect(page.locator("#wholes > li").first).to_contain_text(f"{told_by_server[0]['turns']} turns, 00:0")

    page.locator("#names .name").first.click()  # a name that is given after the end is kept, too
    page.keyboard.type("<Anna>")
    page.keyboard.press("Enter")
    expect(turns(page).first.locator(".who")).to_contain_text("<Anna>")
    expect(page.locator("#wholes b").first).to_have_text("<Anna>")
    again = watched.context.new_page()
    again.goto((tmp_path / "again.html").as_uri())
    expect(again.locator(".card h3")).to_have_text(["speaker_1", "speaker_2"])
    expect(again.locator(".card").first).to_contain_text("Shifts of emotion")
    for width in (1360, 390):
        again.set_viewport_size({"width": width, "height": 844})
        assert again.evaluate("document.documentElement.scrollWidth") == width
    again.close()
    report = download(page, "#save-report", tmp_path)
    assert report.name == "talk.report.html"
    alone = watched.context.new_page()
    asked: list[str] = []
    alone.on("request", lambda request: asked.append(request.url))
    alone.on("console", lambda message: watched.faults.append(message.text))
    alone.goto(report.as_uri())
    assert asked == [report.as_uri()]
    expect(alone.locator("table.talk tbody tr")).to_have_count(len(TURNS))
    expect(alone.locator(".names li")).to_have_text(["<Anna>", "speaker_2"])
    assert "<script" not in report.read_text(encoding="utf-8")


# --- for everybody --------------------------------------------------------------------------------


def test_the_conversation_is_saved_in_every_format_of_the_server(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)
    choose(page, pace="replay")
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    expect(page.locator("#hint")).to_have_text(re.compile("The recording has ended:"))
    assert download(page, "#save-txt", tmp_path).name == "talk.txt"  # while it goes on
    expect(turns(page)).to_have_count(len(TURNS))
    page.locator("#names .name").first.click()
    page.keyboard.type("Anna")
    page.keyboard.press("Enter")
    expect(page.locator("#names .name .text").first).to_have_text("Anna")
    finish(page)
    page.keyboard.press("Control+s")
    offered = page.locator("#save-formats button").all_inner_texts()
    page.keyboard.press("Escape")
    assert offered[:3] == ["Report (HTML)", "Events (JSONL)", "Subtitles (SRT)"]
    assert len(offered) == 2 + len(FORMATS)
    for ending in FORMATS:
        kind = ending.removeprefix(".")
        path = download(page, f"#save-{kind}", tmp_path)
        assert path.name.lower() == f"talk.{kind}" and path.stat().st_size > 20
    assert "Anna" in (tmp_path / "talk.csv").read_text()
    assert (tmp_path / "talk.srt").read_text().count(" --> ") == len(TURNS)
    assert page.evaluate("performance.getEntriesByType('navigation').length") == 1  # it never left the page


def test_a_file_that_the_server_cannot_give_is_said_so(watched: Watched, wire: Wire, tmp_path: Path) -> None:
    page = watched.ready(wire.url)
    choose(page, pace="replay")
    page.set_input_files("#file", file_of(tmp_path / "talk.wav"))
    finish(page)
    wire.cut(for_good=True)
    page.click("#save")
    page.click("#save-srt")
    expect(page.locator("#notes")).to_contain_text(
        "Subtitles (SRT) could not be saved: the server cannot be reached"
    )


def test_ctrl_enter_finishes_wherever_the_focus_is(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.ready(server.url)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#talk-text")).to_have_text("Start listening")  # nothing has begun
    page.click("#talk-button")
    expect(page.locator("#finish")).to_have_attribute("title", re.compile(r"^Finish \(Ctrl\+Enter\)"))
    expect(turns(page).first).to_be_visible()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#connection-text")).to_have_text("Finished")


def test_the_notice_is_shown_until_it_is_read(browser: "Browser", server: Running) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(server.url)
    notice = page.locator("#notes .note", has_text="Tell everybody who is heard")
    expect(notice).to_be_visible()
    with context.expect_page() as opened:
        notice.get_by_role("button", name="What it can and cannot tell").click()
    expect(opened.value.locator("body")).to_contain_text("What the EU's AI Act asks")
    opened.value.close()
    page.reload()
    expect(notice).to_be_visible()  # reading on is not dismissing
    notice.get_by_label("Dismiss").click()
    expect(notice).to_have_count(0)
    page.reload()
    page.locator("#talk-button:enabled").wait_for()
    expect(notice).to_have_count(0)
    context.close()


def test_the_notice_tells_what_the_documentation_tells() -> None:
    told_in_the_page = (WEB / "responsible-use.txt").read_bytes()
    assert told_in_the_page == (ROOT / "docs" / "responsible-use.md").read_bytes()


def test_the_latency_is_seen_whole(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.set_viewport_size({"width": 1360, "height": 850})
    page.click("#talk-button")
    expect(turns(page).nth(1)).to_be_visible()
    expect(page.locator("#stages tr:not(.bars)")).to_have_count(6)
    side, stages = page.locator("#side").bounding_box(), page.locator("#latency").bounding_box()
    assert side is not None and stages is not None
    assert stages["y"] + stages["height"] <= side["y"] + side["height"]


def test_the_latency_is_seen_whole_beside_the_summary(
    watched: Watched, server: Running, tmp_path: Path
) -> None:
    page = watched.ready(server.url)  # of 1280 x 800
    soundfile.write(tmp_path / "talk.wav", talk(), 16_000, subtype="PCM_16")
    page.set_input_files("#file", tmp_path / "talk.wav")
    expect(page.locator("#talk-text")).to_have_text("Finish")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#whole")).to_be_visible()
    expect(page.locator("#reading")).to_be_hidden()
    side, stages = page.locator("#side").bounding_box(), page.locator("#latency").bounding_box()
    assert side is not None and stages is not None
    assert stages["y"] + stages["height"] <= side["y"] + side["height"]


def test_the_keyboard_is_enough(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(name)
        if name not in ("", "push-to-talk"):  # the switch draws its focus around its track
            assert outline != "none", name
        if name == "talk-button":
            break
    assert {"open-settings", "theme", "sample", "transcript", "talk-button"} <= set(reached)
    page.keyboard.press("Enter")
    expect(turns(page).nth(0)).to_be_visible()
    turns(page).first.locator(".felt").focus()
    page.keyboard.press("Enter")
    expect(turns(page).first.locator(".more")).to_be_visible()
    page.locator("#overview").focus()
    expect(page.locator("#overview")).to_have_attribute("aria-valuetext", re.compile("following"))
    page.locator("#open-settings").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#open-settings")).to_be_focused()


def test_everything_has_a_name(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.click("#talk-button")
    expect(turns(page).nth(0)).to_be_visible()
    named = """(node) => node.hidden || node.closest("[hidden]") || node.getAttribute("aria-label")
        || node.textContent.trim() || node.labels?.length
        || document.getElementById(node.getAttribute("aria-labelledby"))?.textContent"""
    for selector in (
        "button",
        "input:not([hidden])",
        "select",
        "[role=slider]",
        "section",
        "aside",
        "dialog",
    ):
        for one in page.locator(selector).all():
            assert one.evaluate(named), one.evaluate("(node) => node.outerHTML.slice(0, 200)")


def test_light_and_dark(browser: "Browser", server: Running) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(server.url)
    light, dark = "rgb(251, 250, 247)", "rgb(18, 20, 23)"
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.emulate_media(color_scheme="light")
    expect(page.locator("body")).to_have_css("background-color", light)
    page.click("#theme")
    expect(page.locator("body")).to_have_css("background-color", dark)
    page.reload()
    expect(page.locator("body")).to_have_css("background-color", dark)
    context.close()


def test_it_fits_every_width(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.locator("label.switch").click()
    page.click("#talk-button")
    page.keyboard.down("Space")  # also while the microphone is being opened
    expect(turns(page).nth(0)).to_be_visible()
    page.keyboard.up("Space")
    for width in (320, 360, 560, 768, 1080, 1360, 2000):
        page.set_viewport_size({"width": width, "height": 740})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for selector in ("#talk-button", "#hold", "#finish", "#device", "#theme", "#clock", "#turns .said"):
            box = page.locator(selector).first.bounding_box()
            assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width, (width, selector)
            assert box["y"] + box["height"] <= 740, (width, selector)


def test_a_low_window_scrolls_as_a_page(watched: Watched, server: Running) -> None:
    page = watched.ready(server.url)
    page.set_viewport_size({"width": 640, "height": 360})
    page.click("#talk-button")
    expect(turns(page).nth(2)).to_be_visible()
    box = page.locator("#talk-button").bounding_box()
    assert box is not None and box["y"] + box["height"] <= 360
    assert page.evaluate("document.documentElement.scrollHeight") > 360


# --- long, and odd, sessions: a scripted server ----------------------------------------------------

CONFIGURATION = {"labels": ["neutral", "joy"], "model": "m", "pace": "live"}


def created(**fields: object) -> str:
    known = {"session_id": "s", "seq": 0, "model": "m", "asr": "a", "labels": ["neutral", "joy"]}
    message = {"type": "session.created", **known, "resume_token": "t", "models": [], "languages": []}
    return json.dumps({**message, "configuration": CONFIGURATION, **fields})


def final(turn: int) -> str:
    joy = 0.5 + turn % 50 / 100
    message = {
        "type": "turn.final",
        "event_id": turn + 1,
        "turn": turn,
        "speaker": f"speaker_{turn % 3 + 1}",
        "audio_start_ms": 2_000 * turn,
        "audio_end_ms": 2_000 * turn + 1_500,
        "text": f"turn number {turn}",
        "emotion": {"label": "joy", "confidence": joy, "probabilities": {"neutral": 1 - joy, "joy": joy}},
        "latency_ms": {"endpointing": 320, "asr": 200, "features": 50, "emotion": 10, "total": 580},
        "revision": 0,
    }
    return json.dumps(message)


def scripted(page: "Page", answer: Any, greeting: str | None = None) -> list[Any]:
    """Be the server: `answer(socket, message)` for every text frame."""
    sockets: list[Any] = []

    def connect(opened: Any) -> None:
        sockets.append(opened)
        opened.on_message(lambda data: isinstance(data, str) and answer(opened, json.loads(data)))
        opened.send(greeting or created())

    page.route_web_socket(re.compile("/v1/session$"), connect)
    return sockets


def agree(opened: Any, message: dict[str, Any]) -> None:
    if message["type"] == "session.update":
        opened.send(json.dumps({"type": "session.updated", "configuration": CONFIGURATION}))


def test_a_long_session_keeps_the_page_small(watched: Watched, server: Running) -> None:
    page = watched.context.new_page()
    sockets = scripted(page, agree)
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#clock")).to_have_text("00:01")
    for turn in range(1_500):
        sockets[0].send(final(turn))
    expect(page.locator("#count")).to_have_text("1,500 turns")
    rows = page.locator("#turns li")
    assert rows.count() <= 180
    expect(rows.last).to_contain_text("turn number 1499")
    assert page.evaluate("document.querySelectorAll('*').length") < 6_000
    expect(page.locator("#earlier")).to_contain_text("Show earlier turns (1,3")
    before = rows.count()
    page.locator("#earlier").click()
    assert rows.count() == before + 100
    expect(page.locator("#latest")).to_be_visible()
    sockets[0].send(final(1_500))
    expect(page.locator("#latest")).to_have_text("1 new turn ↓")
    page.click("#latest")
    sockets[0].send(final(1_501))
    expect(rows.last).to_contain_text("turn number 1501")
    assert rows.count() <= 180
    page.locator("#earlier").click()
    before = rows.count()
    for turn in range(1_502, 2_000):
        sockets[0].send(final(turn))
    expect(page.locator("#latest")).to_have_text("498 new turns ↓")
    assert rows.count() <= before + 100  # whoever looks back for long does not gather rows
    page.click("#latest")
    expect(rows.last).to_contain_text("turn number 1999")
    assert rows.count() <= 180
    page.close()


def test_what_waits_to_be_understood_is_shown_and_counted(watched: Watched, server: Running) -> None:
    page = watched.context.new_page()
    sockets = scripted(page, agree)
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#clock")).to_have_text("00:01")

    def tell(name: str, **fields: object) -> None:
        sockets[0].send(json.dumps({"type": name, **fields}))

    for turn in range(5):
        tell("speech.started", audio_start_ms=2_000 * turn)
        tell("speech.stopped", audio_end_ms=2_000 * turn + 1_500)
        tell("warning", code="behind", message=f"turns come {turn} s late")
    tell("speech.started", audio_start_ms=10_000)
    expect(page.locator("#count")).to_have_text("5 turns behind")
    expect(page.locator("#hint")).to_have_text("Listening, 5 turns behind")
    expect(page.locator("#notes .note.mild")).to_have_count(1)
    expect(page.locator("#notes")).to_contain_text("Turns come 4 s late.")
    rows = page.locator("#turns .turn.partial")
    expect(rows).to_have_count(4)
    expect(rows.first).to_contain_text("3 turns before these, being processed")
    expect(rows.last).to_contain_text("listening")
    for turn in range(5):
        sockets[0].send(final(turn))
    expect(page.locator("#count")).to_have_text("5 turns")
    expect(page.locator("#hint")).to_have_text("Listening")
    expect(page.locator("#notes")).to_be_empty()
    expect(rows).to_have_count(1)
    page.close()


def test_words_of_others_stay_words(watched: Watched, server: Running) -> None:
    hostile = '<img src="x" onerror="document.title=1"><b>bold</b>'
    page = watched.context.new_page()
    sockets = scripted(page, agree)
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#clock")).to_have_text("00:01")
    message = json.loads(final(0)) | {"text": hostile, "speaker": hostile}
    sockets[0].send(json.dumps(message))
    sockets[0].send(json.dumps({"type": "warning", "code": "w", "message": hostile}))
    sockets[0].send(json.dumps({"type": "of.a.later.version", "more": 1}))
    expect(turns(page).first.locator(".said")).to_have_text(hostile)
    expect(page.locator("#notes")).to_contain_text(hostile)
    expect(page.locator("#names .name .text")).to_have_text(hostile)
    assert page.locator("img, b:has-text('bold')").count() == 0
    page.close()


def test_a_translation_is_shown_beneath_the_words(watched: Watched, server: Running, tmp_path: Path) -> None:
    page = watched.context.new_page()
    sockets = scripted(page, agree)
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#clock")).to_have_text("00:01")
    german = {"text": "Das Tuch liegt auf dem Tisch.", "language": "de"}
    english = "The cloth lies on the table."
    sockets[0].send(json.dumps(json.loads(final(0)) | german | {"translation": english}))
    sockets[0].send(json.dumps(json.loads(final(1)) | {"text": "Hello.", "language": "en"}))
    words = turns(page).locator(".said")
    expect(words).to_have_count(2)
    expect(words.first).to_have_attribute("lang", "de")
    translation = words.first.locator(".translation")
    expect(translation).to_have_text(f"from German {english}")
    expect(translation).to_have_attribute("lang", "en")
    expect(words.last).to_have_text("Hello.")
    expect(page.locator("#announce")).to_contain_text("Hello.")
    spoken, below = words.first.bounding_box(), translation.bounding_box()
    assert spoken is not None and below is not None
    assert spoken["y"] + 15 < below["y"] and below["x"] == spoken["x"]
    folder = Path(os.environ.get("STREAM_ERC_SHOTS", tmp_path))
    page.screenshot(path=str(folder / "page-translation.png"))
    page.close()


def test_a_full_server_is_asked_again(watched: Watched, server: Running) -> None:
    page = watched.context.new_page()
    full = {"type": "error", "code": "server_full", "message": "expected fewer sessions", "retryable": True}
    tries = []

    def connect(opened: Any) -> None:
        tries.append(opened)
        if len(tries) == 1:
            opened.send(json.dumps(full))
            opened.close(code=1013)
        else:
            opened.send(created())

    page.route_web_socket(re.compile("/v1/session$"), connect)
    page.goto(server.url)
    expect(page.locator("#connection-text")).to_have_text(re.compile("The server is full"))
    expect(page.locator("#connection-text")).to_have_text("Connected")
    page.close()


def test_settings_that_are_refused_are_said(watched: Watched, server: Running) -> None:
    page = watched.context.new_page()
    refusal = {"type": "error", "code": "invalid_configuration", "message": "language: expected en, got xx"}

    def refuse(opened: Any, message: dict[str, Any]) -> None:
        if message["type"] == "session.update":
            opened.send(json.dumps(refusal | {"retryable": False}))

    scripted(page, refuse)
    page.goto(server.url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#notes")).to_contain_text("language: expected en, got xx")
    expect(page.locator("#talk-text")).to_have_text("Start listening")
    page.locator("#notes").get_by_role("button", name="Settings").click()
    expect(page.locator("#settings")).to_be_visible()
    page.close()


# --- the real engine ------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_sample_with_the_real_engine(watched: Watched, tmp_path: Path) -> None:
    engine = real_engine()
    with serve({"si-lstm": engine}, idle_timeout_s=300.0) as running:
        page = watched.ready(running.url)
        choose(page, pace="replay")
        page.click("#sample")
        finish(page, 180)
        assert page.locator("#names .name").count() == 2
        rows = summary(told(page, tmp_path))
        assert [row[1] for row in rows[:6]] == ["speaker_1", "speaker_2"] * 3
        assert "coffee" in rows[0][2] and "job" in rows[2][2]
        assert "joy" in rows[2][3]
        assert turns(page).count() == len(rows)
        expect(page.locator("#hint")).to_have_text(f"Finished: {len(rows)} turns, 01:09")
