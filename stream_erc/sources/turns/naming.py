"""Names and sounds in the lines of transcripts: who speaks, and what of a line is speech.

A name stands before a colon or in brackets at the beginning of a line. Meetings give theirs any form: ``Dr.
Ann Lee``, ``Ann Lee (she/her)``, ``ann.lee@example.org``, ``iPhone (3)``, ``Ann Lee | Sales``.
"""

import itertools
import re

_WORD = r"(?:\w{1,4}\.|\w[\w'’&#./-]*)"  # noqa: RUF001
_TAIL = r"(?: ?(?:\((?:[^()]|\([^()]*\)){1,60}\)|\[[^\[\]]{1,60}\]))"
_WORDS = rf"{_WORD}(?:(?:,? | [&+] ){_WORD}){{0,6}}{_TAIL}{{0,2}}"
_MAIL = r"[\w.'’+-]+@[\w-]+(?:\.[\w-]+)+"  # noqa: RUF001
_CALLER = r"\+?[\d*#][\d*() #.-]{5,24}[\d*#]"
_NAME = rf"(?:{_MAIL}{_TAIL}?|{_CALLER}|{_WORDS}(?: ?[|/–—-] {_WORDS}){{0,3}})"  # noqa: RUF001
_COLON = re.compile(rf"({_NAME}) ?(?::\s+|:$|：\s*)(.*)", re.DOTALL)  # noqa: RUF001
_BRACKET = re.compile(rf"(?:\[({_NAME})\]|\(({_NAME})\)) ?:?\s+(.+)", re.DOTALL)
_PARTICLES = frozenset(
    "al and bin da de del della den der di do dos du el la le of og of the und van von y".split()
)
_NO_NAMES = frozenset(
    "actually again also although and anyway attention because besides but caution example fact finally "
    "first fourth hence here hint however important it listen look meaning next no note now ok okay or "
    "otherwise please plus ps reminder remember second so still that then therefore third this thus tip "
    "today tomorrow wait warning well yes yet".split()
)
"""Words that stand before a colon and name nobody."""

_SOUND = re.compile(
    r"(?:^|[^\w])(?:applau|audience|bang|bark|beep|bell|breath|buzz|chatter|cheer|chuckl|clap|"
    r"clear(?:s|ing)? (?:his |her )?throat|click|cough|crash|cries|cross-?talk|cry|door|engine|exhal|foreign|"
    r"footstep|gasp|giggl|grunt|groan|growl|gulp|hiss|hum(?:s|ming)?\b|inaudible|indistinct|inhal|knock|laugh|"
    r"lip ?smack|moan|mumbl|murmur|music|mutter|noise|no audio|overlapping|panting|pause|phone|"
    r"ring(?:s|ing)\b|scoff|scream|shout|shush|sigh|silence|sing(?:s|ing)\b|siren|slam|smack|snap|sneez|snicker|sniff|snor|"
    r"sob(?:s|bing)?\b|song|speak(?:s|ing)\b|squeal|stammer|static|stutter|thud|thunder|typing|unintelligible|"
    r"unclear|vocali[sz]|wail|weep|whimper|whisper|whistl|whoosh|yawn|yell|applaus|gelächter|lach|musik|rauschen|"
    r"räusper|seufz|stille|weint|musique|pleur|rire|rit\b|soupir|aplauso|música|risa|ríe|suspir|risat|musica)",
    re.IGNORECASE,
)
"""Words of sounds, at the beginning of a word, in the languages that subtitles have most."""

_DIRECTION = re.compile(
    r" ?[\[(](?:v\.? ?o\.?|o\.? ?[sc]\.?|cont(?:'?d|inued)\.?|voice-?over|off-?(?:screen|camera)?|"
    r"(?:on|over) .*|to \w+|in \w+|[^()\[\]]+ \d{1,3}%)[\])]",
    re.IGNORECASE,
)
"""Stage directions behind a name; ``(joy 87%)`` too."""

_EXPORTED = re.compile(r"(.+?) \([^()]+ \d{1,3}%\):(?: (.*))?")

_NOTE = "¶♩♪♫♬🎵🎶🎼"
_NOTES = re.compile(rf"[{_NOTE}]+[^{_NOTE}]*[{_NOTE}]+|(?:^|(?<=\s))#\s[^#]+\s#(?=\s|$)")
_SQUARE = re.compile(r"\[[^\[\]]*\]|【[^【】]*】")
_OTHER = re.compile(r"\(([^()]*)\)|\*([^*]+)\*|（([^（）]*)）|<([^<>]*)>|\{([^{}]*)\}")  # noqa: RUF001
_DASH = r"[-\u2010-\u2015\u2212]"
_DASHED = re.compile(rf"^{_DASH}{{1,2}}(?:\s+|(?=[^\W\d]|[\[\"'(¿¡♪<]))")
_WITHIN = re.compile(rf"(?<=[.?!…\")\]])\s+{_DASH}\s+(?=\S)")
_CHEVRONS = re.compile(r"(?:^|\s)>{2,3}\s*")


def split_exported(line: str) -> tuple[str, str] | None:
    """Split a line that this program exported, ``Name (joy 87%): text``, into (name, text)."""
    found = _EXPORTED.fullmatch(line)
    return (found[1], found[2] or "") if found else None


def split_name(line: str) -> tuple[str | None, str]:
    """Split ``Name: text``, ``[Name] text`` or ``(Name) text`` into (name, text), else (None, line)."""
    if len(line) > 200:
        match = _COLON.fullmatch(line[:200])
        said = match and match[2] + line[200:]
    else:
        match = _COLON.fullmatch(line)
        said = match and match[2]
    if match and said is not None and _is_name(match[1]):
        return _without_sound(match[1]), said
    if match := _BRACKET.fullmatch(line):
        name, said = match[1] or match[2], match[3]
        plain = any(word[0].islower() and word not in _PARTICLES for word in name.split())
        if not is_sound(name) and (not plain or re.search(r"\d", name)):
            return name, said
    return None, line


def any_name(line: str) -> tuple[str, str] | None:
    """Split ``Whatever it is: text`` into (name, text): for a line that begins with a name of any form."""
    match = re.fullmatch(r"([^:：]{1,60}?) ?[:：]\s+(\S.*)", line, re.DOTALL)  # noqa: RUF001
    if not match or len(words := match[1].split()) > 6 or words[0].lower() in _NO_NAMES:
        return None
    return None if re.search(r"[.?!,;]\s", match[1]) else (match[1], match[2])


def _is_name(name: str) -> bool:
    """Return whether what stands before a colon can be a name: no sentence, and no word that opens one."""
    if re.fullmatch(rf"{_MAIL}{_TAIL}?|{_CALLER}", name):
        return True
    words = re.findall(r"[^\s,|/&+]+", re.sub(_TAIL, "", name))
    if words[0].lower() in _NO_NAMES:
        return False
    return len(words) == 1 or all(_capital(word) or word in _PARTICLES for word in words)


def _capital(word: str) -> bool:
    """Return whether a word may be a part of a name: ``Lee``, ``iPhone``, ``3``, ``李``."""
    return not word[0].islower() or any(c.isupper() or c.isdigit() for c in word)


def _without_sound(name: str) -> str:
    """Remove a sound or stage direction from behind a name: ``ANN (sighs)``, ``ANN (V.O.)``."""
    bare = re.sub(rf"{_TAIL}$", "", name)
    tail = name[len(bare) :]
    return bare if tail and (is_sound(tail) or _DIRECTION.fullmatch(tail)) else name


def is_sound(text: str) -> bool:
    """Return whether a text names a sound."""
    return _SOUND.search(text) is not None


def spoken(text: str) -> str | None:
    """Remove sounds and music from a text on one line; return None if that was all of it.

    All that stands in square brackets is no speech, and what stands in other brackets or between asterisks
    where it names a sound, or is all there is.
    """
    said = _NOTES.sub(" ", text)
    if any(note in said for note in _NOTE):  # one note alone: the song goes on in another cue
        first = min(said.index(note) for note in _NOTE if note in said)
        said = said[:first] if first > 0 and said[first + 1 :].strip() else ""
    said = _OTHER.sub(lambda m: " " if is_sound(next(g for g in m.groups() if g is not None)) else m[0], said)
    said = _SQUARE.sub(" ", said)
    if _OTHER.fullmatch(said.strip()):
        said = ""
    if said == text:
        return text
    said = re.sub(r"\s+([,.;:?!…]+(?=\s|$))", r"\1", " ".join(said.split()))
    said = re.sub(rf"^(?:[,.;:…]|{_DASH}|\s)+(?=\w)", "", said)
    return said if any(c.isalnum() for c in said) else None


def parts_of(lines: list[str]) -> list[tuple[str | None, str]]:
    """Divide the lines of a cue into parts by who speaks: (speaker or None, text).

    Another speaker begins with a dash or ``>>`` (unknown, unless a name follows), or with a name where the
    part before it has one.
    """
    parts: list[tuple[str | None, str]] = []
    lines = [piece for line in lines for piece in _pieces(line)]
    dashed = [bool(_DASHED.match(line) or _CHEVRONS.match(line)) for line in lines]
    for number, line in enumerate(lines):
        plain = _DASHED.sub("", _CHEVRONS.sub("", line, count=1) if _CHEVRONS.match(line) else line).strip()
        name, said = split_name(plain)
        other = bool(parts and parts[-1][1]) and (bool(name and said and parts[0][0]) or dashed[number])
        if not parts or other:
            parts.append((name, said))
        else:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]} {plain}".strip())
    if len(parts) == 1 and not parts[0][1]:  # "Listen:" alone is a text, not a silent speaker
        return [(None, " ".join(lines))]
    return parts


def _pieces(line: str) -> list[str]:
    """Divide a line where another speaker begins within it: ``- Hi. - Hello.``, ``>> Hi. >> Hello.``."""
    if _DASHED.match(line):
        first, *others = _WITHIN.split(line)
        return [first, *(f"- {other}" for other in others)]
    marks = [match.start() for match in _CHEVRONS.finditer(line)]
    if not marks:
        return [line]
    bounds = sorted({0, *marks, len(line)})
    return [piece for a, b in itertools.pairwise(bounds) if (piece := line[a:b].strip())]
