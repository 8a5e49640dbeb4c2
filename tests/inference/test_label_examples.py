"""Labels given by examples: reading them, and predicting them."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from erc_models.networks import checkpoint
from erc_models.networks.sentemocontext import SentEmoContext, SentEmoContextConfig

from stream_erc.audio import SAMPLE_RATE
from stream_erc.cli.main import main
from stream_erc.cli.palette import emotion_styles
from stream_erc.config import EngineConfig, SessionConfig
from stream_erc.core.work import ClassifyTurn
from stream_erc.events import Features, GivenTurn, Samples, Turn
from stream_erc.exceptions import LabelsError
from stream_erc.inference.acoustics import load_extractor
from stream_erc.inference.emotion.opening import open_classifier
from stream_erc.inference.engine import TEXT_ONLY, Engine
from stream_erc.inference.label_examples import MAX_EXAMPLE_S, LabelExample, load_speech, read_label_examples
from stream_erc.inference.workers import InlineWorker
from stream_erc.sources.audio_files import AudioFile

RNG = np.random.default_rng(0)


def voice(seconds: float, hz: float) -> Samples:
    """Make a harsh falling tone, on which functionals can be measured."""
    t = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = np.sign(np.sin(2 * np.pi * (hz - 20 * t) * t)) * 0.2 + 0.01 * RNG.standard_normal(len(t))
    return wave.astype(np.float32)


def write(path: Path, content: str | Samples) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    else:
        soundfile.write(path, content, SAMPLE_RATE)
    return path


def decode(path: Path) -> Iterable[Samples]:
    return AudioFile(path).chunks()


@pytest.fixture(scope="module")
def embedding_checkpoint(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint like the tiny one, with an embedding space."""
    base = checkpoint.load(tiny_checkpoint)
    torch.manual_seed(0)
    sizes = SentEmoContextConfig(text_dim=32, audio_groups=(88,), classes=7, width=16, embedding=12)
    network = SentEmoContext(sizes).eval()
    made = checkpoint.Checkpoint(
        "embeds", "sentemocontext", network, base.labels, 0.5, base.features, base.text_encoder
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "embeds"
    checkpoint.save(folder, made, "# embeds\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels by folder: words, a voice, and a voice with its words."""
    write(tmp_path / "labels" / "calm" / "said.txt", "we are very calm\n\n  yes\tyes \n")
    write(tmp_path / "labels" / "calm" / "heard.wav", voice(0.7, 120))
    write(tmp_path / "labels" / "thrilled" / "both.flac", voice(0.5, 300))
    write(tmp_path / "labels" / "thrilled" / "both.txt", "oh god\nyes!\n")
    write(tmp_path / "labels" / ".DS_Store", "not a label")
    write(tmp_path / "labels" / "calm" / ".hidden.txt", "not an example")
    return tmp_path / "labels"


# --- reading --------------------------------------------------------------------------------------


def test_a_folder_has_a_folder_for_each_label(folder: Path) -> None:
    found = [(e.label, e.text, e.audio and e.audio.name) for e in read_label_examples(folder)]
    assert found == [
        ("calm", "", "heard.wav"),
        ("calm", "we are very calm", None),
        ("calm", "yes yes", None),
        ("thrilled", "oh god yes!", "both.flac"),
    ]


TABLES = {
    "a.csv": "label,text,audio\njoyful,so happy,\nmad,,clips/mad.wav\njoyful,yes,clips/yes.wav\n",
    "a.tsv": "Text\tLabel\tAudio\nso happy\tjoyful\t\n\tmad\tclips/mad.wav\nyes\tjoyful\tclips/yes.wav\n",
    "a.jsonl": '{"label": "joyful", "text": "so happy"}\n\n{"label": "mad", "audio": "clips/mad.wav"}\n'
    '{"label": "joyful", "text": "yes", "audio": "clips/yes.wav"}\n',
}


@pytest.mark.parametrize("name", TABLES)
def test_a_file_has_labels_in_the_order_in_which_they_appear(tmp_path: Path, name: str) -> None:
    found = read_label_examples(write(tmp_path / name, TABLES[name]))
    assert [(e.label, e.text, e.audio) for e in found] == [
        ("joyful", "so happy", None),
        ("joyful", "yes", tmp_path / "clips" / "yes.wav"),
        ("mad", "", tmp_path / "clips" / "mad.wav"),
    ]
    assert all(str(tmp_path / name) in e.at for e in found)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "label,text\njoy,yes\njoy,so\n", "expected two labels or more, got joy"),
        ("a.csv", "label,text\n", "expected two labels or more, got none"),
        ("a.csv", "label,words\njoy,yes\n", "line 1: expected columns among label, text, audio, got 'words'"),
        ("a.csv", "text,audio\nyes,\n", "line 1: expected a column label, got text, audio"),
        ("a.csv", "label\njoy\n", "line 1: expected a column text or audio, got label"),
        ("a.csv", "label,text,audio\njoy,,\n", "line 2: expected a text or an audio file, got neither"),
        ("a.csv", "label,text\n,yes\n", "line 2: expected a label of 1 to 32 characters, got none"),
        ("a.csv", f"label,text\n{'j' * 40},yes\n", "line 2: expected a label of 1 to 32 characters, got 40"),
        ("a.jsonl", '{"label": "joy", "words": "yes"}\n', "expected keys among label, text, audio, got"),
        ("a.jsonl", '{"label": "joy", "text": 3}\n', "line 1: expected a string as text, got 3"),
        ("a.jsonl", '["joy", "yes"]\n', "line 1: expected an object with label, text, audio, got"),
        ("a.jsonl", '{"label": "joy"} {}\n', "line 1, column 18: expected JSON"),
        ("a.xml", "<joy>yes</joy>", "expected a folder of labels, .jsonl, .csv or .tsv, got .xml"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_told_in_one_line(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    with pytest.raises(LabelsError) as caught:
        read_label_examples(write(tmp_path / name, content))
    assert told in str(caught.value) and str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    def told() -> str:
        with pytest.raises(LabelsError) as caught:
            read_label_examples(tmp_path / "labels")
        return str(caught.value)

    labels = tmp_path / "labels"
    assert "expected a folder of labels, .jsonl, .csv or .tsv, got nothing there" in told()
    labels.mkdir()
    assert "expected a folder for each label in it, got none" in told()
    write(labels / "joy" / "a.txt", "yes\n")
    assert "expected two labels or more, got joy" in told()
    (labels / "mad").mkdir()
    assert "mad: expected examples of the label in text or audio files, got none" in told()
    write(labels / "mad" / "a.txt", "\n")
    assert "mad: expected examples of the label in text or audio files, got none" in told()
    (labels / "mad" / "more").mkdir()
    assert "more: expected text and audio files, got a folder" in told()
    shutil.rmtree(labels / "mad")
    write(labels / "readme.md", "hello")
    assert "readme.md: expected a folder for each label, got a file" in told()


def test_an_example_is_heard_as_a_turn_is_cut(tmp_path: Path) -> None:
    quiet = np.zeros(2 * SAMPLE_RATE, dtype=np.float32)
    path = write(tmp_path / "a.wav", np.concatenate([quiet, voice(0.5, 200), quiet]))
    heard = load_speech(LabelExample("joy", "", path, "here"), decode)
    assert len(heard) == pytest.approx((0.2 + 0.5 + 0.4) * SAMPLE_RATE, abs=700)


def test_a_recording_that_cannot_be_heard_is_told_with_its_place(tmp_path: Path) -> None:
    broken = write(tmp_path / "a.wav", "no sound")
    with pytest.raises(LabelsError, match=r"^t.csv, line 2: .*a.wav: expected an audio or video file, got"):
        load_speech(LabelExample("joy", "", broken, "t.csv, line 2"), decode)
    with pytest.raises(LabelsError, match=r"a.wav: expected an audio or video file, got"):
        load_speech(LabelExample("joy", "", broken, str(broken)), decode)
    with pytest.raises(LabelsError, match=f"expected at most {MAX_EXAMPLE_S} s, got more"):
        second = np.zeros(SAMPLE_RATE, dtype=np.float32)
        load_speech(LabelExample("joy", "", broken, "here"), lambda _: iter([second] * (MAX_EXAMPLE_S + 1)))


# --- answering ------------------------------------------------------------------------------------


def load(model: Path, labels: Path) -> Engine:
    config = EngineConfig(model=str(model), device="cpu", labels_from=str(labels))
    return Engine.load(config, SessionConfig(), TEXT_ONLY, decode=decode)


def test_an_engine_answers_in_the_labels_of_the_examples(embedding_checkpoint: Path, folder: Path) -> None:
    engine = load(embedding_checkpoint, folder)
    assert engine.classifier.labels == ("calm", "thrilled")
    session, worker = engine.open_session(SessionConfig()), InlineWorker(engine)
    session.submit(GivenTurn("Anna", "hello"))
    session.submit(GivenTurn("Tom", "oh no"))
    emotions = [event.emotion for event in worker.advance(session, wait=True)]
    assert len(emotions) == 2
    for emotion in emotions:
        assert tuple(emotion.probabilities) == ("calm", "thrilled")
        assert sum(emotion.probabilities.values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("known", ["words", "voice", "both"])
def test_an_example_is_recognised_where_it_is_a_turn(
    embedding_checkpoint: Path, tmp_path: Path, known: str
) -> None:
    voices = {
        "calm": write(tmp_path / "a.wav", voice(0.7, 120)),
        "mad": write(tmp_path / "b.wav", voice(0.5, 300)),
    }
    texts = {"calm": "yes", "mad": "oh god"}
    rows = [
        {"label": label}
        | ({"text": texts[label]} if known != "voice" else {})
        | ({"audio": voices[label].name} if known != "words" else {})
        for label in voices
    ]
    table = write(tmp_path / "labels.jsonl", "\n".join(map(json.dumps, rows)))
    classifier = load(embedding_checkpoint, table).classifier
    assert classifier.acoustic_spec is not None
    extract = load_extractor(classifier.acoustic_spec)
    for example in read_label_examples(table):
        acoustic = extract(load_speech(example, decode)) if example.audio else None
        work = ClassifyTurn(0, Turn(0, 0, example.text), Features(acoustic), (), None)
        ((emotion, _),) = classifier.classify([work])
        assert emotion.label == example.label and emotion.confidence > 0.9  # cosines 1 and -1


def test_new_labels_leave_the_classifier_that_they_came_from_as_it_was(embedding_checkpoint: Path) -> None:
    classifier = open_classifier(embedding_checkpoint, "cpu")
    work = ClassifyTurn(0, Turn(0, 0, "oh no"), Features(None), (), None)
    ((before, state),) = classifier.classify([work])
    other = classifier.with_labels([("up", "yes", None), ("down", "no", None)])
    ((emotion, after),) = other.classify([work])
    assert tuple(emotion.probabilities) == ("up", "down")
    assert other.state_to_bytes(after) == classifier.state_to_bytes(state)
    assert classifier.classify([work])[0][0] == before
    again = other.with_labels([("in", "yes", None), ("out", "no", None), ("in", "so", None)])
    assert again.labels == ("in", "out")


def test_a_network_without_an_embedding_space_names_those_that_have_one(
    tiny_checkpoint: Path, folder: Path
) -> None:
    with pytest.raises(LabelsError, match=r"expected .*sentemocontext.*got tiny \(si_lstm\)") as caught:
        load(tiny_checkpoint, folder)
    assert "\n" not in str(caught.value)


def test_examples_that_tell_nothing_are_refused(embedding_checkpoint: Path, folder: Path) -> None:
    write(folder / "calm" / "silent.wav", np.zeros(SAMPLE_RATE, dtype=np.float32))
    with pytest.raises(LabelsError, match=r"silent.wav: expected a text or 60 ms of speech.*got neither"):
        load(embedding_checkpoint, folder)


def test_recordings_need_a_decoder_and_words_need_none(embedding_checkpoint: Path, folder: Path) -> None:
    config = EngineConfig(model=str(embedding_checkpoint), device="cpu", labels_from=str(folder))
    with pytest.raises(LabelsError, match=r"both.flac|heard.wav: expected examples of text alone"):
        Engine.load(config, SessionConfig(), TEXT_ONLY)
    (folder / "calm" / "heard.wav").unlink()
    (folder / "thrilled" / "both.flac").unlink()
    assert Engine.load(config, SessionConfig(), TEXT_ONLY).classifier.labels == ("calm", "thrilled")


def test_the_command_line_says_answers_and_reports_new_labels(
    embedding_checkpoint: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"label {i:02}" for i in range(13)] + ["größe"]
    rows = "".join(f"{name}\t{word}\n" for name, word in zip(names, "abcdefghijklmn", strict=True))
    table = write(tmp_path / "many.tsv", "label\ttext\n" + rows)
    talk = write(tmp_path / "talk.jsonl", json.dumps({"turns": [{"text": "hello"}, {"text": "oh no"}]}))
    out, report = tmp_path / "events.jsonl", tmp_path / "report.html"
    for labels, expected in ((folder, ["calm", "thrilled"]), (table, names)):
        words = ["replay", talk, "--model", embedding_checkpoint, "--labels-from", labels, "--device", "cpu"]
        assert main([*map(str, words), "--out", str(out), "--report", str(report)]) == 0
        events = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert events[0]["type"] == "session.created" and events[0]["labels"] == expected
        finals = [event["emotion"] for event in events if event["type"] == "turn.final"]
        assert len(finals) == 2 and all(list(e["probabilities"]) == expected for e in finals)
        assert finals[0]["label"] in capsys.readouterr().out
        assert finals[0]["label"] in report.read_text(encoding="utf-8")
    words[words.index(table)] = tmp_path / "none"
    assert main(list(map(str, words))) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "got nothing there" in told


def test_unknown_labels_have_looks_of_their_own() -> None:
    emory = ("joyful", "mad", "neutral", "peaceful", "powerful", "sad", "scared")
    styles = emotion_styles(emory)
    assert len({(style.light, style.dark) for style in styles.values()}) == len(emory)
    assert len({style.code for style in styles.values()}) == len(emory)
    many = emotion_styles([f"label {i}" for i in range(30)] + ["喜び", "🙂"])
    assert len({style.code for style in many.values()}) == 32
