// The page's texts on the connection and on the conversation.

import { clock, percent, plural } from "./elements.js";

const MANY_BEHIND = 2;       // turns being processed; more mean that the server is slow

/**
 * Describe the state of the connection.
 * @param {{name: string, attempt?: number}} state
 * @param {object} more
 * @param {boolean} more.begun whether there is a session to resume.
 * @param {number} more.keptMs audio that waits for the server.
 * @param {number} more.waitS time until the next attempt.
 */
export function connectionText({ name, attempt }, { begun, keptMs, waitS }) {
  const again = waitS > 0 ? `next attempt in ${waitS} s` : "reconnecting";
  const safe = begun && keptMs >= 1_000 ? `, ${Math.round(keptMs / 1000)} s of audio kept` : "";
  switch (name) {
    case "connecting": return attempt > 1 ? `No server, ${again}` : "Connecting";
    case "connected": return "Connected";
    case "reconnecting": return begun ? `Connection lost, ${again}${safe}` : `No server, ${again}`;
    case "full": return `The server is full, ${again}`;
    case "needs_token": return "A token is needed";
    case "asleep": return "Idle until you start";
    case "lost": return "Conversation unknown to the server";
    case "taken_over": return "Continued elsewhere";
    case "failed": return "Ended by an error";
    case "ended": return "Finished";
    default: return "";
  }
}

/** Describe it for screen readers, which would read a countdown aloud every second. */
export function connectionAnnouncement(state, more) {
  return { reconnecting: "Connection lost, reconnecting", full: "The server is full" }[state.name] ?? connectionText(state, more);
}

/** Say how far the server is behind, if it is far. @param {number} behind turns. */
const behindText = (behind) => (behind > MANY_BEHIND ? `${behind} turns behind` : "");

/** Return the text beside the title of the transcript. */
export function countText(turns, behind) {
  if (!turns) return behindText(behind);
  return plural(turns, "turn") + (behind > MANY_BEHIND ? `, ${behind} behind` : "");
}

/** Return the text beside the clock. */
export function hintText(mode, { pushToTalk, holding, file, durationMs, closed, behind, keptMs }) {
  const late = behind > MANY_BEHIND ? `, ${behindText(behind)}` : "";
  switch (mode) {
    case "listening": return (pushToTalk ? (holding ? "Talking" : "Hold Space to talk") : "Listening") + late;
    case "playing": return `Playing ${file}${late}`;
    case "heard": return late || keptMs > 3_000 ? `The server is processing the rest${late}` : "The recording has ended: names and speakers can be corrected";
    case "paused": case "waiting": return `Paused${late}`;
    case "finishing": return `The server is processing the rest${late}`;
    case "ended": return closed ? `Finished: ${plural(closed.turns, "turn")}, ${clock(Math.min(closed.audio_ms ?? 0, durationMs ?? Infinity))}` : "";
    default: return "";
  }
}

/** Return the title and the text shown in place of an empty transcript. */
export function emptyText(mode, ready) {
  switch (mode) {
    case "idle": return ready
      ? ["Nothing has been said yet.", "Start listening, drop a recording anywhere on this page, or hear a sample first."]
      : ["One moment.", "Connecting to the server."];
    case "listening": return ["Listening.", "Say something: the words appear here."];
    case "playing": return ["Listening.", "The words appear here."];
    case "finishing": return ["Finishing.", "The server is processing the rest."];
    case "heard": return ["No speech was heard.", "Finish, or open another file."];
    case "ended": return ["No speech was heard.", "Begin a new conversation when you like."];
    default: return ["Paused.", "Nothing has been said yet."];
  }
}

/** Say which recognizer transcribes. @param {string} asr its name, from `session.created`. */
export function recognizerText(asr) {
  if (!asr) return "";
  if (asr === "none") return "Nothing is transcribed here: emotions are read from voices alone.";
  const rough = asr.startsWith("pocketsphinx") ? " and are rough; a Whisper model makes them far better" : "";
  return `Words are written by ${asr}${rough}.`;
}

/** Say who spoke a turn, in words; where it is shown, an unsure name has a question mark. */
export const speakerText = ({ speaker, unsure }) => (unsure ? `probably ${speaker}` : speaker);

/** Say who else spoke in a turn, and in how much of it; "" for nobody. */
export function overlapText({ overlap, others }) {
  if (!overlap && !others.length) return "";
  const share = overlap ? percent(overlap) : "";
  if (!others.length) return `overlap ${share}`;
  const names = others.length > 1 ? `${others.slice(0, -1).join(", ")} and ${others.at(-1)}` : others[0];
  return `overlaps ${names}${share && `, ${share}`}`;
}

/** Say how much somebody spoke. @param {object} one of `summary` in `session.closed`. */
export const spokenText = ({ turns, speaking_ms: ms, share }) =>
  plural(turns, "turn") + (share === null ? "" : `, ${clock(ms)} of speech, ${percent(share)} of all`);

/** Say how often somebody's emotion changed from turn to turn, and how often they interrupted. */
export function changesText({ shifts, interruptions, share }) {
  const count = shifts.reduce((sum, shift) => sum + shift.count, 0), [most] = shifts;
  const often = most?.count > 1 ? `, most often ${most.before} to ${most.after} (${most.count} times)` : "";
  return `${plural(count, "shift")} of emotion${often}` + (share === null ? "" : `; ${plural(interruptions, "interruption")}`);
}

/** Return the emotions that somebody expressed as `[label, totals]`, the most frequent first. */
export const expressed = ({ emotions }) =>
  Object.entries(emotions).filter(([, e]) => e.turns).sort(([, a], [, b]) => b.turns - a.turns || b.probability - a.probability);

/** Say why a session cannot be resumed. */
export function lostText({ name, message }) {
  switch (name) {
    case "lost": return "The server no longer knows this conversation. Its turns so far are still here.";
    case "taken_over": return "This conversation was continued in another tab or window.";
    default: return `The connection ended: ${message ?? "the server rejected an input"}`;
  }
}

/** Says that the microphone is there, and silent. */
export const mutedText = "The microphone is muted, by a switch on it or by the system: nothing is heard until it is unmuted.";

/** Say that a source gives no more audio. @param {"microphone"|"tab"} which @param {string} source the choice in the settings. */
export function goneText(which, source) {
  if (which === "tab") return "The tab or screen is shared no more. Continue to share it again.";
  return source === "microphone"
    ? "The microphone was disconnected. Listening goes on when it is back, or when you choose another one and continue."
    : "The microphone was disconnected. Connect it, then continue.";
}

/** Say that the channels of a recording are heard separately. */
export const separateText = (channels) =>
  `The ${channels} channels of this recording are heard separately, as those of a call. The settings can have them mixed.`;

/** Return the title of the browser's tab. */
export function titleText(mode) {
  const word = { listening: "● Listening", playing: "● Playing", paused: "Paused", waiting: "Paused" }[mode];
  return word ? `${word} - stream_erc` : "stream_erc";
}

/** What a person agrees to whose voice is to be known. @param {boolean} keep whether the server keeps it. */
export const consentText = (keep) =>
  "Only with the person's consent: the server stores numbers that tell this voice from others, no audio, " +
  (keep ? "until whoever runs it removes them (stream-erc voices remove)." : "until this conversation is over.");

/** @param {object} event `voice.enrolled`. */
export const enrolledText = ({ name, kept }) =>
  `The voice of ${name} is known from now on${kept ? ", and kept on the server for later conversations" : ""}.`;
