"""The palette of the window: the colours of both themes, and a colour, letters and a face for each emotion.

The values are those of the HTML report, so that a recording looks the same in both. No colour is used alone:
the letters or the label are always beside it.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Theme:
    """The colours of a window, ``#rrggbb``.

    Attributes:
        wave, speech: the waveform outside speech and within speech.
        band, pending: the background of speech, and of speech without a finished turn.
        record: the large button and other accents.
    """

    name: str
    background: str
    surface: str
    ink: str
    soft: str
    line: str
    hover: str
    wave: str
    speech: str
    band: str
    pending: str
    error: str
    error_background: str
    record: str


LIGHT = Theme(
    name="light",
    background="#fbfaf7",
    surface="#ffffff",
    ink="#1b1c1f",
    soft="#5f636c",
    line="#e5e2da",
    hover="#f3f1eb",
    wave="#b9b7b0",
    speech="#3b3d42",
    band="#f4f1e9",
    pending="#fbeee6",
    error="#b3261e",
    error_background="#fdf1ef",
    record="#c74b2d",
)
DARK = Theme(
    name="dark",
    background="#121417",
    surface="#191c20",
    ink="#e9e9e6",
    soft="#a0a4ad",
    line="#2c3036",
    hover="#20242a",
    wave="#5d636d",
    speech="#d9dade",
    band="#23272d",
    pending="#2e2723",
    error="#ff9d94",
    error_background="#2c1b1a",
    record="#e36938",
)


@dataclass(frozen=True, slots=True)
class EmotionStyle:
    """The style of one of the model's labels.

    Attributes:
        code: one to three letters, unique among the model's labels.
        face: the family whose face it shows, or "" if it shows its letters instead.
        light, dark: ``#rrggbb`` in a light and in a dark theme.
    """

    label: str
    code: str
    face: str
    light: str
    dark: str

    def colour(self, theme: Theme) -> str:
        """Return its colour in a theme."""
        return self.dark if theme.name == "dark" else self.light


COLOURS = {
    "neutral": ("#949aa4", "#afb5bf"),
    "joy": ("#e3a81f", "#f0c050"),
    "sadness": ("#22509f", "#5f69d1"),
    "anger": ("#c74b2d", "#e36938"),
    "fear": ("#a266ba", "#cc81e8"),
    "surprise": ("#56b4ef", "#9be6f7"),
    "disgust": ("#20846f", "#1fa37d"),
}
"""(light, dark) of each family of emotions; distinguishable with all common kinds of colour blindness."""

SPARE_COLOURS = (
    ("#7a4b1e", "#c79a6b"),
    ("#6d7a00", "#c3cf55"),
    ("#c2185b", "#ff8fb7"),
    ("#00838f", "#4dd0c5"),
    ("#3d3d3d", "#ededed"),
)
"""For labels of no family, and for a second label of the same one."""

FAMILIES = {
    "neutral": ("neutral", "calm", "no_emotion", "peaceful", "none"),
    "joy": ("joy", "happy", "happiness", "joyful", "excited", "amused", "amusement"),
    "sadness": ("sadness", "sad"),
    "anger": ("anger", "angry", "mad", "frustrated", "frustration"),
    "fear": ("fear", "fearful", "scared", "afraid", "anxious"),
    "surprise": ("surprise", "surprised"),
    "disgust": ("disgust", "disgusted", "contempt"),
}


def emotion_styles(labels: Sequence[str]) -> dict[str, EmotionStyle]:
    """Return the styles of a model's labels, in its order; distinct for up to twelve labels."""
    taken: set[str] = set()
    spares = 0
    styles: dict[str, EmotionStyle] = {}
    for label, code in zip(labels, _codes(labels), strict=True):
        family = next((name for name, words in FAMILIES.items() if label.lower() in words), "")
        first = bool(family) and family not in taken
        if first:
            light, dark = COLOURS[family]
        else:
            light, dark = SPARE_COLOURS[spares % len(SPARE_COLOURS)]
            spares += 1
        taken.add(family)
        styles[label] = EmotionStyle(label, code, family if first else "", light, dark)
    return styles


def _codes(labels: Sequence[str]) -> list[str]:
    """Return for each label the shortest unused prefix of two or three letters, or else a number."""
    codes: list[str] = []
    for label in labels:
        letters = [c for c in label if c.isalnum()]
        prefixes = ["".join(letters[:n]).capitalize() for n in (2, 3)]
        free = [code for code in prefixes if code and code not in codes]
        codes.append(free[0] if free else str(len(codes) + 1))
    return codes


# --- mixing -----------------------------------------------------------------------------------------


def mix(colour: str, ground: str, share: float) -> str:
    """Mix `share` of one colour with another as ground."""
    parts = zip(_rgb(colour), _rgb(ground), strict=True)
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in parts)


def tint(style: EmotionStyle, confidence: float, theme: Theme) -> str:
    """Return the fill of a turn: the emotion's colour, stronger with more confidence, always visible."""
    return mix(style.colour(theme), theme.surface, 0.16 + 0.84 * confidence)


def ink_on(colour: str) -> str:
    """Return a readable text colour on a colour."""
    return "#16171a" if luminance(colour) > 0.22 else "#ffffff"


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, 0 to 1 (WCAG 2.2)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in map(_share, _rgb(colour))]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _share(value: int) -> float:
    return value / 255


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
