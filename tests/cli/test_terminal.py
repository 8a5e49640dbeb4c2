import re
from collections.abc import Iterable
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from rich.console import Console

from stream_erc.cli.terminal import TerminalView, clock
from stream_erc.protocol.encoding import Message

LABELS = ["neutral", "joy", "anger"]
SENTENCE = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def created(session: str = "s1", **fields: object) -> Message:
    source = {"name": "talk.wav", "duration_ms": 10_000}
    base = {
        "type": "session.created",
        "session_id": session,
        "seq": 0,
        "model": "si-lstm",
        "asr": "pocketsphinx",
    }
    return base | {"labels": LABELS, "source": source} | fields


def turn(
    index: int, text: str = "Hello.", label: str = "joy", *, kind: str = "final", **fields: object
) -> Message:
    emotion = {"label": label, "confidence": 0.75, "probabilities": {label: 0.75}}
    latency = {"endpointing": 400.0, "asr": 90.0, "features": 20.0, "emotion": 4.0, "total": 514.0}
    base = {
        "type": f"turn.{kind}",
        "session_id": "s1",
        "seq": 1,
        "turn": index,
        "speaker": "Anna",
        "text": text,
    }
    span = {"audio_start_ms": 1000 * index, "audio_end_ms": 1000 * index + 900}
    return base | span | {"emotion": emotion, "latency_ms": latency, "revision": 0} | fields


def failed(index: int) -> Message:
    base = {
        "type": "turn.failed",
        "session_id": "s1",
        "seq": 1,
        "turn": index,
        "message": "expected a, got b",
    }
    return base | {"audio_start_ms": 1000 * index, "audio_end_ms": 1000 * index + 900}


def closed(session: str = "s1", audio_ms: int = 10_000) -> Message:
    base = {"type": "session.closed", "session_id": session, "seq": 9, "audio_ms": audio_ms}
    return base | {"turns": 1, "failed_turns": 0, "speakers": ["Anna"]}


SUMMARY: Message = {
    "speaker": "Anna",
    "turns": 3,
    "speaking_ms": 7_500,
    "share": 0.75,
    "emotions": {
        "neutral": {"turns": 1, "speaking_ms": 1_000, "probability": 0.4},
        "joy": {"turns": 2, "speaking_ms": 6_500, "probability": 0.5},
        "anger": {"turns": 0, "speaking_ms": 0, "probability": 0.1},
    },
    "shifts": [{"before": "joy", "after": "neutral", "count": 1}],
    "interruptions": 2,
}


def play(console: Console, messages: Iterable[Message], total_ms: int | None = 10_000) -> str:
    with TerminalView(console, total_ms=total_ms, labels=LABELS) as view:
        for message in messages:
            view.show(message)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def plain(width: int = 80) -> Console:
    return Console(file=StringIO(), force_terminal=False, width=width)


def live(width: int = 80, **options: object) -> Console:
    return Console(
        file=StringIO(), force_terminal=True, width=width, color_system="truecolor", _environ={}, **options
    )


class Screen:
    """The text and styles on a terminal after the control codes of rich's live display."""

    def __init__(self, output: str) -> None:
        self.lines, row, column = [""], 0, 0
        for code, text in re.findall(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", output):
            if text:
                old = self.lines[row].ljust(column)
                self.lines[row] = old[:column] + text + old[column + len(text) :]
                column += len(text)
            elif code == "\n":
                row, column = row + 1, 0
                if row == len(self.lines):
                    self.lines.append("")
            elif code == "\r":
                column = 0
            elif code.endswith("A"):
                row -= int(code[2:-1])
            elif code.endswith("K"):
                self.lines[row] = ""

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).strip()


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "00:00.0"),
        (61_250, "01:01.2"),
        (59_999, "00:59.9"),
        (3_599_990, "59:59.9"),
        (3_600_000, "1:00:00.0"),
    ],
)
def test_clock_never_rounds_up(ms: int, text: str) -> None:
    assert clock(ms) == text


# --- plain lines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 200])
def test_a_log_has_one_plain_line_per_turn(width: int) -> None:
    output = play(plain(width), [created(), turn(3, SENTENCE), failed(4), closed()])
    lines = output.splitlines()
    assert not CONTROL.search(output)
    assert lines[0] == "talk.wav · 00:10.0 · model si-lstm · speech recognition pocketsphinx"
    assert lines[1] == f"00:03.0  Anna        joy      75% ━━━━╌  {SENTENCE}"
    assert lines[2] == "00:04.0  turn 5 failed: expected a, got b"
    assert lines[4:] == [
        "1 turn, 1 speaker, 00:10.0 of audio, 1 failed",
        "expressed joy 1",
        "latency   median 514 ms from the end of speech to the result "
        "(waiting for silence 400, speech recognition 90, voice 20, emotion 4)",
    ]


def progress(total_ms: int | None, heard_ms: int, speed: float) -> list[str]:
    """The progress lines of a log, for audio that is heard at this speed."""
    now = [0.0]
    console = Console(file=StringIO(), force_terminal=False, width=80, get_time=lambda: now[0])
    with TerminalView(console, total_ms=total_ms, labels=LABELS) as view:
        view.show(created())
        view.show(turn(0, "not yet", kind="partial"))
        for audio_ms in range(0, heard_ms + 1, 100):
            now[0] = audio_ms / 1000 / speed
            view.progress(audio_ms)
    assert isinstance(console.file, StringIO)
    output = console.file.getvalue()
    assert "not yet" not in output
    return [line for line in output.splitlines() if line.startswith("--")]


def test_a_log_shows_no_partial_turns_and_a_progress_line_every_few_seconds() -> None:
    marks = progress(60_000, 60_000, 4)
    assert marks[0] == "-- 33% heard, 00:20.0 / 01:00.0, 4.0x real time, about 00:10 left"
    assert [mark.split()[1] for mark in marks] == ["33%", "67%", "100%"]
    assert marks[-1].endswith("about 00:00 left")


def test_a_long_recording_gets_no_more_than_fifty_progress_lines() -> None:
    marks = progress(45 * 60_000, 45 * 60_000, 3)
    assert 45 <= len(marks) <= 50
    assert "-- 50% heard, 22:30.0 / 45:00.0, 3.0x real time, about 07:30 left" in marks


def test_without_a_known_length_a_log_says_how_far_it_is() -> None:
    assert progress(None, 12_000, 1) == ["-- 00:05.0 heard", "-- 00:10.0 heard"]


def test_the_live_line_tells_the_time_left() -> None:
    now = [0.0]
    console = Console(file=StringIO(), force_terminal=True, width=100, _environ={}, get_time=lambda: now[0])
    with TerminalView(console, total_ms=60_000, labels=LABELS) as view:
        view.show(created())
        now[0] = 5.0
        view.progress(15_000)
        assert isinstance(console.file, StringIO)
        shown = Screen(console.file.getvalue()).text
    assert "25%  00:15.0 / 01:00.0, 3.0x real time, about 00:15 left" in shown


def test_text_dialogues_have_headings_and_turn_numbers() -> None:
    null = {"audio_start_ms": None, "audio_end_ms": None}
    messages = []
    for session in ("a", "b"):
        extra = {"session_id": session, "dialogue": f"dialogue {session}"}
        messages += [created(**extra), turn(0, **extra, **null), turn(1, **extra, **null), closed(session, 0)]
    lines = play(plain(), messages, total_ms=None).splitlines()
    assert [line for line in lines if line.startswith("==")] == ["== dialogue a", "== dialogue b"]
    assert lines[3].split()[:2] == ["1", "Anna"] and lines[4].split()[:2] == ["2", "Anna"]
    assert "2 dialogues, 4 turns, 1 speaker" in lines


def test_an_ascii_log_stays_ascii() -> None:
    raw = BytesIO()
    console = Console(file=TextIOWrapper(raw, "ascii", newline="\n"), force_terminal=False, width=80)
    with TerminalView(console, total_ms=10_000, labels=LABELS) as view:
        for message in (created(), turn(1, "Größe 你", kind="revised"), closed()):
            view.show(message)
    console.file.flush()
    text = raw.getvalue().decode("ascii")
    assert "####-  revised: Gr??e ?" in text and "talk.wav | 00:10.0" in text


def test_an_unsure_speaker_and_overlap_are_marked() -> None:
    unsure = turn(0, "So.", speaker="speaker_12", speaker_unsure=True, overlap=0.3, others=["Bob", "Cem"])
    messages = [created(), unsure, turn(1, overlap=0.07), turn(2, others=["Bob"]), closed()]
    lines = play(plain(), messages).splitlines()
    assert lines[1] == "00:00.0  speaker_12?  joy      75% ━━━━╌  So.  [overlaps Bob and Cem, 30%]"
    assert lines[2].endswith("Hello.  [overlap 7%]") and lines[3].endswith("Hello.  [overlaps Bob]")
    assert "Anna?" not in lines[2]
    for width in (60, 100):  # the mark stays, however narrow the column of the names
        seen = Screen(play(live(width), messages)).text
        assert re.search(r"speaker_12\?|speaker…\?", seen), seen
    assert "So.  overlaps Bob and Cem, 30%" in seen


def test_a_translation_follows_the_words_and_names_their_language() -> None:
    german = turn(0, "Das Tuch liegt hier.", language="de", translation="The cloth lies here.")
    output = play(plain(), [created(), german, turn(1)])
    assert "  Das Tuch liegt hier.  (from de: The cloth lies here.)\n" in output
    assert output.count("from ") == 1


# --- a terminal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_turns_fit_the_width_and_lose_no_word(width: int) -> None:
    long_name = "Dr. Maximilian Featherstonehaugh the Elder"
    output = play(live(width), [created(), turn(1, SENTENCE, speaker=long_name), failed(2), closed()])
    screen = Screen(output)
    assert max(len(line) for line in screen.lines) <= width
    first = screen.text[screen.text.index("00:01.0") : screen.text.index("00:02.0")]
    assert set(SENTENCE.split()) <= set(first.split())
    assert re.search(r"joy +━+╌+ +75%", first)
    assert "\x1b[31mturn 3 failed: expected a, got b\x1b[0m" in output  # red


def test_a_translation_is_dim_beneath_the_words() -> None:
    german = turn(0, "Das Tuch liegt hier.", language="de", translation="The cloth lies here.")
    output = play(live(80), [created(), german])
    assert "\x1b[2mfrom de: The cloth lies here." in output
    lines = Screen(output).text.splitlines()
    (at,) = (i for i, line in enumerate(lines) if "Das Tuch liegt hier." in line)
    assert lines[at + 1].strip() == "from de: The cloth lies here."
    assert lines[at].index("Das") == lines[at + 1].index("from")


def test_partial_text_is_grey_and_gives_way_to_the_final_turn() -> None:
    console = live(80)
    assert isinstance(console.file, StringIO)
    with TerminalView(console, total_ms=10_000, labels=LABELS) as view:
        view.show(created())
        view.show(turn(0, "Hel", kind="partial", speaker=None, emotion=None))
        view.progress(2_500)
        during = console.file.getvalue()
        view.show(turn(0, "Hello."))
        after = console.file.getvalue()
    assert "\x1b[90mHel" in during  # bright black
    lines = Screen(during).text.splitlines()
    assert lines[1].split() == ["00:00.0", "Hel"]
    assert re.fullmatch(r"━{4}╌{14}  25%  00:02.5 / 00:10.0.*", lines[2])
    assert "Hel\n" not in Screen(after).text and "Hello." in Screen(after).text
    assert "25%" not in Screen(console.file.getvalue()).text  # the live line leaves nothing behind


def test_without_a_known_length_the_live_line_says_how_long_it_listens() -> None:
    console = live(80)
    assert isinstance(console.file, StringIO)
    with TerminalView(console, total_ms=None, labels=LABELS) as view:
        view.show(created())
        view.progress(61_000)
        assert "● listening 01:01.0" in Screen(console.file.getvalue()).text


def test_speakers_keep_colours_of_their_own() -> None:
    messages = [turn(i, speaker=name) for i, name in enumerate(["Anna", "Tom", "Anna"])]
    output = play(live(), [created(), *messages])
    body = output[: output.index("3 turns")]
    colours = re.findall(r"\x1b\[1;(\d+)m(Anna|Tom)", body)
    assert colours[0] == colours[2] and colours[0][0] != colours[1][0]


def test_a_revised_turn_is_marked_and_counted_once() -> None:
    revised = turn(0, speaker="Tom", kind="revised", revision=1)
    text = Screen(play(live(), [created(), turn(0), revised, closed()])).text
    assert "↻ turn 1 revised  Hello." in text and "1 turn, 1 speaker" in text


@pytest.mark.parametrize("console", [plain(), live()], ids=["plain", "live"])
def test_markup_and_control_codes_in_words_do_nothing(console: Console) -> None:
    hostile = "[red]x[/red] [/] :smile: \x1b[2J\x1b]0;title\x07 a\rb\u202ec \ud800"
    output = play(console, [created(), turn(0, hostile, speaker="[bold]A"), closed()])
    text = Screen(output).text
    assert "[red]x[/red] [/] :smile:" in text and "[bold]A" in text
    assert (
        "\x1b[2J" not in output and "\x1b]" not in output and "\u202e" not in output and "\x07" not in output
    )


def test_an_interrupted_session_is_summed_up() -> None:
    console = plain()
    with pytest.raises(KeyboardInterrupt), TerminalView(console, total_ms=None, labels=LABELS) as view:
        view.show(created())
        view.show(turn(0))
        view.progress(4_200)
        raise KeyboardInterrupt
    assert isinstance(console.file, StringIO)
    assert "1 turn, 1 speaker, 00:04.2 of audio" in console.file.getvalue()


def test_messages_of_later_versions_are_passed_over() -> None:
    later = {"type": "session.weather", "session_id": "s1", "seq": 1}
    assert play(plain(), [created(), later, closed()]) == play(plain(), [created(), closed()])


def test_the_end_tells_the_whole_of_each_speaker() -> None:
    shown = play(plain(), [created(), turn(0, "hi"), closed() | {"summary": [SUMMARY]}])
    assert (
        "Anna      3 turns, 00:07 of speech, 75% of all; joy 2, neutral 1; 1 shift of emotion; "
        "2 interruptions" in shown
    )
    text = SUMMARY | {"share": None, "speaking_ms": 0, "turns": 1, "shifts": []}
    shown = play(plain(), [created(), turn(0, "hi"), closed() | {"summary": [text]}])
    assert "Anna      1 turn; joy 2, neutral 1; 0 shifts of emotion\n" in shown
    older = play(plain(), [created(), turn(0, "hi"), closed()])
    assert "of emotion" not in older
