"""Speaker encoders: the audio of a turn -> a voice vector of unit length.

An encoder holds read-only weights, shared by all sessions; the speakers of a session are in
`stream_erc.core.diarization`. CAM++ is the default: it ships with the project. It was trained on some 200,000
speakers to ignore the words, but not the manner of speaking, so statistics of its inner states tell emotions
apart, too, and come from the same pass.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from stream_erc.audio import SAMPLE_RATE, ms_to_samples
from stream_erc.config import DiarizationConfig
from stream_erc.events import Samples, Vector, unit
from stream_erc.exceptions import EngineUnavailable
from stream_erc.inference.devices import Device, on_gpu
from stream_erc.inference.filter_banks import BANDS, filter_banks
from stream_erc.inference.level import at_level
from stream_erc.inference.onnx_network import open_network, shipped_network
from stream_erc.inference.prosody import MIN_SAMPLES, speech_span

if TYPE_CHECKING:
    from torch import Tensor, nn

MIN_SPEECH_MS = 400
"""The least speech for a voice vector: a shorter one would depend on the vowel more than on the voice."""


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

    def hear(self, samples: Samples) -> tuple[Vector | None, Vector | None]:
        """Return a segment's voice vector as `embed` does, and its inner states, None if there are none."""


def load_encoder(config: DiarizationConfig, device: Device = "auto") -> SpeakerEncoder:
    """Load the encoder that `config.encoder` names: ``campplus``, or a model by path or hub name.

    Raises:
        EngineUnavailable: its package or its weights are not available.
        DeviceError: ``cuda`` was requested, but is not available.
    """
    gpu = on_gpu(device)
    return CampplusEncoder(gpu=gpu) if config.encoder == "campplus" else HubEncoder(config.encoder, gpu)


# --- CAM++ ----------------------------------------------------------------------------------------

LEVEL_DBFS = -30.0
"""The speech level that segments are scaled to: filter banks have a floor, which gain must not move."""

NUISANCE = "nuisance.safetensors"

MAX_FRAMES = 3_000
"""Frames of equally long segments that go through the network together: bounds the memory."""


class CampplusEncoder:
    """CAM++ (Wang et al., 2023, arXiv:2303.00332) of 3D-Speaker: 192 dimensions; it ships.

    The few directions in which emotions move one person's voice most are taken out of its vectors (nuisance
    attribute projection: Solomonoff et al., 2005), so that an angry voice is no new person. They are learned
    by `scripts/learn_nuisance`.

    It computes in the calling thread; thread-safe.

    Args:
        path: the ONNX file beside its config.json and nuisance.safetensors; None for the shipped one.
        project: whether to take the nuisance out.
        gpu: whether to compute on the GPU, if ONNX Runtime can.

    Raises:
        EngineUnavailable: no such file, onnxruntime cannot read it, or it is another network.
    """

    name = "campplus"
    dim = 192

    def __init__(self, path: Path | None = None, *, project: bool = True, gpu: bool = False) -> None:
        path = path if path is not None else shipped_network("campplus")
        self._network = open_network(path, "CAM++", gpu=gpu)
        config = json.loads(path.with_name("config.json").read_text(encoding="utf-8"))
        self.state_names: tuple[str, ...] = tuple(
            f"CAM++_{stage}_{statistic}_{channel}"
            for stage, channels in config["stages"].items()
            for statistic in ("mean", "deviation")
            for channel in range(channels)
        )
        """Names of the states, in order."""
        sizes = {output.name: output.shape[-1] for output in self._network.get_outputs()}
        wanted = {"embedding": self.dim, "states": len(self.state_names)}
        if sizes != wanted:
            raise EngineUnavailable(f"{path}: expected the CAM++ network with {wanted}, got {sizes}")
        self._nuisance = _read_nuisance(path.with_name(NUISANCE), self.dim) if project else None

    def embed(self, batch: Sequence[Samples]) -> list[Vector | None]:
        """See `SpeakerEncoder.embed`; segments of one length form a batch, since padding changes a vector."""
        heard = [speech_features(samples) for samples in batch]
        alike: dict[int, list[int]] = {}
        for i, (frames, speech_ms) in enumerate(heard):
            if speech_ms >= MIN_SPEECH_MS:
                alike.setdefault(len(frames), []).append(i)
        found: list[Vector | None] = [None] * len(batch)
        for length, places in alike.items():
            size = max(1, MAX_FRAMES // length)
            for first in range(0, len(places), size):
                some = places[first : first + size]
                together = np.stack([heard[i][0] for i in some])
                (vectors,) = self._network.run(["embedding"], {"filter_banks": together})
                for i, vector in zip(some, vectors, strict=True):
                    found[i] = unit(self._projected(vector))
        return found

    def hear(self, samples: Samples) -> tuple[Vector | None, Vector | None]:
        """See `SpeakerEncoder.hear`; the states, (2816,), need 100 ms of speech."""
        frames, speech_ms = speech_features(samples)
        if not len(frames):
            return None, None
        vectors, states = self._network.run(["embedding", "states"], {"filter_banks": frames[np.newaxis]})
        vector = unit(self._projected(vectors[0])) if speech_ms >= MIN_SPEECH_MS else None
        return vector, states[0]

    def _projected(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._nuisance is None:
            return vector
        return np.asarray(vector - (self._nuisance @ vector) @ self._nuisance, dtype=np.float32)


def _read_nuisance(path: Path, dim: int) -> NDArray[np.float32]:
    """Read orthonormal directions (K, D)."""
    try:
        directions = load_file(path)["directions"]
    except (OSError, KeyError, SafetensorError) as error:
        raise EngineUnavailable(f"{path}: expected the directions of a nuisance, got {error}") from error
    if directions.ndim != 2 or directions.shape[1] != dim:
        raise EngineUnavailable(f"{path}: expected directions (K, {dim}), got {directions.shape}")
    return np.asarray(directions, dtype=np.float32)


def speech_features(samples: Samples) -> tuple[NDArray[np.float32], float]:
    """Compute the filter banks of a segment's speech, less their mean over time.

    The segment is cut from the first to the last sound within 35 dB of the loudest, since silence around it
    must change nothing, and scaled to one level. Its pauses stay: without them voices are told apart worse.

    Args:
        samples: (N,); NaN counts as silence.

    Returns:
        (T, 80), T = 0 below 100 ms of speech; and the speech in milliseconds.
    """
    samples = np.nan_to_num(np.asarray(samples, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    start, end = speech_span(samples)
    if end - start < MIN_SAMPLES:
        return np.zeros((0, BANDS), dtype=np.float32), 0.0
    frames = filter_banks(at_level(samples[start:end], LEVEL_DBFS))
    return frames - frames.mean(axis=0), 1_000 * (end - start) / SAMPLE_RATE


# --- encoders from the hub ------------------------------------------------------------------------

MAX_SPEECH = 10 * SAMPLE_RATE  # of a longer turn, the middle: attention over more takes time and adds little


class HubEncoder:
    """A transformers x-vector model, such as ``microsoft/wavlm-base-plus-sv``, by path or hub name.

    Segments go through one by one: most of these models normalise over the time axis, so padding one segment
    to another's length would change its vector.
    """

    def __init__(self, name: str, gpu: bool) -> None:
        self.name = name
        self.device = "cuda" if gpu else "cpu"
        self._extract, model, self.dim = _load_xvector(name)
        self._model = model.to(self.device).eval().requires_grad_(False)

    def embed(self, batch: Sequence[Samples]) -> list[Vector | None]:
        """See `SpeakerEncoder.embed`; speech under 1 s is repeated to fill it."""
        return [self._embed_one(samples) for samples in batch]

    def hear(self, samples: Samples) -> tuple[Vector | None, Vector | None]:
        """See `SpeakerEncoder.hear`; there are no states."""
        return self.embed([samples])[0], None

    def _embed_one(self, samples: Samples) -> Vector | None:
        if len(samples) < ms_to_samples(MIN_SPEECH_MS) or not np.any(samples):
            return None
        cut = max(0, len(samples) - MAX_SPEECH) // 2
        samples = samples[cut : cut + MAX_SPEECH]
        if len(samples) < SAMPLE_RATE:
            samples = np.resize(samples, SAMPLE_RATE)
        import torch

        inputs = self._extract(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        with torch.inference_mode():
            vectors = self._model(inputs["input_values"].to(self.device)).embeddings  # (1, D)
        return unit(vectors[0].float().cpu().numpy())


def _load_xvector(name: str) -> "tuple[Callable[..., Mapping[str, Tensor]], nn.Module, int]":
    """Load the feature extractor, the network and the dimension of an x-vector model.

    Raises:
        EngineUnavailable: it is not available, or not an x-vector model.
    """
    from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

    wanted = (
        f"speaker encoder {name}: expected campplus, or a transformers x-vector model by path or hub name"
    )
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
