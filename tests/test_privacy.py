"""The product under `strace`: it talks to nobody outside the machine, and writes only its own files."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import soundfile
from fakes import conversation
from paths import ROOT, SAMPLE
from serving import CHROMIUM_OPTIONS, serve

STRACE = shutil.which("strace")
CALLS = (
    "connect,sendto,sendmsg,sendmmsg,open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat"
)
STREAM_ERC = [sys.executable, "-m", "stream_erc"]

SOUND_CARD = """
import threading, time
import soundfile

PortAudioError = OSError
DEVICE = {{"index": 0, "name": "Mic", "max_input_channels": 1, "default_samplerate": 16_000.0}}


def query_devices(device=None, kind=None):
    return [DEVICE] if kind is None else DEVICE


class RawInputStream:
    active = True

    def __init__(self, callback, blocksize, **settings):
        self.callback, self.size = callback, blocksize

    def start(self):
        threading.Thread(target=self.play, daemon=True).start()

    def play(self):
        talk, rate = soundfile.read({talk!r}, dtype="float32")
        status = type("Status", (), {{"input_overflow": False}})
        for at in range(0, len(talk) - self.size, self.size):
            self.callback(talk[at : at + self.size].tobytes(), self.size, None, status)
            time.sleep(self.size / rate / 2)

    def close(self):
        self.active = False
"""

WINDOW = """
import sys
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
import stream_erc_desktop.__main__ as desktop

run = QApplication.exec


def run_until_heard():
    (window,) = [w for w in QApplication.topLevelWidgets() if hasattr(w, "course")]
    timer = QTimer()
    timer.timeout.connect(lambda: window.close() if window.course.conversation.turns == 2 else None)
    timer.start(50)
    return run()


QApplication.exec = staticmethod(run_until_heard)
sys.exit(desktop.main(["--url", sys.argv[1], "--file", sys.argv[2]]))
"""

BROWSER = """
import sys
from playwright.sync_api import expect, sync_playwright

url, chromium, *options = sys.argv[1:]
with sync_playwright() as starter:
    browser = starter.chromium.launch(executable_path=chromium, args=options)
    page = browser.new_page()
    page.goto(url)
    page.locator("#talk-button:enabled").click()
    expect(page.locator("#clock")).to_have_text("00:05", timeout=60_000)
    browser.close()
"""

PROBE = 'inet_pton(AF_INET6, "2001:4860:4860::8888"'
"""Chromium asks the kernel whether there is a way to this address, and sends nothing there."""

pytestmark = pytest.mark.skipif(STRACE is None, reason="strace is not installed")


class Traced:
    """A command under strace, with a home of its own.

    Args:
        folder: for the home, temporary files and the trace.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.home = folder, folder / "home"
        self.trace = folder / "trace"
        for made in (self.home, folder / "tmp"):
            made.mkdir()
        hidden = re.compile(r"XDG_|ORT_|HF_|TORCH|PYTEST|COV")
        self.environment = {name: value for name, value in os.environ.items() if not hidden.match(name)}
        self.environment |= {
            "HOME": str(self.home),
            "TMPDIR": str(folder / "tmp"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.environment |= {"QT_QPA_PLATFORM": "offscreen", "HF_HUB_OFFLINE": "0"}

    def start(self, *command: str) -> subprocess.Popen[str]:
        assert STRACE is not None
        tracing = [
            STRACE,
            "-f",
            "-qq",
            "-s",
            "200",
            "-e",
            f"trace={CALLS}",
            "-e",
            "signal=none",
            "-o",
            str(self.trace),
        ]
        return subprocess.Popen(
            [*tracing, *command],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> str:
        process = self.start(*command)
        shown, _ = process.communicate(timeout=300)
        assert process.returncode == 0, shown
        return shown

    def lines(self) -> list[str]:
        return self.trace.read_text(errors="replace").splitlines()

    def outside(self) -> list[str]:
        """Return what went to an address outside the machine, questions for names included."""
        found = []
        for line in self.lines():
            address = re.search(r'inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"', line)
            if address and not (address[1] or "").startswith("127.") and (address[2] or "") != "::1":
                found.append(line)
        return found

    def written(self) -> list[str]:
        """Return the files and folders that were made, opened for writing or renamed, but for devices."""
        found = []
        for line in self.lines():
            call = re.match(r"\d+ +(\w+)\(", line)
            names = re.findall(r'"([^"]*)"', line)
            if (
                call is None
                or not names
                or " = -1 " in line
                or call[1] in ("connect", "sendto", "sendmsg", "sendmmsg")
            ):
                continue
            if call[1] in ("open", "openat") and not re.search(r"O_WRONLY|O_RDWR|O_CREAT", line):
                continue
            found += names[-1:]
        paths = {os.path.normpath(self.folder / name) for name in found}
        return sorted(path for path in paths if not path.startswith(("/dev/", "/proc/")))

    def strange(self, *own: Path) -> list[str]:
        """Return what was written outside its own places, the folders above, and the temporary folder."""
        places = (self.folder / "tmp", *own)
        above = {str(folder) for place in places for folder in place.parents}
        written = (path for path in self.written() if path not in above)
        return [path for path in written if not any(Path(path).is_relative_to(place) for place in places)]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[Traced]:
    return Traced(tmp_path)


def test_a_recording_is_heard_in_private(traced: Traced) -> None:
    out = traced.folder / "out"
    recording = str(SAMPLE / "conversation.flac")
    traced.run(
        *STREAM_ERC, "replay", recording, "--out", str(out / "e.jsonl"), "--report", str(out / "r.html")
    )
    assert traced.outside() == []
    assert traced.strange(out, traced.home / ".cache" / "stream-erc") == []
    assert (out / "r.html").is_file()


def test_a_server_serves_in_private(traced: Traced) -> None:
    server = traced.start(*STREAM_ERC, "serve", "--port", "0", "--asr", "none")
    assert server.stdout is not None
    url = next(word for line in server.stdout for word in line.split() if word.startswith("http"))
    talk = f"""
import stream_erc_client.sync as erc
with erc.connect({url.replace("http", "ws", 1)!r}, turns="appended") as session:
    session.append_turn(text="I am so happy", speaker="Anna")
    session.close()
    assert any(type(event).__name__ == "TurnFinal" for event in session)
"""
    try:
        subprocess.run([sys.executable, "-c", talk], check=True, timeout=120)
    finally:
        for child in _children(server.pid):
            os.kill(child, signal.SIGTERM)
        server.communicate(timeout=60)
    assert traced.outside() == []
    assert traced.strange(traced.home / ".local" / "state" / "stream_erc") == []


@pytest.fixture
def talk(tmp_path: Path) -> Path:
    """A recording of three turns."""
    path = tmp_path / "talk.wav"
    soundfile.write(path, conversation([(1.0, 200), (0.8, 900), (0.8, 200)]), 16_000, subtype="PCM_16")
    return path


def test_a_microphone_is_heard_in_private(traced: Traced, tiny_checkpoint: Path) -> None:
    own = traced.folder / "own"
    own.mkdir()
    sample = str(SAMPLE / "conversation.flac")
    (own / "sounddevice.py").write_text(SOUND_CARD.format(talk=sample))
    traced.environment["PYTHONPATH"] = f"{own}:{traced.environment.get('PYTHONPATH', '')}"
    out = traced.folder / "out"
    quick = ["--asr", "none", "--model", str(tiny_checkpoint)]
    listening = traced.start(*STREAM_ERC, "listen", *quick, "--out", str(out / "e.jsonl"))
    try:
        assert _eventually(
            lambda: (out / "e.jsonl").exists() and "turn.final" in (out / "e.jsonl").read_text()
        )
    finally:
        for child in _children(listening.pid):
            os.kill(child, signal.SIGINT)
        listening.communicate(timeout=60)
    assert traced.outside() == []
    assert traced.strange(out) == []


def test_the_window_is_private(traced: Traced, talk: Path) -> None:
    pytest.importorskip("PySide6.QtWidgets", reason="PySide6 is not installed")
    with serve() as server:
        traced.run(sys.executable, "-c", WINDOW, server.socket_url, str(talk))
    assert traced.outside() == []
    assert traced.strange(traced.home / ".config" / "stream_erc") == []  # its settings


def test_the_browser_of_the_tests_looks_up_no_name(traced: Traced) -> None:
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not here")
    with serve() as server, tempfile.TemporaryDirectory(prefix="erc") as short:  # for Chromium's sockets
        traced.environment["TMPDIR"] = short
        traced.run(sys.executable, "-c", BROWSER, server.url, chromium, *CHROMIUM_OPTIONS)
    assert [line for line in traced.outside() if PROBE not in line] == []


def test_the_reference_is_made_and_read_in_private(traced: Traced) -> None:
    out = traced.folder / "out"
    traced.run(sys.executable, str(ROOT / "scripts" / "reference"), "--out", str(out))
    assert traced.outside() == []
    assert traced.strange(out) == []
    asks = re.compile(r"""(?:\bsrc=|<link[^>]*href=|url\(|@import|\bfetch\()\s*["']?(?:https?:)?//""")
    pages = list(out.rglob("*.html"))
    assert pages != [] and [page for page in pages if asks.search(page.read_text(encoding="utf-8"))] == []


def test_the_trace_sees_what_it_should(traced: Traced) -> None:
    """A trace that misses a connection or a file would make the others pass for nothing."""
    code = (
        "import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
        "open('found', 'w').close()\n"
    )
    traced.run(sys.executable, "-c", code)
    assert len(traced.outside()) == 1
    assert traced.strange() == [str(traced.folder / "found")]


def _eventually(met: Callable[[], bool], timeout_s: float = 120.0) -> bool:
    """Return whether a condition is met in time."""
    end = time.monotonic() + timeout_s
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _children(pid: int) -> list[int]:
    """Return the processes that strace started and traces."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if found:
            return [int(child) for child in found]
        time.sleep(0.05)
    raise AssertionError("expected strace to have a child, found none")
