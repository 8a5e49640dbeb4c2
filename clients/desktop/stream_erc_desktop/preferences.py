"""What the window remembers from one time to the next."""

from PySide6.QtCore import QByteArray, QSettings

from stream_erc_desktop.feed import Options

LOOKS = {"system": "As the system", "light": "Light", "dark": "Dark"}


class Preferences:
    """The choices of the user, kept where the system keeps such things.

    Args:
        store: a test gives a file of its own.
    """

    def __init__(self, store: QSettings) -> None:
        self._store = store

    @property
    def options(self) -> Options:
        """What the next conversation is asked for."""
        return Options(
            model=self._text("model") or None,
            language=self._text("language") or None,
            speakers=int(self._text("speakers") or 0) or None,
            partials=self._is("partials"),
        )

    @options.setter
    def options(self, options: Options) -> None:
        self._store.setValue("model", options.model or "")
        self._store.setValue("language", options.language or "")
        self._store.setValue("speakers", str(options.speakers or 0))
        self._store.setValue("partials", "yes" if options.partials else "no")

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
    def geometry(self) -> QByteArray | None:
        """Where the window was."""
        geometry = self._store.value("geometry")
        return geometry if isinstance(geometry, QByteArray) else None

    @geometry.setter
    def geometry(self, geometry: QByteArray) -> None:
        self._store.setValue("geometry", geometry)

    def _text(self, key: str) -> str:
        return str(self._store.value(key, ""))

    def _is(self, key: str) -> bool:
        return str(self._store.value(key, "yes")) == "yes"
