"""Whether there is a display: Qt ends a program that has none, so another program tries it first. No Qt."""

import os
import re
import subprocess
import sys

TRY = "from PySide6.QtGui import QGuiApplication; QGuiApplication([])"
TRY_S = 30.0
ELSE = "over SSH use ssh -X, or stream-erc serve (scripts/live) and a browser"
NAMES = ("DISPLAY", "WAYLAND_DISPLAY")
MISSING = re.compile(r"([\w.+-]+\.so[.\d]*): cannot open shared object file")


class Trial:
    """Begins at once, beside what else has to be done before a window opens."""

    def __init__(self) -> None:
        self._trying: subprocess.Popen[str] | None = None
        if _may_have_display():
            program = [sys.executable, "-c", TRY]
            environment = {**os.environ, "QT_DEBUG_PLUGINS": "1"}
            self._trying = subprocess.Popen(program, env=environment, stderr=subprocess.PIPE, text=True)

    def trouble(self) -> str:
        """Why no window can be opened, in one line; "" where one can."""
        if self._trying is None:
            return why("")
        try:
            _, told = self._trying.communicate(timeout=TRY_S)
        except subprocess.TimeoutExpired:
            self._trying.kill()
            _, told = self._trying.communicate()
        return why(told) if self._trying.returncode else ""


def _may_have_display() -> bool:
    """Only Linux names displays, and Qt can be told to draw elsewhere."""
    return not sys.platform.startswith("linux") or any(map(os.environ.get, (*NAMES, "QT_QPA_PLATFORM")))


def why(told: str) -> str:
    """What Qt told when it could open no window, in one line."""
    missing = MISSING.search(told.rpartition("libqxcb.so")[2])
    if missing is not None:
        library = missing[1]
        install = f"Debian and Ubuntu: apt-get install {debian_package(library)}"
        return f"the window expected the library {library}, got none ({install})"
    named = [f"{name}={os.environ[name]}" for name in NAMES if os.environ.get(name)]
    got = f"{', '.join(named)}, which does not answer" if named else "none"
    return f"the window expected a display ({' or '.join(NAMES)}), got {got}; {ELSE}"


def debian_package(library: str) -> str:
    """The package of a library, by Debian's rule: libxcb-cursor.so.0 is in libxcb-cursor0."""
    name, _, version = library.lower().partition(".so")
    version = version.strip(".").partition(".")[0]
    return f"{name}{'-' if name[-1:].isdigit() else ''}{version}"
