"""Who spoke: online clustering of voice vectors, as a function of a state that is a value.

Every turn, the turns still in memory are clustered anew, by Ward's criterion, together with one anchor per
speaker that holds all older turns and any enrolment. So an early mistake is put right as soon as later turns
show it, and what is put right comes back as corrections. A greedy nearest-centroid rule, which never looks
back, gets fewer turns right (`scripts/tune_diarization` prints both).

Parameters keep diart's names (Coria et al., 2021, arXiv:2109.06483) where they mean the same; its
`rho_update` has no place here, for short turns count less instead of not at all.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from stream_erc.audio import ms_to_samples
from stream_erc.config import DiarizationConfig
from stream_erc.events import Vector
from stream_erc.exceptions import ConfigError, InputError, ProtocolMisuse

ENROLMENT_WEIGHT = 3.0
"""An enrolled voice counts as this many turns."""

MIN_WEIGHT = 0.1
"""Of a turn with a voice vector, however short: as little as it says, it is given to the nearest voice."""

MAX_ANCHOR_WEIGHT = 8.0
"""Older turns of a speaker count at most as this many, so that a voice may drift over hours."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who spoke a turn.

    Attributes:
        speaker: 0-based, in the order in which voices were told apart; a speaker whom corrections left
            without turns frees its index.
        similarity: cosine between the turn's voice and the speaker's earlier turns, or, for a new speaker,
            the nearest other speaker's; 0 where there is nothing to compare.
        is_new: no turn before this one was this speaker's.
        corrections: (earlier turn index, speaker it now has), at most `memory_turns` back.
    """

    speaker: int
    similarity: float
    is_new: bool
    corrections: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ClusteringState:
    """What one session knows of its speakers; a value, its arrays are read-only.

    A weight counts turns: 1 for a turn of at least `tau_active` of speech, less for a shorter one.

    Attributes:
        sums: weighted sum of the anchored voice vectors of each speaker, float32 (S, D).
        weights: of the anchors, float32 (S,); 0 while all turns of a speaker are in memory.
        names: of the enrolled speakers, None for the others; length S.
        turns: the index that the next turn has by default.
        last: who spoke the turn before those in memory; 0 where there was none.
        recent: voice vectors of the last H turns, float16 (H, D); 0 where a turn had none.
        recent_weights: float32 (H,); 0 where a turn had no voice vector: it follows the turn before.
        recent_speakers: int16 (H,).
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
        """The indices that have turns or were enrolled."""
        return sorted({*np.flatnonzero(self.weights > 0).tolist(), *self.recent_speakers.tolist()})

    def centroids(self) -> dict[int, Vector]:
        """Speaker -> mean voice, (D,) of unit length, of those who were heard."""
        means = {}
        for speaker in self.speakers():
            mine = self.recent_speakers == speaker
            total = self.recent_weights[mine] @ self.recent[mine].astype(np.float32)
            if speaker < len(self.sums):
                total = total + _capped(self.sums, self.weights)[0][speaker]
            norm = float(np.linalg.norm(total))
            if norm > 0:
                means[speaker] = np.asarray(total / norm, dtype=np.float32)
        return means

    def to_blob(self) -> dict[str, object]:
        """A value that JSON can hold, from which `from_blob` makes the same state, bit for bit."""
        return {
            "version": 1,
            "dim": self.dim,
            "turns": self.turns,
            "last": self.last,
            "names": list(self.names),
            **{key: base64.b64encode(getattr(self, key).tobytes()).decode() for key in _DTYPES},
        }

    @classmethod
    def from_blob(cls, blob: Mapping[str, object]) -> "ClusteringState":
        """The state that `to_blob` wrote.

        Raises:
            InputError: not such a blob.
        """
        try:
            if blob["version"] != 1:
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
            raise InputError(f"expected a clustering state of version 1, got one with {error}") from error
        return state


_DTYPES: Mapping[str, str] = {
    "sums": "<f4",
    "weights": "<f4",
    "recent": "<f2",
    "recent_weights": "<f4",
    "recent_speakers": "<i2",
    "recent_turns": "<i4",
}


class OnlineClustering:
    """Assigns turns to speakers; holds the configuration only, the state goes in and comes back."""

    def __init__(self, config: DiarizationConfig, dim: int) -> None:
        wrong = [
            f"{name} of at least {least}, got {value}"
            for name, value, least in (
                ("speakers", config.speakers, 1),
                ("max_speakers", config.max_speakers, 1),
                ("memory_turns", config.memory_turns, 1),
                ("tau_active_ms", config.tau_active_ms, 1),
            )
            if value is not None and value < least
        ]
        if wrong:
            raise ConfigError(f"diarization: expected {wrong[0]}")
        self.config = config
        self.dim = dim

    def initial(self) -> ClusteringState:
        """The state of a session in which nobody has spoken."""
        return ClusteringState(
            np.zeros((0, self.dim), np.float32),
            np.zeros(0, np.float32),
            (),
            0,
            0,
            np.zeros((0, self.dim), np.float16),
            np.zeros(0, np.float32),
            np.zeros(0, np.int16),
            np.zeros(0, np.int32),
        )

    def assign(
        self,
        state: ClusteringState,
        embedding: Vector | None,
        duration_samples: int,
        turn: int | None = None,
    ) -> tuple[ClusteringState, Assignment]:
        """The state after one more turn, and who spoke it.

        Args:
            state: as the call for the turn before returned it.
            embedding: voice vector (D,) of unit length; None gives the turn to the speaker before.
            duration_samples: how much speech the turn has.
            turn: the index by which corrections will name this turn; without it, calls are counted.
        """
        before = state
        turn = state.turns if turn is None else turn
        state = self._remember(state, embedding, duration_samples, turn)
        old = state.recent_speakers[:-1]
        speakers = self._recluster(state)
        speaker = int(speakers[-1])
        moved = np.flatnonzero(speakers[:-1] != old)
        state = replace(state, recent_speakers=speakers)
        known = before.centroids()
        is_new = speaker not in before.speakers() and speaker not in speakers[:-1]
        similarity = 0.0
        if embedding is not None and known:
            others = known.values() if speaker not in known else [known[speaker]]
            similarity = max(float(embedding @ other) for other in others)
        corrections = tuple((int(state.recent_turns[i]), int(speakers[i])) for i in moved)
        return state, Assignment(speaker, similarity, is_new, corrections)

    def enrol(self, state: ClusteringState, name: str, embedding: Vector) -> ClusteringState:
        """The state in which the voice of `name` is known; enrolling a name again adds to it.

        An enrolled voice takes the next free speaker index, and is never merged with another one.

        Args:
            state: of a session, also of one that has not begun.
            name: whose voice it is.
            embedding: voice vector (D,) of unit length.
        """
        self._check(embedding)
        index = state.names.index(name) if name in state.names else _free(state.speakers())
        state = _with_speakers(state, index + 1)
        sums, weights = state.sums.copy(), state.weights.copy()
        sums[index] += ENROLMENT_WEIGHT * embedding
        weights[index] += ENROLMENT_WEIGHT
        names = (*state.names[:index], name, *state.names[index + 1 :])
        return replace(state, sums=sums, weights=weights, names=names)

    def merge(self, state: ClusteringState, source: int, into: int) -> ClusteringState:
        """The state in which all turns of `source` are those of `into`, and the index `source` is free.

        Later corrections do not reach behind a merge. The caller gives the turns it has recorded of `source`
        to `into`.

        Raises:
            ProtocolMisuse: these are not two known speakers.
        """
        known = state.speakers()
        if source == into or source not in known or into not in known:
            raise ProtocolMisuse(f"expected two of the speakers {known} to merge, got {source} and {into}")
        state = self._forget(state, len(state.recent))
        sums, weights, names = state.sums.copy(), state.weights.copy(), list(state.names)
        sums[into] += sums[source]
        weights[into] += weights[source]
        sums[source], weights[source] = 0.0, 0.0
        names[into], names[source] = names[into] or names[source], None
        last = into if state.last == source else state.last
        return replace(state, sums=sums, weights=weights, names=tuple(names), last=last)

    def _check(self, embedding: Vector) -> None:
        if embedding.shape != (self.dim,) or not np.isfinite(embedding).all():
            got = f"shape {embedding.shape}, {np.isfinite(embedding).sum()} of them finite"
            raise ProtocolMisuse(f"expected a finite voice vector of shape ({self.dim},), got {got}")

    def _remember(
        self, state: ClusteringState, embedding: Vector | None, duration_samples: int, turn: int
    ) -> ClusteringState:
        """The state with the turn as its latest, not yet given to anyone (-1)."""
        weight = 0.0
        if embedding is None:
            embedding = np.zeros(self.dim, np.float32)
        else:
            self._check(embedding)
            active = ms_to_samples(self.config.tau_active_ms)
            weight = max(MIN_WEIGHT, min(1.0, duration_samples / active))
        state = self._forget(state, len(state.recent) + 1 - self.config.memory_turns)
        return replace(
            state,
            turns=turn + 1,
            recent=np.concatenate([state.recent, embedding.astype(np.float16)[None]]),
            recent_weights=np.append(state.recent_weights, np.float32(weight)),
            recent_speakers=np.append(state.recent_speakers, np.int16(-1)),
            recent_turns=np.append(state.recent_turns, np.int32(turn)),
        )

    def _forget(self, state: ClusteringState, count: int) -> ClusteringState:
        """The state with the oldest `count` turns moved from memory into their speakers' anchors."""
        if count <= 0:
            return state
        speakers = state.recent_speakers[:count]
        state = _with_speakers(state, int(speakers.max()) + 1)
        sums, weights = state.sums.copy(), state.weights.copy()
        vectors = state.recent[:count].astype(np.float32) * state.recent_weights[:count, None]
        np.add.at(sums, speakers, vectors)
        np.add.at(weights, speakers, state.recent_weights[:count])
        return replace(
            state,
            sums=sums,
            weights=weights,
            last=int(speakers[-1]),
            recent=state.recent[count:].copy(),
            recent_weights=state.recent_weights[count:].copy(),
            recent_speakers=state.recent_speakers[count:].copy(),
            recent_turns=state.recent_turns[count:].copy(),
        )

    def _recluster(self, state: ClusteringState) -> NDArray[np.int16]:
        """The speakers of the turns in memory (H,), as of now."""
        sums, weights = _capped(state.sums, state.weights)
        anchors = np.flatnonzero(weights > 0)
        turns = np.flatnonzero(state.recent_weights > 0)
        turn_weights = state.recent_weights[turns]
        groups = self._ward(
            np.concatenate([sums[anchors], state.recent[turns].astype(np.float32) * turn_weights[:, None]]),
            np.concatenate([weights[anchors], turn_weights]),
            len(anchors),
        )
        # Groups without an anchor take the index that most of their turns had, else the lowest free one.
        speaker_of = dict(zip(groups[: len(anchors)].tolist(), anchors.tolist(), strict=True))
        loose = [g for g in dict.fromkeys(groups.tolist()) if g not in speaker_of]
        size = len(anchors) + len(loose) + 1 + max(0, *state.recent_speakers.tolist(), *anchors.tolist())
        shared = np.zeros((len(loose), size))
        for turn, group in zip(turns, groups[len(anchors) :], strict=True):
            if group not in speaker_of and state.recent_speakers[turn] >= 0:
                shared[loose.index(group), state.recent_speakers[turn]] += state.recent_weights[turn]
        shared[:, anchors] = -1e9  # an anchored index is another group's
        # Of free indices the lowest, and the earliest group chooses first.
        shared -= 1e-6 * np.arange(size) * np.arange(len(loose), 0, -1)[:, None]
        rows, columns = linear_sum_assignment(-shared)
        speaker_of |= {loose[row]: int(column) for row, column in zip(rows, columns, strict=True)}
        speakers = state.recent_speakers.copy()
        speakers[turns] = [speaker_of[g] for g in groups[len(anchors) :].tolist()]
        for turn in np.flatnonzero(state.recent_weights == 0):
            speakers[turn] = speakers[turn - 1] if turn else state.last
        return speakers

    def _ward(
        self, sums: NDArray[np.float32], weights: NDArray[np.float32], anchors: int
    ) -> NDArray[np.int64]:
        """Group items bottom up by Ward's criterion (Ward, 1963); the first `anchors` are never put together.

        Args:
            sums: weighted vectors (I, D).
            weights: (I,).
            anchors: how many of the items are speakers that are known to differ.

        Returns:
            The group of each item, (I,).
        """
        config = self.config
        groups = np.arange(len(weights))
        sums, weights = sums.astype(np.float64), weights.astype(np.float64)
        anchored = np.arange(len(weights)) < anchors
        most = max(config.speakers or config.max_speakers, anchors)
        threshold = config.delta_new if config.speakers is None else config.delta_known
        while len(weights) > 1:
            means = sums / weights[:, None]
            square = (means**2).sum(1)
            distance = np.maximum(square[:, None] + square - 2 * means @ means.T, 0.0)
            harmonic = weights[:, None] * weights / (weights[:, None] + weights)
            cost = distance * harmonic
            cost[np.outer(anchored, anchored) | np.eye(len(cost), dtype=bool)] = np.inf
            a, b = sorted(divmod(int(cost.argmin()), len(cost)))
            enough = distance[a, b] * harmonic[a, b] ** config.growth >= threshold
            if np.isinf(cost[a, b]) or (len(weights) <= most and enough):
                break
            sums[a] += sums[b]
            weights[a] += weights[b]
            groups[groups == b] = a
            groups[groups > b] -= 1
            sums, weights, anchored = np.delete(sums, b, 0), np.delete(weights, b), np.delete(anchored, b)
        return groups


def _free(speakers: Sequence[int]) -> int:
    """The lowest index that no speaker has."""
    return next(index for index in range(len(speakers) + 1) if index not in speakers)


def _with_speakers(state: ClusteringState, count: int) -> ClusteringState:
    """The state with room for at least `count` anchors."""
    more = max(0, count - len(state.sums))
    return replace(
        state,
        sums=np.pad(state.sums, ((0, more), (0, 0))),
        weights=np.pad(state.weights, (0, more)),
        names=state.names + (None,) * more,
    )


def _capped(
    sums: NDArray[np.float32], weights: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Anchors (S, D) and their weights (S,), none heavier than `MAX_ANCHOR_WEIGHT`."""
    scale = np.minimum(1.0, MAX_ANCHOR_WEIGHT / np.maximum(weights, 1e-6))
    return (sums * scale[:, None]).astype(np.float32), (weights * scale).astype(np.float32)
