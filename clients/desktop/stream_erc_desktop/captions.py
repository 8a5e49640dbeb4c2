"""The texts of the window. No Qt."""

from stream_erc_client import SpeakerSummary

from stream_erc_desktop.course import Phase
from stream_erc_desktop.model import ConnectionState, Conversation, clock, percent, plural

MANY_BEHIND = 2  # turns being processed; more mean that the server is slow


NOTICE = (
    "A network hears which emotion a voice and its words express. It is often wrong, and knows nothing of "
    "what a person feels. Tell everybody who is heard that it listens.",
    "What it can and cannot tell",
)
"""What everybody who uses the window should know, and the button that tells more."""


def separate(channels: int) -> str:
    """Say that the channels of a recording are heard separately."""
    return (
        f"The {channels} channels of this recording are heard separately, as those of a call. "
        "The settings can have them mixed."
    )


def facts(conversation: Conversation, duration_ms: int | None) -> list[str]:
    """Return the facts of a conversation, for the line below the title."""
    parts = []
    if duration_ms:
        parts.append(clock(duration_ms))
    if conversation.turns:
        parts.append(plural(conversation.turns, "turn"))
    if conversation.speakers:
        parts.append(plural(len(conversation.speakers), "speaker"))
    if conversation.model:
        parts.append(f"model {conversation.model}")
    if conversation.asr and conversation.asr != "none":
        parts.append(f"speech recognition {conversation.asr}")
    return parts


def count(conversation: Conversation) -> str:
    """Return the number of turns as text."""
    if not conversation.turns:
        return ""
    earlier = f", the first {conversation.dropped:,} no longer shown" if conversation.dropped else ""
    return plural(conversation.turns, "turn") + earlier


def empty(conversation: Conversation, phase: Phase, url: str, *, microphone: bool) -> tuple[str, str]:
    """Return the title and the text shown in place of an empty transcript."""
    if conversation.connection is ConnectionState.FAILED:
        return "Not connected" if url else "The server did not start", conversation.connection_detail
    if conversation.connection is ConnectionState.STARTING:
        return "Starting the server …", conversation.connection_detail
    if conversation.connection is ConnectionState.CONNECTING:
        return "Connecting …", url
    if conversation.pending_ms:
        return "Listening …", f"{plural(len(conversation.pending_ms), 'turn')} being processed."
    if phase is Phase.HEARING:
        return "Listening …", "The first turn appears here as soon as somebody speaks."
    if phase is not Phase.WAITING:
        return "No speech was heard.", ""
    ways = "drop a recording anywhere on this window, or hear a sample first."
    return "Nothing has been said yet.", f"Start listening, {ways}" if microphone else ways.capitalize()


def source_ended(conversation: Conversation, *, from_file: bool) -> str:
    """Return the notice shown when the recording has ended or the microphone is off."""
    ended = "The recording has ended" if from_file else "The microphone is off"
    pending = conversation.pending_ms
    rest = f", {plural(len(pending), 'turn')} still being processed" if pending else ""
    return f"{ended}{rest}. Names and speakers can be corrected until you press Finish."


def starting(source: str | None) -> str:
    """Return the text shown while the server starts, given the name of a source that waits for it."""
    if source is not None:
        return f"{source} is heard as soon as the server is ready."
    return "Its models are being loaded. You can already open a recording."


def state(conversation: Conversation, phase: Phase) -> str:
    """Return one or two words to show below the clock."""
    behind = len(conversation.pending_ms)
    if behind > MANY_BEHIND:
        return f"{behind} turns behind"
    return {
        Phase.WAITING: "ready" if conversation.connection is ConnectionState.CONNECTED else "",
        Phase.HEARING: "listening",
        Phase.OPEN: "stopped",
        Phase.FINISHING: "finishing",
        Phase.OVER: "finished" if conversation.totals else "",
    }[phase]


def spoken(one: SpeakerSummary) -> str:
    """Return how much somebody spoke in the whole conversation."""
    turns = plural(one.turns, "turn")
    if one.share is None:
        return turns
    return f"{turns}, {clock(one.speaking_ms)} of speech, {percent(one.share)} of all"


def expressed(one: SpeakerSummary) -> str:
    """Return the emotions that somebody expressed, the most frequent first."""
    found = [(label, totals) for label, totals in one.emotions.items() if totals.turns]
    found.sort(key=lambda item: (-item[1].turns, -item[1].probability))
    return ", ".join(f"{label} {totals.turns}" for label, totals in found)


def changes(one: SpeakerSummary) -> str:
    """Return how often somebody's emotion changed from turn to turn, and how often they interrupted."""
    text = f"{plural(sum(shift.count for shift in one.shifts), 'shift')} of emotion"
    if one.shifts and one.shifts[0].count > 1:
        most = one.shifts[0]
        text += f", most often {most.before} to {most.after} ({most.count} times)"
    return text if one.share is None else f"{text}; {plural(one.interruptions, 'interruption')}"
