// The source of a conversation: its name, and the names of files saved from it.

/** Describe the microphone as a source. */
export function ofMicrophone(date = new Date()) {
  const stamp = new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  return { name: "microphone", title: `Conversation of ${date.toLocaleString()}`, stem: `conversation-${stamp}`, durationMs: null };
}

/** Describe a file as a source. */
export function ofFile(name, durationMs) {
  return { name, title: name, stem: name.replace(/\.[^.]*$/, "") || "recording", durationMs: Math.round(durationMs) };
}
