"""Known voices on the wire: asked for by name, enrolled from turns and clips, kept where that is allowed."""

import base64
from pathlib import Path

import numpy as np
import pytest
from fakes import CONFIG, conversation, silence, tone, voice
from serving import Client, lasting, serve

from stream_erc.audio import to_pcm16
from stream_erc.config import Config, EngineConfig, ServerConfig
from stream_erc.events import Samples, VoiceEnrolled
from stream_erc.exceptions import ConfigError, VoicesError
from stream_erc.server.known_voices import KnownVoices
from stream_erc.server.server import check_access
from stream_erc.server.stores.sqlite import SqliteStore
from stream_erc.sources.voice_files import add_clip, read_voices, remove_voice

LOW, HIGH = 200, 900  # Hz: voices
TALK = conversation([(1.2, LOW), (1.2, HIGH), (1.3, LOW), (1.1, HIGH)])
ENCODER = CONFIG.diarization.encoder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A voice file in which Anna has the low voice."""
    path = tmp_path / "voices.json"
    add_clip(path, ENCODER, "Anna", voice(tone(1, LOW)), 1.0)
    return path


def clip(samples: Samples) -> str:
    return base64.b64encode(to_pcm16(samples)).decode()


def speakers(client: Client) -> dict[object, object]:
    """Return the last speaker of each turn."""
    return {event["turn"]: event["speaker"] for event in client.events if "emotion" in event}


def test_a_client_asks_for_the_voices_that_it_may_know(path: Path) -> None:
    with serve(voices=path) as server:
        with Client(server.socket_url) as client:
            assert (client.created["voices"], client.created["keeps_voices"]) == (["Anna"], False)
            refused = client.answer("session.update", voices=["Anna", "Ben"])
            assert (refused["code"], refused["message"]) == (
                "invalid_configuration",
                "expected a known voice (Anna), got 'Ben'",
            )
            twice = client.answer("session.update", voices=["Anna", "Anna"])
            assert twice["message"] == "expected each voice once, got Anna, Anna"
            call = {"encoding": "pcm_s16le", "sample_rate_hz": 16_000, "channels": 2}
            apart = client.answer("session.update", audio=call, voices=["Anna"])
            assert apart["code"] == "invalid_configuration"
            assert "expected no known voices where channels are heard separately" in apart["message"]
            updated = client.answer("session.update", pace="replay", voices=["Anna"])
            assert updated["configuration"]["voices"] == ["Anna"]
            client.send_audio(TALK)
            client.send("session.close")
            assert client.code() == 1000
            assert speakers(client) == {0: "Anna", 1: "speaker_1", 2: "Anna", 3: "speaker_1"}
        with Client(server.socket_url) as client:  # nobody is known unless asked for
            client.answer("session.update", pace="replay")
            client.send_audio(TALK)
            client.send("session.close")
            assert client.code() == 1000
            assert speakers(client) == {0: "speaker_1", 1: "speaker_2", 2: "speaker_1", 3: "speaker_2"}


def test_a_server_without_voices_knows_nobody() -> None:
    with serve() as server, Client(server.socket_url) as client:
        assert client.created["voices"] == []
        refused = client.answer("session.update", voices=["Anna"])
        assert refused["message"] == "expected a known voice (none yet), got 'Anna'"


def test_a_voice_of_a_turn_is_kept_for_other_sessions(path: Path) -> None:
    with serve(voices=path, keep_voices=True) as server:
        with Client(server.socket_url) as client:
            assert client.created["keeps_voices"] is True
            client.answer("session.update", pace="replay")
            client.send_audio(TALK)
            client.send("voice.enrol", name="Ben", turn=1, keep=True)
            enrolled = client.until("voice.enrolled")
            assert (enrolled["name"], enrolled["turn"], enrolled["kept"]) == ("Ben", 1, True)
            assert [m["name"] for m in client.seen if m["type"] == "speaker.updated"] == ["Ben"]
            assert read_voices(path, ENCODER).names == ("Anna", "Ben")
            client.send("voice.enrol", name="Cleo", turn=0)
            assert client.until("voice.enrolled")["kept"] is False
        with Client(server.socket_url) as client:
            assert client.created["voices"] == ["Anna", "Ben"]
            client.answer("session.update", pace="replay", voices=["Ben"])
            client.send_audio(TALK)
            client.send("session.close")
            assert client.code() == 1000
            assert speakers(client)[3] == "Ben"


def test_a_removed_voice_is_gone_for_new_sessions_and_stays_in_a_running_one(path: Path) -> None:
    with serve(voices=path) as server, Client(server.socket_url) as client:
        client.answer("session.update", pace="replay", voices=["Anna"])
        client.send_audio(TALK[:40_000])
        client.settle()
        remove_voice(path, "Anna")
        with Client(server.socket_url) as other:
            assert other.created["voices"] == []
            assert other.answer("session.update", voices=["Anna"])["code"] == "invalid_configuration"
        token = client.created["resume_token"]
        client.vanish()
        with Client(server.socket_url) as again:
            resumed = again.resume(token, 0)
            assert resumed["type"] == "session.resumed"
            again.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
            again.send("session.close")
            assert again.code() == 1000
            assert speakers(again)[2] == "Anna"


def test_a_clip_makes_a_voice_known() -> None:
    with serve() as server, Client(server.socket_url) as client:
        client.answer("session.update", pace="replay")
        client.send("voice.enrol", name="Anna", clip=clip(tone(2, LOW)), input_id=1)
        enrolled = client.until("voice.enrolled")
        assert (enrolled["turn"], enrolled["kept"], enrolled["event_id"]) == (None, False, 1)
        client.send_audio(TALK)
        client.send("session.close")
        assert client.code() == 1000
        assert speakers(client) == {0: "Anna", 1: "speaker_1", 2: "Anna", 3: "speaker_1"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "expected a turn or a clip, got neither"),
        ({"turn": 0, "clip": ""}, "expected a turn or a clip, got both"),
        ({"turn": 7}, "expected a turn whose voice is in memory (none), got 7"),
        ({"clip": "*"}, "expected a clip in base64, got one with"),
        ({"clip": "AAAA"}, "got 3"),
        ({"clip": ""}, "expected a clip with at least 1 s of speech, got 0.00 s"),
        ({"clip": clip(silence(3))}, "expected a clip with at least 1 s of speech, got 0.00 s"),
        ({"clip": clip(silence(30.1))}, "expected a clip of at most 30000 ms, got 30100 ms"),
        ({"clip": clip(tone(2, LOW)), "name": "speaker_1"}, "expected a name that no unnamed speaker gets"),
        ({"clip": clip(tone(2, LOW)), "keep": True}, "expected no keep on a server that keeps no voices"),
    ],
)
def test_an_unusable_enrolment_is_refused_and_the_session_goes_on(
    fields: dict[str, object], said: str
) -> None:
    with serve() as server, Client(server.socket_url) as client:
        client.answer("session.update", pace="replay")
        client.send("voice.enrol", **({"name": "Anna"} | fields), input_id=1)
        error = client.until("error")
        assert (error["code"], error["input_id"]) == ("invalid_voice", 1)
        assert said in str(error["message"])
        client.send("voice.enrol", name="Anna", clip=clip(tone(2, LOW)), input_id=2)
        assert client.until("voice.enrolled")["event_id"] == 1


def test_a_voice_that_cannot_be_written_is_known_in_the_session_all_the_same(path: Path) -> None:
    with serve(voices=path, keep_voices=True) as server, Client(server.socket_url) as client:
        client.answer("session.update", pace="replay")
        path.write_text("no voice file any more")
        client.send("voice.enrol", name="Ben", clip=clip(tone(2, HIGH)), keep=True)
        warning = client.until("warning")
        assert (warning["code"], warning["message"]) == (
            "voice_not_kept",
            "the voice of Ben could not be kept; it is known in this session",
        )
        assert client.until("voice.enrolled")["kept"] is False
        assert path.read_text() == "no voice file any more"


def test_too_large_waiting_clips_are_refused() -> None:
    with serve() as server, Client(server.socket_url) as client:
        client.answer("session.update", turns="appended")
        client.send("turn.append", audio_start_ms=60_000, audio_end_ms=61_000)
        for _ in range(4):  # 1.8 MiB each
            client.send("voice.enrol", name="Anna", clip=clip(tone(30, LOW)))
        assert client.until("error")["code"] == "too_many_messages"
        assert client.code() == 1008


def test_a_cut_connection_loses_no_voice_and_keeps_it_once(path: Path) -> None:
    inputs = [
        {"name": "Ben", "turn": 1, "keep": True, "input_id": 1},
        {"name": "Cleo", "clip": clip(tone(2, 420)), "keep": True, "input_id": 2},
    ]
    part = 60_000

    def converse(url: str, *, cut: bool) -> list[dict[str, object]]:
        client = Client(url)
        client.answer("session.update", pace="replay", voices=["Anna"])
        client.send_audio(TALK[:part])
        for one in inputs:
            client.send("voice.enrol", **one)
        if cut:
            token = client.created["resume_token"]
            client.vanish()
            client = Client(url)
            resumed = client.resume(token, 0)
            client.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 : part])
            for one in inputs[int(str(resumed["input_id"])) :]:
                client.send("voice.enrol", **one)
        client.send_audio(TALK[part:])
        client.send("session.close")
        assert client.code() == 1000
        return lasting(client.seen)

    with serve(voices=path, keep_voices=True) as server:
        whole = converse(server.socket_url, cut=False)
        clips = {name: len(c) for name, c in read_voices(path, ENCODER).clips.items()}
        assert clips == {"Anna": 1, "Ben": 1, "Cleo": 1}
        assert converse(server.socket_url, cut=True) == whole
        assert {name: len(c) for name, c in read_voices(path, ENCODER).clips.items()} == clips


def test_unusable_configurations_are_refused_before_the_models_are_loaded(path: Path, tmp_path: Path) -> None:
    def check(voices: Path | None, *, keep: bool) -> None:
        engine = EngineConfig(voices=None if voices is None else str(voices))
        check_access(Config(CONFIG, engine, ServerConfig(keep_voices=keep)))

    with pytest.raises(ConfigError, match="expected a voice file, --voices FILE, got none"):
        check(None, keep=True)
    with pytest.raises(ConfigError, match="got a folder"):
        check(tmp_path, keep=True)
    with pytest.raises(VoicesError, match="got nothing there"):
        check(tmp_path / "none.json", keep=False)
    check(tmp_path / "new.json", keep=True)
    other = tmp_path / "other.json"
    add_clip(other, "other", "Ben", np.array([1, 0], np.float32), 1.0)
    with pytest.raises(VoicesError, match="expected voices of the speaker encoder"):
        check(other, keep=True)
    assert KnownVoices(Config(CONFIG, EngineConfig(voices=str(path)))).read().names == ("Anna",)


def test_a_file_is_read_again_when_it_changes(path: Path, tmp_path: Path) -> None:
    known = KnownVoices(Config(CONFIG, EngineConfig(voices=str(path))))
    first = known.read()
    assert known.read() is first
    add_clip(path, ENCODER, "Ben", voice(tone(1, HIGH)), 1.0)
    assert known.read().names == ("Anna", "Ben")
    path.unlink()
    assert known.read().names == ()
    add_clip(path, ENCODER, "Cleo", voice(tone(1, HIGH)), 1.0)
    folder = KnownVoices(Config(CONFIG, EngineConfig(voices=str(tmp_path))))
    assert folder.read().names == ("Cleo",)
    add_clip(tmp_path / "more.json", ENCODER, "Dora", voice(tone(1, LOW)), 1.0)
    assert folder.read().names == ("Cleo", "Dora")


def test_a_refused_configuration_leaves_the_voices_that_were_asked_for(path: Path) -> None:
    with serve(voices=path) as server, Client(server.socket_url) as client:
        client.answer("session.update", pace="replay", voices=["Anna"])
        assert client.answer("session.update", model="none")["code"] == "invalid_configuration"
        client.send_audio(TALK)
        client.send("session.close")
        assert client.code() == 1000
        assert speakers(client) == {0: "Anna", 1: "speaker_1", 2: "Anna", 3: "speaker_1"}


def test_a_session_in_a_store_goes_on_elsewhere_with_its_voices(path: Path, tmp_path: Path) -> None:
    store = tmp_path / "sessions.sqlite"
    with serve(voices=path, store=SqliteStore(store)) as server:
        client = Client(server.socket_url)
        client.answer("session.update", pace="replay", voices=["Anna"])
        client.send_audio(TALK[:30_000])
        client.settle()
        token = client.created["resume_token"]
        client.vanish()
    with serve(store=SqliteStore(store)) as server, Client(server.socket_url) as client:  # it knows no voices
        resumed = client.resume(token, 0)
        assert resumed["configuration"]["voices"] == ["Anna"]
        client.send_audio(TALK[int(str(resumed["audio_ms"])) * 16 :])
        client.send("session.close")
        assert client.code() == 1000
        assert speakers(client) == {0: "Anna", 1: "speaker_1", 2: "Anna", 3: "speaker_1"}


def test_a_session_from_a_server_that_keeps_voices_has_none_kept_by_one_that_does_not(path):
    before, eva = path.read_bytes(), VoiceEnrolled("Eva", 0, voice(tone(1, HIGH)), 1.0, True)
    for config in (EngineConfig(), EngineConfig(voices=str(path))):
        assert not KnownVoices(Config(engine=config)).keep(eva)
    assert path.read_bytes() == before
