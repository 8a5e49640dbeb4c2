"""Names that leave the text, and sounds that are none."""
# ruff: noqa: E501 - a name beside the other

import pytest

from stream_erc.sources.turns.naming import split_name, spoken


@pytest.mark.parametrize(
    "name",
    [
        "Ann", "ann", "ANN", "Dr. Smith", "Prof. Dr. Jürgen von der Heide, PhD", "Lee, Ann", "O'Neil", "Ann-Marie",
        "Ann Lee (she/her)", "Ann Lee (They/Them/Theirs)", "Ann Lee (Guest)", "Lee, Ann (EXT)", "Ann [Acme]",
        "ann.lee", "ann.lee@example.org", "rob.o'neil+x@mail.example.co.uk", "iPhone", "iPhone (3)", "Galaxy S21 Ultra",
        "Ann's iPad (2)", "Ann | Sales", "Ann Lee | Service Desk | Berlin", "Ann Lee - Acme", "+1 555-123-4567",
        "1********12", "Speaker 1", "SPEAKER_00", "Q", "I", "李", "Zoom User", "Conference Room 3 (B-12)",
        "Ludwig van Beethoven", "María José de la Cruz",
    ],
)  # fmt: skip
def test_names(name: str) -> None:
    assert split_name(f"{name}: so it is: yes") == (name, "so it is: yes")


@pytest.mark.parametrize(
    "line",
    [
        "Note: this is odd", "Well: no", "Then he said: come", "at 10:30 we met", "https://example.org", "ratio 3:1",
        "And I quote: no", "PS: more", "What I mean is: no", "",
    ],
)  # fmt: skip
def test_no_names(line: str) -> None:
    assert split_name(line) == (None, line)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[laughs]", None),
        ("(applause)", None),
        ("*sighs*", None),
        ("(door slams)", None),
        ("(Applaus) [Musik]", None),
        ("♪", None),
        ("♪ la la la ♪", None),
        ("♪ to you, happy birthday", None),
        ("# la la la #", None),
        ("[MUSIC PLAYING] [inaudible 00:01:02]", None),
        ("<laughter>", None),
        ("[sighs] Good news, [coughs] everyone.", "Good news, everyone."),
        ("I *laughs* mean it (really)", "I mean it (really)"),
        ("Stop it [laughs].", "Stop it."),
        ("♪ Happy birthday ♪ Stop it!", "Stop it!"),
        ("You [ __ ] did", "You did"),
        ("I (really) mean *this*", "I (really) mean *this*"),
        ("we are #1 and #2", "we are #1 and #2"),
        ("?!", "?!"),
        ("5 * 3 * 2", "5 * 3 * 2"),
    ],
)
def test_sounds(text: str, said: str | None) -> None:
    assert spoken(text) == said
