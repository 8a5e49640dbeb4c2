import dataclasses
import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import CORPORA

from stream_erc.audio import SAMPLE_RATE
from stream_erc.config import DiarizationConfig
from stream_erc.core.clustering_state import ClusteringState
from stream_erc.core.diarization import Assignment, OnlineClustering
from stream_erc.exceptions import ConfigError, DeviceError, EngineUnavailable, InputError, ProtocolMisuse
from stream_erc.inference.speaker_encoder import Ge2eEncoder, HubEncoder, load_encoder, unit

DIM = 16
SECOND = SAMPLE_RATE


@pytest.fixture(scope="module")
def ge2e():
    return Ge2eEncoder("cpu")


def buzz(pitch_hz, seconds, seed=0):
    """Make a voice-like sound: harmonics with a little noise, (N,) float32."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    x = sum(np.sin(2 * np.pi * pitch_hz * k * t) / k for k in range(1, 20))
    return (0.1 * x + 0.005 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


def voice(speaker, seed, spread=0.35):
    """Draw a voice vector near the speaker's axis; two speakers have a cosine of about 0.5, as with GE2E."""
    centre = np.eye(DIM)[speaker] + np.eye(DIM)[DIM - 1]
    noise = np.random.default_rng(seed).standard_normal(DIM) * spread / np.sqrt(DIM)
    return unit(centre / np.sqrt(2) + noise)


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


# --- encoders -------------------------------------------------------------------------------------


def test_ge2e_equals_the_original_network_and_spectrogram(ge2e):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # webrtcvad's pkg_resources and scipy's old namespaces
        from resemblyzer import VoiceEncoder, audio

        original = VoiceEncoder("cpu", verbose=False)
        for level in (1.0, 0.01):
            samples = level * buzz(140, 1.595)  # 160 frames: exactly one window
            expected = original.embed_utterance(audio.normalize_volume(samples, -30, increase_only=True))
            assert np.allclose(ge2e.embed([samples])[0], expected, atol=1e-5)


def test_ge2e_gives_read_only_unit_vectors_whatever_the_batch(ge2e):
    batch = [buzz(120, 0.8), buzz(200, 3.0), buzz(90, 7.3)]
    together = ge2e.embed(batch)
    for samples, vector in zip(batch, together, strict=True):
        assert vector.shape == (ge2e.dim,) and vector.dtype == np.float32 and not vector.flags.writeable
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
        assert np.allclose(ge2e.embed([samples])[0], vector, atol=1e-5)


def test_silence_around_speech_hardly_changes_the_voice(ge2e):
    speech = buzz(150, 2.0)
    padded = np.concatenate([np.zeros(SECOND // 5), speech, np.zeros(SECOND)]).astype(np.float32)
    a, b = ge2e.embed([speech, padded])
    assert a @ b > 0.99


def test_a_click_does_not_hide_the_speech(ge2e):
    speech = buzz(150, 2.0)
    clicked = speech.copy()
    clicked[SECOND : SECOND + 20] = 1.0
    assert ge2e.embed([clicked])[0] is not None


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(0, np.float32),
        buzz(120, 0.003),
        buzz(120, 0.3),
        np.zeros(2 * SECOND, np.float32),
        np.full(SECOND, np.nan, np.float32),
    ],
    ids=["empty", "3 ms", "0.3 s", "silence", "NaN"],
)
def test_too_little_speech_gives_none_and_spoils_no_other(ge2e, samples):
    good = buzz(120, 1.0)
    nothing, vector = ge2e.embed([samples, good])
    assert nothing is None
    assert np.allclose(vector, ge2e.embed([good])[0], atol=1e-5)
    assert ge2e.embed([samples]) == [None]


def test_ge2e_tells_real_voices_apart(ge2e):
    soundfile = pytest.importorskip("soundfile")
    folder = CORPORA / "speechocean762" / "wav"
    if not folder.is_dir():
        pytest.skip("no speech recordings beside the checkout")
    people = sorted(p for p in folder.iterdir() if len(list(p.glob("*.flac"))) >= 3)[:5]
    clips = [(p.name, soundfile.read(f, dtype="float32")[0]) for p in people for f in sorted(p.glob("*"))[:3]]
    vectors = np.stack(ge2e.embed([samples for _, samples in clips]))
    similarity, names = vectors @ vectors.T, np.array([name for name, _ in clips])
    same = (names[:, None] == names) & ~np.eye(len(names), dtype=bool)
    assert similarity[same].mean() > similarity[names[:, None] != names].mean() + 0.2


@pytest.fixture(scope="module")
def tiny_xvector(tmp_path_factory):
    """Save a randomly initialised WavLM x-vector model in a folder."""
    torch = pytest.importorskip("torch")
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    path = tmp_path_factory.mktemp("xvector")
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8, 8), conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8), num_feat_extract_layers=3,
        tdnn_dim=(8, 8, 8, 8, 12), xvector_output_dim=10, num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    torch.manual_seed(0)
    WavLMForXVector(config).save_pretrained(path)
    Wav2Vec2FeatureExtractor().save_pretrained(path)
    return path


def test_hub_encoder_loads_a_folder(tiny_xvector):
    encoder = load_encoder(DiarizationConfig(encoder=str(tiny_xvector)), "cpu")
    assert isinstance(encoder, HubEncoder) and encoder.dim == 10 and encoder.name == str(tiny_xvector)
    batch = [buzz(120, 0.5), buzz(200, 2.0), buzz(120, 0.1), buzz(90, 12.0)]
    short, middle, nothing, long = encoder.embed(batch)
    assert nothing is None
    for vector in (short, middle, long):
        assert vector.shape == (10,) and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.allclose(middle, encoder.embed([batch[1]])[0], atol=1e-6)
    assert not np.allclose(short, middle, atol=1e-4)


def test_a_model_without_speaker_head_is_refused(tiny_xvector, tmp_path):
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

    config = WavLMConfig.from_pretrained(tiny_xvector)
    WavLMModel(config).save_pretrained(tmp_path)
    Wav2Vec2FeatureExtractor().save_pretrained(tmp_path)
    with pytest.raises(EngineUnavailable, match="without weights for"):
        HubEncoder(str(tmp_path), "cpu")


def test_a_missing_encoder_is_one_clear_line(tmp_path):
    with pytest.raises(EngineUnavailable, match="expected ge2e, or a transformers x-vector model") as caught:
        load_encoder(DiarizationConfig(encoder=str(tmp_path / "none")), "cpu")
    assert "\n" not in str(caught.value)


def test_cuda_without_cuda_is_a_device_error():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(DeviceError, match="expected a CUDA device"):
        load_encoder(DiarizationConfig(), "cuda")


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
    [{"version": 2}, {"sums": "!"}, {"dim": "x"}, {"names": []}, {"recent_weights": ""}, {"turns": None}],
)
def test_a_damaged_snapshot_is_refused(change):
    cluster = clustering()
    _, _, state, _ = run(cluster, conversation([0, 1]), cluster.enrol(cluster.initial(), "Ada", voice(1, 0)))
    with pytest.raises(InputError, match="expected a clustering state of version 1"):
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
