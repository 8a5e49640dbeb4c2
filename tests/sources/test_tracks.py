from pathlib import Path

import numpy as np
import pytest
from films import Sound, tone, write_film

from stream_erc.exceptions import ConfigError
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.tracks import Track, choose_track

TRACKS = (
    Track(1, "eng", "Commentary", "aac", 2, False),
    Track(2, "ger", "", "ac3", 6, True),
    Track(3, "fr-CA", "Québec", "opus", 1, False),
    Track(4, "", "", "aac", 2, False),
    Track(5, "eng", "Film", "aac", 2, False),
)


@pytest.mark.parametrize(
    ("wanted", "number"),
    [(None, 2), ("1", 1), ("4", 4), ("de", 2), ("deu", 2), ("GER", 2), ("fra", 3), ("fre", 3), ("en", 1)],
)
def test_a_track_by_number_or_language(wanted: str | None, number: int) -> None:
    assert choose_track(TRACKS, wanted).number == number


def test_without_a_default_the_first_is_heard() -> None:
    assert choose_track((TRACKS[3], TRACKS[4]), None).number == 4


@pytest.mark.parametrize("wanted", ["0", "6", "it", "xx", "-1", ""])
def test_a_track_that_is_not_there_is_answered_with_the_list(wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        choose_track(TRACKS, wanted)
    assert str(raised.value) == (
        "--track: expected one of 1 (eng, Commentary, aac, 2 ch), 2 (ger, ac3, 6 ch), 3 (fr-CA, Québec, "
        f"opus, 1 ch), 4 (unknown language, aac, 2 ch), 5 (eng, Film, aac, 2 ch), got {wanted}"
    )


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_the_tracks_of_a_film(tmp_path: Path, name: str) -> None:
    sounds = [
        Sound(tone(1.0, hz=hz), metadata={"language": language}, default=language == "fra")
        for hz, language in ((400, "eng"), (800, "fra"), (1_600, "deu"))
    ]
    path = write_film(tmp_path / name, *sounds, seconds=1.0)

    def hz(track: str | None) -> float:
        samples = np.concatenate(list(AudioFile(path, track=track).chunks()))
        return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples))

    assert [track.language for track in AudioFile(path).tracks] == ["eng", "fra", "deu"]
    for track, wanted in ((None, 800 if name != "a.ts" else 400), ("1", 400), ("3", 1_600), ("de", 1_600)):
        assert hz(track) == pytest.approx(wanted, abs=5)
    with pytest.raises(ConfigError, match=r"--track: expected one of 1 \(eng, aac, 1 ch\)"):
        AudioFile(path, track="4")
