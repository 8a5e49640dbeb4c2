"""The user's choices, saved between runs."""

from PySide6.QtCore import QByteArray, QSettings

from stream_erc_desktop.feed import Options
from stream_erc_desktop.player import ChannelChoice

CHANNELS: dict[ChannelChoice, str] = {
    "auto": "Separate where they differ",
    "separate": "Separate, as in a call",
    "mix": "Mixed to one",
}
LOOKS = {"system": "Like the system", "light": "Light", "dark": "Dark"}


class Preferences:
    """The user's choices, saved in the system's settings.

    Args:
        store: the settings; tests pass a file of their own.
    """

    def __init__(self, store: QSettings) -> None:
        self._store = store

    @property
    def options(self) -> Options:
        """The requested configuration of the next conversation."""
        return Options(
            model=self._text("model") or None,
            language=self._text("language") or None,
            speakers=int(self._text("speakers") or 0) or None,
            partials=self._is("partials"),
            voices=self._text("voices") == "yes",
        )

    @options.setter
    def options(self, options: Options) -> None:
        self._store.setValue("model", options.model or "")
        self._store.setValue("language", options.language or "")
        self._store.setValue("speakers", str(options.speakers or 0))
        self._store.setValue("partials", "yes" if options.partials else "no")
        self._store.setValue("voices", "yes" if options.voices else "no")

    @property
    def live(self) -> bool:
        """Whether recordings are heard in real time."""
        return self._is("live")

    @live.setter
    def live(self, live: bool) -> None:
        self._store.setValue("live", "yes" if live else "no")

    @property
    def look(self) -> str:
        """One of `LOOKS`."""
        look = self._text("look")
        return look if look in LOOKS else "system"

    @look.setter
    def look(self, look: str) -> None:
        self._store.setValue("look", look)

    @property
    def channels(self) -> ChannelChoice:
        """The treatment of a recording's channels."""
        choice = self._text("channels")
        return next((known for known in CHANNELS if known == choice), "auto")

    @channels.setter
    def channels(self, choice: str) -> None:
        self._store.setValue("channels", choice)

    @property
    def notice_read(self) -> bool:
        """Whether the user has read what everybody who uses the window should know."""
        return self._text("notice") == "read"

    @notice_read.setter
    def notice_read(self, read: bool) -> None:
        self._store.setValue("notice", "read" if read else "")

    @property
    def geometry(self) -> QByteArray | None:
        """The window's last size and position."""
        geometry = self._store.value("geometry")
        return geometry if isinstance(geometry, QByteArray) else None

    @geometry.setter
    def geometry(self, geometry: QByteArray) -> None:
        self._store.setValue("geometry", geometry)

    def _text(self, key: str) -> str:
        return str(self._store.value(key, ""))

    def _is(self, key: str) -> bool:
        return str(self._store.value(key, "yes")) == "yes"
