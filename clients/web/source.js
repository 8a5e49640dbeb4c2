// The source of a conversation: its name, its channels, and the names of files saved from it.

/** The channels that are told apart by their names, for each choice of a live source. */
const LIVE = {
  microphone: { name: "microphone", channels: null },
  tab: { name: "tab or system audio", channels: null },
  both: { name: "microphone and tab", channels: ["You", "Tab"] },
};

/** Describe a live source. @param {"microphone"|"tab"|"both"} kind */
export function ofLive(kind, date = new Date()) {
  const stamp = new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  return { ...LIVE[kind], title: `Conversation of ${date.toLocaleString()}`, stem: `conversation-${stamp}`, durationMs: null };
}

/** Describe a file. @param {number} channels those that are heard separately; 1 where they are mixed. */
export function ofFile(name, durationMs, channels) {
  return { name, title: name, stem: name.replace(/\.[^.]*$/, "") || "recording", durationMs: Math.round(durationMs), channels: channels > 1 ? Array(channels).fill(null) : null };
}
