"""The channels of a recording: which are heard separately, and when two of them carry different speech."""

import wave

import numpy as np
import pytest

from stream_erc.exceptions import ConfigError
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.channels import LOOK_S, carry_different_speech, choose_channels

RATE = 8_000


def write(path, *channels):
    pcm = (np.clip(np.stack(channels, axis=1), -1, 1) * 32_767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return AudioFile(path)


def bursts(spans, seconds, seed):
    """Make noise in spans of seconds, over a noise floor 50 dB below."""
    rng = np.random.default_rng(seed)
    samples = 0.0005 * rng.standard_normal(int(seconds * RATE))
    for start, end in spans:
        at = slice(int(start * RATE), int(end * RATE))
        samples[at] += 0.15 * rng.standard_normal(len(samples[at]))
    return samples


AGENT = bursts([(0, 3), (5, 8), (11, 12.5)], 13, 1)
CALLER = bursts([(2.8, 5.2), (7.5, 11)], 13, 2)
ROOM = bursts([(0, 3), (5, 8), (11, 12.5), (3.2, 4.9), (8.2, 10.5)], 13, 3)


@pytest.mark.parametrize(
    ("channels", "different"),
    [
        ((AGENT, CALLER), True),
        ((AGENT + 0.1 * CALLER, CALLER + 0.1 * AGENT), True),  # they leak into one another, 20 dB below
        ((ROOM, ROOM), False),
        ((ROOM, -ROOM), False),
        ((ROOM, 0.4 * ROOM), False),
        ((ROOM, 0 * ROOM), False),
        ((AGENT + 0.5 * CALLER, CALLER + 0.5 * AGENT), False),  # two microphones in a room
        ((ROOM, bursts([(0, 13)], 13, 4)), False),  # music behind a voice
        ((0 * ROOM, 0 * ROOM), False),
        ((AGENT[:100], CALLER[:100]), False),
    ],
    ids=str,
)
def test_two_channels_with_different_speech_are_told_from_stereo(tmp_path, channels, different):
    assert carry_different_speech(write(tmp_path / "a.wav", *channels)) is different


def test_the_look_is_bounded(tmp_path):
    music = np.tile(ROOM, LOOK_S // 13 + 1)
    call = [np.concatenate([music, np.tile(side, 60)]) for side in (AGENT, CALLER)]
    assert not carry_different_speech(write(tmp_path / "a.wav", *call))


def test_names_must_fit_the_channels(tmp_path):
    call = write(tmp_path / "call.wav", AGENT, CALLER)
    assert choose_channels(call, "auto") == choose_channels(call, "separate") == (None, None)
    assert choose_channels(call, "mix") is None
    assert choose_channels(call, ("agent", "caller")) == ("agent", "caller")
    for names in (("agent",), ("agent", "caller", "other")):
        with pytest.raises(ConfigError, match=f"a name for each of 2 channel.s., got {len(names)}: agent"):
            choose_channels(call, names)
    mono = write(tmp_path / "mono.wav", AGENT)
    assert choose_channels(mono, "auto") is None and choose_channels(mono, ("agent",)) == ("agent",)


def test_ten_channels_are_mixed_and_are_too_many_to_hear_separately(tmp_path):
    many = write(tmp_path / "many.wav", *[AGENT] * 10)
    assert choose_channels(many, "auto") is None
    with pytest.raises(ConfigError, match="expected 1 to 8 to hear separately, got 10"):
        choose_channels(many, "separate")
    assert np.abs(np.concatenate(list(many.chunks()))).max() > 0.1


def test_separate_channels_are_those_of_the_file_bit_for_bit(tmp_path):
    call = write(tmp_path / "call.wav", AGENT, CALLER)
    heard = np.concatenate(list(call.chunks(70, separate=True)))
    for number, side in enumerate((AGENT, CALLER)):
        alone = write(tmp_path / f"{number}.wav", side)
        assert np.array_equal(heard[:, number], np.concatenate(list(alone.chunks())))
    assert heard.shape == (13 * 16_000, 2)


def test_a_truncated_call_is_heard_up_to_its_end(tmp_path, caplog):
    write(tmp_path / "call.wav", AGENT, CALLER)
    data = (tmp_path / "call.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
    cut = AudioFile(tmp_path / "cut.wav")
    assert carry_different_speech(cut)
    heard = list(cut.chunks(separate=True))
    assert [record.message.partition(",")[0] for record in caplog.records] == [
        f"{cut.path}: expected a complete file"
    ]
    assert sum(map(len, heard)) == pytest.approx(6.5 * 16_000, abs=20)
