"""The check for a display: Qt aborts a program without one, so another process tries first. No Qt here."""

import os
import re
import subprocess
import sys

PROGRAM = "from PySide6.QtGui import QGuiApplication; QGuiApplication([])"
TIMEOUT_S = 30.0
ALTERNATIVES = "over SSH use ssh -X, or stream-erc serve (scripts/live) and a browser"
NAMES = ("DISPLAY", "WAYLAND_DISPLAY")
MISSING = re.compile(r"([\w.+-]+\.so[.\d]*): cannot open shared object file")


class DisplayCheck:
    """A check that starts at once and runs while the program prepares its window."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        if _may_have_display():
            program = [sys.executable, "-c", PROGRAM]
            environment = {**os.environ, "QT_DEBUG_PLUGINS": "1"}
            self._process = subprocess.Popen(
                program, env=environment, stderr=subprocess.PIPE, text=True, errors="replace"
            )

    def problem(self) -> str:
        """Wait for the check; return why no window can be opened, in one line, or "" if one can."""
        if self._process is None:
            return explain("")
        try:
            _, output = self._process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, output = self._process.communicate()
        return explain(output) if self._process.returncode else ""


def _may_have_display() -> bool:
    """Return False only on Linux if no variable names a display or another Qt platform."""
    return not sys.platform.startswith("linux") or any(map(os.environ.get, (*NAMES, "QT_QPA_PLATFORM")))


def explain(output: str) -> str:
    """Explain Qt's output, when it could not open a window, in one line."""
    missing = MISSING.search(output.rpartition("libqxcb.so")[2])
    if missing is not None:
        library = missing[1]
        install = f"Debian and Ubuntu: apt-get install {debian_package(library)}"
        return f"the window expected the library {library}, got none ({install})"
    named = [f"{name}={os.environ[name]}" for name in NAMES if os.environ.get(name)]
    got = f"{', '.join(named)}, which does not respond" if named else "none"
    return f"the window expected a display ({' or '.join(NAMES)}), got {got}; {ALTERNATIVES}"


def debian_package(library: str) -> str:
    """Return the package of a library by Debian's naming rule: libxcb-cursor.so.0 is in libxcb-cursor0."""
    name, _, version = library.lower().partition(".so")
    version = version.strip(".").partition(".")[0]
    return f"{name}{'-' if name[-1:].isdigit() else ''}{version}"
