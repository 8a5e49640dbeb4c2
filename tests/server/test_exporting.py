"""A session as a file over the wire: while it goes on, after its end, and what is refused."""

import base64
import json
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from fakes import conversation
from serving import Client, Running, serve

from stream_erc.exports.files import FORMATS
from stream_erc.server.exporting import export_formats

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


def ended(server: Running) -> Client:
    """A session that was renamed in, and has ended."""
    client = Client(server.socket_url)
    client.send("session.update", pace="replay")
    client.send_audio(TALK)
    client.send("speaker.rename", speaker="speaker_1", name="Anna")
    client.until("speaker.updated")
    client.send("session.close", keep=True)
    assert client.code() == 1000
    return client


def exported(server: Running, token: object, kind: str, **fields: object) -> tuple[bytes, dict[str, object]]:
    """The file, and the message that brought it; the server closes afterwards."""
    with Client(server.socket_url) as asking:
        asking.send("session.export", resume_token=token, format=kind, **fields)
        answer = asking.until("session.exported")  # a slow machine hears its heart beat meanwhile
        assert asking.code() == 1000
    return base64.b64decode(str(answer["content"]), validate=True), answer


def refused(server: Running, **fields: object) -> dict[str, object]:
    with Client(server.socket_url) as asking:
        return asking.answer("session.export", **fields)


def test_every_format_that_is_offered_can_be_had(server: Running) -> None:
    client = ended(server)
    offered = client.created["exports"]
    assert offered == [ending.removeprefix(".") for ending in FORMATS]
    for kind in offered:
        content, answer = exported(server, client.created["resume_token"], str(kind), name="talk.wav")
        assert content and answer["format"] == kind
        assert answer["session_id"] == client.created["session_id"]


def test_the_file_holds_the_last_names_and_every_turn(server: Running) -> None:
    client = ended(server)
    token = client.created["resume_token"]
    told = [m for m in client.seen if m["type"] == "turn.final"]
    content, _ = exported(server, token, "json", name="talk.wav")
    document = json.loads(content)
    [conversation] = document["conversations"] if "conversations" in document else [document]
    assert conversation["source"] == "talk.wav"
    assert len(conversation["turns"]) == len(told) > 2
    speakers = {turn["speaker"] for turn in conversation["turns"]}
    assert "Anna" in speakers and "speaker_1" not in speakers
    srt, answer = exported(server, token, "srt")
    assert srt.decode().count(" --> ") == len(told) - int(str(answer["left_out"]))


def test_a_session_that_goes_on_is_not_disturbed(server: Running) -> None:
    with Client(server.socket_url) as client:
        client.send("session.update", pace="replay")
        client.send_audio(TALK)
        first = client.until("turn.final")
        content, _ = exported(server, client.created["resume_token"], "tsv")
        assert str(first["text"]) in content.decode()
        client.send_audio(TALK)
        client.send("session.close")
        assert client.code() == 1000
        ids = [m["event_id"] for m in client.events]
    assert ids == list(range(1, len(ids) + 1))


def test_what_cannot_be_had_is_refused(server: Running) -> None:
    token = ended(server).created["resume_token"]
    unknown = refused(server, resume_token=token, format="docx")
    assert unknown["code"] == "invalid_export" and "srt, vtt" in str(unknown["message"])
    hidden = refused(server, resume_token=token, format="../srt")
    assert hidden["code"] == "invalid_export"
    stranger = refused(server, resume_token="x" * 43, format="srt")
    assert stranger["code"] == "resume_refused"
    with Client(server.socket_url) as late:
        late.answer("session.update", pace="replay")
        assert late.answer("session.export", resume_token=token, format="srt")["code"] == "out_of_order"


def test_turns_without_times_make_no_subtitles(server: Running) -> None:
    with Client(server.socket_url) as client:
        client.send("session.update", turns="appended", pace="replay")
        client.send("turn.append", text="hello", speaker="Anna")
        client.until("turn.final")
        answer = refused(server, resume_token=client.created["resume_token"], format="srt")
        assert answer["code"] == "invalid_export"
        assert answer["message"] == "export srt: expected turns with times in .srt, got text alone"
        assert b"hello" in exported(server, client.created["resume_token"], "csv")[0]


def test_a_full_server_still_saves() -> None:
    with serve(max_sessions=1) as running, Client(running.socket_url) as client:
        client.send("session.update", pace="replay")
        client.send_audio(np.concatenate([TALK, TALK]))
        client.until("turn.final")
        with Client(running.socket_url, greeted=False) as asking:
            fields = {"resume_token": client.created["resume_token"], "format": "rttm"}
            asking.send("session.export", **fields)
            assert asking.until("session.exported")["format"] == "rttm"


def test_a_format_whose_library_is_not_installed_is_not_offered(monkeypatch) -> None:
    offered = export_formats()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert set(offered) - set(export_formats()) == {"parquet"}
