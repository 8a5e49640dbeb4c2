"""Turns in JSON: the transcripts of recognizers and services, lists of records, one record a line.

Read are Whisper's ``verbose_json`` (also of faster-whisper, whisper.cpp and the OpenAI API), WhisperX, the
``chunks`` of transformers, Deepgram, AssemblyAI and Gladia, and records with the keys that
`stream_erc.sources.turns.columns` knows.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

from stream_erc.exceptions import TurnsError
from stream_erc.sources.text_files import short
from stream_erc.sources.turns.columns import Columns, columns_of, entry_of, text_of
from stream_erc.sources.turns.entries import (
    Entry,
    Fault,
    Found,
    SpokenWord,
    is_whole,
    seconds_of,
    turns_of_words,
)

WANTED = 'expected a list of turns, {"turns": [...]} or the transcript of a recognizer'
LISTS = ("segments", "utterances", "chunks", "transcription", "words", "word_segments")
"""Keys of lists of turns, or of words, the best first."""

Object = Mapping[str, object]


def read_json(data: object) -> Iterator[Found]:
    """Read the turns of one JSON document.

    Raises:
        TurnsError: it has no list of turns; the message is without the file's name.
    """
    if isinstance(data, list):
        recognized = any(isinstance(item, dict) and "seek" in item for item in data[:1])
        yield from _segments(data) if recognized else _records(data)
        return
    if not isinstance(data, dict):
        raise TurnsError(f"{WANTED}, got {short(data)}")
    body, is_deepgram = _body(data)
    channels = body.get("channels")
    if is_deepgram and not body.get("utterances") and isinstance(channels, list):
        yield from _deepgram_words(channels)
        return
    listed = next((key for key in LISTS if isinstance(body.get(key), list) and body[key]), None)
    listed = listed or next((key for key in LISTS if isinstance(body.get(key), list)), None)
    if listed is None:
        raise TurnsError(f"{WANTED}, got {short(data)}")
    items = cast(list[object], body[listed])
    if listed in ("words", "word_segments"):
        in_ms = all(isinstance(item, dict) and is_whole(item.get("start")) for item in items)
        yield from turns_of_words("words", _words(items, "ms" if in_ms else "", _plain_speaker))
    elif listed == "segments":
        yield from _segments(items)
    elif listed == "utterances":
        yield from _utterances(items, is_deepgram=is_deepgram)
    else:
        yield from _records(items, times=_nested_times)


def _body(data: Object) -> tuple[Object, bool]:
    """Return the object that holds the list of turns, and whether it is Deepgram's."""
    results = data.get("results")
    if isinstance(results, dict) and ("channels" in results or "utterances" in results):
        return results, True
    for keys in (("result", "transcription"), ("transcription",), ("result",), ("transcript",), ("data",)):
        inner: object = data
        for key in keys:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and any(isinstance(inner.get(key), list) for key in LISTS):
            return inner, False
    return data, False


# --- records --------------------------------------------------------------------------------------


def _same(record: Object) -> Object:
    return record


def _records(items: Sequence[object], times: Callable[[Object], Object] = _same) -> Iterator[Found]:
    """Yield the entries of records, numbered from 1."""
    known: dict[tuple[str, ...], Columns] = {}
    for number, item in enumerate(items, 1):
        yield record_entry(f"turn {number}", item, known, carry=False, times=times)


def record_entry(
    at: str,
    item: object,
    known: dict[tuple[str, ...], Columns],
    *,
    carry: bool,
    times: Callable[[Object], Object] = _same,
) -> Found:
    """Make the entry of a record.

    Args:
        at: its place in the file.
        item: the record.
        known: the columns of the keys that were met so far; extended here.
        carry: whether further keys come along.
        times: brings the times of a nested record to its keys.
    """
    if not isinstance(item, dict):
        return Fault(at, f"expected an object, got {short(item)}")
    record = times(item)
    keys = tuple(key for key, value in record.items() if value not in (None, ""))
    if keys not in known:
        known[keys] = columns_of(keys)
    return entry_of(at, record, known[keys], carry=carry)


def _nested_times(item: Object) -> Object:
    """Return a record of transformers or whisper.cpp with its times as other records have them."""
    stamps, offsets = item.get("timestamp"), item.get("offsets")
    if isinstance(stamps, list) and len(stamps) == 2:
        return {"start": stamps[0], "end": stamps[1], **{k: v for k, v in item.items() if k != "timestamp"}}
    if isinstance(offsets, dict):
        rest = {k: v for k, v in item.items() if k not in ("offsets", "timestamps")}
        return {"start_ms": offsets.get("from"), "end_ms": offsets.get("to"), **rest}
    return item


# --- segments and utterances ----------------------------------------------------------------------


def _segments(items: Sequence[object]) -> Iterator[Found]:
    """Yield the segments of Whisper and its kin; one with words of several speakers is divided."""
    known: dict[tuple[str, ...], Columns] = {}
    for number, item in enumerate(items, 1):
        at = f"segment {number}"
        words = item.get("words") if isinstance(item, dict) else None
        if isinstance(item, dict) and isinstance(words, list):
            speakers = {
                w.get("speaker") for w in words if isinstance(w, dict) and w.get("speaker") is not None
            }
            if len(speakers) > 1:
                yield from turns_of_words(at, _filled(_words(words, "", _plain_speaker)), pause_s=600)
                continue
            if speakers and item.get("speaker") is None:
                item = {**item, "speaker": speakers.pop()}
        if isinstance(item, dict):  # the keys of turns alone: others (seek, tokens, avg_logprob) are many
            item = {key: item[key] for key in _TURN_KEYS if key in item}
        yield _in_seconds(record_entry(at, item, known, carry=False))


def _in_seconds(found: Found) -> Found:
    """Return an entry whose times are seconds by definition, whole numbers too."""
    return replace(found, whole=False) if isinstance(found, Entry) else found


def _filled(words: Iterator[SpokenWord]) -> Iterator[SpokenWord]:
    """Give a word without a speaker, such as a number that was not aligned, that of the word before it."""
    speaker: str | None = None
    for word in words:
        speaker = word.speaker or speaker
        yield SpokenWord(word.text, word.start_s, word.end_s, speaker)


def _utterances(items: Sequence[object], *, is_deepgram: bool) -> Iterator[Found]:
    """Yield the utterances of Deepgram (seconds) or AssemblyAI (whole milliseconds)."""
    times = [item.get(key) for item in items if isinstance(item, dict) for key in ("start", "end")]
    in_ms = not is_deepgram and bool(times) and all(is_whole(time) for time in times)
    channels = {item.get("channel") for item in items if isinstance(item, dict)}
    several = len(channels - {None}) > 1
    for number, item in enumerate(items, 1):
        at = f"utterance {number}"
        if not isinstance(item, dict):
            yield Fault(at, f"expected an object, got {short(item)}")
            continue
        text = next((item[key] for key in ("transcript", "text") if isinstance(item.get(key), str)), None)
        record = {"start": item.get("start"), "end": item.get("end"), "text": text}
        record["speaker"] = _speaker(item, several=several)
        names = {"start": "start_ms", "end": "end_ms"} if in_ms else {}
        found = {names.get(key, key): value for key, value in record.items()}
        yield record_entry(at, found, {}, carry=False)


def _speaker(item: Object, *, several: bool = False) -> str | None:
    """Return the speaker of an utterance or word, by number, and by channel where there are several."""
    speaker, channel = item.get("speaker"), _number(item.get("channel"))
    name = None if speaker is None else f"Speaker {speaker}" if isinstance(speaker, int) else str(speaker)
    if not several or channel is None:
        return name
    return f"Channel {channel}" + ("" if name is None else f", {name}")


def _number(channel: object) -> object:
    return channel[0] if isinstance(channel, list) and channel else channel


def _plain_speaker(item: Object) -> str | None:
    return _speaker(item)


def _deepgram_words(channels: Sequence[object]) -> Iterator[Found]:
    """Yield the turns of Deepgram's words, of each channel by itself."""
    several = len(channels) > 1
    for number, channel in enumerate(channels):
        alternatives = channel.get("alternatives") if isinstance(channel, dict) else None
        best = alternatives[0] if isinstance(alternatives, list) and alternatives else None
        words = best.get("words") if isinstance(best, dict) else None
        if not isinstance(words, list):
            yield Fault(f"channel {number}", f"expected words, got {short(best)}")
            continue

        def named(word: Object, number: int = number) -> str | None:
            return _speaker({**word, "channel": number}, several=several)

        yield from turns_of_words(f"channel {number}", _words(words, "", named), pause_s=0.8)


def _words(
    items: Sequence[object], unit: str, speaker: Callable[[Object], str | None]
) -> Iterator[SpokenWord]:
    for item in items:
        if not isinstance(item, dict):
            continue
        text = next(
            (item[k] for k in ("punctuated_word", "word", "text") if isinstance(item.get(k), str)), ""
        )
        if text.strip():
            start, end = (seconds_of(item.get(key), unit) for key in ("start", "end"))
            yield SpokenWord(text, start, end, speaker(item))


# --- dialogues ------------------------------------------------------------------------------------


def is_dialogue(data: object) -> bool:
    """Return whether a JSON value is a dialogue with its turns."""
    return isinstance(data, dict) and isinstance(data.get("turns"), list)


def dialogue_name(data: object) -> str | Fault | None:
    """Return the name of a dialogue, None if it has none."""
    name = data.get("dialogue") if isinstance(data, dict) else None
    found = text_of(name)
    return Fault("", f"expected a string as dialogue, {found.reason}") if isinstance(found, Fault) else found


def several_dialogues(data: object) -> list[object] | None:
    """Return the dialogues of ``{"dialogues": [...]}``, None if the value is something else."""
    found = data.get("dialogues") if isinstance(data, dict) else None
    return found if isinstance(found, list) else None


def dialogue_entries(data: object, at: str) -> Iterator[Found]:
    """Yield the entries of a dialogue's turns; other keys are ignored, since corpora include labels.

    Of an export of this program, the further columns that were given with its turns come along.

    Args:
        data: a dialogue.
        at: its place in the file, with a comma behind it.
    """
    known: dict[tuple[str, ...], Columns] = {}
    for number, item in enumerate(data["turns"] if isinstance(data, dict) else (), 1):
        if isinstance(item, dict) and set(item) >= _EXPORTED_KEYS:
            yield _exported(f"{at}turn {number}", item)
            continue
        if isinstance(item, dict):
            item = {key: item[key] for key in _TURN_KEYS if key in item}
        yield _in_seconds(record_entry(f"{at}turn {number}", item, known, carry=False))


def _exported(at: str, item: Object) -> Found:
    """Return the entry of a turn that this program exported."""
    found, given = entry_of(at, item, _EXPORTED, carry=False), item.get("extra")
    if isinstance(found, Fault) or not isinstance(given, dict):
        return found
    return replace(found, extra={name: value for name, value in given.items() if isinstance(value, str)})


_TURN_KEYS = ("speaker", "text", "start", "end", "start_ms", "end_ms")
_EXPORTED_KEYS = {"turn", "speaker", "text", "emotion", "confidence", "probabilities"}
_EXPORTED = Columns(
    _TURN_KEYS,
    {"start": "start_ms", "end": "end_ms", "speaker": "speaker", "text": "text"},
    {"start_ms": "ms", "end_ms": "ms"},
    (),
    exact=True,
)
