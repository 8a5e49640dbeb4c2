"""The command line: ``python -m stream_erc_desktop --url ws://HOST:PORT``."""

import argparse
import signal
import sys
from pathlib import Path

from stream_erc_desktop import __doc__ as about
from stream_erc_desktop.display import DisplayCheck


def argument_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m stream_erc_desktop", description=about)
    parser.add_argument(
        "--url",
        default="ws://127.0.0.1:8765",
        help="the server (%(default)s); - reads it from standard input",
    )
    parser.add_argument("--file", type=Path, metavar="RECORDING", help="hear this recording at once")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="a file with the server's token")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Open the window, and return the exit code when it is closed."""
    options = argument_parser().parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends the program at once, even while Qt runs
    try:
        token = options.token_file.read_text(encoding="utf-8").strip() if options.token_file else None
    except OSError as error:
        print(f"token file {options.token_file}: {error.strerror or error}", file=sys.stderr)
        return 2
    display = DisplayCheck()
    try:
        from PySide6.QtCore import QSettings
        from PySide6.QtWidgets import QApplication
    except ImportError as error:
        needs = f"the window needs PySide6-Essentials and pyqtgraph: {error}"
        print(display.problem() or needs, file=sys.stderr)
        return 1
    if problem := display.problem():
        print(problem, file=sys.stderr)
        return 2
    from stream_erc_desktop.feed import Feed
    from stream_erc_desktop.host import host_of_this_window
    from stream_erc_desktop.preferences import Preferences
    from stream_erc_desktop.window import Window

    application = QApplication(sys.argv[:1])
    application.setApplicationName("Stream ERC")
    application.setStyle("Fusion")
    host = host_of_this_window() if options.url == "-" else None
    feed = Feed("" if host else options.url, token)
    window = Window(feed, Preferences(QSettings("stream_erc", "desktop")), host)
    window.show()
    if options.file is not None:
        window.open_recording(options.file)
    return application.exec()


if __name__ == "__main__":
    sys.exit(main())
