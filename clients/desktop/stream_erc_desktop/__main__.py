"""The command line: ``python -m stream_erc_desktop --url ws://HOST:PORT``."""

import argparse
import signal
import sys
from pathlib import Path

from stream_erc_desktop import __doc__ as about
from stream_erc_desktop.display import Trial


def parser() -> argparse.ArgumentParser:
    """What can be said on the command line."""
    made = argparse.ArgumentParser(prog="python -m stream_erc_desktop", description=about)
    made.add_argument(
        "--url",
        default="ws://127.0.0.1:8765",
        help="the server (%(default)s); - is told it on standard input",
    )
    made.add_argument("--file", type=Path, metavar="RECORDING", help="hear this recording at once")
    made.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the server's token")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Open the window; returns when it is closed."""
    said = parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends it at once, also while Qt runs
    try:
        token = said.token_file.read_text(encoding="utf-8").strip() if said.token_file else None
    except OSError as error:
        print(f"token file {said.token_file}: {error.strerror or error}", file=sys.stderr)
        return 2
    trial = Trial()
    try:
        from PySide6.QtCore import QSettings
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        needs = f"the window needs PySide6-Essentials and pyqtgraph: {error}"
        print(trial.trouble() or needs, file=sys.stderr)
        return 1
    if trouble := trial.trouble():
        print(trouble, file=sys.stderr)
        return 2
    from stream_erc_desktop.feed import Feed
    from stream_erc_desktop.host import host_of_this_window
    from stream_erc_desktop.preferences import Preferences
    from stream_erc_desktop.window import Window

    application = QApplication(sys.argv[:1])
    application.setApplicationName("Stream ERC")
    application.setStyle("Fusion")
    host = host_of_this_window() if said.url == "-" else None
    feed = Feed("" if host else said.url, token)
    window = Window(feed, Preferences(QSettings("stream_erc", "desktop")), host)
    window.show()
    if said.file is not None:
        window.open_recording(said.file)
    return application.exec()


if __name__ == "__main__":
    sys.exit(main())
