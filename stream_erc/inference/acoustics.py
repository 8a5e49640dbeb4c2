"""The acoustic features of a turn, in a checkpoint's order: functionals, voice states, prosody.

Each is there if a network was trained on it. Voice states are the states of CAM++
(`stream_erc.inference.speaker_encoder`), from the same pass as the voice vector; prosody is
`stream_erc.inference.prosody`. For functionals openSMILE (Eyben et al., 2010) computes frame-wise descriptors
and summarises each over the segment. Segments are first scaled to one speech level: functionals of energy,
loudness and flux depend on the microphone's gain, which says nothing about the speaker, and openSMILE reads
16-bit integers, in which a quiet recording loses detail.
"""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Vector
from stream_erc.exceptions import CheckpointError, EngineUnavailable
from stream_erc.inference.level import at_level, speech_level_dbfs
from stream_erc.inference.pool import Pool
from stream_erc.inference.prosody import DESCRIPTORS, measure
from stream_erc.inference.speaker_encoder import CampplusEncoder, SpeakerEncoder

SET_DIMS: Mapping[str, int] = {"ComParE_2016": 6373, "eGeMAPSv02": 88}
"""Number of functionals in each set; ComParE_2016 is the corrected successor of the IS13 ComParE set."""

VOICE_STATES = "CAM++"
"""The encoder of the voice states, by its name in checkpoints."""

MIN_SAMPLES = 960
"""60 ms, openSMILE's longest window: a shorter segment has no features."""

SPEECH_LEVEL_DBFS = -26.0
"""The speech level of scaled segments (customary with ITU-T P.56); peaks are about 8 dB below full scale."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """A description of acoustic features; that of the checkpoint and that of the runtime must agree.

    Attributes:
        set: the openSMILE feature set, "" for none.
        level: ``functionals``, one vector for each segment.
        sample_rate_hz: sample rate of the audio that openSMILE reads.
        dim: length of the whole vector: functionals, then voice states, then prosody.
        names_sha256: hash of the feature names in order.
        opensmile: version of the opensmile library, "" without functionals.
        speech_level_dbfs: the level that openSMILE's segments are scaled to, None for no scaling.
        prosody: names of the prosodic descriptors at the end, possibly none.
        voice_states: the speaker encoder whose states follow the functionals (``CAM++``), or "" for none.
    """

    set: str
    level: str
    sample_rate_hz: int
    dim: int
    names_sha256: str
    opensmile: str
    speech_level_dbfs: float | None = SPEECH_LEVEL_DBFS
    prosody: tuple[str, ...] = ()
    voice_states: str = ""

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a checkpoint's JSON."""
        return dataclasses.asdict(self) | {"prosody": list(self.prosody)}

    @classmethod
    def from_dict(cls, table: Mapping[str, object]) -> "FeatureSpec":
        """Read a checkpoint's JSON; without the key ``voice_states`` there are none.

        Raises:
            CheckpointError: a key is missing, unknown, or of the wrong type.
        """
        kinds: dict[str, tuple[type, ...]] = {
            "set": (str,),
            "level": (str,),
            "sample_rate_hz": (int,),
            "dim": (int,),
            "names_sha256": (str,),
            "opensmile": (str,),
            "speech_level_dbfs": (int, float, type(None)),
            "prosody": (list, tuple),
            "voice_states": (str,),
        }
        table = {"voice_states": ""} | dict(table)
        if set(table) != set(kinds):
            raise CheckpointError(
                f"feature spec: expected the keys {', '.join(kinds)}, got {', '.join(table)}"
            )
        for key, value in table.items():
            if not isinstance(value, kinds[key]) or isinstance(value, bool):
                wanted = " or ".join(kind.__name__ for kind in kinds[key])
                raise CheckpointError(f"feature spec: {key}: expected {wanted}, got {value!r}")
        values = dict(table)
        values["prosody"] = tuple(str(name) for name in table["prosody"])  # type: ignore[attr-defined]
        return cls(**values)  # type: ignore[arg-type]


def check(runtime: FeatureSpec, checkpoint: FeatureSpec) -> None:
    """Refuse a checkpoint that was trained on other features than the runtime computes.

    Only the major and minor version of opensmile must agree: a patch release gives the same numbers.

    Raises:
        CheckpointError: naming the first difference.
    """
    for name, expected in checkpoint.to_dict().items():
        came = runtime.to_dict()[name]
        if name == "opensmile":
            same = str(expected).split(".")[:2] == str(came).split(".")[:2]
        else:
            same = expected == came
        if not same:
            raise CheckpointError(
                f"the checkpoint was made for other features: expected {name} {_shown(expected)}, "
                f"the runtime computes {_shown(came)}"
            )


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)[:24] if value not in (None, "") else "none"


def to_int16(samples: Samples) -> bytes:
    """Convert to 16-bit integers; clipped first, since 1.0 * 32768 would overflow to the negative end."""
    return (np.clip(samples, -1.0, 32767 / 32768) * np.float32(32768)).astype("<i2").tobytes()


class AcousticExtractor:
    """Extracts openSMILE functionals, voice states and prosody of a segment; thread-safe.

    openSMILE releases Python's global lock, so threads run in parallel. Each call borrows an openSMILE
    object, which is configured once and reset between segments (configuring takes 4 ms).

    Args:
        set_name: ``ComParE_2016`` (6,373 functionals), ``eGeMAPSv02`` (88), or "" for none.
        voice_states: the encoder whose states follow the functionals, ``CAM++`` (2,816) or "" for none.
        prosody: the prosodic descriptors at the end, of `stream_erc.inference.prosody.DESCRIPTORS`.
        level_dbfs: the speech level of openSMILE's input; None for no scaling.
        speaker_encoder: a loaded encoder; if it is not CAM++, that is loaded for the voice states.

    Raises:
        CheckpointError: an unknown feature set, encoder or prosodic descriptor.
        EngineUnavailable: opensmile or CAM++ cannot be had, or does not support this machine.
    """

    def __init__(
        self,
        set_name: str = "",
        *,
        voice_states: str = "",
        prosody: Sequence[str] = (),
        level_dbfs: float | None = SPEECH_LEVEL_DBFS,
        speaker_encoder: SpeakerEncoder | None = None,
    ) -> None:
        if set_name and set_name not in SET_DIMS:
            raise CheckpointError(f"feature set: expected one of {', '.join(SET_DIMS)}, got {set_name!r}")
        if voice_states not in ("", VOICE_STATES):
            raise CheckpointError(f"voice states: expected none or {VOICE_STATES}, got {voice_states!r}")
        for name in prosody:
            if name not in DESCRIPTORS:
                raise CheckpointError(f"prosody: expected some of {', '.join(DESCRIPTORS)}, got {name!r}")
        self._smiles, functionals, version = _functionals(set_name)
        self._level_dbfs = level_dbfs
        self._prosody = [DESCRIPTORS.index(name) for name in prosody]
        self._encoder: CampplusEncoder | None = None
        if voice_states:
            shared = speaker_encoder if isinstance(speaker_encoder, CampplusEncoder) else None
            self._encoder = shared or CampplusEncoder()
        states = self._encoder.state_names if self._encoder else ()
        self._states = slice(len(functionals), len(functionals) + len(states))
        self.names: tuple[str, ...] = (*functionals, *states, *prosody)
        self.spec = FeatureSpec(
            set=set_name,
            level="functionals",
            sample_rate_hz=SAMPLE_RATE,
            dim=len(self.names),
            names_sha256=hash_names(self.names),
            opensmile=version,
            speech_level_dbfs=level_dbfs,
            prosody=tuple(prosody),
            voice_states=voice_states,
        )

    def __call__(self, samples: Samples, states: Vector | None = None) -> Vector:
        """Return the functionals of a segment, then its voice states, then its prosody.

        Args:
            samples: the segment, (N,); NaN counts as silence.
            states: its voice states, if they came with the voice vector; otherwise they are computed here.

        Returns:
            (D,) in the order of `names`; NaN for a value that could not be measured, all NaN if the segment
            is shorter than 60 ms or silent.
        """
        samples = np.nan_to_num(np.asarray(samples, dtype=np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
        values = np.full(self.spec.dim, np.nan, dtype=np.float32)
        if len(samples) < MIN_SAMPLES or not np.isfinite(speech_level_dbfs(samples)):
            return values
        functionals = self._measure_functionals(samples)
        if functionals is not None:
            values[: len(functionals)] = functionals
        if self._encoder is not None:
            if states is None:
                _, states = self._encoder.hear(samples)
            if states is not None:
                values[self._states] = states
        if self._prosody:
            values[-len(self._prosody) :] = measure(samples)[self._prosody]
        values[~np.isfinite(values)] = np.nan
        return values

    def _measure_functionals(self, samples: Samples) -> Vector | None:
        if self._smiles is None:
            return None
        if self._level_dbfs is not None:
            samples = at_level(samples, self._level_dbfs)
        with self._smiles.lend() as smile:
            return smile.run(to_int16(samples))


def _functionals(set_name: str) -> "tuple[Pool[_Smile] | None, tuple[str, ...], str]":
    """Return openSMILE objects to borrow, the names of the set, and the library's version; nothing for ""."""
    if not set_name:
        return None, (), ""
    try:
        import opensmile
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineUnavailable(f"functionals need the package opensmile: {error}") from error
    smiles = Pool(lambda: _Smile(set_name))
    with smiles.lend() as smile:
        return smiles, smile.names, str(opensmile.__version__)


def load_extractor(spec: FeatureSpec, speaker_encoder: SpeakerEncoder | None = None) -> AcousticExtractor:
    """Return an extractor of the features that a checkpoint's network was trained on.

    Args:
        spec: the checkpoint's features.
        speaker_encoder: see `AcousticExtractor`.

    Raises:
        CheckpointError: this runtime computes other features.
        EngineUnavailable: see `AcousticExtractor`.
    """
    extractor = AcousticExtractor(
        spec.set,
        voice_states=spec.voice_states,
        prosody=spec.prosody,
        level_dbfs=spec.speech_level_dbfs,
        speaker_encoder=speaker_encoder,
    )
    check(extractor.spec, spec)
    return extractor


class DeferredExtractor:
    """An `AcousticExtractor` that is loaded by `warm_up`, or with its first segment.

    Args:
        spec: the checkpoint's features.
        speaker_encoder: see `AcousticExtractor`.
    """

    def __init__(self, spec: FeatureSpec, speaker_encoder: SpeakerEncoder | None = None) -> None:
        self._spec, self._speaker_encoder = spec, speaker_encoder
        self._extractor: AcousticExtractor | None = None

    def warm_up(self) -> AcousticExtractor:
        """Return the extractor, loaded if it was not.

        Raises:
            CheckpointError, EngineUnavailable: see `load_extractor`.
        """
        if self._extractor is None:
            self._extractor = load_extractor(self._spec, self._speaker_encoder)
        return self._extractor

    def __call__(self, samples: Samples, states: Vector | None = None) -> Vector:
        """Return the features of a segment, (D,); see `AcousticExtractor`."""
        return self.warm_up()(samples, states)


def hash_names(names: Sequence[str]) -> str:
    """Return the SHA-256 of feature names in order."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()


class _Smile:
    """One configured openSMILE, reset after each segment; for one thread.

    The library's own `Smile` reads its configuration anew for each signal and returns a data frame, with the
    same numbers.
    """

    _SOURCE, _SINK = "extsource", "extsink"

    def __init__(self, set_name: str) -> None:
        import opensmile
        from opensmile.core.lib import OpenSMILE

        root = Path(opensmile.core.smile.__file__).parent / opensmile.config.CONFIG_ROOT
        shared = root / "shared"
        options = {
            "source": root / opensmile.config.EXTERNAL_INPUT_CONFIG,
            "sink": root / opensmile.config.EXTERNAL_OUTPUT_SINGLE_CONFIG,
            "sinkLevel": opensmile.FeatureLevel.Functionals.value,
            "bufferModeRbConf": shared / "BufferModeRb.conf.inc",
            "frameModeFunctionalsConf": shared / "FrameModeFunctionals.conf.inc",
            "sampleRate": SAMPLE_RATE,
            "nBits": 16,
        }
        feature_set = getattr(opensmile.FeatureSet, set_name).value
        self._smile = OpenSMILE()
        self._smile.initialize(str(root / f"{feature_set}{opensmile.config.CONFIG_EXT}"), options)
        count = self._smile.external_sink_get_num_elements(self._SINK)
        self.names = tuple(self._smile.external_sink_get_element_name(self._SINK, i) for i in range(count))

    def run(self, pcm16: bytes) -> Vector | None:
        """Return the functionals of 16-bit audio, (D,), or None if openSMILE gives none."""
        found: list[Vector] = []
        smile = self._smile
        smile.external_sink_set_callback(self._SINK, lambda data: found.append(data.astype(np.float32)))
        smile.external_audio_source_write_data(self._SOURCE, pcm16)
        smile.external_audio_source_set_eoi(self._SOURCE)
        smile.run()
        smile.reset()  # reset also unregisters the callback,
        smile._callbacks.clear()  # but the library keeps a reference
        return found[-1] if found else None

    def __del__(self) -> None:
        smile = getattr(self, "_smile", None)
        if smile is not None:
            smile.free()
