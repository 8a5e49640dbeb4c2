import dataclasses
import typing
from pathlib import Path

import pytest

from stream_erc.config import (
    SERVER_BOUNDS,
    AsrConfig,
    Config,
    EngineConfig,
    ServerConfig,
    SessionConfig,
    VadConfig,
    from_table,
    load,
)
from stream_erc.exceptions import ConfigError


def written(folder: Path, text: str) -> Path:
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_empty_file_is_the_default(tmp_path) -> None:
    assert load(written(tmp_path, "")) == Config()


def test_what_a_file_says_and_nothing_else(tmp_path) -> None:
    text = """
    [session]
    partials = true
    [session.vad]
    threshold = 1
    [session.diarization]
    speakers = 3
    [engine]
    device = "cpu"
    [engine.asr]
    engine = "none"
    """
    config = load(written(tmp_path, text))
    assert config.session.vad == VadConfig(threshold=1.0)
    assert isinstance(config.session.vad.threshold, float)
    assert config.session.diarization.speakers == 3
    assert config.session.partials is True
    assert config.session.endpointing == SessionConfig().endpointing
    assert config.engine == EngineConfig(device="cpu", asr=AsrConfig(engine="none"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sesion]\n", "unknown configuration key sesion: did you mean session?"),
        ("[session.vad]\ntreshold = 0.5\n", "session.vad.treshold: did you mean session.vad.threshold?"),
        ("[engine]\nzzz = 1\n", "engine.zzz: known keys: model, device, labels_from, voices, asr, max_batch"),
        ("session = 1\n", "session: expected a table, got 1"),
        ("[session]\npartials = 1\n", "session.partials: expected bool, got 1"),
        ("[session]\nrewind_turns = true\n", "session.rewind_turns: expected int, got True"),
        ("[session.vad]\nthreshold = true\n", "session.vad.threshold: expected float, got True"),
        ("[session.vad]\nthreshold = '1'\n", "session.vad.threshold: expected float, got '1'"),
        ("[session.diarization]\nspeakers = 1.5\n", "session.diarization.speakers: expected int or"),
        ("[engine]\ndevice = 'gpu'\n", "engine.device: expected one of auto, cpu, cuda, got 'gpu'"),
        ("[engine.asr]\nlanguage = 3\n", "engine.asr.language: expected str or"),
        ("[session\n", "expected TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, text))
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("threads = 0", "server.threads: expected 1 to 1024, got 0"),
        ("max_sessions = -1", "server.max_sessions: expected 1 to 1000000, got -1"),
        ("port = 65536", "server.port: expected 0 to 65535, got 65536"),
        ("retention_s = -1", "server.retention_s: expected 1 to 31536000, got -1.0"),
        ("retention_s = inf", "server.retention_s: expected 1 to 31536000, got inf"),
        ("heartbeat_s = 0", "server.heartbeat_s: expected 0.05 to 31536000, got 0.0"),
        ("messages_per_s = nan", "server.messages_per_s: expected 0.1 to 1000000, got nan"),
        ("max_message_bytes = -5", "server.max_message_bytes: expected 1024 to 1073741824, got -5"),
    ],
)
def test_numbers_that_no_server_can_use(tmp_path, text, said) -> None:
    with pytest.raises(ConfigError) as raised:
        load(written(tmp_path, f"[server]\n{text}\n"))
    assert str(raised.value) == said


def test_every_number_of_a_server_has_bounds_within_which_its_default_lies() -> None:
    hints = typing.get_type_hints(ServerConfig)
    assert set(SERVER_BOUNDS) == {name for name, hint in hints.items() if hint in (int, float, int | None)}
    for name, (least, most) in SERVER_BOUNDS.items():
        default = getattr(ServerConfig(), name)
        assert default is None or least <= default <= most
        for value in (least, most):
            assert getattr(dataclasses.replace(ServerConfig(), **{name: value}), name) == value
        for value in (least - 0.001, most + 1):
            with pytest.raises(ConfigError, match=f"^server.{name}: expected "):
                dataclasses.replace(ServerConfig(), **{name: value})


def test_files_that_cannot_be_read(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: expected a readable TOML file, got No such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="expected a readable TOML file, got Is a directory"):
        load(tmp_path)
    (tmp_path / "latin").write_bytes(b"model = '\xe9'")
    with pytest.raises(ConfigError, match="expected TOML, got"):
        load(tmp_path / "latin")


def test_a_table_of_one_part() -> None:
    assert from_table(AsrConfig, {"engine": "none", "beam_size": 1}) == AsrConfig(engine="none", beam_size=1)


def test_configurations_are_values() -> None:
    assert hash(Config()) == hash(Config())
    with pytest.raises(AttributeError):
        Config().engine.model = "other"  # type: ignore[misc]
