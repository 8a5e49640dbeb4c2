"""The speaker task and the shared-private structure; the step/state contract is tested in test_networks."""

from dataclasses import replace

import pytest
import torch
from erc_models.data.feature_store import NO_LABEL
from erc_models.evaluation.speaker_scores import score_speakers
from erc_models.networks.speaker_multitask import SpeakerMultitask, SpeakerMultitaskConfig
from erc_models.networks.speaker_task import UNSCORED, gold_of, history
from erc_models.networks.streaming import TurnInput, state_to_bytes
from networks import CLASSES, GROUPS, TEXT, stirred
from torch import Tensor, nn


def build(**changes: object) -> SpeakerMultitask:
    """A small network, `stirred`."""
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2, "window": 3, "horizon": 3} | changes
    return stirred(SpeakerMultitask(SpeakerMultitaskConfig(TEXT, GROUPS, CLASSES, **sizes)))


def dialogues(batch: int, turns: int, seed: int = 1, speakers: int = 3) -> tuple[TurnInput, Tensor]:
    """Random dialogues; now and then a modality or a whole turn is missing."""
    g = torch.Generator().manual_seed(seed)
    x = TurnInput(
        torch.randn(batch, turns, TEXT, generator=g),
        torch.randn(batch, turns, sum(GROUPS), generator=g),
        torch.rand(batch, turns, generator=g) > 0.3,
        torch.rand(batch, turns, len(GROUPS), generator=g) > 0.4,
    )
    return x, torch.randint(0, speakers, (batch, turns), generator=g)


def words(text: Tensor) -> TurnInput:
    """Turns (B, T, ...) of text alone."""
    b, t, _ = text.shape
    silence = torch.full((b, t, sum(GROUPS)), torch.nan)
    return TurnInput(text, silence, torch.ones(b, t).bool(), torch.zeros(b, t, len(GROUPS)).bool())


@torch.no_grad()
def play(model: SpeakerMultitask, x: TurnInput, speaker: Tensor, speakers: int) -> Tensor:
    """`whose` before each turn, (B, T, S + 1)."""
    state, logits = model.initial_state(speaker.shape[0], speakers), []
    for t in range(speaker.shape[1]):
        logits.append(model.whose(x.turn(t), state))
        _, state = model.step(x.turn(t), speaker[:, t], state)
    return torch.stack(logits, 1)


def test_history_and_gold_by_hand() -> None:
    speaker = torch.tensor([[0, 1, 1, 0, 2, 0]])
    present = torch.tensor([[True, True, False, True, True, False]])  # the second turn of 1 is empty
    age, count = history(speaker, present, 3)
    assert age[0].tolist() == [[0, 0, 0], [1, 0, 0], [2, 1, 0], [2, 1, 0], [1, 2, 0], [2, 3, 1]]
    assert count[0].tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [2, 1, 0], [2, 1, 1]]
    gold = gold_of(speaker, present, count)
    assert gold.tolist() == [[UNSCORED, 3, UNSCORED, 0, 3, UNSCORED]]


@torch.no_grad()
def test_history_equals_what_the_state_counts() -> None:
    model = build()
    x, speaker = dialogues(4, 12)
    age, count = history(speaker, x.text_mask | x.audio_mask.any(2), 3)
    state = model.initial_state(4, 3)
    for t in range(12):
        assert torch.equal(state.age, age[:, t])
        assert torch.equal(state.count, count[:, t])
        _, state = model.step(x.turn(t), speaker[:, t], state)


@torch.no_grad()
def test_asking_turn_by_turn_equals_the_whole_dialogue() -> None:
    model = build()
    x, speaker = dialogues(5, 12)
    logits, _ = model.speaker_logits(x, speaker)
    torch.testing.assert_close(play(model, x, speaker, 3), logits, atol=1e-5, rtol=0)
    before = model.initial_state()
    kept = state_to_bytes(before)
    assert model.whose(x.map(lambda v: v[:1]).turn(0), before).shape == (1, 1)  # "new" is all there is
    assert state_to_bytes(before) == kept


@torch.no_grad()
def test_the_speaker_task_never_reads_who_speaks() -> None:
    model = build()
    x, speaker = dialogues(6, 9)
    speaker[:, 0] = torch.tensor([0, 1, 2, 0, 1, 2])
    logits, _ = model.speaker_logits(x, speaker)
    for t in (1, 4, 8):
        changed = speaker.clone()
        changed[:, t:] = (speaker[:, t:] + 1) % 3
        assert torch.equal(model.speaker_logits(x, changed)[0][:, : t + 1], logits[:, : t + 1])
        assert not torch.equal(model(x, changed)[:, t], model(x, speaker)[:, t])  # the emotion task does


@torch.no_grad()
def test_the_speakers_unheard_are_masked() -> None:
    model = build()
    x, speaker = dialogues(4, 10, speakers=4)
    logits, gold = model.speaker_logits(x, speaker)
    present = x.text_mask | x.audio_mask.any(2)
    _, count = history(speaker, present, 4)
    chances = logits.softmax(2)
    assert not chances[..., :4][count == 0].any()
    assert (chances[..., :4][count > 0] > 0).all()
    assert (chances[..., 4] > 0).all()
    asked = gold != UNSCORED
    assert (chances.gather(2, gold.clamp(min=0).unsqueeze(2)).squeeze(2)[asked] > 0).all()


@torch.no_grad()
def test_renaming_the_speakers_renames_the_answers() -> None:
    model = build()
    x, speaker = dialogues(3, 10)
    names = torch.tensor([2, 0, 1])
    logits, gold = model.speaker_logits(x, speaker)
    renamed, gold_renamed = model.speaker_logits(x, names[speaker])
    back = torch.cat([names, torch.tensor([3])])
    torch.testing.assert_close(renamed[..., back], logits, atol=1e-5, rtol=0)
    asked = gold != UNSCORED
    assert torch.equal(gold_renamed[asked], back[gold[asked]])


@torch.no_grad()
def test_an_empty_turn_changes_nothing_wherever_it_is() -> None:
    model = build()
    x, speaker = dialogues(3, 8)
    x = replace(x, text_mask=torch.ones_like(x.text_mask))
    insert = torch.tensor([0, 1, 2, 2, 3, 4, 4, 4, 5, 6, 7])  # turns 2 and 4 again, but emptied
    empty = torch.tensor([0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0]).bool()
    longer = x.map(lambda v: v[:, insert])
    longer = replace(
        longer, text_mask=longer.text_mask & ~empty, audio_mask=longer.audio_mask & ~empty.unsqueeze(1)
    )
    who = speaker[:, insert]
    torch.testing.assert_close(model(longer, who)[:, ~empty], model(x, speaker), atol=1e-5, rtol=0)
    logits, gold = model.speaker_logits(longer, who)
    expected, expected_gold = model.speaker_logits(x, speaker)
    torch.testing.assert_close(logits[:, ~empty], expected, atol=1e-5, rtol=0)
    assert torch.equal(gold[:, ~empty], expected_gold)


@pytest.mark.parametrize(
    "changes", [{"cross_attention": False}, {"speaker_state": False}, {"window": 1}, {"window": 20}]
)
@torch.no_grad()
def test_every_variant_streams(changes: dict[str, object]) -> None:
    model = build(**changes)
    x, speaker = dialogues(4, 9)
    state = model.initial_state(4)
    whole = model(x, speaker)
    for t in range(9):
        logits, state = model.step(x.turn(t), speaker[:, t], state)
        torch.testing.assert_close(logits, whole[:, t], atol=1e-5, rtol=0)


def test_without_the_speaker_state_names_reach_the_emotions_by_attention_alone() -> None:
    x, speaker = dialogues(3, 6)
    for cross in (True, False):
        model = build(speaker_state=False, cross_attention=cross)
        alike = torch.equal(model(x, speaker), model(x, torch.zeros_like(speaker)))
        assert alike is not cross


def test_learning_weighs_its_losses() -> None:
    x, speaker = dialogues(4, 7)
    label = torch.zeros_like(speaker)

    def losses(**weights: float) -> dict[str, Tensor]:
        return build(**weights).learn(x, speaker, label, lambda logits: logits.square().mean())

    once, twice = losses(), losses(speaker_weight=0.6, orthogonality_weight=0.2)
    assert once.keys() == {"emotion", "speaker", "orthogonality"}
    assert twice["emotion"].item() == pytest.approx(once["emotion"].item())
    assert twice["speaker"].item() == pytest.approx(2 * once["speaker"].item())
    assert twice["orthogonality"].item() == pytest.approx(2 * once["orthogonality"].item())
    assert losses(speaker_weight=0.0, orthogonality_weight=0.0).keys() == {"emotion"}
    model = build()
    logits, gold = model.speaker_logits(x, speaker)
    plain = nn.functional.cross_entropy(logits.flatten(0, 1), gold.flatten(), ignore_index=UNSCORED)
    assert once["speaker"].item() == pytest.approx(0.3 * plain.item())


def test_dialogues_of_one_turn_ask_for_no_speaker() -> None:
    model = build().train()
    x, speaker = dialogues(4, 1)
    label = torch.full_like(speaker, NO_LABEL)
    losses = model.learn(x, speaker, label, lambda logits: logits.square().mean())
    torch.stack(list(losses.values())).sum().backward()
    assert losses["speaker"].item() == 0
    with pytest.raises(ValueError, match="expected dialogues of two or more turns"):
        score_speakers(model.eval(), [(x, speaker)])


def test_floors_by_hand() -> None:
    speaker = torch.tensor([[0, 1, 0, 0, 1, 2]])
    # asked: turns 1 to 5, gold new 0 0 1 new. Most turns so far: 0 1 0 0 0, of one each the more recent.
    # The last other: new 0 1 1 0. The last: 0 1 0 0 1.
    scores = score_speakers(build(), [(words(torch.randn(1, 6, TEXT)), speaker)])
    assert scores.turns == 5
    assert scores.majority == pytest.approx(20)
    assert scores.last_other == pytest.approx(60)
    assert scores.last == pytest.approx(20)
    assert scores.new == pytest.approx(40)


def test_speakers_are_found_by_what_they_say() -> None:
    """Each speaker has a way of speaking, new in every dialogue; turns are taken at random."""
    torch.manual_seed(0)

    def batch() -> tuple[TurnInput, Tensor]:
        who = torch.randint(0, 3, (32, 8))
        voices = 2 * torch.randn(32, 3, TEXT)
        said = voices.gather(1, who.unsqueeze(2).expand(-1, -1, TEXT))
        return words(said + 0.3 * torch.randn_like(said)), who

    config = SpeakerMultitaskConfig(
        TEXT, GROUPS, CLASSES, width=16, window=2, dropout=0.0, speaker_weight=1.0
    )
    model = SpeakerMultitask(config).train()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(150):
        x, who = batch()
        losses = model.learn(x, who, who, lambda logits: logits.new_zeros(()))
        optimizer.zero_grad()
        losses["speaker"].backward()
        optimizer.step()
    scores = score_speakers(model.eval(), [batch() for _ in range(4)])
    floor = max(scores.majority, scores.last_other, scores.last, scores.new)
    assert floor < 45
    assert scores.accuracy > floor + 20
    assert scores.heard_accuracy > floor + 20


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a width that 3 heads divide, got 8"):
        build(heads=3)
