from dataclasses import replace
from pathlib import Path

import pytest
import torch
from erc_models.data.feature_store import FeatureSet
from erc_models.networks.acoustic_encoder import AcousticEncoder, AcousticEncoderConfig
from erc_models.networks.checkpoint import load
from erc_models.networks.modalities import VoiceReduction
from erc_models.networks.si_lstm import SiLstm, SiLstmConfig, SiLstmState
from erc_models.networks.streaming import (
    StreamingModel,
    TurnInput,
    stack,
    state_bytes,
    state_to_bytes,
    step_each,
    unstack,
)
from erc_models.training.train import main as train
from networks import dialogues, play, stirred
from torch import nn

SMALL = SiLstmConfig(text_dim=6, audio_groups=(4, 3), classes=3, width=8, feedforward=8, window=3)
FLAGS = {
    "default": {},
    "literal candidate": {"literal_candidate": True},
    "literal joint attention": {"literal_joint": True},
    "updated speaker": {"updated_speaker": True},
    "without speaker information": {"speaker_state": False},
    "without joint attention": {"joint_attention": False},
    "plain LSTM": {"speaker_state": False, "joint_attention": False},
    "everything literal": {"literal_candidate": True, "literal_joint": True, "updated_speaker": True},
    "literal plain LSTM": {"literal_candidate": True, "speaker_state": False, "joint_attention": False},
    "window of one": {"window": 1},
    "voice relative to the speaker": {"voice_hidden": 5, "voice_prior": 2.0},
}


def build(seed: int = 0, **flags: object) -> SiLstm:
    """A small network, `stirred`."""
    torch.manual_seed(seed)
    model = stirred(SiLstm(replace(SMALL, **flags)))
    model.set_audio_normalisation(torch.arange(7.0), torch.arange(1.0, 8.0))
    return model


@pytest.fixture(params=FLAGS.values(), ids=FLAGS.keys())
def model(request: pytest.FixtureRequest) -> SiLstm:
    return build(**request.param)


def assert_states_equal(a: SiLstmState, b: SiLstmState, atol: float = 0.0) -> None:
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], atol=atol, rtol=0, msg=name)


@torch.no_grad()
def test_step_by_step_equals_the_whole_dialogue(model: SiLstm) -> None:
    x, speaker = dialogues(5, 12)
    stepped, _ = play(model, x, speaker)
    torch.testing.assert_close(model(x, speaker), stepped, atol=1e-5, rtol=0)
    torch.testing.assert_close(StreamingModel.forward(model, x, speaker), stepped, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_future_changes_nothing(model: SiLstm) -> None:
    x, speaker = dialogues(4, 10)
    other, who = dialogues(4, 10, seed=2, speakers=5)
    for t in (1, 5, 9):
        mixed = TurnInput(
            *(
                torch.cat([a[:, :t], b[:, t:]], 1)
                for a, b in (
                    (x.text, other.text),
                    (x.audio, other.audio),
                    (x.text_mask, other.text_mask),
                    (x.audio_mask, other.audio_mask),
                )
            )
        )
        changed = torch.cat([speaker[:, :t], who[:, t:]], 1)
        assert torch.equal(play(model, mixed, changed)[0][:, :t], play(model, x, speaker)[0][:, :t])
        assert torch.equal(model(mixed, changed)[:, :t], model(x, speaker)[:, :t])


def test_every_past_turn_of_the_speaker_matters(model: SiLstm) -> None:
    x, speaker = dialogues(1, 8)
    x = replace(x, text_mask=torch.ones(1, 8, dtype=torch.bool), audio_mask=torch.ones(1, 8, 2).bool())
    text = x.text.clone().requires_grad_()
    model(replace(x, text=text), speaker)[0, -1].square().sum().backward()
    assert text.grad is not None
    assert (text.grad[0].abs().sum(1) > 0).all()


def test_attention_sees_the_window_and_no_more() -> None:
    model = build()
    seen: list[list[bool]] = []
    x, speaker = dialogues(1, 9)
    x = replace(x, text_mask=torch.ones(1, 9, dtype=torch.bool), audio_mask=torch.ones(1, 9, 2).bool())
    for blind in (False, True):
        if blind:  # cut both recurrences: what is left of the past comes through attention alone
            with torch.no_grad():
                model.fused_map.weight[:, SMALL.width :] = 0
        text = x.text.clone().requires_grad_()
        model(replace(x, text=text), speaker)[0, -1].square().sum().backward()
        assert text.grad is not None
        seen.append((text.grad[0].abs().sum(1) > 0).tolist())
    reach = SMALL.layers * (SMALL.window - 1) + SMALL.window  # two encoder layers, then cross-modal
    assert seen[0] == [True] * 9
    assert seen[1] == [False] * (9 - reach) + [True] * reach


@torch.no_grad()
def test_attention_does_not_know_the_time() -> None:
    """Without the recurrences, a dialogue that starts later gives the same logits once the window is full."""
    model = build()
    model.fused_map.weight[:, SMALL.width :] = 0
    x, speaker = dialogues(2, 14)
    late = TurnInput(x.text[:, 4:], x.audio[:, 4:], x.text_mask[:, 4:], x.audio_mask[:, 4:])
    reach = SMALL.layers * (SMALL.window - 1) + SMALL.window
    shifted, whole = model(late, speaker[:, 4:]), model(x, speaker)[:, 4:]
    torch.testing.assert_close(shifted[:, reach - 1 :], whole[:, reach - 1 :], atol=1e-6, rtol=0)
    assert (shifted[:, 0] - whole[:, 0]).abs().max() > 1e-3


@torch.no_grad()
def test_a_batch_equals_its_conversations_one_by_one(model: SiLstm) -> None:
    lengths = (3, 11, 1, 7)
    x, speaker = dialogues(4, 11)
    real = torch.arange(11) < torch.tensor(lengths)[:, None]
    padded = replace(x, text_mask=x.text_mask & real, audio_mask=x.audio_mask & real.unsqueeze(2))
    together = model(padded, speaker.where(real, 0))
    for i, length in enumerate(lengths):
        row = slice(i, i + 1)
        alone = TurnInput(
            x.text[row, :length], x.audio[row, :length], x.text_mask[row, :length], x.audio_mask[row, :length]
        )
        torch.testing.assert_close(
            together[row, :length], play(model, alone, speaker[row, :length])[0], atol=1e-5, rtol=0
        )


@torch.no_grad()
def test_conversations_out_of_step_share_a_batch(model: SiLstm) -> None:
    histories = [(4, 1), (1, 3), (9, 4)]  # turns so far, speakers
    alone = []
    for seed, (turns, speakers) in enumerate(histories):
        x, speaker = dialogues(1, turns, seed=10 + seed, speakers=speakers)
        alone.append(play(model, x, speaker)[1])
    x, _ = dialogues(3, 1, seed=20)
    who = [0, 4, 2]
    logits, after = step_each(model, x.turn(0), who, alone)
    for i, state in enumerate(alone):
        row = slice(i, i + 1)
        now = TurnInput(x.text[row, 0], x.audio[row, 0], x.text_mask[row, 0], x.audio_mask[row, 0])
        expected, next_state = model.step(now, torch.tensor([who[i]]), state)
        torch.testing.assert_close(logits[row], expected, atol=1e-5, rtol=0)
        assert_states_equal(after[i], next_state, atol=1e-5)


def test_stack_and_unstack_are_inverse(model: SiLstm) -> None:
    states = [play(model, *dialogues(1, 5, seed=s, speakers=s + 1))[1] for s in range(3)]
    parts = unstack(stack(model, states), [s.speakers_known for s in states])
    for before, after in zip(states, parts, strict=True):
        assert_states_equal(before, after)


@torch.no_grad()
def test_names_of_speakers_do_not_matter(model: SiLstm) -> None:
    x, speaker = dialogues(4, 12)
    relabel = torch.tensor([4, 0, 2])
    torch.testing.assert_close(model(x, relabel[speaker]), model(x, speaker), atol=1e-6, rtol=0)
    if model.config.speaker_state:
        assert (model(x, torch.zeros_like(speaker)) - model(x, speaker)).abs().max() > 1e-3


@torch.no_grad()
def test_only_the_speaker_of_a_turn_changes() -> None:
    model = build()
    x, speaker = dialogues(1, 6)
    _, before = play(model, x, speaker)
    now, _ = dialogues(1, 1, seed=3)
    now = replace(now.turn(0), text_mask=torch.ones(1, dtype=torch.bool))
    _, after = model.step(now, torch.tensor([1]), before)
    same = (before.speakers == after.speakers).all(2)[0].tolist()
    assert same == [True, False, True]


@torch.no_grad()
def test_a_step_leaves_its_state_alone(model: SiLstm) -> None:
    x, speaker = dialogues(2, 6)
    _, state = play(model, x, speaker)
    kept = {name: tensor.clone() for name, tensor in state.tensors().items()}
    now = x.turn(0)
    first, after = model.step(now, torch.tensor([0, 7]), state)
    second, again = model.step(now, torch.tensor([0, 7]), state)
    assert torch.equal(first, second)
    assert_states_equal(after, again)
    for name, tensor in state.tensors().items():
        assert torch.equal(tensor, kept[name]), name
    with pytest.raises(AttributeError):
        state.cells = state.cells  # type: ignore[misc]


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e30])
@torch.no_grad()
def test_what_stands_under_a_mask_is_never_read(model: SiLstm, garbage: float) -> None:
    x, speaker = dialogues(4, 12)
    group = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    dirty = replace(
        x,
        text=x.text.masked_fill(~x.text_mask.unsqueeze(2), garbage),
        audio=x.audio.masked_fill(~x.audio_mask[..., group], garbage),
    )
    clean_logits, clean = play(model, x, speaker)
    dirty_logits, dirtied = play(model, dirty, speaker)
    assert clean_logits.isfinite().all()
    assert torch.equal(clean_logits, dirty_logits)
    assert_states_equal(clean, dirtied)
    assert torch.equal(model(x, speaker), model(dirty, speaker))


@torch.no_grad()
def test_a_missing_modality_keeps_its_memory_and_differs_from_an_average_one() -> None:
    model = build()
    x, speaker = dialogues(1, 6)
    _, before = play(model, x, speaker)
    now = replace(x.turn(0), audio=torch.arange(7.0)[None])  # exactly the mean of every feature
    said = torch.ones(1, dtype=torch.bool)
    silent = replace(now, text_mask=said, audio_mask=torch.zeros(1, 2, dtype=torch.bool))
    average = replace(now, text_mask=said, audio_mask=torch.ones(1, 2, dtype=torch.bool))
    logits, after = model.step(silent, speaker[:, 0], before)
    assert torch.equal(after.cells[:, 1], before.cells[:, 1])
    assert not torch.equal(after.cells[:, 0], before.cells[:, 0])
    assert (logits - model.step(average, speaker[:, 0], before)[0]).abs().max() > 1e-3
    one_group = replace(now, text_mask=said, audio_mask=torch.tensor([[False, True]]))
    assert (logits - model.step(one_group, speaker[:, 0], before)[0]).abs().max() > 1e-3


@torch.no_grad()
def test_a_turn_without_any_modality_leaves_cells_and_speakers(model: SiLstm) -> None:
    x, speaker = dialogues(1, 6)
    _, before = play(model, x, speaker)
    nothing = replace(x.turn(0), text_mask=torch.zeros(1).bool(), audio_mask=torch.zeros(1, 2).bool())
    logits, after = model.step(nothing, speaker[:, 0], before)
    assert logits.isfinite().all()
    assert torch.equal(after.cells, before.cells)
    assert torch.equal(after.speakers, before.speakers)
    assert torch.equal(after.voices, before.voices)


@torch.no_grad()
def test_a_value_that_was_not_measured_counts_as_average() -> None:
    model = build()
    x, speaker = dialogues(2, 5)
    holes, means = x.audio.clone(), x.audio.clone()
    holes[..., 2], means[..., 2] = float("nan"), 2.0
    got = model(replace(x, audio=holes), speaker)
    torch.testing.assert_close(got, model(replace(x, audio=means), speaker), atol=0, rtol=0)


def test_the_state_does_not_grow_with_turns(model: SiLstm) -> None:
    x, speaker = dialogues(1, 40)
    sizes = {state_bytes(play(model, x, speaker[:, :t])[1]) for t in (10, 40)}
    assert len(sizes) == 1


@pytest.mark.parametrize(("voice_hidden", "expected"), [(0, 400), (128, 400 + 4 * 129)])
def test_the_state_is_a_few_kilobytes_and_fixed_per_speaker(voice_hidden: int, expected: int) -> None:
    model = SiLstm(SiLstmConfig(voice_hidden=voice_hidden))
    assert state_bytes(model.initial_state()) <= 10_000
    per_speaker = [
        state_bytes(model.initial_state(1, s + 1)) - state_bytes(model.initial_state(1, s)) for s in (0, 7)
    ]
    assert per_speaker == [expected, expected]


@torch.no_grad()
def test_a_state_comes_back_from_bytes_exactly(model: SiLstm) -> None:
    x, speaker = dialogues(1, 7)
    _, state = play(model, x, speaker)
    restored = model.state_from_bytes(state_to_bytes(state))
    assert_states_equal(state, restored)
    now, _ = dialogues(1, 1, seed=4)
    first, after = model.step(now.turn(0), torch.tensor([5]), state)
    second, again = model.step(now.turn(0), torch.tensor([5]), restored)
    assert torch.equal(first, second)
    assert state_to_bytes(after) == state_to_bytes(again)


def test_foreign_bytes_are_no_state() -> None:
    model = build()
    with pytest.raises(ValueError, match="unreadable"):
        model.state_from_bytes(b"not a state")
    with pytest.raises(ValueError, match="'window' of shape"):
        model.state_from_bytes(state_to_bytes(build(window=5).initial_state()))


TRAINABLE = {name: flags for name, flags in FLAGS.items() if name != "window of one"}  # there, softmax is 1


@pytest.mark.parametrize("flags", [*TRAINABLE.values(), {"offline": True}], ids=[*TRAINABLE, "offline"])
def test_a_gradient_reaches_every_parameter(flags: dict[str, object]) -> None:
    model = build(**flags)
    model.train()
    x, speaker = dialogues(6, 10)
    model(x, speaker).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@torch.no_grad()
def test_offline_reads_the_future_and_refuses_to_step() -> None:
    model = build(offline=True)
    x, speaker = dialogues(2, 8)
    logits = model(x, speaker)
    text = x.text.clone()
    text[:, -1] += 1
    changed = model(replace(x, text=text, text_mask=torch.ones(2, 8, dtype=torch.bool)), speaker)
    assert not torch.equal(logits[:, 0], changed[:, 0])
    with pytest.raises(NotImplementedError, match="no step"):
        model.step(x.turn(0), speaker[:, 0], model.initial_state(2))


@torch.no_grad()
def test_offline_padding_changes_nothing() -> None:
    model = build(offline=True)
    x, speaker = dialogues(1, 9)
    real = torch.arange(9) < 5
    padded = replace(x, text_mask=x.text_mask & real, audio_mask=x.audio_mask & real[:, None])
    short = TurnInput(x.text[:, :5], x.audio[:, :5], x.text_mask[:, :5], x.audio_mask[:, :5])
    torch.testing.assert_close(model(padded, speaker)[:, :5], model(short, speaker[:, :5]), atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_forget_gate_and_candidate_follow_the_paper() -> None:
    """Equations 5-10 written out for the text cell of a batch of one."""
    model = build()
    cell, d = model.recurrence, SMALL.width
    g = torch.Generator().manual_seed(0)
    x, z_now, cells = (torch.randn(2, 1, n * d, generator=g) for n in (1, 1, 3))
    q = torch.randn(1, 1, d, generator=g)
    h, after, _ = cell.step(x, z_now, torch.ones(2, 1, dtype=torch.bool), torch.tensor([0]), cells, q)
    z, h_last, c_last = cells[0, 0].split(d)
    w = cell.gates.weight[0]
    argument = (
        x[0, 0] @ w[:d] + z @ w[d : 2 * d] + h_last @ w[2 * d :] + cell.from_speaker[: 4 * d] @ q[0, 0]
    ) + cell.bias[: 4 * d]
    i, f, o, candidate = argument.split(d)
    c = f.sigmoid() * c_last + i.sigmoid() * candidate.tanh()
    torch.testing.assert_close(after[0, 0, 2 * d :], c)
    torch.testing.assert_close(h[0, 0], o.sigmoid() * c.tanh())
    torch.testing.assert_close(after[:, :, :d], z_now)


@torch.no_grad()
def test_the_speaker_state_is_a_gru() -> None:
    """Equation 4 against torch's own cell."""
    model = build()
    cell, d = model.recurrence, SMALL.width
    gru = torch.nn.GRUCell(2 * d, d)
    gru.weight_ih.copy_(cell.speaker_input.weight)
    gru.bias_ih.copy_(cell.speaker_input.bias)
    gru.weight_hh.copy_(cell.from_speaker[8 * d :])
    gru.bias_hh.copy_(cell.bias[8 * d :])
    u, q = torch.randn(4, 2 * d), torch.randn(4, 3, d)
    who = torch.tensor([2, 0, 1, 1])
    _, after = cell.speaker_step(cell.speaker_input(u), torch.ones(4, 1, dtype=torch.bool), who, q)
    rows = torch.arange(4)
    torch.testing.assert_close(after[rows, who], gru(u, q[rows, who]))


VOICE = FLAGS["voice relative to the speaker"]


def voiced(**flags: object) -> tuple[SiLstm, AcousticEncoder]:
    """A network that hears voices against their past, and its encoder of them."""
    model = build(**VOICE, **flags)
    assert isinstance(model.reduce, VoiceReduction)
    return model, model.reduce.voice


@torch.no_grad()
def test_a_voice_is_the_mean_of_the_speakers_turns_with_audio() -> None:
    model, encoder = voiced()
    x, speaker = dialogues(2, 30)
    _, state = play(model, x, speaker)
    for b in range(2):
        for who in range(3):
            heard = (speaker[b] == who) & x.audio_mask[b].any(1)
            projected = encoder.project(x.audio[b, heard], x.audio_mask[b, heard])
            assert len(projected) > 1
            torch.testing.assert_close(state.voices[b, who, :-1], projected.mean(0), atol=1e-5, rtol=0)
            assert state.voices[b, who, -1] == len(projected)
    assert not model.grow(state, 9).voices[:, 3:].any()


@torch.no_grad()
def test_a_voice_is_heard_against_its_own_past_alone() -> None:
    model, _ = voiced()
    x, speaker = dialogues(1, 6)
    x = replace(x, audio_mask=torch.ones(1, 6, 2, dtype=torch.bool))
    speaker = torch.tensor([[0, 1, 0, 1, 1, 0]])
    before = model.reduce.dialogue(x, speaker)[1]  # (T, d), the audio tokens
    for t, changed in (
        (0, [True, False, True, False, False, True]),
        (1, [False, True, False, True, True, False]),
    ):
        audio = x.audio.clone()
        audio[0, t] += 5
        after = model.reduce.dialogue(replace(x, audio=audio), speaker)[1]
        assert ((after - before).abs().amax(1) > 1e-3).tolist() == changed


def test_a_step_never_waits_for_the_device(model: SiLstm) -> None:
    """A meta tensor has no value to wait for."""
    x, speaker = dialogues(3, 1)
    model = model.to("meta")
    logits, after = model.advance(x.turn(0).to("meta"), speaker[:, 0].to("meta"), model.initial_state(3, 3))
    assert logits.shape == (3, 3)
    assert after.speakers_known == 3


def saved_voice(
    path: Path, groups: tuple[int, ...] = (4,), hidden: int = 5, out: int = 64
) -> AcousticEncoder:
    torch.manual_seed(7)
    encoder = AcousticEncoder(AcousticEncoderConfig(groups, hidden, out))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(torch.randn_like(parameter).half())
    encoder.set_normalisation(100 + torch.arange(float(sum(groups))), torch.full((sum(groups),), 30.0))
    encoder.save(path, nn.Linear(out, 7), {})
    return encoder


@pytest.mark.parametrize("normalised_first", [True, False])
@torch.no_grad()
def test_a_voice_is_loaded_and_keeps_its_normalisation(tmp_path: Path, normalised_first: bool) -> None:
    model, encoder = voiced()
    untouched = {name: getattr(encoder, name).clone() for name in ("projection", "average")}
    given = saved_voice(tmp_path / "voice.safetensors")
    new = (torch.arange(7.0) - 3, torch.arange(7.0) / 2 + 1)
    if normalised_first:
        model.set_audio_normalisation(*new)
    model.load_voice(tmp_path / "voice.safetensors")
    if not normalised_first:
        model.set_audio_normalisation(*new)
    for name, others in (untouched | {"centre": new[0], "scale": new[1]}).items():
        assert torch.equal(getattr(encoder, name)[..., :4], getattr(given, name)), name
        assert torch.equal(getattr(encoder, name)[..., 4:], others[..., 4:]), name
    assert torch.equal(encoder.bias, given.bias)
    assert torch.equal(encoder.out.weight, given.out.weight)
    assert torch.equal(encoder.out.bias, given.out.bias)
    audio, there = 100 + 9 * torch.randn(3, 7), torch.tensor([[True, False]]).expand(3, 2)
    torch.testing.assert_close(encoder.project(audio, there), given.project(audio[:, :4], there[:, :1]))
    assert encoder.config.prior == 2.0


@pytest.mark.parametrize("odd", [{"groups": (3,)}, {"groups": (4, 3, 2)}, {"hidden": 6}, {"out": 8}])
def test_a_voice_of_another_size_is_refused(tmp_path: Path, odd: dict) -> None:
    path = tmp_path / "voice.safetensors"
    saved_voice(path, **odd)
    with pytest.raises(ValueError, match=r"expected groups \(4.*, hidden 5, out 64.*, got groups") as caught:
        voiced()[0].load_voice(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_voice_or_has_no_use_for_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "voice.safetensors"
    with pytest.raises(ValueError, match="expected an acoustic encoder"):
        voiced()[0].load_voice(path)
    path.write_bytes(b"not a voice")
    with pytest.raises(ValueError, match="expected an acoustic encoder"):
        voiced()[0].load_voice(path)
    with pytest.raises(ValueError, match="voice_hidden > 0"):
        build().load_voice(path)


def test_a_frozen_voice_does_not_learn_and_all_else_does() -> None:
    model, _ = voiced(freeze_voice=True)
    still = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert still == {f"reduce.voice.{n}" for n in ("projection", "average", "bias", "out.weight", "out.bias")}
    model.train()
    model(*dialogues(4, 8)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


RUN = """
architecture = "ARCHITECTURE"
model = { MODEL }
data = { train = ["talk"], dev = ["talk"] }
training = { epochs = 2, batch_dialogues = 4, lr = 0.1 }
"""


def test_training_starts_from_a_voice_and_leaves_a_frozen_one_alone(tmp_path: Path) -> None:
    x, speaker = dialogues(8, 10)
    flat = x.flatten()
    talk = FeatureSet(
        text=flat.text,
        audio=flat.audio,
        text_mask=flat.text_mask,
        audio_mask=flat.audio_mask,
        speaker=speaker.flatten(),
        label=torch.arange(80) % 3,
        offsets=torch.arange(9) * 10,
        corpus=torch.zeros(8, dtype=torch.long),
        labels=("calm", "cross", "glad"),
        corpora=("talk",),
        names=tuple(f"d{i}" for i in range(8)),
        audio_groups=(4, 3),
    )
    talk.save(tmp_path / "talk.safetensors")
    given = saved_voice(tmp_path / "voice.safetensors")
    config, out = tmp_path / "run.toml", tmp_path / "out"
    sizes = "width = 8, feedforward = 8, voice_hidden = 5, freeze_voice = true"
    config.write_text(RUN.replace("ARCHITECTURE", "si_lstm").replace("MODEL", sizes))
    places = {"config": config, "features": tmp_path, "out": out, "voice": tmp_path / "voice.safetensors"}
    arguments = [text for name, place in places.items() for text in (f"--{name}", str(place))]
    train(arguments)
    found = load(out).network.reduce.voice
    for name in ("projection", "average", "centre", "scale"):
        assert torch.equal(getattr(found, name)[..., :4], getattr(given, name)), name
    assert found.centre[4:].abs().max() < 10  # from the talk's own statistics
    assert (found.centre[4:] != 0).all()
    config.write_text(RUN.replace("ARCHITECTURE", "linear").replace("MODEL", ""))
    with pytest.raises(ValueError, match="expected the architecture si_lstm, got linear"):
        train(arguments)
