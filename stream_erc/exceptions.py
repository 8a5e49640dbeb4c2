"""The exceptions of stream_erc, divided by whose mistake they are.

::

    StreamErcError
    ├── InputError            unusable input (exit code 2)
    │   ├── AudioError            not audio, truncated, empty, unreadable
    │   ├── TurnsError            a turns file or a text dialogue that cannot be read
    │   ├── LabelsError           unusable examples of labels
    │   ├── VoicesError           an unusable voice file, an unknown voice, a clip with too little speech
    │   ├── ConfigError           an unknown key, a value out of range
    │   ├── CheckpointError       no such checkpoint, or one made for other features
    │   ├── DeviceError           no such microphone, no PortAudio, no such compute device
    │   └── OutputError           an output path that cannot be written
    ├── EngineUnavailable     an optional component or its model is not available (exit code 2)
    ├── StoreError            the session store fails (exit code 2)
    │   ├── Fenced                another owner has claimed the session
    │   └── SessionGone           the session has expired or was deleted
    └── ProtocolMisuse        a bug in the calling code: it broke a contract of the session
"""


class StreamErcError(Exception):
    """Base of all errors below; `str(error)` is one line that says what was expected and what it got."""


class InputError(StreamErcError):
    """Unusable input."""


class AudioError(InputError):
    """Audio that cannot be read: empty, truncated, not audio, no audio stream."""


class TurnsError(InputError):
    """A turns file or text dialogue that cannot be read."""


class LabelsError(InputError):
    """Examples of labels that cannot be read, or are too few."""


class VoicesError(InputError):
    """A voice file that cannot be used, an unknown voice, or a clip with too little speech."""


class ConfigError(InputError):
    """A configuration with an unknown key or a value out of range."""


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged, or made for features that the runtime does not compute."""


class DeviceError(InputError):
    """A microphone or compute device that is not available."""


class OutputError(InputError):
    """An output path that cannot be written."""


class EngineUnavailable(StreamErcError):
    """An optional component that is not installed, or a model that cannot be obtained."""


class StoreError(StreamErcError):
    """The session store cannot be reached, read or written, or its content is damaged."""


class Fenced(StoreError):
    """Another owner has claimed the session: the caller has lost it and must let it go."""


class SessionGone(StoreError):
    """The session is not in the store: it expired, was deleted, or never existed."""


class ProtocolMisuse(StreamErcError):
    """The calling code broke a contract of the session."""
