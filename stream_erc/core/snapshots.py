"""Snapshots as bytes: the form in which a store keeps a session and another process resumes it.

A snapshot is stored in parts, since most of it does not change from turn to turn. The *header* is written
anew each time; a *step*, a past turn that a correction can still reach, is written once. Neither contains
audio, only values computed from it. Both contain the words of the last turns.
"""

from collections.abc import Mapping
from typing import Protocol, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from stream_erc.core.channels import ChannelMemory
from stream_erc.core.clustering_state import ClusteringState
from stream_erc.core.conversation import AnalyzedTurn, Conversation, Memory, Step
from stream_erc.core.endpointing import EndpointState, Phase
from stream_erc.core.segmentation import SegmenterMark
from stream_erc.core.session import Snapshot
from stream_erc.core.speaker_change import Stretch
from stream_erc.core.speaker_watch import Question, WatchState
from stream_erc.core.summary import Span, SpeakerTally, Tally, Totals
from stream_erc.core.vad import CONTEXT, VadState
from stream_erc.core.work import ConversationState
from stream_erc.events import Features, Latency, Turn, Word
from stream_erc.exceptions import InputError

VERSION = 4

T = TypeVar("T")


class StateCodec(Protocol):
    """Encodes the network's memory as bytes; `EmotionClassifier` implements it."""

    def state_to_bytes(self, state: ConversationState) -> bytes:
        """Encode a state."""
        ...

    def state_from_bytes(self, blob: bytes) -> ConversationState:
        """Decode a state, bit for bit."""
        ...


_SpeakerTally: TypeAlias = tuple[
    int,
    int,
    tuple[Totals, ...],
    int | None,
    tuple[tuple[int, int, int], ...],
    tuple[tuple[int, int], ...],
]
"""The fields of a `SpeakerTally`."""


class _Memory(msgspec.Struct, frozen=True, array_like=True):
    past: tuple[tuple[int, str], ...]
    state: bytes | None
    speakers: tuple[_SpeakerTally, ...]
    spans: tuple[Span, ...]


class _Mark(msgspec.Struct, frozen=True, array_like=True):
    position: int
    audio_from: int
    segments: int
    vad: tuple[bytes, bytes] | None  # hidden, cell; the context is audio, which the client sends again
    endpoint: tuple[str, int, int, int, int, int, int, int] | None
    partial_at: int | None
    last_heard: int
    channels: tuple["_Mark", ...]
    questions: tuple[tuple[int, int, bool], ...]
    stretches: tuple[tuple[int, int, bytes], ...]


class _Channels(msgspec.Struct, frozen=True, array_like=True):
    voices: tuple[tuple[int, int], ...]
    clusterings: tuple[tuple[int, dict[str, object]], ...]
    languages: tuple[tuple[int, str], ...]


class _Header(msgspec.Struct, frozen=True, array_like=True):
    version: int
    memory: _Memory
    turns: int
    names: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    pinned: tuple[int, ...]
    clustering: dict[str, object] | None
    mark: _Mark
    failed: int
    events: int
    inputs: int
    language: str | None
    channels: _Channels
    known: int


class _Step(msgspec.Struct, frozen=True, array_like=True):
    version: int
    before: _Memory
    turn: tuple[int, int, str, int | None, int | None, str | None, str | None]
    words: tuple[tuple[str, int, int, float], ...]
    channel: int | None
    overlap: float
    unsure: bool
    acoustic: bytes | None
    latency: tuple[float, float, float, float, float]
    revision: int


def encode_header(snapshot: Snapshot, codec: StateCodec) -> bytes:
    """Encode a snapshot without its steps."""
    now = snapshot.conversation
    return msgspec.msgpack.encode(
        _Header(
            VERSION,
            _from_memory(now.memory, codec),
            now.turns,
            now.names,
            now.renamed,
            tuple(sorted(now.pinned)),
            None if now.clustering is None else now.clustering.to_blob(),
            _from_mark(snapshot.mark),
            snapshot.failed,
            snapshot.events,
            snapshot.inputs,
            now.language,
            _Channels(
                now.channels.voices,
                tuple((channel, state.to_blob()) for channel, state in now.channels.clusterings),
                now.channels.languages,
            ),
            now.known,
        )
    )


def encode_step(step: Step, codec: StateCodec) -> bytes:
    """Encode a past turn and the memory before it."""
    analyzed = step.analyzed
    turn, latency, acoustic = analyzed.turn, analyzed.latency, analyzed.features.acoustic
    return msgspec.msgpack.encode(
        _Step(
            VERSION,
            _from_memory(step.before, codec),
            (turn.index, turn.speaker, turn.text, turn.start, turn.end, turn.language, turn.translation),
            tuple((word.text, word.start, word.end, word.probability) for word in turn.words),
            turn.channel,
            turn.overlap,
            turn.unsure,
            None if acoustic is None else _bytes(acoustic),
            (latency.endpointing, latency.asr, latency.features, latency.emotion, latency.total),
            analyzed.revision,
        )
    )


def decode(header: bytes, steps: Mapping[int, bytes], codec: StateCodec) -> Snapshot:
    """Decode a snapshot, bit for bit.

    Args:
        header: the bytes from `encode_header`.
        steps: turn index -> the bytes from `encode_step`.
        codec: the codec of the session's network.

    Raises:
        InputError: other bytes, or those of another version or network.
    """
    kept = _decode(header, _Header)
    clustering = None if kept.clustering is None else ClusteringState.from_blob(kept.clustering)
    memory = _to_memory(kept.memory, codec)
    conversation = Conversation(
        turns=kept.turns,
        past=memory.past,
        names=kept.names,
        clustering=clustering,
        state=memory.state,
        pinned=frozenset(kept.pinned),
        tally=memory.tally,
        renamed=kept.renamed,
        language=kept.language,
        channels=ChannelMemory(
            kept.channels.voices,
            tuple((k, ClusteringState.from_blob(state)) for k, state in kept.channels.clusterings),
            kept.channels.languages,
        ),
        known=kept.known,
    )
    done = tuple(_to_step(_decode(steps[turn], _Step), codec) for turn in sorted(steps))
    return Snapshot(conversation, _to_mark(kept.mark), kept.failed, done, kept.events, kept.inputs)


def _decode(blob: bytes, kind: type[T]) -> T:
    try:
        made = msgspec.msgpack.decode(blob, type=kind)
    except msgspec.DecodeError as error:
        raise InputError(f"expected a snapshot of version {VERSION}, got bytes with {error}") from error
    version = getattr(made, "version", None)
    if version != VERSION:
        raise InputError(f"expected a snapshot of version {VERSION}, got version {version}")
    return made


def _from_memory(memory: Memory, codec: StateCodec) -> _Memory:
    state = None if memory.state is None else codec.state_to_bytes(memory.state)
    speakers = tuple(
        (t.turns, t.samples, t.emotions, t.last, t.shifts, t.interruptions) for t in memory.tally.speakers
    )
    return _Memory(memory.past, state, speakers, memory.tally.spans)


def _to_memory(kept: _Memory, codec: StateCodec) -> Memory:
    state = None if kept.state is None else codec.state_from_bytes(kept.state)
    return Memory(kept.past, state, Tally(tuple(SpeakerTally(*t) for t in kept.speakers), kept.spans))


def _from_mark(mark: SegmenterMark) -> _Mark:
    vad, endpoint = mark.vad, mark.endpoint
    return _Mark(
        mark.position,
        mark.audio_from,
        mark.segments,
        None if vad is None else (_bytes(vad.hidden), _bytes(vad.cell)),
        None
        if endpoint is None
        else (
            endpoint.phase.value,
            endpoint.position,
            endpoint.start,
            endpoint.end,
            endpoint.needed,
            endpoint.soft_from,
            endpoint.earliest,
            endpoint.latest,
        ),
        mark.partial_at,
        mark.last_heard,
        tuple(map(_from_mark, mark.channels)),
        tuple((q.position, q.end, q.paused) for q in mark.watch.questions),
        tuple((s.start, s.end, _bytes(s.voice)) for s in mark.watch.stretches),
    )


def _to_mark(kept: _Mark) -> SegmenterMark:
    vad = None
    if kept.vad is not None:
        hidden, cell = kept.vad
        vad = VadState(_array(hidden), _array(cell), np.zeros(CONTEXT, dtype=np.float32))
    endpoint = None
    if kept.endpoint is not None:
        endpoint = EndpointState(Phase(kept.endpoint[0]), *kept.endpoint[1:])
    return SegmenterMark(
        kept.position,
        kept.audio_from,
        kept.segments,
        vad,
        endpoint,
        kept.partial_at,
        kept.last_heard,
        tuple(map(_to_mark, kept.channels)),
        WatchState(
            tuple(Question(*question) for question in kept.questions),
            tuple(Stretch(start, end, _array(voice)) for start, end, voice in kept.stretches),
        ),
    )


def _to_step(kept: _Step, codec: StateCodec) -> Step:
    acoustic = None if kept.acoustic is None else _array(kept.acoustic)
    turn = Turn(
        *kept.turn, tuple(Word(*word) for word in kept.words), kept.channel, kept.overlap, kept.unsure
    )
    analyzed = AnalyzedTurn(turn, Features(acoustic), Latency(*kept.latency), kept.revision)
    return Step(_to_memory(kept.before, codec), analyzed)


def _bytes(values: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _array(blob: bytes) -> NDArray[np.float32]:
    return np.frombuffer(blob, dtype="<f4").astype(np.float32)
