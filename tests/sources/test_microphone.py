import itertools
import logging
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from stream_erc.audio import SAMPLE_RATE
from stream_erc.exceptions import DeviceError
from stream_erc.sources import microphone as microphone_module
from stream_erc.sources.microphone import InputDevice, Microphone, list_input_devices


def tone(seconds: float, rate_hz: int, hz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)).astype(np.float32)


class Flags:
    def __init__(self, input_overflow: bool = False) -> None:
        self.input_overflow = input_overflow


class FakePortAudioError(Exception):
    pass


class FakeStream:
    def __init__(self, settings: dict[str, object]) -> None:
        self.settings = settings
        self.active = False

    def start(self) -> None:
        self.active = True

    def close(self) -> None:
        self.active = False

    def hear(self, samples: np.ndarray, overflow: bool = False) -> None:
        """Call the callback, as PortAudio's thread does."""
        callback = self.settings["callback"]
        callback(memoryview(samples.astype(np.float32).tobytes()), len(samples), None, Flags(overflow))


class FakeSound:
    """A fake sounddevice whose devices accept only certain (rate, channels)."""

    PortAudioError = FakePortAudioError

    def __init__(self, *names: str, takes: set[tuple[int, int]] | None = None, default: int = -1) -> None:
        rates = {"own_rate": 44_100.0}
        self.devices = [
            {
                "index": i,
                "name": name,
                "max_input_channels": 0 if "speaker" in name else 2,
                "default_samplerate": rate,
            }
            for (i, name), rate in zip(enumerate(names), itertools.repeat(rates["own_rate"]), strict=False)
        ]
        self.takes = takes
        self.default = default
        self.streams: list[FakeStream] = []

    def query_devices(self, kind: str | None = None) -> object:
        if kind is None:
            return self.devices
        if not 0 <= self.default < len(self.devices):
            raise FakePortAudioError("Error querying device -1")
        return self.devices[self.default]

    def RawInputStream(self, **settings: object) -> FakeStream:  # noqa: N802
        if self.takes is not None and (settings["samplerate"], settings["channels"]) not in self.takes:
            raise FakePortAudioError("Invalid sample rate")
        self.streams.append(FakeStream(settings))
        return self.streams[-1]


def test_input_devices_are_listed_without_those_that_only_play() -> None:
    sound = FakeSound("speaker", "Webcam", "Headset", default=2)
    assert list_input_devices(sound) == [
        InputDevice(1, "Webcam", 2, 44_100, False),
        InputDevice(2, "Headset", 2, 44_100, True),
    ]


def test_devices_without_a_default_are_listed() -> None:
    assert [device.is_default for device in list_input_devices(FakeSound("Webcam"))] == [False]


@pytest.mark.parametrize(
    ("device", "name"),
    [(None, "Headset"), (0, "USB Mic"), ("0", "USB Mic"), ("headset", "Headset"), ("usb", "USB Mic")],
)
def test_a_device_is_chosen(device: int | str | None, name: str) -> None:
    assert (
        Microphone(device, library=FakeSound("USB Mic", "Headset", "Headset 2", default=1)).device.name
        == name
    )


@pytest.mark.parametrize(
    ("device", "got"), [(7, "got 7"), ("phone", "got 'phone'"), ("Head", "got 'Head', which matches 2")]
)
def test_an_unknown_device_is_named_with_the_known_ones(device: int | str, got: str) -> None:
    with pytest.raises(DeviceError) as raised:
        Microphone(device, library=FakeSound("Mic", "Headset A", "Headset B"))
    assert (
        str(raised.value) == f"expected one of the input devices 0 'Mic', 1 'Headset A', 2 'Headset B', {got}"
    )


def test_a_system_without_input_devices() -> None:
    with pytest.raises(DeviceError, match="got a system without one"):
        Microphone(library=FakeSound("speaker"))


def test_audio_at_16_khz_comes_as_it_is() -> None:
    sound, audio = FakeSound("Mic"), tone(0.064, SAMPLE_RATE)
    with Microphone(library=sound) as microphone:
        stream = sound.streams[0]
        assert (stream.settings["samplerate"], stream.settings["channels"], stream.settings["blocksize"]) == (
            16_000,
            1,
            160,
        )
        stream.hear(audio[:512])
        stream.hear(audio[512:])
    assert not stream.active
    assert np.array_equal(np.concatenate(list(microphone)), audio)


@pytest.mark.parametrize("taken", [(44_100, 1), (44_100, 2)])
def test_a_device_that_refuses_16_khz_is_resampled(taken: tuple[int, int]) -> None:
    sound = FakeSound("Mic", takes={taken})
    with Microphone(library=sound) as microphone:
        sound.streams[0].hear(np.repeat(tone(1.0, 44_100)[:, np.newaxis], taken[1], axis=1))
    got = np.concatenate(list(microphone))
    assert len(got) == SAMPLE_RATE
    np.testing.assert_allclose(got[1_000:-1_000], tone(1.0, SAMPLE_RATE)[1_000:-1_000], atol=2e-3)


def test_a_device_that_does_not_open() -> None:
    with pytest.raises(DeviceError, match="expected input device 'Mic' to open, got Invalid sample rate"):
        with Microphone(library=FakeSound("Mic", takes=set())):
            pass


def test_what_a_slow_consumer_misses_becomes_silence(caplog: pytest.LogCaptureFixture) -> None:
    sound, block = FakeSound("Mic"), np.full(16_000, 0.5)
    with Microphone(library=sound, chunk_ms=1_000) as microphone:
        chunks: Iterator[np.ndarray] = iter(microphone)
        for _ in range(12):  # room is for 10
            sound.streams[0].hear(block)
        first = next(chunks)
        sound.streams[0].hear(block, overflow=True)
    with caplog.at_level(logging.WARNING):
        heard = np.concatenate([first, *chunks])
    assert len(heard) == 13 * SAMPLE_RATE
    assert not heard[10 * SAMPLE_RATE : 12 * SAMPLE_RATE].any()
    assert heard[: 10 * SAMPLE_RATE].all() and heard[12 * SAMPLE_RATE :].all()
    assert any("2000 ms lost" in record.message for record in caplog.records)
    assert any("the sound system lost samples 1 time" in record.message for record in caplog.records)


def test_a_device_that_goes_away_for_good(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(microphone_module, "POLL_S", 0.01)
    monkeypatch.setattr(microphone_module, "AGAIN_S", 0.05)
    monkeypatch.setattr(microphone_module, "RETURN_S", 0.2)
    sound = FakeSound("Mic")
    heard = []
    with caplog.at_level(logging.WARNING), Microphone(library=sound) as microphone:
        sound.streams[0].hear(np.ones(512))
        sound.streams[0].active = False
        sound.devices.clear()
        with pytest.raises(DeviceError, match="expected input device 'Mic' to keep recording"):
            heard += list(microphone)
    assert [record.message for record in caplog.records] == [
        "microphone Mic: disconnected; listening goes on when it is back"
    ]


@pytest.mark.parametrize("vanishes", [True, False], ids=["vanishes", "falls silent"])
def test_a_device_that_comes_back_with_another_rate_is_taken_up_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, vanishes: bool
) -> None:
    for name, value in (("POLL_S", 0.01), ("AGAIN_S", 0.05), ("STALL_S", 0.05)):
        monkeypatch.setattr(microphone_module, name, value)
    sound = FakeSound("Other", "Mic", default=1)
    looks: list[int] = []
    sound._terminate = lambda: looks.append(0)  # type: ignore[attr-defined]
    sound._initialize = lambda: looks.append(1)  # type: ignore[attr-defined]
    heard: list[np.ndarray] = []
    with caplog.at_level(logging.WARNING), Microphone(library=sound) as microphone:
        sound.streams[0].hear(tone(1.0, SAMPLE_RATE))
        sound.streams[0].active = not vanishes
        sound.takes = {(48_000, 1)}
        gone, sound.devices = sound.devices, []
        for chunk in microphone:
            heard.append(chunk)
            if len(looks) == 4:  # it was looked for twice
                sound.devices = [device | {"default_samplerate": 48_000.0} for device in gone]
            if len(sound.streams) == 2 and not any(chunk.any() for chunk in heard[2:]):
                sound.streams[1].hear(tone(1.0, 48_000))
            if len(sound.streams) == 2 and heard[-1].any():
                microphone.close()
    assert sound.streams[1].settings["device"] == 1 and sound.streams[1].settings["samplerate"] == 48_000
    assert not sound.streams[0].active
    whole = np.concatenate(heard)
    loud = np.flatnonzero(np.abs(whole) > 0.01)
    assert loud[-1] > len(whole) - 1_000 and loud[0] < 10
    silence = np.diff(loud).max()
    assert silence >= 0.1 * SAMPLE_RATE / 2  # time went on meanwhile
    assert len(whole) == pytest.approx(2 * SAMPLE_RATE + silence, abs=100)
    messages = [record.message for record in caplog.records]
    assert messages[0] == "microphone Mic: disconnected; listening goes on when it is back"
    assert messages[1].startswith("microphone Mic: heard again after")
    assert looks[:2] == [0, 1]


def _without_portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401
    except OSError:
        return True
    return False


@pytest.mark.skipif(not _without_portaudio(), reason="PortAudio is installed here")
def test_a_system_without_portaudio() -> None:
    for use in (list_input_devices, Microphone):
        with pytest.raises(DeviceError, match=r"expected the PortAudio library.*libportaudio2"):
            use()


def test_a_system_without_sounddevice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceError, match="pip install sounddevice"):
        Microphone()


def test_the_module_is_used_where_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound("Mic"))  # type: ignore[arg-type]
    assert Microphone().device.name == "Mic"
