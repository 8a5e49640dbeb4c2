"""``POST /v1/audio/transcriptions``: answers, refusals, and what is left behind: nothing."""

import asyncio
import contextlib
import io
import json
import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace

import openai
import pytest
import soundfile
from exports.made import turn as made_turn
from fakes import CONFIG, conversation, silence
from serving import PATIENCE_S, Client, FakeEngine, Running, converse, eventually, serve, start

from stream_erc.cli.diagnostics import json_logs
from stream_erc.events import Samples
from stream_erc.exceptions import AudioError
from stream_erc.server.http.app import HttpServer
from stream_erc.server.http.recordings import Hearing
from stream_erc.server.http.transcriptions import Request, Transcriptions

TALK = conversation([(1.0, 200), (0.8, 900), (1.2, 200), (0.5, 900)])
LONG = conversation([(0.5, 200), (0.5, 900)] * 30)
PATH = "/v1/audio/transcriptions"

Fields = dict[str, object]


def wav(samples: Samples) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue()


RECORDING = wav(TALK)


@pytest.fixture(autouse=True)
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep uploads in a folder of this test's own, which must be empty at the end."""
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert eventually(lambda: not list(folder.iterdir())), list(folder.iterdir())


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serve() as running:
        yield running


@pytest.fixture
def tokens(tmp_path: Path) -> str:
    (tmp_path / "tokens").write_text("open-sesame\n")
    return str(tmp_path / "tokens")


CLIENTS: list[openai.OpenAI] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close the clients of a test."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def client_of(running: Running, token: str = "any", timeout_s: float = PATIENCE_S) -> openai.OpenAI:
    client = openai.OpenAI(api_key=token, base_url=f"{running.url}/v1", max_retries=0, timeout=timeout_s)
    CLIENTS.append(client)
    return client


BOUNDARY = "b-o-u-n-d-a-r-y"
Answer = tuple[int, Mapping[str, str], bytes]


def form_of(recording: bytes | None, fields: Mapping[str, object]) -> bytes:
    """Return the body of a form; `__` at the end of a name stands for brackets, None for no field."""
    parts = [
        (f'name="{name.replace("__", "[]")}"', str(value).encode())
        for name, value in fields.items()
        if value is not None
    ]
    if recording is not None:
        parts.append(('name="file"; filename="talk.wav"', recording))
    body = b""
    for about, value in parts:
        body += f"--{BOUNDARY}\r\nContent-Disposition: form-data; {about}\r\n\r\n".encode() + value + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def send(
    running: Running, body: bytes | Iterator[bytes], headers: Mapping[str, str], method: str = "POST"
) -> Answer:
    """Send a request; return the status, headers and body of the answer."""
    host, port = running.url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port), timeout=PATIENCE_S)
    connection.request(method, PATH, body, headers, encode_chunked=not isinstance(body, bytes))
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def ask(
    running: Running,
    recording: bytes | None = RECORDING,
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    **fields: object,
) -> Answer:
    """Send a form; return the answer."""
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return send(running, form_of(recording, {"model": "hash"} | fields), kind | dict(headers or {}), method)


def error_of(body: bytes) -> Fields:
    found = json.loads(body)
    assert set(found) == {"error"} and set(found["error"]) == {"message", "type", "param", "code"}
    return found["error"]


def metric(running: Running, name: str) -> float:
    """Return a metric's value, 0 if it is not there yet."""
    with urllib.request.urlopen(f"{running.url}/metrics") as answer:
        text = answer.read().decode()
    lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0


def nothing_runs(running: Running) -> bool:
    shared = running.server._shared
    assert shared is not None
    workers = shared.workers.values()
    return shared.recordings == 0 and not any(sum(worker.waiting) for worker in workers)


# --- transcripts ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finals(server: Running) -> list[Fields]:
    """Return the final turns of the same recording in a session."""
    return [e for e in converse(server.socket_url, TALK, partials=False) if e["type"] == "turn.final"]


def test_a_transcript_is_what_a_session_hears(server, finals):
    found = client_of(server).audio.transcriptions.create(
        file=("talk.wav", RECORDING),
        model="hash",
        response_format="verbose_json",
        timestamp_granularities=["segment"],
    )
    assert found.task == "transcribe" and found.duration == pytest.approx(len(TALK) / 16_000, abs=0.001)
    assert found.text == " ".join(str(turn["text"]) for turn in finals)
    assert found.segments is not None and len(found.segments) == len(finals) == 4
    for number, (segment, turn) in enumerate(zip(found.segments, finals, strict=True)):
        assert (segment.id, segment.text) == (number, turn["text"])
        assert [round(1000 * at) for at in (segment.start, segment.end)] == [
            turn["audio_start_ms"],
            turn["audio_end_ms"],
        ]
        assert (segment.speaker, segment.emotion) == (turn["speaker"], turn["emotion"])  # type: ignore[attr-defined]
        assert segment.tokens == [] and segment.seek == round(100 * segment.start)
        assert isinstance(segment.avg_logprob, float) and isinstance(segment.no_speech_prob, float)
    assert found.usage is not None and found.usage.seconds == 6


def test_every_form_of_a_transcript(server, finals):
    create = client_of(server).audio.transcriptions.create
    text = " ".join(str(turn["text"]) for turn in finals)
    made = {
        form: create(file=("talk.wav", RECORDING), model="whisper-1", response_format=form)  # type: ignore[call-overload]
        for form in ("json", "text", "srt", "vtt", "diarized_json")
    }
    assert made["json"].text == text and made["json"].usage.type == "duration"
    assert made["text"] == text + "\n"
    assert made["srt"].startswith("1\n00:00:00,") and made["srt"].count(" --> ") == 4
    assert f"): {finals[0]['text']}\n" in made["srt"] and "speaker_1 (" in made["srt"]
    assert made["vtt"].startswith("WEBVTT") and made["vtt"].count("<v.") == 4
    diarized = made["diarized_json"]
    assert [(s.id, s.speaker, s.text, s.type) for s in diarized.segments] == [
        (f"seg_{turn['turn']:03}", turn["speaker"], turn["text"], "transcript.text.segment")
        for turn in finals
    ]
    assert (diarized.text, diarized.task) == (text, "transcribe")


@pytest.mark.parametrize("form", ["json", "diarized_json"])
def test_a_transcript_that_is_streamed(server, finals, form):
    stream = client_of(server).audio.transcriptions.create(
        file=("talk.wav", RECORDING), model="hash", response_format=form, stream=True
    )
    events = list(stream)
    text = " ".join(str(turn["text"]) for turn in finals)
    assert "".join(e.delta for e in events if e.type == "transcript.text.delta") == text
    assert (events[-1].type, events[-1].text) == ("transcript.text.done", text)
    segments = [e for e in events if e.type == "transcript.text.segment"]
    assert [s.speaker for s in segments] == (
        [t["speaker"] for t in finals] if form == "diarized_json" else []
    )


def test_a_streamed_turn_comes_before_the_end():
    with serve({"hash": FakeEngine(analysis_s=0.05)}) as running:
        stream = client_of(running).audio.transcriptions.create(
            file=("long.wav", wav(LONG)), model="hash", stream=True
        )
        assert next(stream).type == "transcript.text.delta"
        assert metric(running, "stream_erc_recordings") == 1
        stream.close()
        assert eventually(lambda: nothing_runs(running))


def test_other_fields_are_ignored(server):
    status, _, body = ask(
        server, prompt="Names: Anna", temperature="0.2", chunking_strategy="auto", other="x"
    )
    assert status == 200 and json.loads(body)["text"].startswith("heard ")


def test_the_models(server):
    with serve({"first": FakeEngine(), "second": FakeEngine()}, session=CONFIG) as running:
        client = client_of(running)
        models = list(client.models.list())
        assert [(m.id, m.object, m.owned_by) for m in models] == [
            ("first", "model", "stream-erc"),
            ("second", "model", "stream-erc"),
        ]
        assert abs(models[0].created - time.time()) < 2 * PATIENCE_S
        assert client.models.retrieve("second").id == "second"
        assert client.models.retrieve("whisper-1").id == "first"
        with pytest.raises(openai.NotFoundError, match="first, second, whisper-1, got 'third'"):
            client.models.retrieve("third")


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"])
def test_a_recording_without_speech(server, form):
    status, _, body = ask(server, wav(silence(2.0)), response_format=form)
    assert status == 200
    if "json" in form:
        found = json.loads(body)
        assert found["text"] == "" and found.get("segments", []) == [] and found["usage"]["seconds"] == 2
    else:
        assert b" --> " not in body and b"heard" not in body


def test_what_is_wrong_with_a_recording_is_said_and_the_rest_is_heard(server):
    cut = wav(conversation([(1.0, 200), (1.0, 900)]))[:-16_000]
    status, _, body = ask(server, cut, response_format="verbose_json")
    found = json.loads(body)
    assert status == 200 and len(found["segments"]) == 2
    (warning,) = found["warnings"]
    assert warning.startswith("expected a complete file, got ")


def test_turns_that_cannot_be_analysed():
    engine = FakeEngine()
    engine._answers.fail_on = {1}
    with serve({"hash": engine}) as running:
        found = json.loads(ask(running, response_format="verbose_json")[2])
        assert found["warnings"] == ["1 of 4 turns could not be analysed"] and len(found["segments"]) == 3
        engine._answers.fail_on = {0, 1, 2, 3}
        status, _, body = ask(running)
        assert status == 500 and error_of(body)["type"] == "server_error"
        assert error_of(body)["message"] == "expected turns that can be analysed, got 4 that cannot"


# --- bad requests ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recording", "fields", "status", "param", "told"),
    [
        (None, {}, 400, "file", "file: expected a recording, got none"),
        (b"", {}, 400, "file", "expected an audio or video file, got an empty file"),
        (b"no audio at all" * 100, {}, 400, "file", "expected an audio or video file, got "),
        (RECORDING[:44], {}, 400, "file", "got a stream without samples"),
        (RECORDING, {"model": None}, 400, "model", "model: expected one of hash, got none"),
        (RECORDING, {"model": "gpt"}, 404, "model", "model: expected one of hash, whisper-1, got 'gpt'"),
        (RECORDING, {"response_format": "xml"}, 400, "response_format", "json, text, srt, vtt, verbose_json"),
        (
            RECORDING,
            {"stream": "perhaps"},
            400,
            "stream",
            "expected one of true, false, got 'perhaps'",
        ),
        (RECORDING, {"language": "xx"}, 400, "language", "expected a language of en, got 'xx'"),
        (
            RECORDING,
            {"timestamp_granularities__": "letter"},
            400,
            "timestamp_granularities[]",
            "expected one of segment, word, got 'letter'",
        ),
        (
            RECORDING,
            {"prompt": "a" * 70_000},
            400,
            "prompt",
            "prompt: expected at most 65536 bytes",
        ),
        (
            RECORDING,
            {f"f{k}": "v" for k in range(70)},
            400,
            None,
            "expected a form of at most 64 named fields",
        ),
    ],
)
def test_what_cannot_be_answered_is_told(server, recording, fields, status, param, told):
    got, headers, body = ask(server, recording, **fields)
    error = error_of(body)
    assert (got, error["param"]) == (status, param) and told in str(error["message"]), error
    assert "stream-erc-" not in str(error["message"])  # no temporary name
    assert error["type"] == "invalid_request_error" and headers["Content-Type"] == "application/json"
    assert eventually(lambda: nothing_runs(server))


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_playlist_reads_no_file_of_the_server(server, tmp_path, uploads, stream):
    (tmp_path / "private.wav").write_bytes(RECORDING)
    for text in (
        f"ffconcat version 1.0\nfile {tmp_path.name}/private.wav\n",
        "ffconcat version 1.0\nfile ../../private.wav\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/private.wav\n#EXT-X-ENDLIST\n",
    ):
        status, _, body = ask(server, text.encode(), stream=stream)
        assert status == 400 and error_of(body)["code"] == "invalid_audio"


FORM = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
FILE = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "told"),
    [
        (
            "application/json",
            b'{"file": "a"}',
            415,
            "expected Content-Type multipart/form-data, got app",
        ),
        ("audio/wav", RECORDING, 415, "got audio/wav"),
        ("", b"", 415, "expected Content-Type multipart/form-data, got "),
        ("multipart/form-data", b"--b--", 400, "boundary"),
        ("multipart/form-data; boundary=b", b"", 400, "expected a complete multipart/form-data body"),
        ("multipart/form-data; boundary=b", b"no boundary\r\n", 400, "expected a complete"),
        ("multipart/form-data; boundary=b", FORM % (b"model", b"hash") + FILE + RECORDING, 400, "complete"),
        ("multipart/form-data; boundary=b", FORM % (b"model", b"hash"), 400, "complete"),
        (
            "multipart/form-data; boundary=b",
            FORM % (b"model", b"hash") + b"--b--\r\n",
            400,
            "file: expected a rec",
        ),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nx\r\n--b--\r\n", 400, "named fields"),
        (
            "multipart/form-data; boundary=b",
            FORM % (b"file", b"x") + FORM % (b"file", b"y") + b"--b--\r\n",
            400,
            "file: expected one, got more",
        ),
        (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
            400,
            "named fields",
        ),
    ],
)
def test_a_body_that_is_no_such_form(server, content_type, body, status, told, caplog):
    got, _, answer = send(server, body, {"Content-Type": content_type} if content_type else {})
    found = error_of(answer)
    assert (got, told in str(found["message"])) == (status, True), found
    assert not caplog.records


def test_an_upload_that_is_too_large(uploads):
    with serve(max_upload_bytes=100_000) as running:
        status, _, body = ask(running)
        error = error_of(body)
        assert (status, error["code"], error["param"]) == (413, "file_too_large", "file")
        assert str(error["message"]).startswith("expected an upload of at most 100000 bytes, got ")

        def endless() -> Iterator[bytes]:
            yield FILE
            for _ in range(200):
                yield bytes(4_096)

        headers = {"Content-Type": "multipart/form-data; boundary=b", "Transfer-Encoding": "chunked"}
        status, _, body = send(running, endless(), headers)
        assert status == 413 and "got more" in str(error_of(body)["message"])
        assert ask(running, wav(silence(1.0)))[0] == 200
        with pytest.raises(openai.APIStatusError, match="at most 100000 bytes"):
            client_of(running).audio.transcriptions.create(file=("a.wav", RECORDING), model="hash")


# --- slow, gone, too many -------------------------------------------------------------------------

HEAD = (
    f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    "Content-Length: 1000000\r\n{}\r\n"
)


def begin_upload(running: Running, *headers: str) -> socket.socket:
    """Send the head of a request and the beginning of its file."""
    host, port = running.url.removeprefix("http://").split(":")
    bare = socket.create_connection((host, int(port)), PATIENCE_S)
    bare.sendall(HEAD.format("".join(f"{header}\r\n" for header in headers)).encode() + FILE + bytes(100_000))
    return bare


def received(bare: socket.socket) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    answer = b""
    while b"\r\n\r\n" not in answer or not answer.rstrip().endswith(b"}"):
        piece = bare.recv(65_536)
        if not piece:
            break
        answer += piece
    return int(answer[9:12]), answer.partition(b"\r\n\r\n")[2]


def test_an_upload_that_stalls_is_ended():
    with serve(idle_timeout_s=0.3) as running, begin_upload(running) as bare:
        status, body = received(bare)
        assert (status, error_of(body)["code"]) == (408, "slow_upload")
        assert "without a pause of 0.3 s, got 100066 bytes in " in str(error_of(body)["message"])
        assert eventually(lambda: nothing_runs(running))


def test_an_upload_that_trickles_is_ended():
    with serve(idle_timeout_s=0.3) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE_S) as bare:
            bare.sendall(HEAD.format("").encode() + FILE)
            bare.settimeout(0.05)
            for _ in range(200):
                bare.sendall(b"a" * 20)
                try:
                    answer = bare.recv(65_536)
                except TimeoutError:
                    continue
                break
            assert answer[9:12] == b"408"


@pytest.mark.parametrize("how", ["closed", "half closed", "reset"])
def test_an_upload_that_is_dropped_leaves_nothing(uploads, how, caplog):
    with serve() as running:
        bare = begin_upload(running)
        assert eventually(
            lambda: metric(running, "stream_erc_recordings") == 1 and list(uploads.rglob("recording"))
        )
        if how == "half closed":
            bare.shutdown(socket.SHUT_WR)
        else:
            linger = b"\1\0\0\0\0\0\0\0" if how == "reset" else bytes(8)
            bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            bare.close()
        assert eventually(lambda: metric(running, 'stream_erc_transcriptions_total{status="499"}') == 1)
        assert nothing_runs(running) and not list(uploads.iterdir())
        bare.close()
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_leaves_during_the_work_takes_it_along(uploads, caplog):
    with serve({"hash": FakeEngine(analysis_s=0.1)}) as running:
        with pytest.raises(openai.APITimeoutError):
            client_of(running, timeout_s=0.5).audio.transcriptions.create(
                file=("long.wav", wav(LONG)), model="hash"
            )
        assert eventually(lambda: nothing_runs(running) and not list(uploads.iterdir()))
        assert metric(running, 'stream_erc_transcriptions_total{status="499"}') == 1
        assert ask(running, wav(silence(0.5)))[0] == 200
    assert not [record for record in caplog.records if record.exc_info]


def test_recordings_and_sessions_share_the_places():
    with serve(max_sessions=2) as running:
        with Client(running.socket_url) as client, begin_upload(running) as bare:
            client.settle()
            assert eventually(lambda: metric(running, "stream_erc_recordings") == 1)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"{running.url}/readyz")
            status, _, body = ask(running)
            error = error_of(body)
            assert (status, error["type"], error["code"]) == (503, "server_error", "server_full")
            assert error["message"] == "expected fewer than 2 sessions, got one more"
            with Client(running.socket_url, greeted=False) as third:
                assert third.code() == 1013
            bare.close()
            assert eventually(lambda: nothing_runs(running))
            assert ask(running)[0] == 200


def test_connections_that_transcribe_are_bounded(monkeypatch, tokens):
    monkeypatch.setattr("stream_erc.server.server.BASE_CONNECTIONS", 1)
    monkeypatch.setattr("stream_erc.server.server.CONNECTIONS_PER_SESSION", 1)
    with serve(token_file=tokens, max_sessions=1, penalty_s=PATIENCE_S) as running:
        wrong = [begin_upload(running, "Authorization: Bearer wrong") for _ in range(2)]
        access = running.server._access
        assert access is not None and eventually(lambda: len(access.clients) == 2)
        assert ask(running)[0] == 503
        assert ask(running, headers={"Authorization": "Bearer open-sesame"})[0] == 200
        for bare in wrong:
            bare.close()
        assert eventually(lambda: not access.clients)


# --- who may ask ----------------------------------------------------------------------------------


def test_tokens(tokens, capsys):
    with json_logs(), serve(token_file=tokens, penalty_s=0.3) as running:
        status, headers, body = ask(running)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert error_of(body) == {
            "message": "expected a valid bearer token",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
        began = time.monotonic()
        with pytest.raises(openai.AuthenticationError, match="expected a valid bearer token"):
            client_of(running, "wrong").audio.transcriptions.create(file=("a.wav", RECORDING), model="hash")
        assert time.monotonic() - began >= 0.3
        with pytest.raises(openai.AuthenticationError):
            client_of(running, "wrong").models.list()
        client = client_of(running, "open-sesame")
        assert client.audio.transcriptions.create(file=("a.wav", RECORDING), model="hash").text
        assert [model.id for model in client.models.list()] == ["hash"]
    log = capsys.readouterr().err
    assert '"wrong token"' in log and "heard " not in log and "open-sesame" not in log


def test_an_upload_is_asked_for_only_if_it_will_be_taken(tokens):
    with serve(token_file=tokens, max_upload_bytes=2_000_000) as running:
        host, port = running.url.removeprefix("http://").split(":")
        for header, size, answer in (
            ("Authorization: Bearer wrong", 1_000_000, b"HTTP/1.1 401"),
            ("Authorization: Bearer open-sesame", 1_000_000, b"HTTP/1.1 100 Continue\r\n\r\n"),
            ("Authorization: Bearer open-sesame", 3_000_000, b"HTTP/1.1 413"),
        ):
            with socket.create_connection((host, int(port)), PATIENCE_S) as bare:
                head = HEAD.replace("1000000", str(size)).format(f"Expect: 100-continue\r\n{header}\r\n")
                bare.sendall(head.encode())
                assert bare.recv(65_536).startswith(answer), header


def test_pages(server):
    with serve(allow_origins=("https://good.example",)) as running:
        for origin in ("https://good.example", running.url):
            status, headers, _ = ask(running, headers={"Origin": origin})
            assert (status, headers["Access-Control-Allow-Origin"], headers["Vary"]) == (
                200,
                origin,
                "Origin",
            )
            wanted = {
                "Origin": origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,x-stainless-lang",
            }
            status, headers, _ = ask(running, headers=wanted, method="OPTIONS")
            assert (status, headers["Access-Control-Allow-Origin"]) == (204, origin)
            assert headers["Access-Control-Allow-Methods"] == "POST"
            assert headers["Access-Control-Allow-Headers"] == "authorization,x-stainless-lang"
        for method in ("POST", "OPTIONS"):
            status, headers, body = ask(running, headers={"Origin": "http://evil.example"}, method=method)
            assert status == 403 and error_of(body)["code"] == "forbidden"
            assert "Access-Control-Allow-Origin" not in headers


def test_a_foreign_name_gets_nothing(server, uploads):
    status, _, body = ask(server, headers={"Host": "evil.example"})
    assert status == 403 and error_of(body)["code"] == "forbidden"


# --- beside live sessions, and stopping -----------------------------------------------------------


def test_while_recordings_are_heard_live_turns_come_first():
    """One thread of two stays free of recordings while somebody talks."""
    with serve({"hash": FakeEngine(analysis_s=0.3)}, threads=2, max_sessions=16) as running:
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(ask(running, wav(LONG))[0])) for _ in range(2)
        ]
        with Client(running.socket_url) as client:
            client.answer("session.update", partials=False)
            for thread in threads:
                thread.start()
            assert eventually(lambda: metric(running, 'stream_erc_queue_depth{queue="analyses"}') == 1)
            client.send_audio(conversation([(0.8, 440)], gap=0.5))
            final = client.until("turn.final")
            assert final["latency_ms"]["asr"] < 1000 * PATIENCE_S / 4
            client.send("session.close")
            assert client.code() == 1000
            assert not answers  # the recordings are still being heard
        for thread in threads:
            thread.join(PATIENCE_S)
        assert answers == [200, 200]


@pytest.mark.parametrize(
    ("recording", "drain_s", "status"), [(TALK, PATIENCE_S, 200), (LONG, 0.2, 503)], ids=["short", "long"]
)
def test_a_server_that_stops_finishes_short_recordings_and_gives_up_long_ones(recording, drain_s, status):
    running = start({"hash": FakeEngine(analysis_s=0.2)}, drain_s=drain_s)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask(running, wav(recording))))
    asking.start()
    assert eventually(lambda: metric(running, "stream_erc_audio_seconds_total") > 0)
    running.server.stop()
    running.thread.join(PATIENCE_S)
    asking.join(PATIENCE_S)
    assert not running.thread.is_alive() and answers[0][0] == status
    if status == 503:
        assert error_of(answers[0][2])["code"] == "stopping"


def test_a_server_that_stops_takes_no_more():
    running = start({"hash": FakeEngine(analysis_s=0.5)}, drain_s=PATIENCE_S)
    with Client(running.socket_url) as client:
        client.send("session.update", pace="replay", partials=False)
        client.send_audio(TALK)
        client.settle()
        running.server.stop()
        client.until("session.going_away")
        status, _, body = ask(running)
        assert (status, error_of(body)["type"]) == (503, "server_error")
        assert client.code() == 1012
    running.thread.join(PATIENCE_S)
    assert not running.thread.is_alive()


def test_a_stream_that_is_given_up_says_so():
    running = start({"hash": FakeEngine(analysis_s=0.2)}, drain_s=0.2)
    answers: list[Answer] = []
    asking = threading.Thread(target=lambda: answers.append(ask(running, wav(LONG), stream="true")))
    asking.start()
    assert eventually(lambda: metric(running, "stream_erc_audio_seconds_total") > 0)
    running.server.stop()
    running.thread.join(PATIENCE_S)
    asking.join(PATIENCE_S)
    status, headers, body = answers[0]
    assert status == 200 and headers["Content-Type"].startswith("text/event-stream")
    last = body.decode().rstrip().rpartition("\n\n")[2]
    assert last.startswith("event: error\ndata: ")
    assert error_of(last.partition("data: ")[2].encode())["code"] == "stopping"


def test_metrics(server):
    with serve() as running:
        ask(running)
        ask(running, b"no audio")
        assert metric(running, 'stream_erc_transcriptions_total{status="200"}') == 1
        assert metric(running, 'stream_erc_transcriptions_total{status="400"}') == 1
        assert metric(running, 'stream_erc_turns_total{outcome="final"}') == 4
        assert metric(running, "stream_erc_audio_seconds_total") == pytest.approx(len(TALK) / 16_000)
        assert metric(running, "stream_erc_recordings") == 0


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (AudioError("a hole in it"), "a hole in it"),
        (RuntimeError("secret"), "expected no error of the server, got one"),
    ],
)
def test_a_stream_that_fails_says_so(monkeypatch, caplog, error, told):
    run = Hearing.run

    def failing(*arguments):
        run(*arguments)
        raise error

    monkeypatch.setattr(Hearing, "run", failing)
    with serve() as running:
        status, _, body = ask(running, stream="true")
        assert status == 200 and body.count(b"transcript.text.delta") == 4
        last = body.decode().rstrip().rpartition("\n\n")[2]
        assert last.startswith("event: error\n")
        assert error_of(last.partition("data: ")[2].encode())["message"] == told
    assert bool([record for record in caplog.records if record.exc_info]) == isinstance(error, RuntimeError)


def test_a_stream_of_turns_that_cannot_be_analysed_ends_with_that():
    engine = FakeEngine()
    engine._answers.fail_on = {0, 1, 2, 3}
    with serve({"hash": engine}) as running:
        body = ask(running, stream="true")[2]
        assert b"expected turns that can be analysed, got 4 that cannot" in body


def test_a_client_that_leaves_a_stream_is_sent_no_error():
    sent: list[bytes] = []

    class Left:
        async def write(self, data: bytes) -> None:
            sent.append(data)
            raise ConnectionResetError

    async def left(*_: object) -> None:
        raise ConnectionResetError

    async def messages() -> AsyncIterator[Fields]:
        yield made_turn(0, "Anna", "Hello.", 0, 900)

    heard = SimpleNamespace(messages=[])
    stream = Transcriptions._stream(None, Left(), Request(None, "json", True), heard, messages())  # type: ignore[arg-type]
    with pytest.raises(ConnectionResetError):
        asyncio.run(stream)
    with pytest.raises(ConnectionResetError):  # nor is it an error that is logged
        asyncio.run(HttpServer._answer(SimpleNamespace(_checked=left), None, {}))  # type: ignore[arg-type]
    assert len(sent) == 1


def test_a_request_that_fails_is_answered_and_the_next_one_is_served(monkeypatch, caplog):
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    with serve() as running, contextlib.closing(HTTPConnection(running.url.rpartition("/")[2])) as connection:
        with monkeypatch.context() as patch:
            patch.setattr("stream_erc.server.http.app.model_list", broken)
            connection.request("GET", "/v1/models")
            answer = connection.getresponse()
            assert answer.status == 500
            assert error_of(answer.read())["message"] == "expected no error of the server, got one"
        connection.request("GET", "/v1/models")
        assert connection.getresponse().status == 200
    assert "a request failed" in caplog.text
