"""The audio tracks of a film: which there are, and which one is heard."""

from collections.abc import Sequence
from dataclasses import dataclass

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from stream_erc.exceptions import ConfigError

SAME_LANGUAGE = tuple(
    frozenset(codes.split())
    for codes in (
        "af afr,am amh,ar ara,az aze,be bel,bg bul,bn ben,bo bod tib,bs bos,ca cat,cs ces cze,cy cym wel,"
        "da dan,de deu ger,el ell gre,en eng,eo epo,es spa,et est,eu eus baq,fa fas per,fi fin,fr fra fre,"
        "ga gle,gl glg,gu guj,he heb,hi hin,hr hrv,ht hat,hu hun,hy hye arm,id ind,is isl ice,it ita,ja jpn,"
        "ka kat geo,kk kaz,km khm,kn kan,ko kor,la lat,lb ltz,lo lao,lt lit,lv lav,mg mlg,mi mri mao,"
        "mk mkd mac,ml mal,mn mon,mr mar,ms msa may,mt mlt,my mya bur,nb nob,ne nep,nl nld dut,nn nno,no nor,"
        "oc oci,pa pan,pl pol,ps pus,pt por,ro ron rum,ru rus,sd snd,si sin,sk slk slo,sl slv,sn sna,so som,"
        "sq sqi alb,sr srp,su sun,sv swe,sw swa,ta tam,te tel,tg tgk,th tha,tk tuk,tl tgl,tr tur,tt tat,"
        "uk ukr,ur urd,uz uzb,vi vie,xh xho,yi yid,yo yor,zh zho chi,zu zul"
    ).split(",")
)
"""ISO 639's codes of a language: of two letters (639-1), of three, and the older one (639-2/T and B)."""


@dataclass(frozen=True, slots=True)
class Track:
    """An audio track.

    Attributes:
        number: 1-based, among the audio tracks.
        language: its code in the file, "" if unknown.
        title: as the file names it, "" if it does not.
        codec: libav's name of it.
        channels: their number.
        default: whether the file says that it is to be heard unless another one is chosen.
    """

    number: int
    language: str
    title: str
    codec: str
    channels: int
    default: bool

    def __str__(self) -> str:
        parts = (self.language or "unknown language", self.title, self.codec, f"{self.channels} ch")
        return f"{self.number} ({', '.join(part for part in parts if part)})"


def tracks_of(container: InputContainer) -> tuple[Track, ...]:
    """Return the audio tracks of a file."""
    return tuple(_track(number, stream) for number, stream in enumerate(container.streams.audio, 1))


def choose_track(tracks: Sequence[Track], wanted: str | None) -> Track:
    """Return the track to hear.

    Args:
        tracks: at least one.
        wanted: a number, or a language as ISO 639 writes it; None for the default one, else the first.

    Raises:
        ConfigError: there is no such track; the message lists those that there are.
    """
    if wanted is None:
        return next((track for track in tracks if track.default), tracks[0])
    if wanted.isascii() and wanted.isdecimal():
        found = [track for track in tracks if track.number == int(wanted)]
    else:
        codes = _same_language(wanted)
        found = [track for track in tracks if codes & _same_language(track.language)]
    if not found:
        there = ", ".join(map(str, tracks))
        raise ConfigError(f"--track: expected one of {there}, got {wanted}")
    return next((track for track in found if track.default), found[0])


def _track(number: int, stream: AudioStream) -> Track:
    language = stream.metadata.get("language", "")
    return Track(
        number,
        "" if language == "und" else language,
        " ".join(stream.metadata.get("title", "").split()),
        stream.codec_context.codec.canonical_name,
        stream.codec_context.layout.nb_channels,
        bool(stream.disposition & Disposition.default),
    )


def _same_language(code: str) -> frozenset[str]:
    """Return all codes of the language of a code, its region and script left out."""
    plain = code.lower().replace("_", "-").partition("-")[0]
    return next((codes for codes in SAME_LANGUAGE if plain in codes), frozenset({plain} - {""}))
