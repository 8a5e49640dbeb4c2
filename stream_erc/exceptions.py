"""Everything that stream_erc raises on purpose, split by whose mistake it is.

::

    StreamErcError
    ├── InputError            what was given cannot be used (exit code 2)
    │   ├── AudioError            not audio, truncated, empty, unreadable
    │   ├── TurnsError            a turns file or a text dialogue that cannot be read
    │   ├── LabelsError           examples of labels that cannot be used
    │   ├── ConfigError           an unknown key, a value out of range
    │   ├── CheckpointError       no checkpoint there, or one made for other features
    │   ├── DeviceError           no such microphone, no PortAudio, no such compute device
    │   └── OutputError           a place that cannot be written
    ├── EngineUnavailable     an optional component is not installed or its model cannot be had (exit code 2)
    ├── StoreError            the store of sessions cannot be used (exit code 2)
    │   ├── Fenced                somebody else has claimed the session since
    │   └── SessionGone           the session expired or was forgotten
    └── ProtocolMisuse        the calling code broke a contract of the session (a bug in the caller)
"""


class StreamErcError(Exception):
    """Base of all errors below; `str(error)` is one line that says what was expected and what came."""


class InputError(StreamErcError):
    """What was given cannot be used."""


class AudioError(InputError):
    """Audio that cannot be read: empty, truncated, not audio, no audio stream."""


class TurnsError(InputError):
    """A turns file or text dialogue that cannot be read."""


class LabelsError(InputError):
    """Examples of labels that cannot be read, or that say too little to tell labels by."""


class ConfigError(InputError):
    """A configuration with an unknown key or a value out of range."""


class CheckpointError(InputError):
    """A checkpoint that is missing, damaged, or made for other features than the runtime computes."""


class DeviceError(InputError):
    """A microphone or compute device that is not there."""


class OutputError(InputError):
    """A place that cannot be written."""


class EngineUnavailable(StreamErcError):
    """An optional component is not installed, or its model cannot be had."""


class StoreError(StreamErcError):
    """The store of sessions cannot be reached, read or written, or does not hold what it should."""


class Fenced(StoreError):
    """Somebody else has claimed the session since: whoever gets this has to let go of it."""


class SessionGone(StoreError):
    """The session is not in the store: it expired, was forgotten, or never was."""


class ProtocolMisuse(StreamErcError):
    """The calling code broke a contract of the session."""
