"""Whisper decoding with as much encoder context as a segment needs, through CTranslate2's public interface.

Whisper is trained on windows of 30 s, padded with silence, and encoding those costs the same for "No!" as for
a speech. A shorter window costs less, but now and then the decoder says the sentence again, and again. So a
segment climbs a ladder: it is decoded with little padding first, and with more of it where the text shows
such a fault. `scripts/evaluate_asr --beside-library` measures words, time and second decodings.
"""

import math
import re
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Word
from stream_erc.inference.asr_guards import DecodedWindow, is_loop

if TYPE_CHECKING:
    from faster_whisper import WhisperModel
    from faster_whisper.tokenizer import Tokenizer

WINDOW_SECONDS = 30.0
"""Whisper's input window; a longer segment is decoded in several."""

PADDING_SECONDS = 6.0
"""Silence behind the speech on the first rung: with 4 s there are half as many words wrong again."""

HIGHER_RUNGS = (15.0, WINDOW_SECONDS)
"""Windows, in seconds, of the second and third decoding."""

CUT_SECONDS = 8.0
"""A segment that is longer than a window is cut at its quietest moment in the window's last seconds."""

FRAMES_PER_SECOND = 100  # of the log-mel spectrogram; the encoder halves them
DYNAMIC_RANGE = 2.0  # of the scaled spectrogram, 8 decades: so far below its peak lies silence

MAX_TOKENS = 220  # half of Whisper's context, minus the longest prompt
FAST_SPEECH = {"en": 8.0}
OTHER_FAST_SPEECH = 25.0  # some scripts need several tokens per letter
"""Tokens per second that nobody exceeds for long, by language."""

CERTAIN = 0.9
"""Probability of a language for which a conversation leaves its own.

In 160 clips of 2 to 5 s, native German and English had the right one first; of non-native English a quarter
was taken for another language, with .81 at most.
"""

OPENING, CLOSING = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"  # noqa: RUF001
"""Punctuation that belongs to the word after it, and to the word before it."""

FIRST_WORD_SECONDS = 0.5
"""The longest first word, unless the other words are more than half as long."""

EASY_SPEECH = 4.5
"""English tokens per second of people who do not hurry."""

REPEATED_WORDS = 3
"""A run of so many words that is said twice in a row is a reason to look again."""


def contexts(seconds: float) -> tuple[float, ...]:
    """Return the encoder windows to try for `seconds` of speech, in seconds, the shortest first."""
    first = min(WINDOW_SECONDS, seconds + PADDING_SECONDS)
    return (first, *(rung for rung in HIGHER_RUNGS if rung > first))


def token_bounds(seconds: float, language: str) -> tuple[int, int]:
    """Return how many tokens of `seconds` of speech are suspicious, and how many are decoded at most."""
    rate = FAST_SPEECH.get(language, OTHER_FAST_SPEECH)
    return 8 + math.ceil(rate * seconds), min(MAX_TOKENS, 20 + math.ceil(rate * seconds))


def says_again(text: str) -> bool:
    """Return whether `text` has a loop, or says `REPEATED_WORDS` words or more twice in a row."""
    words = _words(text)
    for size in range(REPEATED_WORDS, len(words) // 2 + 1):
        for at in range(len(words) - 2 * size + 1):
            if words[at : at + size] == words[at + size : at + 2 * size]:
                return True
    return is_loop(text)


def repeated_phrase(text: str) -> int:
    """Return the words of the phrase of which the whole text consists, twice or more; 0 if it does not.

    The last repeat may be cut off. A phrase has `REPEATED_WORDS` words or more; one word alone is none.
    """
    words = _words(text)
    if len(set(words)) == 1:
        return 0
    for size in range(REPEATED_WORDS, len(words) // 2 + 1):
        if all(word == words[at % size] for at, word in enumerate(words)):
            return size
    return 0


def windows(samples: Samples) -> Iterator[Samples]:
    """Cut `samples` (N,) into parts that fit Whisper's window, at quiet moments."""
    longest, region = int(WINDOW_SECONDS * SAMPLE_RATE), int(CUT_SECONDS * SAMPLE_RATE)
    frame = SAMPLE_RATE // 50
    while len(samples) > longest:
        tail = samples[longest - region : longest].reshape(-1, frame)  # (400, 320)
        power = np.convolve(np.mean(np.square(tail), axis=1), np.ones(5), mode="same")  # over 100 ms
        cut = longest - region + int(power.argmin()) * frame + frame // 2
        yield samples[:cut]
        samples = samples[cut:]
    yield samples


@dataclass(frozen=True, slots=True, eq=False)
class _Decoding:
    """One decoding: its text and tokens, scores as in `DecodedWindow`."""

    text: str
    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float


class WhisperDecoder:
    """Decodes segments with a Whisper model: deterministic, at temperature 0, thread-safe.

    Args:
        model: a loaded model, multilingual or English-only.
    """

    def __init__(self, model: "WhisperModel") -> None:
        self.model = model
        self._tokenizer = lru_cache(maxsize=None)(self._make_tokenizer)

    def decode(
        self,
        samples: Samples,
        *,
        language: str | None,
        beam_size: int,
        likely: str | None = None,
        climb: bool = True,
        translate: bool = False,
        words: bool = False,
    ) -> list[DecodedWindow]:
        """Decode a segment.

        Args:
            samples: the segment, (N,), of any length.
            language: ISO 639-1 code; None to detect it in each window.
            beam_size: beam width, 1 for greedy decoding.
            likely: the language to keep to unless another one is certain.
            climb: whether a faulty text is decoded again with more context.
            translate: whether to translate another language into English, from the same encoder output.
            words: whether to align the words with the audio, likewise.

        Returns:
            The text and scores of each window of at most 30 s, in order.
        """
        decoded, at = [], 0
        for part in windows(samples):
            window, encoded, tokens = self._decode_window(part, language, likely, beam_size, climb)
            foreign = window.language != "en" and self.model.model.is_multilingual
            if translate and foreign and window.text.strip():
                window = replace(window, translation=self._translate(encoded, window, beam_size))
            if words:
                found = self._align(encoded, tokens, window.language, len(part))
                shifted = (replace(word, start=word.start + at, end=word.end + at) for word in found)
                window = replace(window, words=tuple(shifted))
            decoded.append(window)
            likely, at = window.language, at + len(part)
        return decoded

    def _decode_window(
        self, samples: Samples, language: str | None, likely: str | None, beam_size: int, climb: bool
    ) -> tuple[DecodedWindow, object, list[int]]:
        """Return a decoded window, with the encoder's output and the tokens that it was decoded from."""
        seconds = len(samples) / SAMPLE_RATE
        spectrogram = self.model.feature_extractor(samples)  # (80 or 128, F)
        rungs = contexts(seconds) if climb else contexts(seconds)[:1]
        decodings = 0
        for context in rungs:
            decodings += 1
            encoded = self._encode(spectrogram, round(context * FRAMES_PER_SECOND))
            language = spoken = language or self._detect(encoded, likely)
            decoding = self._generate(encoded, spoken, beam_size, seconds)
            suspicious = token_bounds(seconds, spoken)[0]
            hurried = spoken == "en" and len(decoding.tokens) > 4 + EASY_SPEECH * seconds
            if hurried and (size := repeated_phrase(decoding.text)):
                decoding = self._cut(decoding, spoken, size)  # nobody says it twice in this time
            if len(decoding.tokens) < suspicious and not says_again(decoding.text):
                break
        else:
            if climb and is_loop(decoding.text):  # even so; the last resort spoils a speaker's own repeats
                decoding = self._generate(encoded, spoken, beam_size, seconds, no_repeat_ngram_size=3)
                decodings += 1
        window = DecodedWindow(
            decoding.text, seconds, decoding.avg_logprob, decoding.no_speech_prob, decodings, spoken
        )
        return window, encoded, decoding.tokens

    def _cut(self, decoding: _Decoding, language: str, words: int) -> _Decoding:
        """Return the first `words` words of a decoding, with the punctuation after them."""
        tokenizer, tokens = self._tokenizer(language, "transcribe"), decoding.tokens
        lengths = [len(_words(tokenizer.decode(tokens[:end]))) for end in range(len(tokens) + 1)]
        last = max(end for end, length in enumerate(lengths) if length == words)
        return replace(decoding, text=tokenizer.decode(tokens[:last]), tokens=tokens[:last])

    def _translate(self, encoded: object, window: DecodedWindow, beam_size: int) -> str:
        decoding = self._generate(encoded, window.language, beam_size, window.seconds, task="translate")
        if is_loop(decoding.text):
            decoding = self._generate(
                encoded, window.language, beam_size, window.seconds, 3, task="translate"
            )
        return decoding.text.strip()

    def _align(self, encoded: object, tokens: list[int], language: str, samples: int) -> list[Word]:
        """Return the words of `tokens` with their times, from the decoder's attention to the audio."""
        from faster_whisper.transcribe import merge_punctuations

        tokenizer = self._tokenizer(language, "transcribe")
        text = [token for token in tokens if token < tokenizer.eot]
        if not text:
            return []
        frames = -(-samples * FRAMES_PER_SECOND // SAMPLE_RATE)
        [aligned] = self.model.find_alignment(tokenizer, [text], encoded, frames)
        merge_punctuations(aligned, OPENING, CLOSING)
        words = []
        for word in aligned:
            start, end = (min(samples, round(word[edge] * SAMPLE_RATE)) for edge in ("start", "end"))
            if word["word"].strip():
                words.append(Word(word["word"].strip(), start, max(start, end), float(word["probability"])))
        if words:  # silence before the first word counts as the word's
            typical = statistics.median(word.end - word.start for word in words)
            longest = max(int(FIRST_WORD_SECONDS * SAMPLE_RATE), int(2 * typical))
            words[0] = replace(words[0], start=max(words[0].start, words[0].end - longest))
        return words

    def _encode(self, spectrogram: NDArray[np.float32], frames: int) -> object:
        """Encode a spectrogram, (M, F), padded to `frames` with what silence looks like."""
        import ctranslate2  # type: ignore[import-untyped]

        frames += frames % 2
        spectrogram = spectrogram[:, :frames]
        padding = ((0, 0), (0, frames - spectrogram.shape[1]))
        silence = spectrogram.max(initial=0.0) - DYNAMIC_RANGE
        padded = np.pad(spectrogram, padding, constant_values=silence)
        return self.model.model.encode(
            ctranslate2.StorageView.from_array(np.ascontiguousarray(padded[None], dtype=np.float32))
        )

    def _detect(self, encoded: object, likely: str | None) -> str:
        """Return the language that is spoken, ISO 639-1: the likely one unless another one is certain."""
        if not self.model.model.is_multilingual:
            return "en"
        token, probability = self.model.model.detect_language(encoded)[0][0]
        return str(token).strip("<|>") if likely is None or probability >= CERTAIN else likely

    def _generate(
        self,
        encoded: object,
        language: str,
        beam_size: int,
        seconds: float,
        no_repeat_ngram_size: int = 0,
        task: str = "transcribe",
    ) -> _Decoding:
        from faster_whisper.transcribe import get_suppressed_tokens

        tokenizer = self._tokenizer(language, task)
        [result] = self.model.model.generate(
            encoded,
            [[*tokenizer.sot_sequence, tokenizer.no_timestamps]],
            beam_size=beam_size,
            no_repeat_ngram_size=no_repeat_ngram_size,
            max_length=2 * token_bounds(seconds, language)[1],  # CTranslate2 writes half of what it is given
            suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])),
            return_scores=True,
            return_no_speech_prob=True,
        )
        tokens = list(result.sequences_ids[0])
        logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)  # of the tokens and the end
        return _Decoding(tokenizer.decode(tokens), tokens, logprob, result.no_speech_prob)

    def _make_tokenizer(self, language: str, task: str) -> "Tokenizer":
        from faster_whisper.tokenizer import Tokenizer

        model = self.model
        return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task=task, language=language)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
