"""Online diarization: clustering of voice vectors, as a pure function of an immutable state.

At every turn, the turns still in memory are clustered anew, bottom up, together with one anchor per speaker
that holds all older turns and any enrolment. So an early mistake is corrected as soon as later turns show
it, and the caller gets the corrections. A greedy nearest-centroid rule, which never looks back, assigns fewer
turns correctly (`scripts/tune_diarization` prints both).

A voice vector of little speech is noisy: the cosine of two vectors of one person grows with the speech behind
them. So similarity is measured as a share of what that much speech lets expect
(`speaker_change.expected_similarity`). What is too short for a person of its own joins the most similar one.

Parameters keep diart's names (Coria et al., 2021, arXiv:2109.06483) if their meaning is the same. Its
`rho_update` is not needed: short turns get a lower weight instead of none.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import DiarizationConfig
from stream_erc.core.clustering_state import ClusteringState, capped
from stream_erc.core.speaker_change import expected_similarity
from stream_erc.events import Vector
from stream_erc.exceptions import ConfigError, ProtocolMisuse

ENROLMENT_WEIGHT = 10.0
"""The weight of an enrolled voice, in seconds of speech."""

HALF_LIKE_TURN = 2.0
"""Seconds of speech at which the voice vectors of turns have half of their full similarity."""

RARE = 0.05
"""The share of all speech below which a voice is rare: the oddest turns of a long talk are no new person."""

RARE_LIKE = 0.4
"""The share of the expected similarity from which a rare voice joins the most similar one."""

UNSURE = 0.1
"""The lead in similarity, as a share of what is expected, below which a turn's speaker is unsure."""


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
        unsure: whether another speaker's voice is nearly as similar, or there was too little speech to tell.
    """

    speaker: int
    similarity: float
    is_new: bool
    corrections: tuple[tuple[int, int], ...] = ()
    unsure: bool = False


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
        state = self._recluster(state)
        speakers = state.recent_speakers
        speaker = int(speakers[-1])
        moved = np.flatnonzero(speakers[:-1] != old)
        known = before.centroids()
        is_new = speaker not in before.speakers() and speaker not in speakers[:-1]
        similarity = 0.0
        if embedding is not None and known:
            others = known.values() if speaker not in known else [known[speaker]]
            similarity = max(float(embedding @ other) for other in others)
        corrections = tuple((int(state.recent_turns[i]), int(speakers[i])) for i in moved)
        return state, Assignment(speaker, similarity, is_new, corrections, self._unsure(state))

    def allowing(self, silent: int) -> "OnlineClustering":
        """Return the clustering for sessions with `silent` known voices that have not spoken.

        They are no speakers of the session yet, so its number of speakers is bounded without them.
        """
        if not silent:
            return self
        config, given = self.config, self.config.speakers
        speakers = None if given is None else given + silent
        other = copy.copy(self)
        other.config = replace(config, speakers=speakers, max_speakers=config.max_speakers + silent)
        return other

    def enrol(
        self, state: ClusteringState, name: str, embedding: Vector, speaker: int | None = None
    ) -> ClusteringState:
        """Return the state with the voice of `name` added; enrolling a name again adds to its voice.

        An enrolled voice takes the next free speaker index, and is never merged with another speaker's
        anchor.

        Args:
            state: the state of a session, begun or not.
            name: the speaker's name.
            embedding: voice vector (D,) of unit length.
            speaker: the index of a speaker whose voice it is, and who gets the name; None finds one by name.
        """
        self._check(embedding)
        found = state.names.index(name) if name in state.names else _free_index(state.speakers())
        index = found if speaker is None else speaker
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
        names = list(state.names)
        names[into], names[source] = names[into] or names[source], None
        return replace(_joined(state, source, into), names=tuple(names))

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
            weight = max(1, duration_samples) / SAMPLE_RATE
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

    def _recluster(self, state: ClusteringState) -> ClusteringState:
        """Cluster the anchors and the turns in memory anew; return the state with the turns' speakers."""
        from scipy.optimize import linear_sum_assignment  # imports slowly, and is not needed at the start

        sums, weights = capped(state.sums, state.weights)
        anchors = np.flatnonzero(weights > 0)
        turns = np.flatnonzero(state.recent_weights > 0)
        turn_weights = state.recent_weights[turns]
        named = [state.names[anchor] is not None for anchor in anchors]
        groups = self._agglomerate(
            np.concatenate([sums[anchors], state.recent[turns].astype(np.float32) * turn_weights[:, None]]),
            np.concatenate([weights[anchors], turn_weights]),
            np.concatenate([np.array(named, dtype=bool), np.zeros(len(turns), dtype=bool)]),
        )
        # A group takes the index of its named anchor, or of its heaviest one; without an anchor the index
        # that most of its turns had, else the lowest free one.
        speaker_of: dict[int, int] = {}
        order = sorted(range(len(anchors)), key=lambda i: (not named[i], -float(state.weights[anchors[i]])))
        for i in order:
            into = speaker_of.setdefault(int(groups[i]), int(anchors[i]))
            if into != anchors[i]:
                state = _joined(state, int(anchors[i]), into)
        loose = [g for g in dict.fromkeys(groups.tolist()) if g not in speaker_of]
        size = len(anchors) + len(loose) + 1 + max(0, *state.recent_speakers.tolist(), *anchors.tolist())
        shared = np.zeros((len(loose), size))
        for turn, group in zip(turns, groups[len(anchors) :], strict=True):
            if group not in speaker_of and state.recent_speakers[turn] >= 0:
                shared[loose.index(group), state.recent_speakers[turn]] += state.recent_weights[turn]
        shared[:, list(speaker_of.values())] = -1e9  # the index of an anchor belongs to its own group
        # Prefer the lowest free index, and let the earliest group choose first.
        shared -= 1e-6 * np.arange(size) * np.arange(len(loose), 0, -1)[:, None]
        rows, columns = linear_sum_assignment(-shared)
        speaker_of |= {loose[row]: int(column) for row, column in zip(rows, columns, strict=True)}
        speakers = state.recent_speakers.copy()
        speakers[turns] = [speaker_of[g] for g in groups[len(anchors) :].tolist()]
        for turn in np.flatnonzero(state.recent_weights == 0):
            speakers[turn] = speakers[turn - 1] if turn else state.last
        return replace(state, recent_speakers=speakers)

    def _agglomerate(
        self, sums: NDArray[np.float32], seconds: NDArray[np.float32], named: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Cluster items bottom up, the pair first that is clearest to be one person.

        Args:
            sums: weighted vectors (I, D).
            seconds: their weights, (I,).
            named: items that are different known speakers, bool (I,); two of them are never joined.

        Returns:
            The group of each item, (I,).
        """
        config = self.config
        groups = np.arange(len(seconds))
        products = sums.astype(np.float64) @ sums.T.astype(np.float64)
        heard = np.where(named, 0.0, seconds)
        clusters = _Clusters(products, seconds.astype(np.float64), heard, named.copy(), groups)
        known = config.speakers is not None
        least = config.delta_known if known else config.delta_new
        most = max(config.speakers or config.max_speakers, int(named.sum()))
        while len(clusters) > 1:
            clearness = clusters.clearness(least)
            a, b = divmod(int(clearness.argmax()), len(clusters))
            if np.isneginf(clearness[a, b]) or (clearness[a, b] <= 0 and len(clusters) <= most):
                break
            clusters.join(a, b)
        while len(clusters) > (most if known else 1):
            pair = clusters.lesser(config.tau_active_ms / 1000)
            if pair is None:
                break
            clusters.join(*pair)
        return clusters.groups

    def _unsure(self, state: ClusteringState) -> bool:
        """Return whether the last turn's voice does not clearly tell its speaker from the others."""
        weight, speaker = float(state.recent_weights[-1]), int(state.recent_speakers[-1])
        if weight == 0:
            return len(state.speakers()) > 1
        voice = state.recent[-1].astype(np.float32)
        before = replace(
            state,
            recent=state.recent[:-1],
            recent_weights=state.recent_weights[:-1],
            recent_speakers=state.recent_speakers[:-1],
            recent_turns=state.recent_turns[:-1],
        )
        means = before.centroids()
        others = [float(voice @ mean) for other, mean in means.items() if other != speaker]
        if not others:
            return False
        expected = expected_similarity(weight, self.config.tau_active_ms / 1000)
        mine = float(voice @ means[speaker]) if speaker in means else self.config.delta_new * expected
        return mine - max(others) < UNSURE * expected


@dataclass(slots=True, eq=False)
class _Clusters:
    """Clusters of voice vectors while they are joined.

    Attributes:
        products: scalar products of their weighted sums, (K, K).
        seconds: their speech, (K,).
        heard: the same without the anchors of known voices, which may not have spoken here, (K,).
        named: whether each is a known speaker, (K,).
        groups: the cluster of each item, (I,).
    """

    products: NDArray[np.float64]
    seconds: NDArray[np.float64]
    heard: NDArray[np.float64]
    named: NDArray[np.bool_]
    groups: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.seconds)

    def similarity(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the cosines of all pairs and what they are expected to be for one person, (K, K) each."""
        norms = np.sqrt(np.maximum(np.diag(self.products), 1e-12))
        reliable = np.sqrt(self.seconds / (self.seconds + HALF_LIKE_TURN))
        return self.products / np.outer(norms, norms), np.outer(reliable, reliable)

    def clearness(self, least: float) -> NDArray[np.float64]:
        """Return how clear it is that each pair is one person, (K, K): positive if it is one.

        Args:
            least: the least similarity of one person, as a share of what is expected.
        """
        cosine, expected = self.similarity()
        clearness = (cosine - least * expected) * expected
        clearness[np.outer(self.named, self.named)] = -np.inf
        np.fill_diagonal(clearness, -np.inf)
        return clearness

    def lesser(self, least_s: float) -> tuple[int, int] | None:
        """Return a cluster that is no person of its own, and the one that it is most similar to.

        It is one with less than `least_s` of speech, or a rare one that is somewhat similar to another.
        """
        cosine, expected = self.similarity()
        cosine[np.outer(self.named, self.named)] = -np.inf
        np.fill_diagonal(cosine, -np.inf)
        total = self.heard.sum()
        for a in np.argsort(self.seconds, kind="stable").tolist():
            b = int(cosine[a].argmax())
            rare = self.seconds[a] < RARE * total and cosine[a, b] > RARE_LIKE * expected[a, b]
            if not self.named[a] and not np.isneginf(cosine[a, b]) and (self.seconds[a] < least_s or rare):
                return a, b
        return None

    def join(self, a: int, b: int) -> None:
        """Join two clusters; the later one takes the number of the earlier one."""
        a, b = min(a, b), max(a, b)
        products = self.products
        products[a] += products[b]
        products[:, a] += products[:, b]
        self.products = np.delete(np.delete(products, b, 0), b, 1)
        self.seconds[a] += self.seconds[b]
        self.seconds = np.delete(self.seconds, b)
        self.heard[a] += self.heard[b]
        self.heard = np.delete(self.heard, b)
        self.named[a] |= self.named[b]
        self.named = np.delete(self.named, b)
        self.groups[self.groups == b] = a
        self.groups[self.groups > b] -= 1


def _joined(state: ClusteringState, source: int, into: int) -> ClusteringState:
    """Return the state with the anchor of `source` added to that of `into`."""
    sums, weights = state.sums.copy(), state.weights.copy()
    sums[into] += sums[source]
    weights[into] += weights[source]
    sums[source], weights[source] = 0.0, 0.0
    return replace(state, sums=sums, weights=weights, last=into if state.last == source else state.last)


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
