"""States in slots, batches of few sizes: the same emotions and bytes as without, whatever is evicted when."""

import copy
import gc
import pickle
import random

import numpy as np
import pytest
import torch
from erc_models.formats.text_windows import TextWindow
from erc_models.networks import checkpoint as checkpoints
from networks import CLASSES, GROUPS, TEXT, stirred

from stream_erc.core.work import ClassifyTurn
from stream_erc.events import Features, Turn
from stream_erc.inference.emotion.buckets import BATCHES, bucket_of
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.emotion.slot_classifier import SPEAKERS, SlotClassifier
from stream_erc.inference.emotion.slots import SlotState, SlotTable
from stream_erc.inference.emotion.state_rows import RowLayout
from stream_erc.inference.emotion.torch_classifier import TorchClassifier

SIZES = (1, 2, 4)
WORDS = ("hello", "", "i am so happy!", "what do you hate?", "oh god no")


@pytest.fixture(scope="module")
def plain(tiny_checkpoint):
    return TorchClassifier(tiny_checkpoint)


@pytest.fixture
def slotted(tiny_checkpoint):
    return SlotClassifier(tiny_checkpoint, "cpu", batches=SIZES, slots=8)


def turn(index, state, *, speaker=0, text="hello", voice=1.0):
    features = Features(None if voice is None else np.full(88, voice, np.float32))
    return ClassifyTurn(index, Turn(index, speaker, text), features, (), state)


def vector(emotion):
    return np.array(list(emotion.probabilities.values()))


def script(seed, conversations=7, steps=40):
    """Yield batches: [(conversation, which of its states to go on from, speaker, text, voice)].

    A turn goes on from a state of before now and then, as a revised one does; two turns of a batch may go on
    from the same state.
    """
    rng = random.Random(seed)
    lengths = [0] * conversations
    for _ in range(steps):
        batch = []
        for _ in range(rng.randint(1, 6)):
            who = rng.randrange(conversations)
            back = rng.choice([0, 0, 0, 1, 3])
            batch.append(
                (who, max(0, lengths[who] - back), rng.randrange(4), rng.choice(WORDS), rng.choice(VOICES))
            )
        for who, *_ in batch:
            lengths[who] += 1
        yield batch


VOICES = (None, 0.5, -2.0)


def run(classifier, batches, *, through_bytes=0.0, forget=0.0, seed=3):
    """Run a script; return the probabilities (N, C) and the bytes of every state."""
    rng = random.Random(seed)
    states, rows, blobs = {}, [], []
    for batch in batches:
        works = []
        for i, (who, at, speaker, text, voice) in enumerate(batch):
            state = states.get(who, [None])[at]
            if state is not None and rng.random() < through_bytes:
                state = classifier.state_from_bytes(classifier.state_to_bytes(state))
            works.append(turn(i, state, speaker=speaker, text=text, voice=voice))
        for (who, *_), (emotion, state) in zip(batch, classifier.classify(works), strict=True):
            states.setdefault(who, [None]).append(state)
            rows.append(vector(emotion))
            blobs.append(classifier.state_to_bytes(state))
    return np.array(rows), blobs


def test_conversations_that_are_evicted_uploaded_and_forked_are_bit_for_bit_those_with_room(tiny_checkpoint):
    batches = list(script(1))
    room = SlotClassifier(tiny_checkpoint, "cpu", batches=SIZES, slots=4_096)
    rows, blobs = run(room, batches)
    assert room._table.uploads == 0  # nothing was ever evicted
    little = SlotClassifier(tiny_checkpoint, "cpu", batches=SIZES, slots=8)
    for share in (0.0, 0.3):
        again, others = run(little, batches, through_bytes=share)
        np.testing.assert_array_equal(again, rows)
        assert others == blobs
    assert little._table.uploads > 50


def test_slots_equal_the_plain_path(plain, slotted):
    """The last digits of a product depend on the size of the batch, on any device."""
    batches = list(script(2))
    rows, blobs = run(slotted, batches)
    expected, theirs = run(plain, batches)
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    for ours, its in zip(blobs, theirs, strict=True):
        left, right = (plain.state_from_bytes(blob).tensors() for blob in (ours, its))
        for name in left:
            torch.testing.assert_close(left[name], right[name], atol=1e-4, rtol=1e-4)


def test_one_turn_at_a_time_is_bit_for_bit_the_plain_path(plain, slotted, monkeypatch):
    """With windows of their own length: a padded one differs in the last digits."""
    monkeypatch.setattr(slotted._reader, "_lengths", ())
    ours, theirs = None, None
    for i, (who, text, voice) in enumerate([(0, "hello", 1.0), (1, "", -1.0), (0, "oh god no", None)] * 3):
        ((emotion, ours),) = slotted.classify([turn(i, ours, speaker=who, text=text, voice=voice)])
        ((same, theirs),) = plain.classify([turn(i, theirs, speaker=who, text=text, voice=voice)])
        np.testing.assert_array_equal(vector(emotion), vector(same))
        assert slotted.state_to_bytes(ours) == plain.state_to_bytes(theirs)
        assert plain.state_to_bytes(
            plain.state_from_bytes(slotted.state_to_bytes(ours))
        ) == plain.state_to_bytes(theirs)


def test_padding_touches_no_live_slot(slotted):
    states = [slotted.classify([turn(i, None, voice=float(i))])[0][1] for i in range(4)]
    table = slotted._table
    before = {state.ticket: table.rows[table.find([state])[0]].clone() for state in states}
    begin = table.rows[table.initial].clone()
    slotted.classify([turn(i, state) for i, state in enumerate(states[:3])])  # padded to 4
    for state in states:
        torch.testing.assert_close(table.rows[table.find([state])[0]], before[state.ticket], atol=0, rtol=0)
    torch.testing.assert_close(table.rows[table.initial], begin, atol=0, rtol=0)


def test_a_slot_is_free_when_nobody_holds_its_state(slotted):
    state = None
    for i in range(30):
        ((_, state),) = slotted.classify([turn(i, state)])
    gc.collect()
    assert slotted._table.held == 1
    assert slotted._table.uploads == 0


def test_more_turns_than_the_largest_batch(plain, slotted):
    works = [turn(i, None, voice=float(i)) for i in range(11)]
    for (emotion, _), (same, _) in zip(slotted.classify(works), plain.classify(works), strict=True):
        np.testing.assert_allclose(vector(emotion), vector(same), atol=1e-5)


def test_more_speakers_than_fit_in_a_slot(plain, slotted):
    """The conversation goes on outside of slots, and so does its snapshot; the others of the batch stay."""
    ours = theirs = other = its = None
    for i, who in enumerate([0, SPEAKERS - 1, SPEAKERS, 2, SPEAKERS + 3, 0]):
        (emotion, ours), (beside, other) = slotted.classify([turn(i, ours, speaker=who), turn(i, other)])
        ((same, theirs),) = plain.classify([turn(i, theirs, speaker=who)])
        ((also, its),) = plain.classify([turn(i, its)])
        np.testing.assert_allclose(vector(emotion), vector(same), atol=1e-5)
        np.testing.assert_allclose(vector(beside), vector(also), atol=1e-5)
        ours = slotted.state_from_bytes(slotted.state_to_bytes(ours))
    assert not isinstance(ours, SlotState) and isinstance(other, SlotState)


def test_a_copied_state_is_not_taken_for_another(slotted):
    """A ticket means another state in another process: a copy is uploaded."""
    ((_, state),) = slotted.classify([turn(0, None)])
    for again in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state)):
        assert again.ticket != state.ticket
        (first, _), (second, _) = slotted.classify([turn(1, state), turn(1, again)])
        np.testing.assert_array_equal(vector(first), vector(second))
    assert slotted._table.uploads == 2


def test_a_step_that_fails_leaves_its_slots_free(slotted):
    ((_, state),) = slotted.classify([turn(0, None)])
    held = slotted._table.held
    for _ in range(20):
        bad = ClassifyTurn(1, Turn(1, 0, "hello"), Features(np.zeros(5, np.float32)), (), state)
        with pytest.raises(ValueError):
            slotted.classify([bad])
    assert slotted._table.held == held
    slotted.classify([turn(i, state) for i in range(4)])


@pytest.mark.parametrize("architecture", checkpoints.ARCHITECTURES)
def test_a_row_holds_any_networks_state(architecture):
    network, config = checkpoints.ARCHITECTURES[architecture]
    model = stirred(network(config(text_dim=TEXT, audio_groups=GROUPS, classes=CLASSES)))
    with torch.inference_mode():
        layout = RowLayout(model.initial_state(1, 3))
        state = model.initial_state(2, 3)
        rows = layout.pack(state)
        back = layout.unpack(rows)
        for name, tensor in state.tensors().items():
            torch.testing.assert_close(back.tensors()[name], tensor, atol=0, rtol=0)
        cut = layout.unpack(rows, 2)
        assert cut.speakers_known == (2 if state.PER_SPEAKER else 0)


def test_the_table_gives_away_what_was_used_least_recently():
    table = SlotTable(4, torch.zeros(3, dtype=torch.int64))
    states = [SlotState(np.full(3, i), 1) for i in range(4)]
    places = table.find(states)
    assert sorted(places) == [0, 1, 2, 3] and table.uploads == 4
    table.find([states[0]])  # now 1 is the oldest
    (slot,) = table.reserve(1)
    assert slot == places[1]
    table.give_back([slot])
    assert table.find([states[1], None]) == [slot, table.initial]
    assert table.rows[slot].tolist() == [1, 1, 1]


def test_buckets():
    assert [bucket_of(n) for n in (1, 2, 3, 64, 65, 257, 1_024)] == [1, 2, 4, 64, 256, 1_024, 1_024]
    assert bucket_of(2_000) == 2_000
    assert list(BATCHES) == sorted(BATCHES)


def test_labels_from_examples_in_slots():
    """The same labels and states; both classifiers go on from a state of either."""
    examples = [(label, text, None) for label in ("glad", "sad") for text in (f"so {label}", f"I am {label}")]
    slotted = SlotClassifier("sentemocontext", "cpu", batches=(1, 2), slots=4)
    ours, theirs = slotted.with_labels(examples), TorchClassifier("sentemocontext").with_labels(examples)
    assert ours.labels == theirs.labels == ("glad", "sad") != slotted.labels
    state = its = None
    for i, text in enumerate(("oh no", "so good", "why", "I am sad")):
        ((emotion, state),) = ours.classify([turn(i, state, speaker=i, text=text, voice=None)])
        ((same, its),) = theirs.classify([turn(i, its, speaker=i, text=text, voice=None)])
        np.testing.assert_allclose(vector(emotion), vector(same), atol=1e-5)
        slotted.classify([turn(i, state, voice=None)])
    assert slotted._table.uploads == 4 and ours._table.uploads == 0


def test_tokens_are_remembered_and_only_so_many(slotted, plain, monkeypatch):
    monkeypatch.setattr("stream_erc.inference.emotion.text_reader.KNOWN_TEXTS", 6)
    monkeypatch.setattr("stream_erc.inference.emotion.text_reader.KNOWN_CHARS", 20)
    reader, split = slotted._reader, []
    tokenizer = reader._encoder.tokenizer

    class Counting:
        def __call__(self, texts, **options):
            split.extend(texts)
            return tokenizer(texts, **options)

    monkeypatch.setattr(reader, "_encoder", copy.copy(reader._encoder))
    monkeypatch.setattr(reader._encoder, "tokenizer", Counting())
    texts = ["hello", "oh god no", "oh " * 30, "why"]
    windows = [
        TextWindow(((0, texts[(i - 1) % 4]), (0, texts[i % 4])), 0, texts[(i + 1) % 4]) for i in range(8)
    ]
    for window in windows:
        ours = reader([window])
        with torch.inference_mode():
            theirs = plain._text_encoder(**plain._text_encoder.tokenize([window]))
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        assert len(reader._known) <= 6
    assert split.count("A: hello") == 1
    assert split.count("A: " + "oh " * 29 + "oh") > 1  # a long text is not remembered
    for i in range(30):
        reader([TextWindow((), 0, f"why {i}")])
        assert len(reader._known) <= 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_graphs_on_the_gpu_equal_the_cpu(tiny_checkpoint, plain):
    gpu = open_classifier(tiny_checkpoint, "cuda")
    assert isinstance(gpu, SlotClassifier)
    batches = list(script(4))
    np.testing.assert_allclose(
        run(gpu, batches)[0], run(plain, batches)[0], atol=5e-3
    )  # the text is in halves
