"""The errors of this package, as one tree.

::

    StreamErcClientError
    ├── ConnectionFailed        no connection, or none regained in time
    ├── AuthenticationFailed    the token is missing or wrong
    ├── ConfigurationRefused    the server does not support the requested configuration
    ├── InputRefused            the server closed the session because of an input
    ├── ExportRefused           the server cannot give the session as this file
    ├── InvalidInput            a value that cannot be sent (also a ValueError)
    │   └── AudioError          a file or a microphone that cannot be used
    ├── SessionEnded            something was sent after the end
    ├── SessionLost             the session cannot be resumed
    │   └── SessionTakenOver    another connection resumed it
    ├── ProtocolError           the server sent an invalid message
    │   └── EventsLost          an event is missing
    └── TotalsMismatch          the session ended, but its totals differ from what was sent and received
"""


class StreamErcClientError(Exception):
    """The base class of this package's errors."""


class ConnectionFailed(StreamErcClientError):
    """No connection to the server, or none regained within `retry_for_s`."""


class AuthenticationFailed(StreamErcClientError):
    """The server's token is missing or wrong."""


class ConfigurationRefused(StreamErcClientError):
    """The server does not have the requested model, label, language or encoding."""


class InputRefused(StreamErcClientError):
    """The server closed the session because of an input."""


class ExportRefused(StreamErcClientError):
    """The server cannot give the session as a file: not in this format, or it no longer has it."""


class InvalidInput(StreamErcClientError, ValueError):
    """A value that cannot be sent; nothing was sent."""


class AudioError(InvalidInput):
    """A file or a microphone that cannot be used."""


class SessionEnded(StreamErcClientError):
    """Something was sent after `close`, or after the session's end."""


class SessionLost(StreamErcClientError):
    """The session cannot be resumed: begin a new one."""


class SessionTakenOver(SessionLost):
    """The session was resumed on another connection."""


class ProtocolError(StreamErcClientError):
    """A message of the server that the protocol does not allow."""


class EventsLost(ProtocolError):
    """An event is missing between two that were received."""


class TotalsMismatch(StreamErcClientError):
    """The totals of `session.closed` differ from what was sent and received."""
