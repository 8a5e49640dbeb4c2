"""The looks of emotions: a colour, two letters and a face, the same in the terminal and the report.

The seven basic colours are distinguishable with all common kinds of colour blindness (a test checks this),
and a colour never stands alone: the letters or the label are beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EmotionStyle:
    """The looks of one label.

    Attributes:
        label: the checkpoint's label.
        code: one to three letters, unique among the checkpoint's labels.
        face: one of the families below, or "" if the label belongs to none.
        light, dark: ``#rrggbb`` on a light and on a dark background.
    """

    label: str
    code: str
    face: str
    light: str
    dark: str


COLOURS = {
    "neutral": ("#949aa4", "#afb5bf"),
    "joy": ("#e3a81f", "#f0c050"),
    "sadness": ("#22509f", "#5f69d1"),
    "anger": ("#c74b2d", "#e36938"),
    "fear": ("#a266ba", "#cc81e8"),
    "surprise": ("#56b4ef", "#9be6f7"),
    "disgust": ("#20846f", "#1fa37d"),
}
"""(light, dark) of each family of emotions."""

SPARE_COLOURS = (
    ("#7a4b1e", "#c79a6b"),
    ("#6d7a00", "#c3cf55"),
    ("#c2185b", "#ff8fb7"),
    ("#00838f", "#4dd0c5"),
    ("#3d3d3d", "#ededed"),
)
"""For labels without a family, and for a second label of the same family."""

FAMILIES = {
    "neutral": ("neutral", "calm", "no_emotion", "peaceful", "none"),
    "joy": ("joy", "happy", "happiness", "joyful", "excited", "amused", "amusement"),
    "sadness": ("sadness", "sad"),
    "anger": ("anger", "angry", "mad", "frustrated", "frustration"),
    "fear": ("fear", "fearful", "scared", "afraid", "anxious"),
    "surprise": ("surprise", "surprised"),
    "disgust": ("disgust", "disgusted", "contempt"),
}

SPEAKER_COLOURS = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_magenta",
)
"""For the terminal, by order of appearance; in the report each speaker has a lane instead."""


def emotion_styles(labels: Sequence[str]) -> dict[str, EmotionStyle]:
    """Return the looks of a checkpoint's labels, in its order; distinct for up to twelve labels."""
    taken: set[str] = set()
    spares = 0
    styles: dict[str, EmotionStyle] = {}
    for label, code in zip(labels, _codes(labels), strict=True):
        face = next((family for family, words in FAMILIES.items() if label.lower() in words), "")
        if face and face not in taken:
            light, dark = COLOURS[face]
        else:
            light, dark = SPARE_COLOURS[spares % len(SPARE_COLOURS)]
            spares += 1
        taken.add(face)
        styles[label] = EmotionStyle(label, code, face, light, dark)
    return styles


def _codes(labels: Sequence[str]) -> list[str]:
    """Return a unique prefix of two or three letters for each label, or a number."""
    codes: list[str] = []
    for label in labels:
        letters = [c for c in label if c.isalnum()]
        prefixes = ["".join(letters[:n]).capitalize() for n in (2, 3)]
        free = [code for code in prefixes if code and code not in codes]
        codes.append(free[0] if free else str(len(codes) + 1))
    return codes
