"""The state of online diarization: an immutable value, which encodes to JSON and back bit for bit."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_erc.events import Vector
from stream_erc.exceptions import InputError

MAX_ANCHOR_WEIGHT = 30.0
"""The largest weight of a speaker's older turns, in seconds, so that a voice may drift over hours."""


@dataclass(frozen=True, slots=True, eq=False)
class ClusteringState:
    """The speakers of one session: an immutable value with read-only arrays.

    A turn's weight is its speech in seconds.

    Attributes:
        sums: weighted sum of the anchored voice vectors of each speaker, float32 (S, D).
        weights: weights of the anchors, float32 (S,); 0 while all turns of a speaker are in memory.
        names: names of the enrolled speakers, None for the others; length S.
        turns: the default index of the next turn.
        last: the speaker of the last turn before those in memory; 0 if there was none.
        recent: voice vectors of the last H turns, float16 (H, D); 0 for a turn without one.
        recent_weights: their weights, float32 (H,); a turn without a voice vector has weight 0, and gets the
            speaker of the previous turn.
        recent_speakers: their speakers, int16 (H,).
        recent_turns: their turn indices, int32 (H,).
    """

    sums: NDArray[np.float32]
    weights: NDArray[np.float32]
    names: tuple[str | None, ...]
    turns: int
    last: int
    recent: NDArray[np.float16]
    recent_weights: NDArray[np.float32]
    recent_speakers: NDArray[np.int16]
    recent_turns: NDArray[np.int32]

    def __post_init__(self) -> None:
        for key in _DTYPES:
            getattr(self, key).setflags(write=False)

    @property
    def dim(self) -> int:
        """D, the length of the voice vectors."""
        return int(self.sums.shape[1])

    def speakers(self) -> list[int]:
        """Return the indices of all speakers with turns or an enrolment."""
        return sorted({*np.flatnonzero(self.weights > 0).tolist(), *self.recent_speakers.tolist()})

    def centroids(self) -> dict[int, Vector]:
        """Return speaker -> mean voice, (D,) of unit length, for all speakers with a voice."""
        means = {}
        for speaker in self.speakers():
            mine = self.recent_speakers == speaker
            total = self.recent_weights[mine] @ self.recent[mine].astype(np.float32)
            if speaker < len(self.sums):
                total = total + capped(self.sums, self.weights)[0][speaker]
            norm = float(np.linalg.norm(total))
            if norm > 0:
                means[speaker] = np.asarray(total / norm, dtype=np.float32)
        return means

    def to_blob(self) -> dict[str, object]:
        """Encode the state as a JSON value; `from_blob` restores it bit for bit."""
        return {
            "version": 2,
            "dim": self.dim,
            "turns": self.turns,
            "last": self.last,
            "names": list(self.names),
            **{key: base64.b64encode(getattr(self, key).tobytes()).decode() for key in _DTYPES},
        }

    @classmethod
    def from_blob(cls, blob: Mapping[str, object]) -> "ClusteringState":
        """Decode the state that `to_blob` encoded.

        Raises:
            InputError: any other value.
        """
        try:
            if blob["version"] != 2:
                raise ValueError(f"version {blob['version']!r}")
            dim, turns, last, names = blob["dim"], blob["turns"], blob["last"], blob["names"]
            if not (isinstance(dim, int) and isinstance(turns, int) and isinstance(last, int)):
                raise ValueError(f"dim {dim!r}, turns {turns!r}, last {last!r}")
            if not isinstance(names, list):
                raise ValueError(f"names {names!r}")
            flat = {
                key: np.frombuffer(base64.b64decode(str(blob[key]), validate=True), dtype=kind)
                for key, kind in _DTYPES.items()
            }
            state = cls(
                flat["sums"].reshape(-1, dim),
                flat["weights"],
                tuple(None if name is None else str(name) for name in names),
                turns,
                last,
                flat["recent"].reshape(-1, dim),
                flat["recent_weights"],
                flat["recent_speakers"],
                flat["recent_turns"],
            )
            if not len(state.sums) == len(state.weights) == len(names):
                raise ValueError(f"{len(names)} names of {len(state.sums)} speakers")
            memory = (state.recent, state.recent_weights, state.recent_speakers, state.recent_turns)
            if len({len(array) for array in memory}) != 1:
                raise ValueError(f"{len(state.recent)} vectors of {len(state.recent_turns)} turns")
        except (KeyError, ValueError, TypeError) as error:
            raise InputError(f"expected a clustering state of version 2, got one with {error}") from error
        return state


_DTYPES: Mapping[str, str] = {
    "sums": "<f4",
    "weights": "<f4",
    "recent": "<f2",
    "recent_weights": "<f4",
    "recent_speakers": "<i2",
    "recent_turns": "<i4",
}


def capped(
    sums: NDArray[np.float32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale anchors (S, D) and their weights (S,) down to at most `MAX_ANCHOR_WEIGHT`."""
    scale = np.minimum(1.0, MAX_ANCHOR_WEIGHT / np.maximum(weights, 1e-6))
    return (sums * scale[:, None]).astype(np.float32), (weights * scale).astype(np.float32)
