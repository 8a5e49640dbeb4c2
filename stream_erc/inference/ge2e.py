"""The inner states of GE2E (Wan et al., 2018, arXiv:1710.10467), for checkpoints that read them."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples
from stream_erc.exceptions import EngineUnavailable

N_MELS = 40
FRAME = SAMPLE_RATE // 100  # 10 ms
FFT = SAMPLE_RATE // 40  # 25 ms
TARGET_DBFS = -30.0


class Ge2eEncoder:
    """The GE2E voice encoder of Resemblyzer: a three-layer LSTM over 1.6 s windows, 256 dimensions.

    Only the weights come from the package. Its module imports webrtcvad and librosa, which takes seconds and
    warns, and it encodes one utterance per call. The network here is a dozen lines; a test checks that it
    equals the original.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec("resemblyzer")
        if spec is None or spec.origin is None:
            raise EngineUnavailable(
                "speaker encoder ge2e: expected the package Resemblyzer, got none installed"
            )
        path = Path(spec.origin).with_name("pretrained.pt")
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        except OSError as error:
            raise EngineUnavailable(
                f"speaker encoder ge2e: expected weights at {path}, got {error}"
            ) from error
        self._lstm = nn.LSTM(N_MELS, 256, num_layers=3, batch_first=True)
        part = {k.removeprefix("lstm."): v for k, v in weights.items() if k.startswith("lstm.")}
        self._lstm.load_state_dict(part)
        self._lstm.eval().requires_grad_(False)
        self._layers = _layers(self._lstm)
        self._mel = torch.from_numpy(_mel_filters())  # (n_mels, FFT // 2 + 1)
        self._hann = torch.hann_window(FFT)

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Number of units in each layer."""
        return tuple(layer.hidden_size for layer in self._layers)

    @torch.inference_mode()
    def layer_states(self, samples: Samples) -> list[Tensor]:
        """Return each layer's states (frames, 256) for a segment (N,), pauses included; 10 ms per frame."""
        states = self._mel_power(torch.from_numpy(np.array(samples, dtype=np.float32)))
        found = []
        for layer in self._layers:
            states, _ = layer(states)
            found.append(states)
        return found

    def _mel_power(self, samples: Tensor) -> Tensor:
        """Compute the mel power (frames, n_mels) of samples (N,), raised to `TARGET_DBFS` if quieter."""
        rms = samples.square().mean().sqrt()
        samples = samples * torch.clamp(10 ** (TARGET_DBFS / 20) / rms, min=1.0) if rms > 0 else samples
        spectrum = torch.stft(
            samples, FFT, FRAME, window=self._hann, center=True, pad_mode="constant", return_complex=True
        )
        return (self._mel @ spectrum.abs().square()).T


def _layers(stack: nn.LSTM) -> list[nn.LSTM]:
    """Split a stack into single layers that share its weights."""
    layers = []
    for k in range(stack.num_layers):
        inputs = stack.input_size if k == 0 else stack.hidden_size
        layer = nn.LSTM(inputs, stack.hidden_size, device="meta")
        mine = {name: value for name, value in stack.state_dict().items() if name.endswith(f"_l{k}")}
        layer.load_state_dict({n.replace(f"_l{k}", "_l0"): v for n, v in mine.items()}, assign=True)
        layers.append(layer.eval().requires_grad_(False))
    return layers


def _mel_filters() -> NDArray[np.float32]:
    """Return triangular filters of equal area on Slaney's mel scale, 0 to 8 kHz, (n_mels, FFT // 2 + 1)."""
    knee_hz, knee, step = 1_000.0, 15.0, np.log(6.4) / 27.0  # linear below 1 kHz, logarithmic above
    top = knee + np.log(SAMPLE_RATE / 2 / knee_hz) / step
    mels = np.linspace(0.0, top, N_MELS + 2)
    edges = np.where(
        mels < knee, mels * knee_hz / knee, knee_hz * np.exp(step * np.maximum(mels - knee, 0.0))
    )
    slopes = edges[:, None] - np.linspace(0.0, SAMPLE_RATE / 2, FFT // 2 + 1)[None, :]  # (n_mels + 2, bins)
    width = np.diff(edges)[:, None]
    triangles = np.maximum(0.0, np.minimum(-slopes[:-2] / width[:-1], slopes[2:] / width[1:]))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)
