import dataclasses
import itertools
import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_erc.config import EndpointingConfig, VadConfig
from stream_erc.core.endpointing import (
    TRANSITIONS,
    Action,
    Boundary,
    Cancelled,
    Ended,
    EndpointState,
    Input,
    Phase,
    Started,
    awaits_words,
    decide,
    finish,
    step,
    validate,
)
from stream_erc.exceptions import ConfigError, ProtocolMisuse

W = 512  # samples in a window, 32 ms
VAD = VadConfig(threshold=0.5, release=0.35)
CONFIG = EndpointingConfig(
    pre_roll_ms=200, min_speech_ms=96, min_silence_ms=320, adaptive=False, max_turn_ms=10_000
)


def ended(start: int, end: int, decided_at: int, cut: bool = False) -> Ended:
    """Return the end of a segment, with 96 ms of its silence to hear, as far as there are.

    In these streams the windows around speech are such that nobody speaks in them, however softly.
    """
    return Ended(start, end, decided_at, end if cut else min(end + 3 * W, decided_at), start, end)


def middle(start: int, end: int) -> int:
    """Take the middle for the quietest place."""
    return (start + end) // 2


def listen(
    probabilities: list[float],
    config: EndpointingConfig = CONFIG,
    vad: VadConfig = VAD,
    rest: int | None = None,
    quietest: Callable[[int, int], int] = middle,
) -> list[Boundary]:
    """Return all boundaries; with `rest`, also those of an end so many samples after the last window."""
    state, found = EndpointState(), []
    for probability in probabilities:
        state, boundaries = step(state, probability, vad, config, quietest)
        found.extend(boundaries)
    if rest is not None:
        _, boundaries = finish(state, len(probabilities) * W + rest, config)
        found.extend(boundaries)
    return found


# --- the table ------------------------------------------------------------------------------------


def test_every_phase_knows_what_to_do_with_every_window() -> None:
    for phase, given_ in itertools.product(Phase, (Input.SPEECH, Input.SILENCE)):
        assert (phase, given_) in TRANSITIONS


def test_only_candidates_last() -> None:
    assert {phase for phase, given_ in TRANSITIONS if given_ == Input.LASTED} == {
        Phase.MAYBE_SPEECH,
        Phase.MAYBE_SILENCE,
    }


def test_every_phase_and_action_is_reached() -> None:
    assert {phase for phase, _ in TRANSITIONS.values()} == set(Phase)
    assert {action for _, action in TRANSITIONS.values()} == {None, *Action}


def test_only_confirmed_speech_is_closed() -> None:
    """SPEECH is entered only by CONFIRM and RESUME, and left only to MAYBE_SILENCE."""
    entries = {action for (old, _), (new, action) in TRANSITIONS.items() if new == Phase.SPEECH != old}
    exits = {new for (old, _), (new, _) in TRANSITIONS.items() if old == Phase.SPEECH != new}
    assert entries == {Action.CONFIRM, Action.RESUME}
    assert exits == {Phase.MAYBE_SILENCE}


# --- examples -------------------------------------------------------------------------------------


def test_a_segment_begins_and_ends() -> None:
    found = listen([0.0] * 5 + [0.9] * 10 + [0.0] * 12)
    assert found == [Started(5 * W), ended(5 * W, 15 * W, decided_at=25 * W)]


def test_started_comes_once_speech_has_lasted() -> None:
    assert listen([0.9, 0.9]) == []
    assert listen([0.9, 0.9, 0.9]) == [Started(0)]


def test_a_blip_is_cancelled() -> None:
    assert listen([0.0, 0.9, 0.9, 0.0, 0.0]) == [Cancelled(W)]


def test_between_the_thresholds_all_stays_as_it_was() -> None:
    assert listen([0.4] * 50) == []
    assert listen([0.9] + [0.4] * 50, rest=0) == [Started(0), ended(0, 51 * W, 51 * W)]
    assert listen([0.9] * 5 + [0.0] + [0.4] * 9) == [Started(0), ended(0, 5 * W, 15 * W)]


def test_soft_speech_reaches_as_far_as_it_has_no_gap() -> None:
    soft = [0.0, 0.1, 0.0, 0.1, 0.1] + [0.9] * 10 + [0.1, 0.1, 0.0, 0.1] + [0.0] * 20
    closed = listen(soft)[-1]
    assert isinstance(closed, Ended) and (closed.start, closed.end) == (5 * W, 15 * W)
    assert (closed.earliest, closed.latest) == (3 * W, 17 * W)


def test_soft_speech_ends_with_the_audio_that_is_analysed() -> None:
    closed = listen([0.9] * 10 + [0.1] * 20)[-1]
    assert isinstance(closed, Ended) and closed.latest == closed.heard_to == 13 * W


def test_a_pause_shorter_than_min_silence_is_bridged() -> None:
    found = listen([0.9] * 5 + [0.0] * 9 + [0.9] * 5 + [0.0] * 10)
    assert found == [Started(0), ended(0, 19 * W, 29 * W)]


def test_a_pause_of_min_silence_separates() -> None:
    found = listen([0.9] * 5 + [0.0] * 10 + [0.9] * 5 + [0.0] * 10)
    assert found == [Started(0), ended(0, 5 * W, 15 * W), Started(15 * W), ended(15 * W, 20 * W, 30 * W)]


def test_a_long_segment_is_cut_at_the_quietest_place_of_its_last_part() -> None:
    config = dataclasses.replace(CONFIG, max_turn_ms=12_800)  # 400 windows, the last 5 s of them for the cut
    asked = []

    def quietest(start: int, end: int) -> int:
        asked.append((start, end))
        return end - 10_001

    found = listen([0.9] * 450, config, quietest=quietest)
    cut = 400 * W - 10_001
    assert found == [Started(0), ended(0, cut, decided_at=400 * W, cut=True), Started(cut)]
    assert asked == [(400 * W - 80_000, 400 * W)]


def test_a_short_limit_leaves_half_of_it_for_the_cut() -> None:
    config = dataclasses.replace(CONFIG, max_turn_ms=3_200)
    assert listen([0.9] * 120, config)[1] == ended(0, 75 * W, decided_at=100 * W, cut=True)


def test_a_pause_at_max_turn_ends_the_segment_where_it_began() -> None:
    config = dataclasses.replace(CONFIG, max_turn_ms=3_200)
    assert listen([0.9] * 95 + [0.0] * 40, config) == [Started(0), ended(0, 95 * W, decided_at=100 * W)]


def test_endless_speech_loses_no_sample() -> None:
    config = dataclasses.replace(CONFIG, max_turn_ms=1_000)
    found = listen([0.99] * 1_000, config, rest=100)
    ends = [boundary for boundary in found if isinstance(boundary, Ended)]
    assert ends[0].start == 0 and ends[-1].end == 1_000 * W + 100
    assert all(one.end == two.start for one, two in itertools.pairwise(ends))
    assert [boundary.start for boundary in found if isinstance(boundary, Started)] == [
        end.start for end in ends
    ]
    assert all(end.end - end.start <= 16_000 for end in ends)


@pytest.mark.parametrize(
    ("probabilities", "rest", "last"),
    [
        ([0.0] * 3, 5, []),
        ([0.9] * 2, 5, [Cancelled(0)]),
        ([0.9] * 2, 511, [Cancelled(0)]),
        ([0.9] * 5, 100, [ended(0, 5 * W + 100, 5 * W + 100)]),
        ([0.9] * 5 + [0.0] * 2, 100, [ended(0, 5 * W, 7 * W + 100)]),
    ],
)
def test_the_end_of_the_stream_closes_what_is_open(
    probabilities: list[float], rest: int, last: list[Boundary]
) -> None:
    found = listen(probabilities, rest=rest)
    assert found[len(listen(probabilities)) :] == last


def test_a_candidate_that_lasts_by_the_rest_is_a_segment() -> None:
    config = dataclasses.replace(CONFIG, min_speech_ms=90)  # 2 windows are 64 ms, and 26 ms are 416 samples
    assert listen([0.9] * 2, config, rest=415) == [Cancelled(0)]
    assert listen([0.9] * 2, config, rest=416) == [Started(0), ended(0, 2 * W + 416, 2 * W + 416)]


def test_finish_leaves_silence() -> None:
    state, _ = step(EndpointState(), 0.9, VAD, CONFIG, middle)
    after, _ = finish(state, W + 7, CONFIG)
    assert (after.phase, after.position) == (Phase.SILENCE, W + 7)


@pytest.mark.parametrize("at_sample", [0, W - 1, 2 * W])
def test_an_end_that_cannot_be_is_misuse(at_sample: int) -> None:
    state, _ = step(EndpointState(), 0.9, VAD, CONFIG, middle)
    with pytest.raises(ProtocolMisuse, match=f"after sample 512, got {at_sample}"):
        finish(state, at_sample, CONFIG)


# --- configuration --------------------------------------------------------------------------------


def test_the_defaults_are_valid() -> None:
    validate(VadConfig(), EndpointingConfig())


@pytest.mark.parametrize(
    ("vad", "endpointing", "message"),
    [
        ({"threshold": 0.0}, {}, "vad.threshold: expected more than 0 and at most 1, got 0.0"),
        ({"threshold": 1.5}, {}, "vad.threshold: expected more than 0 and at most 1, got 1.5"),
        ({"threshold": math.nan}, {}, "vad.threshold: expected more than 0 and at most 1, got nan"),
        ({"release": 0.6}, {}, "vad.release: expected more than 0 and at most the threshold 0.5, got 0.6"),
        ({"release": -0.1}, {}, "vad.release: expected more than 0 and at most the threshold 0.5, got -0.1"),
        ({}, {"pre_roll_ms": -1}, "endpointing.pre_roll_ms: expected 0 or more, got -1"),
        ({}, {"min_speech_ms": 0}, "endpointing.min_speech_ms: expected 1 or more, got 0"),
        ({}, {"min_silence_ms": -5}, "endpointing.min_silence_ms: expected 1 or more, got -5"),
        ({}, {"max_turn_ms": 999}, "endpointing.max_turn_ms: expected 1000 or more"),
        ({}, {"min_speech_ms": 900, "max_turn_ms": 1_500}, "endpointing.max_turn_ms: expected 1800 or more"),
    ],
)
def test_what_makes_no_sense_is_named(
    vad: dict[str, float], endpointing: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        validate(dataclasses.replace(VAD, **vad), dataclasses.replace(CONFIG, **endpointing))
    assert str(raised.value).startswith(message)


# --- properties -----------------------------------------------------------------------------------

configs = st.builds(
    EndpointingConfig,
    pre_roll_ms=st.just(0),
    min_speech_ms=st.integers(1, 300),
    min_silence_ms=st.integers(1, 1_500),
    max_turn_ms=st.integers(1_000, 5_000),
)
runs = st.tuples(st.sampled_from([0.0, 0.1, 0.36, 0.4, 0.5, 0.7, 0.99]), st.integers(1, 80))
sounds = st.lists(runs, max_size=25).map(lambda runs: [p for p, count in runs for _ in range(count)])


@settings(deadline=None, max_examples=200)
@given(probabilities=sounds, config=configs, rest=st.integers(0, W - 1))
def test_segments_are_what_they_must_be(
    probabilities: list[float], config: EndpointingConfig, rest: int
) -> None:
    length = len(probabilities) * W + rest
    found = listen(probabilities, config, rest=rest)
    spoken = [boundary for boundary in found if not isinstance(boundary, Cancelled)]
    assert [type(boundary) for boundary in spoken] == [Started, Ended] * (len(spoken) // 2)
    segments = spoken[1::2]
    assert [started.start for started in spoken[::2]] == [ended.start for ended in segments]
    longest, silence = config.max_turn_ms * 16, config.min_silence_ms * 16
    for segment in segments:
        assert 0 <= segment.start < segment.end <= segment.decided_at <= length
        assert segment.end - segment.start <= longest
        waited = segment.decided_at - segment.end >= silence
        overlong = segment.decided_at - segment.start > longest - W
        assert waited or overlong or segment.decided_at == length
    assert all(
        one.end <= two.start and one.decided_at <= two.decided_at for one, two in itertools.pairwise(segments)
    )


@settings(deadline=None, max_examples=200)
@given(probabilities=sounds, config=configs)
def test_segments_are_those_of_the_whole_recording(
    probabilities: list[float], config: EndpointingConfig
) -> None:
    """Compare with an offline implementation of the rules: runs of speech, bridged and filtered."""
    config = dataclasses.replace(config, max_turn_ms=10**9, adaptive=False)
    sounding, mask = False, []
    for probability in probabilities:
        sounding = probability >= (VAD.release if sounding else VAD.threshold)
        mask.append(sounding)
    runs_: list[tuple[int, int]] = []
    at = 0
    for voiced, group in itertools.groupby(mask):
        count = len(list(group))
        if voiced:
            runs_.append((at, at + count))
        at += count
    segments: list[tuple[int, int]] = []
    for begin, end in runs_:
        if segments and (begin - segments[-1][1]) * 32 < config.min_silence_ms:
            segments[-1] = (segments[-1][0], end)
        elif (end - begin) * 32 >= config.min_speech_ms:
            segments.append((begin, end))
    found = [b for b in listen(probabilities, config, rest=0) if isinstance(b, Ended)]
    assert [(ended.start // W, ended.end // W) for ended in found] == segments


@settings(deadline=None)
@given(probabilities=sounds, config=configs, cut=st.integers(0, 100))
def test_a_state_survives_json(probabilities: list[float], config: EndpointingConfig, cut: int) -> None:
    state, found = EndpointState(), []
    for position, probability in enumerate(probabilities):
        if position == cut:
            state = EndpointState(**json.loads(json.dumps(dataclasses.asdict(state))))
        state, boundaries = step(state, probability, VAD, config, middle)
        found.extend(boundaries)
    assert found == listen(probabilities, config)


# --- a pause that words decide --------------------------------------------------------------------

ADAPTIVE = dataclasses.replace(CONFIG, adaptive=True, short_silence_ms=256, long_silence_ms=800)


def pause(windows: int) -> EndpointState:
    """Return the state after ten windows of speech and some of silence."""
    state = EndpointState()
    for probability in [0.9] * 10 + [0.0] * windows:
        state, _ = step(state, probability, VAD, ADAPTIVE, middle)
    return state


def test_a_pause_waits_for_its_words_from_the_shortest_silence_on() -> None:
    assert [awaits_words(pause(windows), ADAPTIVE) for windows in (2, 7, 8, 30)] == [False, False, True, True]
    assert not awaits_words(pause(8), CONFIG)


@pytest.mark.parametrize("silence_ms", [256, 320, 800])
@pytest.mark.parametrize("decided_after", [3, 5, 8])
def test_a_pause_ends_after_the_silence_that_was_decided(silence_ms: int, decided_after: int) -> None:
    """It makes no difference when it was decided, as long as that is before anything depends on it."""
    state, found = decide(pause(decided_after), 16 * silence_ms, ADAPTIVE)
    windows = decided_after
    while not found:
        state, found = step(state, 0.0, VAD, ADAPTIVE, middle)
        windows += 1
    assert found == (ended(0, 10 * W, decided_at=10 * W + 16 * silence_ms),)
    assert windows * 32 == silence_ms


def test_what_was_decided_of_one_pause_holds_for_no_other() -> None:
    state, _ = decide(pause(4), 16 * 800, ADAPTIVE)
    for probability in (0.9, 0.0, 0.0):
        state, _ = step(state, probability, VAD, ADAPTIVE, middle)
    assert state.needed == 0
