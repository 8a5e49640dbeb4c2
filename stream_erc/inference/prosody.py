"""Eight prosodic descriptors of a segment, as conversational corpora provide them.

MELD's were measured with Praat: duration, mean intensity and its variation, mean, spread and range of pitch
between 75 and 600 Hz, syllables per second of phonation (de Jong and Wempe, 2009), and the harmonics-to-noise
ratio. This module follows the same definitions: Praat's intensity, and Boersma's (1993) autocorrelation
method for pitch with Praat's costs. Harmonicity is computed from the same autocorrelation. A straight line
maps it, and the syllable rate, to Praat's scale (`scripts/evaluate_acoustics prosody` fits the lines and
prints the agreement with Praat).

All but the mean intensity are independent of the microphone's gain.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Vector

DESCRIPTORS = (
    "duration",
    "avg_intensity",
    "intensity_variation",
    "avg_pitch",
    "pitch_std",
    "pitch_range",
    "articulation_rate",
    "mean_hnr",
)
"""Seconds, dB re 2e-5, dB, Hz, Hz, Hz, syllables/s, dB."""

LINES = {"articulation_rate": (0.850, 0.849), "mean_hnr": (0.917, 3.413)}
"""Slope and offset from raw values to Praat's values."""

MIN_SAMPLES = 1_600
"""100 ms: too short for a pitch contour."""

_FRAME = SAMPLE_RATE // 50  # 20 ms
_GATE_DB = 35.0
_REFERENCE = 4e-10  # Praat's 0 dB: (2e-5)^2

_FLOOR_HZ, _CEILING_HZ = 75.0, 600.0
_STEP_S = 0.01
_UPSAMPLING = 4  # of the autocorrelation, to locate its peaks between samples
_CANDIDATES = 6
_SILENCE, _VOICING = 0.03, 0.45
_OCTAVE_COST, _JUMP_COST, _VOICING_COST = 0.01, 0.35, 0.14
_HARMONIC_SILENCE = 0.05

Floats = NDArray[np.float64]


def measure(samples: Samples) -> Vector:
    """Measure the descriptors of a segment.

    Args:
        samples: the segment, (N,); parts at both ends that are 35 dB below the loudest speech are ignored.

    Returns:
        (8,) in the order of `DESCRIPTORS`; NaN for one that could not be measured (no pitch in a whisper),
        all NaN if there is less than 100 ms of sound.
    """
    raw = raw_descriptors(samples)
    for name, (slope, offset) in LINES.items():
        place = DESCRIPTORS.index(name)
        raw[place] = slope * raw[place] + offset
    return raw.astype(np.float32)


def raw_descriptors(samples: Samples) -> Floats:
    """Measure the descriptors, (8,), without the mapping of `LINES`."""
    start, end = speech_span(samples)
    speech = samples[start:end].astype(np.float64)
    if len(speech) < MIN_SAMPLES:
        return np.full(len(DESCRIPTORS), np.nan)
    intensity = intensity_db(speech, 100.0)
    correlation, loudness = _autocorrelation(speech)
    contour = _pitch_path(correlation, loudness)  # (T,), 0 where unvoiced
    voiced = contour[contour > 0]
    pitch = (voiced.mean(), voiced.std(), np.ptp(voiced)) if len(voiced) else (np.nan,) * 3
    return np.array(
        [
            len(speech) / SAMPLE_RATE,
            10 * np.log10(np.mean(10 ** (intensity / 10))),
            intensity.std(),
            *pitch,
            _syllable_rate(speech, contour),
            _harmonicity(correlation, loudness),
        ]
    )


def speech_span(samples: Samples) -> tuple[int, int]:
    """Return [start, end) of speech: the first to the last 20 ms frame within 35 dB of the loudest."""
    whole = len(samples) // _FRAME * _FRAME
    power = np.mean(np.square(samples[:whole].reshape(-1, _FRAME), dtype=np.float64), axis=1)
    loud = np.flatnonzero(power > power.max(initial=0.0) * 10 ** (-_GATE_DB / 10))
    return (int(loud[0]) * _FRAME, int(loud[-1] + 1) * _FRAME) if len(loud) else (0, 0)


def intensity_db(speech: Floats, floor_hz: float) -> Floats:
    """Compute Praat's intensity contour (dB): Kaiser windows of 6.4 periods of `floor_hz`, a step of 0.8."""
    half = int(3.2 / floor_hz * SAMPLE_RATE)
    if len(speech) < 2 * half + 1:
        half = (len(speech) - 1) // 2
    grid = np.linspace(-1, 1, 2 * half + 1)
    window = np.i0((2 * np.pi**2 + 0.5) * np.sqrt(1 - grid**2))
    frames = _frames(speech, 2 * half + 1, round(0.8 / floor_hz * SAMPLE_RATE))
    power = frames**2 @ window / window.sum()
    return np.asarray(10 * np.log10(np.maximum(power, 1e-30) / _REFERENCE))


def _frames(speech: Floats, length: int, step: int, centre: int | None = None) -> Floats:
    """Cut centred frames (T, length), each minus the mean of its middle `centre` samples."""
    offset = (len(speech) - length) % step // 2
    frames = np.lib.stride_tricks.sliding_window_view(speech, length)[offset::step]
    edge = 0 if centre is None else (length - centre) // 2
    return np.asarray(frames - frames[:, edge : length - edge].mean(axis=1, keepdims=True))


def _autocorrelation(speech: Floats) -> tuple[Floats, Floats]:
    """Compute the normalised autocorrelation of frames of three floor periods (Boersma, 1993), and loudness.

    Returns:
        (T, L) at lags of 1 / (4 * 16000) s from 0 to one period of the floor; and the peak in the middle of
        each windowed frame relative to the segment's peak, (T,).
    """
    length = round(3 / _FLOOR_HZ * SAMPLE_RATE)
    window = np.hanning(length + 2)[1:-1]
    period = int(SAMPLE_RATE / _FLOOR_HZ)
    frames = window * _frames(speech, length, round(_STEP_S * SAMPLE_RATE), 2 * period)
    half = period // 2 + 1
    middle = frames[:, length // 2 - half : length // 2 + half]
    loudness = np.abs(middle).max(axis=1) / max(np.abs(speech - speech.mean()).max(), 1e-12)
    lags = int(SAMPLE_RATE * _UPSAMPLING / _FLOOR_HZ) + 2
    found, of_window = (_correlate(x)[:, :lags] for x in (frames, window[None]))
    return found / np.maximum(found[:, :1], 1e-20) / (of_window / of_window[0, 0]), loudness


def _correlate(frames: Floats) -> Floats:
    """Compute the autocorrelation of each row, at `_UPSAMPLING` lags per sample."""
    size = 1 << int(np.ceil(np.log2(1.5 * frames.shape[1])))
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    return np.fft.irfft(power, size * _UPSAMPLING)  # zero-padded above: band-limited interpolation


def _peaks(correlation: Floats, shortest: int) -> Floats:
    """Keep local maxima at lags of `shortest` or more, and set all other values to -inf, (T, L)."""
    found = np.full_like(correlation, -np.inf)
    middle = correlation[:, 1:-1]
    top = (middle > correlation[:, :-2]) & (middle >= correlation[:, 2:])
    found[:, 1:-1] = np.where(top, middle, -np.inf)
    found[:, :shortest] = -np.inf
    return found


def _parabola_vertex(correlation: Floats) -> Floats:
    """Return the vertex of the parabola through each lag and its neighbours, in lags, (T, L); at least 1."""
    top = np.tile(np.arange(correlation.shape[1], dtype=np.float64), (len(correlation), 1))
    left, middle, right = correlation[:, :-2], correlation[:, 1:-1], correlation[:, 2:]
    bend = left - 2 * middle + right
    shift = (left - right) / np.where(bend < 0, 2 * bend, -np.inf)
    top[:, 1:-1] += shift.clip(-0.5, 0.5)
    return top.clip(1)


def _pitch_path(correlation: Floats, loudness: Floats) -> Floats:
    """Find the best path through the frames' candidates (Boersma, 1993, section 4): Hz, 0 unvoiced, (T,)."""
    peaks = _peaks(correlation, int(SAMPLE_RATE * _UPSAMPLING / _CEILING_HZ) - 1)
    lag = _parabola_vertex(correlation) / (SAMPLE_RATE * _UPSAMPLING)
    peaks[(peaks <= _VOICING / 2) | (lag * _CEILING_HZ < 1)] = -np.inf
    score = peaks - _OCTAVE_COST * np.log2(_CEILING_HZ * lag)
    best = np.argpartition(-score, _CANDIDATES, axis=1)[:, :_CANDIDATES]
    lag = np.take_along_axis(lag, best, 1)
    unvoiced = _VOICING + np.maximum(0, 2 - loudness / _SILENCE * (1 + _VOICING))
    strength = np.column_stack([unvoiced, np.take_along_axis(score, best, 1)])  # (T, K + 1)
    octave = np.column_stack([np.full(len(best), np.nan), -np.log2(lag)])
    voiced = ~np.isnan(octave)
    total, came_from = strength[0], np.zeros(strength.shape, dtype=np.intp)
    for t in range(1, len(strength)):
        jump = _JUMP_COST * np.abs(octave[t - 1][:, None] - octave[t])
        switch = _VOICING_COST * (voiced[t - 1][:, None] != voiced[t])
        reached = total[:, None] - np.where(np.isnan(jump), switch, jump)  # (from, to)
        came_from[t] = reached.argmax(axis=0)
        total = reached.max(axis=0) + strength[t]
    path = np.empty(len(strength), dtype=np.intp)
    path[-1] = total.argmax()
    for t in range(len(strength) - 1, 0, -1):
        path[t - 1] = came_from[t, path[t]]
    chosen = octave[np.arange(len(path)), path]
    return np.where(np.isnan(chosen), 0.0, 2**chosen)


def _harmonicity(correlation: Floats, loudness: Floats) -> float:
    """Return the mean harmonics-to-noise ratio of the frames that are not silent, dB."""
    height = _peaks(correlation, 3 * _UPSAMPLING).max(axis=1)
    height = height[(height > 0) & (loudness > _HARMONIC_SILENCE)].clip(max=0.99999)
    return float(np.mean(10 * np.log10(height / (1 - height)))) if len(height) else float("nan")


def _syllable_rate(speech: Floats, contour: Floats) -> float:
    """Return syllable nuclei per second of phonation, after de Jong and Wempe (2009).

    A nucleus is a voiced intensity peak within 25 dB of the loudest, with a dip of 2 dB before the next peak.
    Phonation is the duration without pauses of 0.3 s or more.
    """
    intensity = intensity_db(speech, 50.0)  # a step of 16 ms
    step = 0.8 / 50.0
    loud = intensity > np.quantile(intensity, 0.99) - 25
    rising = intensity[1:-1] > intensity[:-2]
    peaks = 1 + np.flatnonzero(rising & (intensity[1:-1] >= intensity[2:]) & loud[1:-1])
    kept = [a for a, b in pairwise(peaks) if intensity[a] - intensity[a:b].min() > 2]
    kept += list(peaks[-1:])
    places = (np.array(kept, dtype=np.float64) + 0.5) / len(intensity) * len(contour)
    nuclei = int(np.count_nonzero(contour[places.astype(np.intp)]))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], ~loud, [0]])))
    pauses = np.diff(edges.reshape(-1, 2), axis=1) * step
    phonation = len(intensity) * step - float(pauses[pauses >= 0.3].sum())
    return nuclei / phonation if nuclei and phonation > 0 else float("nan")
