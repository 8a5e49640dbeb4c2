"""Real-time streaming recognition of expressed emotion in conversation.

```python
import stream_erc

for turn in stream_erc.recognize("talk.wav"):
    print(turn.speaker, turn.text, turn.emotion)
```

`recognize` takes recordings, transcripts and samples, `listen` the microphone, `connect` a server. They are
loaded when they are first used. What lies beneath them is sans-I/O: `stream_erc.core.session`.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Before these libraries are first imported: what they would tell their makers, see docs/privacy.md.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from stream_erc.api.recognizer import connect, listen, recognize
    from stream_erc.api.results import Recognition, RecognizedTurn

__all__ = ["Recognition", "RecognizedTurn", "connect", "listen", "recognize"]

_FROM = {"Recognition": "results", "RecognizedTurn": "results"}


def __getattr__(name: str) -> object:
    """Import what was asked for, once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"stream_erc.api.{_FROM.get(name, 'recognizer')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the lazy names as well."""
    return sorted({*globals(), *__all__})
