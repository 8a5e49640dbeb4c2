"""Guards against hallucinated transcripts: pure functions of a text and its scores.

Whisper writes fluent text for silence and noise, and can repeat itself until its output is full. The
thresholds are those of its paper (Radford et al. 2022, section 4.5) unless a comment says otherwise.
"""

import re
import zlib
from dataclasses import dataclass

import numpy as np

from stream_erc.audio import SAMPLE_RATE
from stream_erc.events import Samples, Word

SILENCE_DBFS = -65.0
"""A frame below this level is not speech: a quiet talker at a poor microphone is 20 dB above."""

FRAME = SAMPLE_RATE // 50  # 20 ms

NO_SPEECH = 0.6
LOW_LOGPROB = -1.0
MAX_COMPRESSION = 2.4

DOUBTFUL_NO_SPEECH = 0.3  # ours: enough doubt to distrust a phrase that Whisper is known to invent
DOUBTFUL_LOGPROB = -0.7
HOPELESS_LOGPROB = -1.5  # ours: with that doubt, noise or music; of 677 clips of speech none is below

NOISE_NO_SPEECH = 0.7  # ours: of these clips none is above .63, in white noise of their own power neither;
NOISE_LOGPROB = -0.3  # five noises all are, in 16 languages, and sound fluent in some of them

MAX_CHARS_PER_SECOND = 30.0  # ours: twice a fast talker's rate
CHARS_ALLOWANCE = 20  # a short segment may have lost its edges

MIN_REPEATS = 4  # ours: "no, no, no" is speech,
MIN_REPEATED_WORDS = 8  # but eight words or more of mere repeats are a loop
MAX_PHRASE = 8  # longest repeated phrase that is searched for, in words

SILENCE_PHRASES = (
    *("Bye.", "Bye bye.", "I'll see you in the next video.", "I'll see you next time.", "Please subscribe."),
    *("Please subscribe to my channel.", "See you in the next video.", "See you next time.", "So."),
    *("Subscribe to my channel.", "Thank you.", "Thank you, bye.", "Thank you for listening."),
    *(
        "Thank you for watching.",
        "Thank you so much for watching.",
        "Thank you very much.",
        "The end.",
        "You.",
    ),
    *("Thanks for listening.", "Thanks for watching.", "Transcription by CastingWords"),
    *("Vielen Dank.", "Vielen Dank fürs Zuschauen.", "Tschüss.", "Bis zum nächsten Mal.", "Das war's."),
    *("Untertitelung des ZDF, 2020", "Untertitel im Auftrag des ZDF für funk, 2017", "Musik"),
    *("Merci.", "Merci d'avoir regardé cette vidéo.", "Sous-titrage Société Radio-Canada", "Au revoir."),
    *("Gracias.", "Gracias por ver el video.", "¡Suscríbete!", "¡Suscríbete al canal!", "Hasta la próxima."),
    *("Grazie.", "Grazie per aver guardato il video.", "Sottotitoli e revisione a cura di QTSS"),
    *("Obrigado.", "Obrigada.", "Obrigado por assistir.", "E aí!", "Inscreva-se no canal."),
    *("Muziek", "Dank u wel.", "Bedankt voor het kijken."),
    *("Dziękuję.", "Dziękuję za oglądanie.", "Dziękuję za uwagę."),
    *("Спасибо за просмотр!", "Продолжение следует...", "Тревожная музыка", "Спокойная музыка", "Музыка"),
    *("Teşekkür ederim.", "İzlediğiniz için teşekkür ederim.", "Altyazı M.K."),  # noqa: RUF001
    *("Tack.", "Tack för att ni tittade.", "Musik."),
    *("谢谢大家", "谢谢观看", "謝謝觀看", "請不吝點贊訂閱轉發打賞支持明鏡與點點欄目"),
    *("ご視聴ありがとうございました", "ご視聴ありがとうございました。", "おやすみなさい"),
    *("시청해 주셔서 감사합니다.", "구독과 좋아요 부탁드립니다.", "감사합니다."),
    *("شكرا للمشاهدة", "اشتركوا في القناة"),
)
"""What Whisper writes for silence and noise, learned from subtitles: as measured, and as its users report."""

SUBTITLERS = re.compile(r"amara\W*org|dima ?torzok", re.IGNORECASE)
"""Names that only subtitles have."""


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """Whisper's output for one window.

    Attributes:
        text: the decoded text.
        seconds: length of its audio.
        avg_logprob: mean log probability of its tokens.
        no_speech_prob: the probability of the no-speech token.
        decodings: how often it was decoded until the text looked right.
        language: the language of `text`, ISO 639-1.
        translation: the text in English, None if it is English or was not translated.
        words: the words with their times from the segment's first sample on, if requested.
    """

    text: str
    seconds: float
    avg_logprob: float
    no_speech_prob: float
    decodings: int = 1
    language: str = "en"
    translation: str | None = None
    words: tuple[Word, ...] = ()


def credible_text(window: DecodedWindow) -> str:
    """Return the text with loops collapsed, or "" if it is most likely hallucinated."""
    text = collapse_repeats(window.text.strip())
    if window.no_speech_prob > NO_SPEECH and window.avg_logprob < LOW_LOGPROB:
        return ""
    if window.no_speech_prob > DOUBTFUL_NO_SPEECH and window.avg_logprob < HOPELESS_LOGPROB:
        return ""
    if window.no_speech_prob > NOISE_NO_SPEECH and window.avg_logprob < NOISE_LOGPROB:
        return ""
    if SUBTITLERS.search(text):
        return ""
    doubtful = window.no_speech_prob > DOUBTFUL_NO_SPEECH or window.avg_logprob < DOUBTFUL_LOGPROB
    if doubtful and is_silence_phrase(text):
        return ""
    if compression_ratio(text) > MAX_COMPRESSION or too_long(text, window.seconds):
        return ""
    return text if _words(text) else ""


def is_loop(text: str) -> bool:
    """Return whether the decoder got stuck and repeated itself."""
    return compression_ratio(text) > MAX_COMPRESSION or collapse_repeats(text) != " ".join(text.split())


def is_silent(samples: Samples) -> bool:
    """Return whether no 20 ms frame of `samples` (N,) is loud enough for speech; True below one frame."""
    frames = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)  # (N / 320, 320)
    if not len(frames):
        return True
    power = np.mean(
        np.square(frames - frames.mean(axis=1, keepdims=True)), axis=1
    )  # a DC offset is not sound
    return bool(power.max() < 10 ** (SILENCE_DBFS / 10))


def is_silence_phrase(text: str) -> bool:
    """Return whether `text` is, word for word, a phrase that Whisper is known to write for silence."""
    return " ".join(_words(text)) in _SILENCE_PHRASES


def too_long(text: str, seconds: float) -> bool:
    """Return whether `text` is too long to be said in `seconds`."""
    return len(text) > CHARS_ALLOWANCE + MAX_CHARS_PER_SECOND * seconds


def compression_ratio(text: str) -> float:
    """Return the zlib compression ratio of `text`; speech is below 2, a loop far above."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def collapse_repeats(text: str) -> str:
    """Reduce every loop of a repeated phrase in `text` to one phrase.

    Case and punctuation are ignored. A loop has at least `MIN_REPEATS` repeats and `MIN_REPEATED_WORDS`
    words, or at least eight repeats within one word (``hahahahahahahahaha``), which also covers languages
    that are written without spaces.
    """
    words = [re.sub(r"([^\W\d]{1,12}?)\1{7,}", r"\1", word) for word in text.split()]
    keys = ["".join(_words(word)) for word in words]
    kept: list[str] = []
    at = 0
    while at < len(words):
        size, repeats = _run(keys, at)
        kept += words[at : at + size]
        at += size * repeats
    return " ".join(kept)


def _run(keys: list[str], at: int) -> tuple[int, int]:
    """Return the loop that begins at `at` as (words per phrase, repeats), (1, 1) if there is none."""
    for size in range(1, MAX_PHRASE + 1):
        phrase = keys[at : at + size]
        repeats = 1
        while keys[at + repeats * size : at + (repeats + 1) * size] == phrase and len(phrase) == size:
            repeats += 1
        if repeats >= MIN_REPEATS and repeats * size >= MIN_REPEATED_WORDS:
            return size, repeats
    return 1, 1


def _words(text: str) -> list[str]:
    """Split `text` into words of lower-case letters and digits."""
    return re.findall(r"\w+", text.lower())


_SILENCE_PHRASES = frozenset(" ".join(_words(phrase)) for phrase in SILENCE_PHRASES)
