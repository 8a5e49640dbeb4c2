// What the page says about the connection and about itself, in words.

import { clock, plural } from "./elements.js";

const MANY_BEHIND = 2;       // turns on the way; more mean a server that is slow

/**
 * @param {{name: string, attempt?: number}} state of the connection.
 * @param {object} more
 * @param {boolean} more.begun whether there is a session to come back to.
 * @param {number} more.keptMs audio that waits for the server.
 * @param {number} more.waitS until the next attempt.
 */
export function linkText({ name, attempt }, { begun, keptMs, waitS }) {
  const again = waitS > 0 ? `next attempt in ${waitS} s` : "connecting again";
  const safe = begun && keptMs >= 1_000 ? `, ${Math.round(keptMs / 1000)} s of audio kept` : "";
  switch (name) {
    case "connecting": return attempt > 1 ? `No server, ${again}` : "Connecting";
    case "connected": return "Connected";
    case "reconnecting": return begun ? `Connection lost, ${again}${safe}` : `No server, ${again}`;
    case "full": return `The server is full, ${again}`;
    case "needs_token": return "A token is needed";
    case "asleep": return "At rest until you start";
    case "lost": return "Conversation unknown to the server";
    case "taken_over": return "Goes on elsewhere";
    case "failed": return "Ended by an error";
    case "ended": return "Finished";
    default: return "";
  }
}

/** The same for a screen reader: a countdown would be read aloud every second. */
export function linkSpoken(state, more) {
  return { reconnecting: "Connection lost, connecting again", full: "The server is full" }[state.name] ?? linkText(state, more);
}

/** How far the server is behind what was said, where it is worth a word. @param {number} behind turns. */
const behindText = (behind) => (behind > MANY_BEHIND ? `${behind} turns behind` : "");

/** Beside the title of the transcript. */
export function countText(turns, behind) {
  if (!turns) return behindText(behind);
  return plural(turns, "turn") + (behind > MANY_BEHIND ? `, ${behind} behind` : "");
}

/** Beside the clock. */
export function hintText(mode, { pushToTalk, holding, file, durationMs, closed, behind, keptMs }) {
  const late = behind > MANY_BEHIND ? `, ${behindText(behind)}` : "";
  switch (mode) {
    case "listening": return (pushToTalk ? (holding ? "Talking" : "Hold Space to talk") : "Listening") + late;
    case "playing": return `Playing ${file}${late}`;
    case "heard": return late || keptMs > 3_000 ? `The server hears the rest${late}` : `${file} was heard: names and turns can be changed`;
    case "paused": case "waiting": return `Paused${late}`;
    case "finishing": return `The server hears the rest${late}`;
    case "ended": return closed ? `Finished: ${plural(closed.turns, "turn")}, ${clock(Math.min(closed.audio_ms ?? 0, durationMs ?? Infinity))}` : "";
    default: return "";
  }
}

/** In place of the transcript, while it is empty: a line and a smaller one. */
export function emptyText(mode, ready) {
  switch (mode) {
    case "idle": return ready
      ? ["Nothing has been said yet.", "Start listening, drop a recording anywhere on this page, or hear a sample first."]
      : ["One moment.", "Looking for the server."];
    case "listening": return ["Listening.", "Say something: the words appear here."];
    case "playing": return ["Listening.", "The words appear here."];
    case "finishing": return ["Finishing.", "The server hears the rest."];
    case "heard": return ["No speech was heard.", "Finish, or open another file."];
    case "ended": return ["No speech was heard.", "Begin a new conversation when you like."];
    default: return ["Paused.", "Nothing has been said yet."];
  }
}

/** Which recognizer writes the words. @param {string} asr its name, of `session.created`. */
export function recognizerText(asr) {
  if (!asr) return "";
  if (asr === "none") return "Nothing is transcribed here: emotions are read from voices alone.";
  const rough = asr.startsWith("pocketsphinx") ? " and are rough; a Whisper model makes them far better" : "";
  return `Words are written by ${asr}${rough}.`;
}

/** Why there is no way back to a session. */
export function goneText({ name, message }) {
  switch (name) {
    case "lost": return "The server does not know this conversation any more. What it told so far is still here.";
    case "taken_over": return "This conversation goes on in another tab or window.";
    default: return `The connection ended: ${message ?? "the server refused what was sent"}`;
  }
}

export function titleText(mode) {
  const word = { listening: "● Listening", playing: "● Playing", paused: "Paused", waiting: "Paused" }[mode];
  return word ? `${word} - stream_erc` : "stream_erc";
}
