"""Time is the container's: every kind of film and recording whose timestamps say more than its samples."""

import itertools
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
from films import Sound, heard_spans, near, tone, write_film
from paths import CORPORA

from stream_erc.audio import SAMPLE_RATE
from stream_erc.sources.audio_files import AudioFile
from stream_erc.sources.timeline import LONGEST_GAP_S, TOLERANCE_S, Timeline, origin_s

INPUTS = CORPORA / "inputs"

FILMS = {
    "a.mp4": ("mpeg4", "aac"),
    "a.mov": ("mpeg4", "aac"),
    "a.mkv": ("mpeg4", "aac"),
    "a.webm": ("libvpx", "libopus"),
    "a.ts": ("mpeg2video", "aac"),
    "a.flv": ("flv1", "aac"),
}
RECORDINGS = {"a.webm": "libopus", "a.mka": "libopus", "a.ogg": "libopus", "a.m4a": "aac", "b.mka": "aac"}
FLV_RATE = 44_100


def heard(path: Path) -> tuple[np.ndarray, list[str]]:
    said: list[str] = []
    return np.concatenate(list(AudioFile(path, warn=said.append).chunks())), said


def spans(path: Path) -> list[tuple[float, float]]:
    samples, said = heard(path)
    assert said == []
    return heard_spans(samples)


def film(path: Path, picture_at_s: float = 0.0, **how: object) -> Path:
    picture, codec = FILMS[path.name]
    rate = FLV_RATE if path.suffix == ".flv" else 48_000
    sound = Sound(tone(3.0, rate), rate, codec, **how)  # type: ignore[arg-type]
    return write_film(path, sound, picture=picture, picture_at_s=picture_at_s)


# --- where it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILMS)
def test_sound_after_the_picture(tmp_path: Path, name: str) -> None:
    assert near(spans(film(tmp_path / name, shift=lambda at: 4.0)), [(4.0, 7.0)])


@pytest.mark.parametrize("name", FILMS)
def test_sound_before_the_picture(tmp_path: Path, name: str) -> None:
    assert near(spans(film(tmp_path / name, picture_at_s=2.0)), [(0.0, 3.0)])


def test_an_avi_whose_header_says_that_the_sound_is_late(tmp_path: Path) -> None:
    sound = Sound(tone(3.0), 48_000, "pcm_s16le")
    data = bytearray(write_film(tmp_path / "a.avi", sound).read_bytes())
    header = data.index(b"auds") - 8  # of "strh"; dwStart, in samples, is 28 bytes into its content
    data[header + 8 + 28 : header + 8 + 32] = (4 * 48_000).to_bytes(4, "little")
    (tmp_path / "a.avi").write_bytes(data)
    assert near(spans(tmp_path / "a.avi"), [(4.0, 7.0)])


@pytest.mark.parametrize("clock_s", [1.4, 5_000.0, 40_000.0])
def test_the_clock_of_a_transport_stream_begins_anywhere(tmp_path: Path, clock_s: float) -> None:
    path = film(tmp_path / "a.ts", picture_at_s=clock_s, shift=lambda at: clock_s + 2.5)
    assert near(spans(path), [(2.5, 5.5)])


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_on_a_time_line_begins_where_it_says(tmp_path: Path, name: str) -> None:
    sound = Sound(tone(3.0), codec=RECORDINGS[name], shift=lambda at: 4.0)
    path = write_film(tmp_path / name, sound, picture=None)
    late = 0.0 if name.endswith("ogg") else 4.0  # a stream's first position is its beginning (RFC 7845, 4.3)
    assert near(spans(path), [(late, late + 3.0)])
    assert AudioFile(path).duration_s == pytest.approx(late + 3.0, abs=0.05)


def test_a_clock_of_hours_is_no_silence(tmp_path: Path) -> None:
    hours = 3 * 3_600.0
    path = film(tmp_path / "a.mkv", picture_at_s=hours, shift=lambda at: hours + 1.0)
    assert near(spans(path), [(1.0, 4.0)])


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_what_an_encoder_needs_to_begin_moves_nothing(tmp_path: Path, name: str) -> None:
    assert near(spans(film(tmp_path / name)), [(0.0, 3.0)], by=0.03)


def test_the_origin_of_time() -> None:
    assert origin_s("mpegts", 1.4) == 1.4
    assert origin_s("matroska,webm", 5.0) == origin_s("mov,mp4,m4a,3gp,3g2,mj2", 5.0) == 0.0
    assert origin_s("matroska,webm", LONGEST_GAP_S + 1) == LONGEST_GAP_S + 1
    assert origin_s("mpegts", -0.064) == 0.0
    assert origin_s("matroska,webm", -3.0) == -3.0  # much sound before 0 is heard, and begins at 0


# --- gaps -----------------------------------------------------------------------------------------


def after(begin: float, later: float) -> dict[str, object]:
    return {"shift": lambda at: later if at >= begin else 0.0}


@pytest.mark.parametrize("name", FILMS)
def test_a_gap_in_a_film(tmp_path: Path, name: str) -> None:
    assert near(spans(film(tmp_path / name, **after(1.5, 5.0))), [(0.0, 1.5), (6.5, 8.0)])


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_gap_in_a_recording(tmp_path: Path, name: str) -> None:
    gap = after(1.0, 5.0)  # a page of Ogg, a second here, has one time
    path = write_film(tmp_path / name, Sound(tone(3.0), codec=RECORDINGS[name], **gap), picture=None)
    assert near(spans(path), [(0.0, 1.0), (6.0, 8.0)])
    assert AudioFile(path).duration_s == pytest.approx(8.0, abs=0.05)


@pytest.mark.parametrize("name", ["a.mka", "a.webm", "a.ogg"])
def test_lost_packets_are_a_gap(tmp_path: Path, name: str) -> None:
    sound = Sound(tone(3.0), codec="libopus", shift=lambda at: None if 1.0 <= at < 2.0 else 0.0)
    assert near(spans(write_film(tmp_path / name, sound, picture=None)), [(0.0, 1.0), (2.0, 3.0)])


def test_an_edit_list_with_a_gap(tmp_path: Path) -> None:
    """An empty edit of 2 s before the whole sound, as editors write it."""
    data = film(tmp_path / "a.mp4").read_bytes()
    sound = data.rindex(b"trak")
    at = data.index(b"elst", sound)
    count = int.from_bytes(data[at + 8 : at + 12], "big")
    timescale = int.from_bytes(data[data.index(b"mvhd") + 16 :][:4], "big")
    empty = (2 * timescale).to_bytes(4, "big") + b"\xff\xff\xff\xff" + b"\x00\x01\x00\x00"
    grown = data[: at + 8] + (count + 1).to_bytes(4, "big") + empty + data[at + 12 :]
    for box in (b"elst", b"edts", b"trak", b"moov"):
        place = grown.index(b"elst", sound) if box == b"elst" else grown.rindex(box, 0, at)
        size = int.from_bytes(grown[place - 4 : place], "big")
        grown = grown[: place - 4] + (size + 12).to_bytes(4, "big") + grown[place:]
    (tmp_path / "a.mp4").write_bytes(grown)
    assert near(spans(tmp_path / "a.mp4"), [(2.0, 5.0)])


def test_memory_stays_flat_in_a_long_gap(tmp_path: Path) -> None:
    """Fifty minutes would be 192 MB of samples."""
    sound = Sound(tone(3.0), codec="libopus", **after(1.5, 3_000.0))  # type: ignore[arg-type]
    path = write_film(tmp_path / "a.mka", sound, picture=None)
    tracemalloc.start()
    try:
        count = sum(len(chunk) for chunk in AudioFile(path).chunks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == pytest.approx(3_003 * SAMPLE_RATE, abs=SAMPLE_RATE / 20)
    assert peak < 4_000_000, peak


@pytest.mark.parametrize("hours", [2, 50])
def test_an_absurd_gap_is_told_and_left_out(tmp_path: Path, hours: int) -> None:
    sound = Sound(tone(3.0), codec="libopus", **after(1.5, 3_600.0 * hours))  # type: ignore[arg-type]
    samples, said = heard(write_film(tmp_path / "a.mka", sound, picture=None))
    assert near(heard_spans(samples), [(0.0, 3.0)])
    assert f"got a jump by {3_600 * hours}" in said[0] and "which is left out" in said[0]


# --- overlaps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.mka", "a.webm", "b.mka"])
def test_packets_that_come_again_are_heard_once(tmp_path: Path, name: str) -> None:
    sound = Sound(tone(3.0), codec=RECORDINGS[name], twice=(1.0, 2.0))
    assert near(spans(write_film(tmp_path / name, sound, picture=None)), [(0.0, 3.0)], by=0.09)


def place(frames: list[tuple[float | None, int]], rate_hz: int = 1_000, origin: float = 0.0) -> np.ndarray:
    """Place frames (timestamp, samples) whose samples are numbered from 1; silence is 0."""
    line, number, placed = Timeline(origin, lambda said: None), 1, []
    for at, count in frames:
        numbered = np.arange(number, number + count, dtype=np.float32)[:, np.newaxis]
        number += count
        before = line.position_s
        placed += list(line.place(at, numbered, rate_hz))
        assert line.position_s >= before
    return np.concatenate(placed)[:, 0]


def test_an_overlap_is_cut_to_its_end() -> None:
    """A second is repeated: its samples are 1001 to 2000, and those of the repetition 2001 to 3000."""
    frames = [(k / 10, 100) for k in range(20)] + [(k / 10, 100) for k in range(10, 30)]
    got = place(frames)
    assert np.array_equal(got, [*range(1, 2001), *range(3001, 4001)])


def test_a_part_of_a_frame_is_cut() -> None:
    got = place([(0.0, 1_000), (0.7, 1_000)])
    assert np.array_equal(got, [*range(1, 1001), *range(1301, 2001)])


def test_a_gap_is_silence_to_the_sample() -> None:
    got = place([(0.0, 1_000), (1.5, 1_000)])
    assert np.array_equal(got, [*range(1, 1001), *[0] * 500, *range(1001, 2001)])


def test_recordings_that_follow_each_other_in_one_file(tmp_path: Path) -> None:
    first = film(tmp_path / "a.ts", shift=lambda at: 1.0).read_bytes()
    (tmp_path / "b.ts").write_bytes(first * 2)
    samples, said = heard(tmp_path / "b.ts")
    assert near(heard_spans(samples), [(1.0, 7.0)], by=0.1)
    assert len(said) == 1 and "got a jump by -3" in said[0]


@pytest.mark.parametrize("jump_s", [-11.0, -3_000.0, LONGEST_GAP_S + 1])
def test_a_clock_that_is_set_anew_loses_no_sample(jump_s: float) -> None:
    frames = [(5_000 + k / 10, 100) for k in range(200)]
    frames += [(5_000 + 20 + jump_s + k / 10, 100) for k in range(200)]
    assert np.array_equal(place(frames, origin=5_000.0), np.arange(1, 40_001))


# --- jitter and drift -----------------------------------------------------------------------------


@pytest.mark.parametrize("by_s", [0.005, 0.02, 0.035])
def test_jitter_changes_no_sample(by_s: float) -> None:
    rng = np.random.default_rng(1)
    frames = [(max(0.0, k / 50 + rng.uniform(-by_s, by_s)), 20) for k in range(2_000)]
    assert np.array_equal(place(frames), np.arange(1, 40_001))


@pytest.mark.parametrize("name", ["a.mka", "a.webm", "b.mka"])
def test_jitter_in_a_file(tmp_path: Path, name: str) -> None:
    rng, codec = np.random.default_rng(2), RECORDINGS[name]
    plain = write_film(tmp_path / "plain.mka", Sound(tone(6.0), codec=codec), picture=None)
    jittered = Sound(tone(6.0), codec=codec, shift=lambda at: float(rng.uniform(0, 0.019)))
    path = write_film(tmp_path / name, jittered, picture=None)
    assert np.array_equal(heard(path)[0], heard(plain)[0])


@pytest.mark.parametrize("drift", [1.001, 0.999, 1.01])
def test_drift_follows_the_timestamps_by_small_corrections(drift: float) -> None:
    frames = [(k / 50 * drift, 20) for k in range(30_000)]  # ten minutes
    got = place(frames)
    assert len(got) == pytest.approx(600_000 * drift, abs=1_000 * TOLERANCE_S + 20)
    jumps = np.abs(np.diff(np.flatnonzero(np.diff(got) != 1)))
    assert len(jumps) > 5
    runs = [len(list(run)) for silent, run in itertools.groupby(got == 0) if silent]
    assert max(runs, default=0) <= 1_000 * TOLERANCE_S + 20


@pytest.mark.parametrize("at", [None, 0.0])
def test_frames_without_timestamps_follow(at: float | None) -> None:
    assert np.array_equal(place([(at, 100), (None, 100), (None, 50)]), np.arange(1, 251))


def test_a_change_of_rate_keeps_the_time() -> None:
    line = Timeline(0.0, lambda said: None)
    for rate_hz, at in ((8_000, 0.0), (48_000, 1.0), (16_000, 2.5)):
        list(line.place(at, np.zeros((rate_hz, 1), np.float32), rate_hz))
    assert line.position_s == pytest.approx(3.5)


# --- what has no timestamps -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3"])
def test_recordings_of_samples_alone_are_as_they_were(tmp_path: Path, name: str) -> None:
    codec = {"a.wav": "pcm_s16le", "a.flac": "flac", "a.mp3": "libmp3lame"}[name]
    path = write_film(tmp_path / name, Sound(tone(2.0, 16_000), 16_000, codec), picture=None)
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(container.streams.audio[0])]
    plain = np.concatenate(frames).astype(np.float32)
    scale = 1.0 if frames[0].dtype == np.float32 else 2.0**15
    assert np.array_equal(heard(path)[0], np.clip(plain / np.float32(scale), -1, 1))


# --- the files that were brought ------------------------------------------------------------------


@pytest.mark.skipif(not INPUTS.is_dir(), reason=f"no {INPUTS}")
def test_a_film_that_was_brought_begins_late() -> None:
    samples, said = heard(INPUTS / "late.mp4")
    assert said == [] and heard_spans(samples)[0][0] == pytest.approx(5.72, abs=0.05)
    assert len(samples) / SAMPLE_RATE == pytest.approx(37.57, abs=0.05)


@pytest.mark.skipif(not INPUTS.is_dir(), reason=f"no {INPUTS}")
def test_a_recording_that_was_brought_pauses() -> None:
    samples, said = heard(INPUTS / "gap.webm")
    assert said == [] and len(samples) / SAMPLE_RATE == pytest.approx(32.578, abs=0.02)
    assert not np.any(np.abs(samples[round(5.2 * SAMPLE_RATE) : round(15.1 * SAMPLE_RATE)]) > 1e-3)
    assert np.abs(samples[round(15.12 * SAMPLE_RATE) : round(15.5 * SAMPLE_RATE)]).max() > 0.1
