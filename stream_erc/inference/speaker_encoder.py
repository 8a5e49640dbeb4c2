"""Speaker encoders: the audio of a turn -> a voice vector of unit length.

An encoder holds read-only weights, shared by all sessions; the speakers of a session are in
`stream_erc.core.diarization`. GE2E (Wan et al., 2018, arXiv:1710.10467) is the default, because its weights
ship inside the Resemblyzer package and need no model hub.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.config import DiarizationConfig
from stream_erc.events import Samples, Vector
from stream_erc.exceptions import DeviceError, EngineUnavailable

MIN_SPEECH_MS = 400
"""The least speech for a voice vector: a shorter one would depend on the vowel more than on the voice."""

Device = Literal["auto", "cpu", "cuda"]


class SpeakerEncoder(Protocol):
    """A network from audio to voice vectors."""

    @property
    def name(self) -> str:
        """The encoder's name; vectors of different encoders must never be compared."""

    @property
    def dim(self) -> int:
        """D, the length of a voice vector."""

    def embed(self, batch: Sequence[Samples]) -> list[Vector | None]:
        """Return a voice vector (D,) of unit length per segment, None below `MIN_SPEECH_MS` of speech.

        Args:
            batch: segments of any lengths, (N,) each, perhaps of different sessions.
        """


def load_encoder(config: DiarizationConfig, device: Device = "auto") -> SpeakerEncoder:
    """Load the encoder that `config.encoder` names: ``ge2e``, or a model by path or hub name.

    Raises:
        EngineUnavailable: its package or its weights are not available.
        DeviceError: ``cuda`` was requested, but is not available.
    """
    return Ge2eEncoder(device) if config.encoder == "ge2e" else HubEncoder(config.encoder, device)


def _device(wanted: Device) -> torch.device:
    """Return the torch device for ``auto``, ``cpu`` or ``cuda``."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise DeviceError("expected a CUDA device for the speaker encoder, got a torch that sees none")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def unit(vector: NDArray[np.floating]) -> Vector | None:
    """Scale `vector` (D,) to length 1, read-only; return None if it is zero or not finite."""
    norm = float(np.linalg.norm(vector))
    if not np.isfinite(norm) or norm < 1e-12:
        return None
    scaled = (vector / norm).astype(np.float32)
    scaled.setflags(write=False)
    return scaled


# --- GE2E -----------------------------------------------------------------------------------------

N_MELS = 40
FRAME = SAMPLE_RATE // 100  # 10 ms
FFT = SAMPLE_RATE // 40  # 25 ms
WINDOW = 160  # frames: 1.6 s, the length that GE2E was trained on
HOP = 40  # frames: 0.4 s between the windows of a long turn
TARGET_DBFS = -30.0
SILENCE_DB = 25.0
MAX_WINDOWS = 128  # per call of the network: bounds memory for any batch


class Ge2eEncoder:
    """The GE2E voice encoder of Resemblyzer: a three-layer LSTM over 1.6 s windows, 256 dimensions.

    Only the weights come from the package. Its module imports webrtcvad and librosa, which takes seconds and
    warns, and it encodes one utterance per call. The network here is a dozen lines; a test checks that it
    equals the original.
    """

    name = "ge2e"
    dim = 256

    def __init__(self, device: Device = "auto") -> None:
        self.device = _device(device)
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
        self._linear = nn.Linear(256, self.dim)
        for prefix, layer in (("lstm.", self._lstm), ("linear.", self._linear)):
            part = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
            layer.load_state_dict(part)
            layer.to(self.device).eval().requires_grad_(False)
        self._layers = _layers(self._lstm)
        self._mel = torch.from_numpy(_mel_filters()).to(self.device)  # (n_mels, FFT // 2 + 1)
        self._hann = torch.hann_window(FFT, device=self.device)

    @torch.inference_mode()
    def embed(self, batch: Sequence[Samples]) -> list[Vector | None]:
        """See `SpeakerEncoder.embed`; the windows of all segments form one batch."""
        pieces = [self._windows(samples) for samples in batch]  # [(W_i, WINDOW, n_mels)]
        if not sum(len(piece) for piece in pieces):
            return [None] * len(batch)
        vectors = self._network(torch.cat(pieces))  # (sum of W_i, D)
        means = [
            v.mean(0) if len(v) else v.new_zeros(self.dim)
            for v in torch.split(vectors, [len(p) for p in pieces])
        ]
        return [unit(mean) for mean in torch.stack(means).cpu().numpy()]

    @property
    def layer_dims(self) -> tuple[int, ...]:
        """Number of units in each layer."""
        return tuple(layer.hidden_size for layer in self._layers)

    @torch.inference_mode()
    def layer_states(self, samples: Samples) -> list[Tensor]:
        """Return each layer's states (frames, 256) for a segment (N,), pauses included; 10 ms per frame."""
        states = self._mel_power(torch.from_numpy(np.array(samples, dtype=np.float32)).to(self.device))
        found = []
        for layer in self._layers:
            states, _ = layer(states)
            found.append(states)
        return found

    def _network(self, windows: Tensor) -> Tensor:
        """Run mel windows (W, frames, n_mels) -> voice vectors (W, D) of unit length, all values >= 0."""
        vectors = []
        for part in torch.split(windows, MAX_WINDOWS):
            _, (hidden, _) = self._lstm(part)
            vectors.append(torch.relu(self._linear(hidden[-1])))
        return nn.functional.normalize(torch.cat(vectors), dim=1)

    def _windows(self, samples: Samples) -> Tensor:
        """Cut a segment's speech into overlapping windows (W, WINDOW, n_mels); W = 0 if it is too short.

        Short speech is repeated to fill a window: the network was trained on full windows, and zeros would
        fill its memory with silence.
        """
        mel = self._speech_frames(samples)  # (frames, n_mels)
        if len(mel) * 10 < MIN_SPEECH_MS:
            return mel.new_zeros(0, WINDOW, N_MELS)
        if len(mel) < WINDOW:
            mel = mel.repeat(-(-WINDOW // len(mel)), 1)[:WINDOW]
        starts = list(range(0, len(mel) - WINDOW + 1, HOP))
        if len(mel) - WINDOW > starts[-1]:
            starts.append(len(mel) - WINDOW)  # so that the end counts as much as the beginning
        return torch.stack([mel[s : s + WINDOW] for s in starts])

    def _speech_frames(self, samples: Samples) -> Tensor:
        """Return the mel power of the frames that are not silence, (frames, n_mels).

        Quiet audio is raised to -30 dBFS, since the network was trained on power at that level, not on its
        logarithm. Frames 25 dB below the loud ones are pauses, pre-roll or trailing silence.
        """
        if len(samples) < FFT:
            return self._mel.new_zeros(0, N_MELS)
        mel = self._mel_power(torch.from_numpy(np.ascontiguousarray(samples)).to(self.device))
        level = mel.sum(1)
        loud = level.quantile(0.95)  # not the maximum: a click would turn all speech into silence
        voiced = level > loud * 10 ** (-SILENCE_DB / 10)  # NaN and digital silence give no frames
        return mel[voiced]

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


# --- encoders from the hub ------------------------------------------------------------------------

MAX_SPEECH = 10 * SAMPLE_RATE  # of a longer turn, the middle: attention over more takes time and adds little


class HubEncoder:
    """A transformers x-vector model, such as ``microsoft/wavlm-base-plus-sv``, by path or hub name.

    Segments go through one by one: most of these models normalise over the time axis, so padding one segment
    to another's length would change its vector.
    """

    def __init__(self, name: str, device: Device = "auto") -> None:
        self.name = name
        self.device = _device(device)
        self._extract, model, self.dim = _load_xvector(name)
        self._model = model.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def embed(self, batch: Sequence[Samples]) -> list[Vector | None]:
        """See `SpeakerEncoder.embed`; speech under 1 s is repeated to fill it."""
        return [self._embed_one(samples) for samples in batch]

    def _embed_one(self, samples: Samples) -> Vector | None:
        if len(samples) < ms_to_samples(MIN_SPEECH_MS) or not np.any(samples):
            return None
        cut = max(0, len(samples) - MAX_SPEECH) // 2
        samples = samples[cut : cut + MAX_SPEECH]
        if len(samples) < SAMPLE_RATE:
            samples = np.resize(samples, SAMPLE_RATE)
        inputs = self._extract(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        vectors = self._model(inputs["input_values"].to(self.device)).embeddings  # (1, D)
        return unit(vectors[0].float().cpu().numpy())


def _load_xvector(name: str) -> tuple[Callable[..., Mapping[str, Tensor]], nn.Module, int]:
    """Load the feature extractor, the network and the dimension of an x-vector model.

    Raises:
        EngineUnavailable: it is not available, or not an x-vector model.
    """
    from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

    wanted = f"speaker encoder {name}: expected ge2e, or a transformers x-vector model by path or hub name"
    try:
        extract = AutoFeatureExtractor.from_pretrained(name)  # type: ignore[no-untyped-call]
        model, report = AutoModelForAudioXVector.from_pretrained(name, output_loading_info=True)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineUnavailable(f"{wanted}, got {first}") from error
    if report["missing_keys"]:
        lacking = ", ".join(sorted(report["missing_keys"])[:3])
        raise EngineUnavailable(f"{wanted}, got a model without weights for {lacking}")
    return extract, model, int(model.config.xvector_output_dim)
