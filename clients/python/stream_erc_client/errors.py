"""What can go wrong, by whose it is to act.

::

    StreamErcClientError
    ├── ConnectionFailed        no connection, or none again in time
    ├── AuthenticationFailed    the server asks for a token, or for another one
    ├── ConfigurationRefused    the server does not have what was asked for
    ├── InputRefused            the server closed because of what was sent
    ├── InvalidInput            a value that cannot be sent (also a ValueError)
    │   └── AudioError          a file or a microphone that cannot be used
    ├── SessionEnded            something was sent after the end
    ├── SessionLost             the session cannot be gone on with
    │   └── SessionTakenOver    another connection resumed it
    ├── ProtocolError           the server's message is not of the protocol
    │   └── EventsLost          an event is missing
    └── TotalsMismatch          the session ended well, but not with what was sent and seen
"""


class StreamErcClientError(Exception):
    """All errors of this package."""


class ConnectionFailed(StreamErcClientError):
    """There is no connection to the server, or none again within `retry_for_s`."""


class AuthenticationFailed(StreamErcClientError):
    """The server asks for a token, or for another one."""


class ConfigurationRefused(StreamErcClientError):
    """The server has no such model, label, language or encoding."""


class InputRefused(StreamErcClientError):
    """The server closed the session because of what was sent."""


class InvalidInput(StreamErcClientError, ValueError):
    """A value that cannot be sent; nothing was."""


class AudioError(InvalidInput):
    """A file or a microphone that cannot be used."""


class SessionEnded(StreamErcClientError):
    """Something was sent after `close`, or after the session's end."""


class SessionLost(StreamErcClientError):
    """The session cannot be gone on with: begin a new one."""


class SessionTakenOver(SessionLost):
    """The session was resumed on another connection."""


class ProtocolError(StreamErcClientError):
    """A message of the server that is not of the protocol."""


class EventsLost(ProtocolError):
    """An event is missing between two that came."""


class TotalsMismatch(StreamErcClientError):
    """The totals of `session.closed` are not those of what was sent and seen."""
