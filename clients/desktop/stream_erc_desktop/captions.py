"""What the window says in words. No Qt."""

from stream_erc_desktop.course import Phase
from stream_erc_desktop.model import Conversation, Link, clock, plural

MANY_BEHIND = 2  # turns on the way; more mean a server that is slow


def facts(conversation: Conversation, duration_ms: int | None) -> list[str]:
    """What is known of a conversation, for the line below the title."""
    said = []
    if duration_ms:
        said.append(clock(duration_ms))
    if conversation.turns:
        said.append(plural(conversation.turns, "turn"))
    if conversation.speakers:
        said.append(plural(len(conversation.speakers), "speaker"))
    if conversation.model:
        said.append(f"model {conversation.model}")
    if conversation.asr and conversation.asr != "none":
        said.append(f"speech recognition {conversation.asr}")
    return said


def count(conversation: Conversation) -> str:
    """How many turns there are."""
    if not conversation.turns:
        return ""
    earlier = f", the first {conversation.dropped:,} no longer shown" if conversation.dropped else ""
    return plural(conversation.turns, "turn") + earlier


def empty(conversation: Conversation, phase: Phase, url: str, *, microphone: bool) -> tuple[str, str]:
    """What stands where the transcript will be: what to do, and more about it."""
    if conversation.link is Link.FAILED:
        return "Not connected" if url else "The recognizer did not start", conversation.link_detail
    if conversation.link is Link.STARTING:
        return "Starting the recognizer …", conversation.link_detail
    if conversation.link is Link.CONNECTING:
        return "Connecting …", url
    if conversation.pending_ms:
        return "Listening …", f"{plural(len(conversation.pending_ms), 'turn')} on the way."
    if phase is Phase.HEARING:
        return "Listening …", "The first turn appears here as soon as somebody speaks."
    if phase is not Phase.WAITING:
        return "No speech was heard.", ""
    ways = "drop a recording anywhere on this window, or hear a sample first."
    return "Nothing has been said yet.", f"Start listening, {ways}" if microphone else ways.capitalize()


def source_ended(conversation: Conversation, *, from_file: bool) -> str:
    """What can be done when nothing more is heard."""
    over, waiting = "The recording is over" if from_file else "The microphone is off", conversation.pending_ms
    rest = f", {plural(len(waiting), 'turn')} still on the way" if waiting else ""
    return f"{over}{rest}. Names and speakers can be put right until you press Finish."


def starting(source: str | None) -> str:
    """What can be done while the server starts, or is done as soon as it is there."""
    if source is not None:
        return f"{source} is heard as soon as it is ready."
    return "Its models are being loaded. A recording can be opened already."


def state(conversation: Conversation, phase: Phase) -> str:
    """One word or two below the clock."""
    behind = len(conversation.pending_ms)
    if behind > MANY_BEHIND:
        return f"{behind} turns behind"
    return {
        Phase.WAITING: "ready" if conversation.link is Link.CONNECTED else "",
        Phase.HEARING: "listening",
        Phase.OPEN: "stopped",
        Phase.FINISHING: "finishing",
        Phase.OVER: "finished" if conversation.totals else "",
    }[phase]
