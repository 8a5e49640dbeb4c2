"""Transcripts with what only some recognizers and recordings give."""

import json

from exports.made import talk, turn

from stream_erc.exports.conversations import fold
from stream_erc.server.http.transcriptions import _events_of
from stream_erc.server.http.transcripts import FORMS, Transcript


def test_a_whole_transcript_has_words_languages_and_who_else_spoke() -> None:
    word = {"text": "Hola.", "audio_start_ms": 600, "audio_end_ms": 900, "probability": 0.9}
    more = {"language": "es", "translation": "Hi.", "overlap": 0.3, "others": ["Bo"], "speaker_unsure": True}
    turns = turn(0, "Anna", "Hola.", 500, 1_000, words=[word], **more), turn(1, "Bo", "", 1_000, 1_500)
    (conversation,) = fold(talk(turns))
    whole = json.loads(FORMS["verbose_json"].write(Transcript(conversation, "en")))
    assert whole["language"] == "es"
    first, second = whole["segments"]
    assert {name: first[name] for name in more} == more and not more.keys() & second.keys()
    said = {"word": "Hola.", "start": 0.6, "end": 0.9, "probability": 0.9, "speaker": "Anna"}
    assert whole["words"] == [said]


def test_a_turn_without_words_is_no_event_of_a_stream() -> None:
    assert _events_of(turn(0, "Anna", "", 0, 900), "json", first=True) == []
    assert len(_events_of(turn(0, "Anna", "Hi.", 0, 900), "diarized_json", first=True)) == 2
