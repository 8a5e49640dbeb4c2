"""Names of columns and keys, as people and programs give them, and the entry that a row of them makes."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from stream_erc.sources.text_files import short
from stream_erc.sources.turns.entries import Entry, Fault, Found, is_whole, seconds_of

_ROLES = {
    "start": "start starttime starts startat begin begintime begins beginning onset onsettime timestart "
    "starttimestamp tstart timein tmin xmin tcin intime starttimecode timestamp timecode time in from t0 "
    "startzeit beginn anfang début debut inicio inizio",
    "end": "end endtime ends endat stop stoptime timeend endtimestamp tend timeout tmax xmax tcout outtime "
    "endtimecode finish until offset offsettime out to t1 endzeit ende fin fine",
    "duration": "duration dur length dauer durée duree duración duracion durata",
    "speaker": "speaker speakername speakerlabel speakerid spk spkr name participant participantname "
    "participantid person talker who actor character role user username author sender sprecher sprecherin "
    "locuteur hablante parlante tier from",
    "text": "text utterance transcript transcription sentence content caption subtitle speech said message "
    "words value annotation body line texte texto testo äußerung transkript",
    "group": "dialogue dialogueid dialog dialogid conversation conversationid conv convid sceneid callid",
}
"""Role -> the names of its columns, the best first, in lower case without anything but letters and digits."""

_UNIT = re.compile(
    r"(?:[\[(]|\s-)\s*(ss\.msec|ms|msecs?|milliseconds?|millis|s|secs?|seconds?|hh:mm:ss.*?)\s*[\])]?\s*$"
)
_MS = re.compile(r"(?:ms|msecs?|milliseconds?|millis)$")
_S = re.compile(r"(?:_s|[_ ]?secs?|[_ ]?seconds?|Sec|S)$")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, or the keys of records, by their roles.

    Attributes:
        names: all columns as the file names them.
        roles: role -> column.
        units: column of times -> ``ms``, ``s`` or ``""`` for unknown.
        extra: the columns that have no role.
        exact: whether cells are taken as they are: see `Entry.exact`.
    """

    names: tuple[str, ...]
    roles: Mapping[str, str]
    units: Mapping[str, str]
    extra: tuple[str, ...]
    exact: bool = False

    @property
    def timed(self) -> bool:
        """Whether turns have times."""
        return "start" in self.roles

    @property
    def useful(self) -> bool:
        """Whether turns can be told: a text, or a speaker with times."""
        return "text" in self.roles or (self.timed and "speaker" in self.roles)


def columns_of(names: Iterable[str]) -> Columns:
    """Find the roles of columns; the best name of each role wins, and milliseconds over seconds."""
    named = tuple(dict.fromkeys(name for name in names))
    if is_own(named):
        return _own_columns(named)
    keys = {name: _key(name) for name in named}
    roles: dict[str, str] = {}
    for role in ("start", "end", "duration", "speaker", "text", "group"):
        known = _ROLES[role].split()
        able = [n for n in named if keys[n][0] in known and n not in roles.values()]
        if role == "speaker" and "from" in (keys[n][0] for n in able) and "end" not in roles:
            able.sort(key=lambda n: keys[n][0] == "from")
        if able:
            roles[role] = min(able, key=lambda n: (known.index(keys[n][0]), keys[n][1] != "ms"))
    if "start" in roles and keys[roles["start"]][0] == "from" and "end" not in roles:
        roles.setdefault("speaker", roles.pop("start"))  # who wrote it, not when
    if "start" not in roles and keys.get(roles.get("end", ""), ("", ""))[0] == "offset":
        roles["start"] = roles.pop("end")  # offset and duration
    if "start" not in roles:
        roles.pop("end", None)
    used = set(roles.values())
    units = {roles[role]: keys[roles[role]][1] for role in ("start", "end", "duration") if role in roles}
    spare = [n for n in named if n not in used and n.strip() and not _other_time(keys[n], keys, roles)]
    return Columns(named, roles, units, tuple(spare))


EXPORTED = frozenset(
    "dialogue turn start_ms end_ms speaker text emotion confidence "
    "language translation speaker_unsure overlap others channel words".split()
)
"""Columns of the tables that this program exports, beside one for each label."""

_LABELS = "probability_"
_GIVEN = "given: "
"""The beginning of an exported column that was given with the turns and has the name of another one."""


def is_own(names: Sequence[str]) -> bool:
    """Return whether a table with these columns is an export of this program."""
    needed = {"turn", "speaker", "text", "emotion", "confidence"}
    return needed <= set(names) and any(name.startswith(_LABELS) for name in names)


def _own_columns(names: tuple[str, ...]) -> Columns:
    """Return the columns of an exported table, of which those are further ones that were given as such."""
    known = {"start": "start_ms", "end": "end_ms", "speaker": "speaker", "text": "text", "group": "dialogue"}
    roles = {role: name for role, name in known.items() if name in names}
    further = [name for name in names if name not in EXPORTED and not name.startswith(_LABELS)]
    units = {roles[role]: "ms" for role in ("start", "end") if role in roles}
    return Columns(names, roles, units, tuple(further), exact=True)


def _other_time(key: tuple[str, str], keys: Mapping[str, tuple[str, str]], roles: Mapping[str, str]) -> bool:
    """Return whether a column is a chosen time once more, in another unit."""
    return any(role in roles and key[0] == keys[roles[role]][0] for role in ("start", "end"))


def _key(name: str) -> tuple[str, str]:
    """Return a column's name as `_ROLES` has it, and its unit."""
    text, unit = name.strip().lower(), ""
    if found := _UNIT.search(text):
        unit, text = "ms" if found[1].startswith("m") else "s", text[: found.start()]
    bare = re.sub(r"[^\w]|_", "", text)
    known = {alias for role in ("start", "end", "duration") for alias in _ROLES[role].split()}
    if bare in known:
        return bare, unit
    for pattern, found_unit in ((_MS, "ms"), (_S, "s")):
        shorter = re.sub(r"[^\w]|_", "", pattern.sub("", name.strip() if found_unit == "s" else text))
        shorter = re.sub(r"in$", "", shorter.lower()) if shorter.lower() not in known else shorter.lower()
        if shorter in known and shorter != bare:
            return shorter, unit or found_unit
    return bare, unit


def entry_of(at: str, record: Mapping[str, object], columns: Columns, *, carry: bool = True) -> Found:
    """Make the entry of a row or record.

    Args:
        at: its place in the file.
        record: column -> cell.
        columns: the roles of the columns.
        carry: whether further columns come along.
    """
    cells = {role: record.get(name) for role, name in columns.roles.items()}
    times: dict[str, float] = {}
    flaw: str | None = None
    extra: dict[str, str] = {}
    for role in ("start", "end", "duration"):
        if (value := cells.get(role)) in (None, ""):
            continue
        seconds = seconds_of(value, columns.units[columns.roles[role]])
        if seconds is None:
            flaw = f"expected a time as {columns.roles[role]}, got {short(value)}"
            times = {}
            extra = {columns.roles[r]: str(cells[r]) for r in ("start", "end", "duration") if cells.get(r)}
            break
        times[role] = seconds
    if "end" not in times and {"start", "duration"} <= set(times):
        times["end"] = times["start"] + times["duration"]
    texts: dict[str, str | None] = {}
    for role in ("speaker", "text", "group"):
        found = text_of(cells.get(role))
        if isinstance(found, Fault):
            return Fault(at, f"expected a string as {columns.roles[role]}, {found.reason}")
        texts[role] = found
    whole = all(
        is_whole(cells[role]) and not columns.units[columns.roles[role]] for role in times if role in cells
    )
    if carry:
        further = {name: plain_of(record.get(name)) for name in columns.extra}
        given = _GIVEN if columns.exact else ""
        extra |= {name.removeprefix(given): value for name, value in further.items() if value is not None}
    return Entry(
        at,
        texts["speaker"] if columns.exact else _listed(texts["speaker"]),
        texts["text"],
        times.get("start"),
        times.get("end"),
        texts["group"],
        extra if carry else {},
        whole,
        flaw,
        columns.exact,
    )


def text_of(value: object) -> str | Fault | None:
    """Return a name or text, None if it is absent; a `Fault` if it is neither."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return Fault("", f"got {short(value)}")
    if isinstance(value, float):
        return f"{value:g}" if value == value else None
    if isinstance(value, str) and re.search(r"[\ud800-\udfff]", value):
        return Fault("", f"got half a surrogate pair in {short(value)}")
    return str(value)


def plain_of(value: object) -> str | None:
    """Return a further value as text; None where it is absent, or an object or list."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    found = text_of(value)
    return found.strip() or None if isinstance(found, str) else None


def _listed(speaker: str | None) -> str | None:
    """Return the names of a list, as EmoryNLP writes them (``['Ann Lee', 'Rob']``): ``Ann Lee and Rob``."""
    if speaker and re.fullmatch(r"\[(?:'[^']*'|\"[^\"]*\")(?:, *(?:'[^']*'|\"[^\"]*\"))*\]", speaker.strip()):
        return " and ".join(sorted(a or b for a, b in re.findall(r"'([^']*)'|\"([^\"]*)\"", speaker)))
    return speaker
