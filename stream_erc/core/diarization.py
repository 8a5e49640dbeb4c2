"""Online diarization: clustering of voice vectors, as a pure function of an immutable state.

At every turn, the turns still in memory are clustered anew, by Ward's criterion, together with one anchor per
speaker that holds all older turns and any enrolment. So an early mistake is corrected as soon as later turns
show it, and the caller gets the corrections. A greedy nearest-centroid rule, which never looks back, assigns
fewer turns correctly (`scripts/tune_diarization` prints both).

Parameters keep diart's names (Coria et al., 2021, arXiv:2109.06483) if their meaning is the same. Its
`rho_update` is not needed: short turns get a lower weight instead of none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import ms_to_samples
from stream_erc.config import DiarizationConfig
from stream_erc.core.clustering_state import ClusteringState, capped
from stream_erc.events import Vector
from stream_erc.exceptions import ConfigError, ProtocolMisuse

ENROLMENT_WEIGHT = 3.0
"""The weight of an enrolled voice, in turns."""

MIN_WEIGHT = 0.1
"""The least weight of a turn with a voice vector, so that even the shortest goes to the nearest voice."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """The speaker of a turn.

    Attributes:
        speaker: 0-based, in the order in which voices were told apart. Corrections can leave a speaker
            without turns, which frees the index.
        similarity: cosine between the turn's voice and the speaker's earlier turns, or, for a new speaker,
            those of the nearest other speaker; 0 if there are none.
        is_new: whether this is the speaker's first turn.
        corrections: (earlier turn index, its new speaker), at most `memory_turns` back.
    """

    speaker: int
    similarity: float
    is_new: bool
    corrections: tuple[tuple[int, int], ...] = ()


class OnlineClustering:
    """Assigns turns to speakers. It holds only the configuration: the state is passed in and returned."""

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
        """Return the state before any turn."""
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
        """Assign the next turn to a speaker; return the new state and the assignment.

        Args:
            state: the state returned for the previous turn.
            embedding: voice vector (D,) of unit length; None assigns the turn to the previous speaker.
            duration_samples: the length of the turn's speech.
            turn: the index of this turn in later corrections; by default, the number of calls so far.
        """
        before = state
        turn = state.turns if turn is None else turn
        state = self._append(state, embedding, duration_samples, turn)
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
        """Return the state with the voice of `name` added; enrolling a name again adds to its voice.

        An enrolled voice takes the next free speaker index, and is never merged with another speaker's
        anchor.

        Args:
            state: the state of a session, begun or not.
            name: the speaker's name.
            embedding: voice vector (D,) of unit length.
        """
        self._check(embedding)
        index = state.names.index(name) if name in state.names else _free_index(state.speakers())
        state = _padded(state, index + 1)
        sums, weights = state.sums.copy(), state.weights.copy()
        sums[index] += ENROLMENT_WEIGHT * embedding
        weights[index] += ENROLMENT_WEIGHT
        names = (*state.names[:index], name, *state.names[index + 1 :])
        return replace(state, sums=sums, weights=weights, names=names)

    def merge(self, state: ClusteringState, source: int, into: int) -> ClusteringState:
        """Return the state with all turns of `source` assigned to `into`, and the index `source` free.

        Later corrections do not reach turns before a merge. The caller has to reassign the turns that it has
        recorded for `source`.

        Raises:
            ProtocolMisuse: not two different known speakers.
        """
        known = state.speakers()
        if source == into or source not in known or into not in known:
            raise ProtocolMisuse(f"expected two of the speakers {known} to merge, got {source} and {into}")
        state = self._anchor(state, len(state.recent))
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

    def _append(
        self, state: ClusteringState, embedding: Vector | None, duration_samples: int, turn: int
    ) -> ClusteringState:
        """Return the state with the turn appended to memory, not yet assigned (-1)."""
        weight = 0.0
        if embedding is None:
            embedding = np.zeros(self.dim, np.float32)
        else:
            self._check(embedding)
            active = ms_to_samples(self.config.tau_active_ms)
            weight = max(MIN_WEIGHT, min(1.0, duration_samples / active))
        state = self._anchor(state, len(state.recent) + 1 - self.config.memory_turns)
        return replace(
            state,
            turns=turn + 1,
            recent=np.concatenate([state.recent, embedding.astype(np.float16)[None]]),
            recent_weights=np.append(state.recent_weights, np.float32(weight)),
            recent_speakers=np.append(state.recent_speakers, np.int16(-1)),
            recent_turns=np.append(state.recent_turns, np.int32(turn)),
        )

    def _anchor(self, state: ClusteringState, count: int) -> ClusteringState:
        """Return the state with the oldest `count` turns moved from memory into their speakers' anchors."""
        if count <= 0:
            return state
        speakers = state.recent_speakers[:count]
        state = _padded(state, int(speakers.max()) + 1)
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
        """Cluster the turns in memory anew; return their speakers (H,)."""
        from scipy.optimize import linear_sum_assignment  # imports slowly, and is not needed at the start

        sums, weights = capped(state.sums, state.weights)
        anchors = np.flatnonzero(weights > 0)
        turns = np.flatnonzero(state.recent_weights > 0)
        turn_weights = state.recent_weights[turns]
        groups = self._ward(
            np.concatenate([sums[anchors], state.recent[turns].astype(np.float32) * turn_weights[:, None]]),
            np.concatenate([weights[anchors], turn_weights]),
            len(anchors),
        )
        # A group without an anchor takes the index that most of its turns had, else the lowest free one.
        speaker_of = dict(zip(groups[: len(anchors)].tolist(), anchors.tolist(), strict=True))
        loose = [g for g in dict.fromkeys(groups.tolist()) if g not in speaker_of]
        size = len(anchors) + len(loose) + 1 + max(0, *state.recent_speakers.tolist(), *anchors.tolist())
        shared = np.zeros((len(loose), size))
        for turn, group in zip(turns, groups[len(anchors) :], strict=True):
            if group not in speaker_of and state.recent_speakers[turn] >= 0:
                shared[loose.index(group), state.recent_speakers[turn]] += state.recent_weights[turn]
        shared[:, anchors] = -1e9  # the index of an anchor belongs to its own group
        # Prefer the lowest free index, and let the earliest group choose first.
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
        """Cluster items bottom up by Ward's criterion (Ward, 1963); the first `anchors` are never merged.

        Args:
            sums: weighted vectors (I, D).
            weights: (I,).
            anchors: the number of items at the front that are different speakers.

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


def _free_index(speakers: Sequence[int]) -> int:
    """Return the lowest unused speaker index."""
    return next(index for index in range(len(speakers) + 1) if index not in speakers)


def _padded(state: ClusteringState, count: int) -> ClusteringState:
    """Return the state padded to at least `count` anchors."""
    more = max(0, count - len(state.sums))
    return replace(
        state,
        sums=np.pad(state.sums, ((0, more), (0, 0))),
        weights=np.pad(state.weights, (0, more)),
        names=state.names + (None,) * more,
    )
