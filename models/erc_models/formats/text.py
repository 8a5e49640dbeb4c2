"""The text that networks read, as it was in training: the one definition for training and run time."""

_REPAIRS = str.maketrans(
    # Windows-1252 decoded as Latin-1, and the same characters decoded correctly
    {**dict.fromkeys("\x91\x92\u2018\u2019\u2032", "'"), **dict.fromkeys("\x93\x94\u201c\u201d", '"')}
    | {**dict.fromkeys("\x85\u2026", "..."), **dict.fromkeys("\x96\x97\u2013\u2014", " - ")}
    | {"\u3002": ".", "\u3001": ",", "\xa0": " ", "\ufeff": "", "\x7f": ""}
)


def repair_text(text: str) -> str:
    """Replace typographic quotes, dashes and dots by ASCII and runs of white space by single spaces."""
    return " ".join(text.translate(_REPAIRS).split())
