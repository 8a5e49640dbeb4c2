"""The Silero voice activity detector, run with ONNX Runtime."""

import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stream_erc.core.vad import CONTEXT, HIDDEN, WINDOW, VadState, frozen
from stream_erc.events import Samples
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.onnx_network import open_network

MAX_BATCH = 4_096  # windows per run: bounds the memory for a long file, about 25 MB


class SileroVad:
    """Silero VAD v6, the copy that ships inside the faster-whisper package; it holds only weights.

    It gives the same numbers window by window and in batches, and computes in one thread.

    Args:
        path: the ONNX file; None for faster-whisper's copy.

    Raises:
        EngineUnavailable: no such file, or onnxruntime is not installed or cannot read it.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path if path is not None else _bundled()
        self._session = open_network(self.path, "Silero VAD")

    def __call__(self, window: Samples, state: VadState) -> tuple[float, VadState]:
        """Return the speech probability of the next window, and the state after it.

        Args:
            window: the 512 samples after those of the previous call.
            state: the state returned by the previous call; `VadState.initial()` at the beginning.
        """
        assert window.shape == (WINDOW,), window.shape
        probabilities, after = self.probabilities(window[np.newaxis], state)
        return float(probabilities[0]), after

    def probabilities(self, windows: Samples, state: VadState) -> tuple[NDArray[np.float32], VadState]:
        """Return the speech probabilities of the next windows, (N, 512) -> (N,); a fifth faster."""
        assert windows.ndim == 2 and windows.shape[1] == WINDOW, windows.shape
        found = [np.zeros(0, dtype=np.float32)]
        for first in range(0, len(windows), MAX_BATCH):
            batch, state = self._run(windows[first : first + MAX_BATCH], state)
            found.append(batch)
        return np.concatenate(found), state

    def _run(self, windows: Samples, state: VadState) -> tuple[NDArray[np.float32], VadState]:
        context = np.vstack([state.context, windows[:-1, -CONTEXT:]])  # (N, 64)
        feeds = {
            "input": np.concatenate([context, windows], axis=1),  # (N, 576)
            "h": state.hidden.reshape(1, 1, HIDDEN),
            "c": state.cell.reshape(1, 1, HIDDEN),
        }
        probabilities, hidden, cell = self._session.run(["speech_probs", "hn", "cn"], feeds)
        after = VadState(frozen(hidden), frozen(cell), frozen(windows[-1, -CONTEXT:]))
        return np.asarray(probabilities, dtype=np.float32).reshape(-1), after


def _bundled() -> Path:
    """Find faster-whisper's copy without importing the package, which would load CTranslate2."""
    spec = importlib.util.find_spec("faster_whisper")
    if spec is None or spec.origin is None:
        raise EngineUnavailable(
            "speech detection expected faster-whisper's copy of Silero: pip install faster-whisper"
        )
    files = sorted(Path(spec.origin).parent.glob("assets/silero_vad_v6*.onnx"))
    if not files:
        raise EngineUnavailable(f"expected assets/silero_vad_v6.onnx in {Path(spec.origin).parent}, got none")
    return files[0]
