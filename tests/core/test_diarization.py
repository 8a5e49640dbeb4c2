import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import DiarizationConfig
from stream_erc.core.clustering_state import ClusteringState
from stream_erc.core.diarization import Assignment, OnlineClustering
from stream_erc.events import unit
from stream_erc.exceptions import ConfigError, InputError, ProtocolMisuse

DIM = 16
SECOND = SAMPLE_RATE


def voice(speaker, seed, spread=0.35):
    """Draw a voice vector near the speaker's axis; two speakers have a cosine of about 0."""
    noise = np.random.default_rng(seed).standard_normal(DIM) * spread / np.sqrt(DIM)
    return unit(np.eye(DIM)[speaker] + noise)


def clustering(**config):
    return OnlineClustering(DiarizationConfig(**config), DIM)


def run(cluster, turns, state=None):
    """Assign (embedding, samples) turns; return the first speakers, the final speakers, and the state."""
    state = state or cluster.initial()
    offset = state.turns
    first, last, answers = [], [], []
    for embedding, samples in turns:
        state, answer = cluster.assign(state, embedding, samples)
        first.append(answer.speaker)
        last.append(answer.speaker)
        answers.append(answer)
        for turn, speaker in answer.corrections:
            last[turn - offset] = speaker
    return first, last, state, answers


def conversation(speakers, seed=0, seconds=2.0):
    return [(voice(s, 100 * seed + i), round(seconds * SECOND)) for i, s in enumerate(speakers)]


# --- clustering -----------------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_finds_the_speakers_in_order_of_appearance(known):
    truth = [0, 1, 0, 2, 1, 0, 2, 2, 1, 0, 1, 2]
    first, last, _, answers = run(
        clustering(speakers=3 if known else None), conversation([s + 4 for s in truth])
    )
    assert last == truth
    assert answers[0] == Assignment(speaker=0, similarity=0.0, is_new=True)
    if known:
        assert first == truth and [i for i, a in enumerate(answers) if a.is_new] == [0, 1, 3]


def test_one_voice_is_one_speaker():
    assert set(run(clustering(), conversation([0] * 40))[1]) == {0}


@settings(max_examples=25, deadline=None)
@given(
    truth=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    speakers=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_never_more_than_the_known_number(truth, speakers, seed):
    first, last, state, _ = run(clustering(speakers=speakers, memory_turns=8), conversation(truth, seed))
    assert max(first) < speakers and len(set(last)) <= speakers
    assert len(state.speakers()) <= speakers and len(state.recent) <= 8


def test_never_more_than_max_speakers():
    first, last, _, _ = run(clustering(max_speakers=2), conversation([0, 1, 2, 3, 4, 5] * 3))
    assert max(first) < 2 and max(last) < 2


def test_an_early_mistake_is_corrected():
    between = unit(voice(0, 1, 0.0) + 0.6 * voice(1, 1, 0.0))
    turns = [(voice(0, 1), SECOND * 2), (between, SECOND * 2), *conversation([1, 1, 1, 0, 0, 1, 0], seed=3)]
    turns[1] = (unit(voice(0, 1, 0.0) + 0.95 * voice(1, 1, 0.0)), SECOND)
    first, last, state, answers = run(clustering(speakers=2), turns)
    corrections = [c for answer in answers for c in answer.corrections]
    assert first != last and corrections
    assert last == list(state.recent_speakers), "corrections lead to what the state believes"


def test_corrections_name_the_callers_turns():
    turns = conversation([0, 1, 2, 0, 1, 2], seed=5)
    cluster, shift = clustering(speakers=2), 10
    plain, shifted = cluster.initial(), cluster.initial()
    seen = 0
    for i, (embedding, samples) in enumerate(turns):
        plain, a = cluster.assign(plain, embedding, samples)
        shifted, b = cluster.assign(shifted, embedding, samples, turn=shift * i)
        assert b.corrections == tuple((shift * turn, speaker) for turn, speaker in a.corrections)
        seen += len(a.corrections)
    assert seen, "this conversation must need a correction"


def test_corrections_reach_no_further_than_the_memory():
    rng = np.random.default_rng(0)
    cluster = clustering(memory_turns=5)
    state = cluster.initial()
    for turn in range(60):
        state, answer = cluster.assign(state, voice(rng.integers(4), turn, spread=0.9), SECOND)
        assert all(turn - 5 < earlier < turn for earlier, _ in answer.corrections)
        assert len(state.recent) == min(5, turn + 1)


def test_no_voice_goes_to_the_speaker_before_and_follows_their_corrections():
    first, last, _, _ = run(clustering(speakers=2), [(None, 100), *conversation([0, 1]), (None, 5_000)])
    assert first == last == [0, 0, 1, 1]
    rng = np.random.default_rng(1)
    turns = [(voice(rng.integers(3), i, spread=0.9), SECOND) for i in range(30)]
    turns = [turn if i % 3 else (None, 3_000) for i, turn in enumerate(turns)]
    first, last, _, _ = run(clustering(), turns)
    assert first != last
    assert all(last[i] == last[i - 1] for i in range(3, 30, 3))


def test_a_short_strange_turn_opens_no_speaker_but_a_long_one_does():
    start = conversation([0, 0, 0, 0])
    assert set(run(clustering(), [*start, (voice(1, 9), SECOND // 4)])[1]) == {0}
    assert run(clustering(), [*start, (voice(1, 9), 2 * SECOND)])[1] == [0, 0, 0, 0, 1]


def test_a_state_is_a_value():
    cluster = clustering()
    _, _, state, _ = run(cluster, conversation([0, 1, 0, 1, 1]))
    blob = json.dumps(state.to_blob())
    for array in (state.sums, state.weights, state.recent, state.recent_weights, state.recent_speakers):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    once = cluster.assign(state, voice(2, 7), SECOND)
    again = cluster.assign(state, voice(2, 7), SECOND)
    cluster.merge(state, 0, 1)
    cluster.enrol(state, "Ada", voice(3, 7))
    assert json.dumps(state.to_blob()) == blob
    assert once[1] == again[1] and once[0].to_blob() == again[0].to_blob()
    with pytest.raises(dataclasses.FrozenInstanceError):
        state.turns = 3  # type: ignore[misc]


def test_snapshot_and_restore_go_on_bit_for_bit():
    cluster = clustering(memory_turns=6)
    turns = conversation([0, 1, 0, 2, 1, 0, 2, 1, 1, 0, 2, 0, 1], seed=2)
    turns[4] = (None, 2_000)
    for cut in (0, 3, 9):
        _, _, state, _ = run(cluster, turns[:cut], cluster.enrol(cluster.initial(), "Ada", voice(1, 0)))
        back = ClusteringState.from_blob(json.loads(json.dumps(state.to_blob())))
        assert back.to_blob() == state.to_blob()
        for embedding, samples in turns[cut:]:
            state, a = cluster.assign(state, embedding, samples)
            back, b = cluster.assign(back, embedding, samples)
            assert a == b
        assert back.to_blob() == state.to_blob()


@pytest.mark.parametrize(
    "change",
    [{"version": 1}, {"sums": "!"}, {"dim": "x"}, {"names": []}, {"recent_weights": ""}, {"turns": None}],
)
def test_a_damaged_snapshot_is_refused(change):
    cluster = clustering()
    _, _, state, _ = run(cluster, conversation([0, 1]), cluster.enrol(cluster.initial(), "Ada", voice(1, 0)))
    with pytest.raises(InputError, match="expected a clustering state of version 2"):
        ClusteringState.from_blob({**state.to_blob(), **change})


def test_enrolled_voices_are_recognised_and_never_merged():
    cluster = clustering()
    state = cluster.enrol(cluster.initial(), "Ada", voice(0, 50))
    state = cluster.enrol(state, "Bob", voice(1, 51))
    state = cluster.enrol(state, "Ada", voice(0, 52))
    assert state.names == ("Ada", "Bob") and state.speakers() == [0, 1]
    first, last, state, answers = run(cluster, conversation([1, 0, 1, 2, 2, 2]), state)
    assert last == [1, 0, 1, 2, 2, 2] and first[:3] == [1, 0, 1]
    assert not answers[0].is_new and answers[0].similarity > 0.8
    assert state.names == ("Ada", "Bob") and state.speakers() == [0, 1, 2]
    alike = cluster.enrol(cluster.enrol(cluster.initial(), "Ada", voice(0, 50)), "Eve", voice(0, 53))
    assert {0, 1} == set(alike.speakers())
    assert run(cluster, conversation([0, 0, 0]), alike)[2].speakers() == [0, 1]


def test_enrolling_in_mid_conversation_takes_a_free_index():
    cluster = clustering(speakers=3)
    _, _, state, _ = run(cluster, conversation([0, 1, 0, 1]))
    state = cluster.enrol(state, "Cleo", voice(2, 9))
    assert state.names == (None, None, "Cleo")
    assert run(cluster, conversation([2, 0, 1], seed=4), state)[1] == [2, 0, 1]


def test_one_voice_taken_for_two_can_be_merged():
    cluster = clustering()
    twice = cluster.enrol(cluster.enrol(cluster.initial(), "Ada", voice(0, 50)), "Eve", voice(0, 53))
    _, _, state, _ = run(cluster, conversation([0, 2, 0, 2, 0, 2, 0]), twice)
    assert state.speakers() == [0, 1, 2]
    state = cluster.merge(state, 1, 0)
    assert state.speakers() == [0, 2] and state.names == ("Ada", None, None)
    _, last, state, answers = run(cluster, conversation([0, 2, 0, 3, 0, 2], seed=7), state)
    assert last == [0, 2, 0, 1, 0, 2], "index 1 is free again"
    assert all(turn >= 7 for answer in answers for turn, _ in answer.corrections)
    with pytest.raises(ProtocolMisuse, match=r"expected two of the speakers .* to merge, got 0 and 5"):
        cluster.merge(state, 0, 5)


def test_memory_and_anchors_agree_with_the_long_run():
    truth = [0, 1, 2] * 40
    _, last, state, _ = run(clustering(memory_turns=6), conversation(truth))
    assert set(last[6:9]) == {0, 1, 2} == set(state.speakers()) == set(state.centroids())
    assert last[6:] == last[6:9] * 38
    for position, speaker in enumerate(last[6:9]):
        assert state.centroids()[speaker] @ voice(position, 0, 0.0) > 0.95


@pytest.mark.parametrize(
    "config", [{"speakers": 0}, {"max_speakers": 0}, {"memory_turns": 0}, {"tau_active_ms": 0}]
)
def test_out_of_range_configuration_is_refused(config):
    with pytest.raises(ConfigError, match=r"diarization: expected .* of at least 1, got 0"):
        clustering(**config)


def test_a_vector_of_another_encoder_is_refused():
    cluster = clustering()
    with pytest.raises(ProtocolMisuse, match=r"expected a finite voice vector of shape \(16,\)"):
        cluster.assign(cluster.initial(), np.ones(5, np.float32), SECOND)
    with pytest.raises(ProtocolMisuse, match="0 of them finite"):
        cluster.assign(cluster.initial(), np.full(DIM, np.nan, np.float32), SECOND)
