// What is heard: its name, and how files made of it are called.

export function ofMicrophone(date = new Date()) {
  const stamp = new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  return { name: "microphone", title: `Conversation of ${date.toLocaleString()}`, stem: `conversation-${stamp}`, durationMs: null };
}

export function ofFile(name, durationMs) {
  return { name, title: name, stem: name.replace(/\.[^.]*$/, "") || "recording", durationMs: Math.round(durationMs) };
}
