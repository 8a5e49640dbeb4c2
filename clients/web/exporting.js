// The session as a file in one of the server's formats, over a connection of its own (docs/protocol.md, "Saving as a file").

const ANSWER_MS = 60_000;

/** The formats: what a person calls them, and the ending of their files where it is another one. */
const NAMES = {
  srt: ["Subtitles (SRT)"], vtt: ["Subtitles (WebVTT)"], csv: ["Table (CSV)"], tsv: ["Table (TSV)"], parquet: ["Table (Parquet)"],
  txt: ["Text"], md: ["Text (Markdown)"], json: ["Turns (JSON)"], rttm: ["Speakers (RTTM)"], textgrid: ["Praat (TextGrid)", "TextGrid"], eaf: ["ELAN (EAF)"],
};

/** Return a format's name for a person, and its files' ending. @returns {[string, string]} */
export function formatName(format) {
  const [name = format.toUpperCase(), ending = format] = NAMES[format] ?? [];
  return [name, ending];
}

/**
 * Ask the server for a session as a file.
 * @param {object} session
 * @param {string} session.url of the socket.
 * @param {string|null} session.token the server's bearer token.
 * @param {string} session.resumeToken
 * @param {string} format one of `exports` in `session.created`.
 * @param {string} name of what was heard.
 * @param {typeof WebSocket} [Socket] a replacement, for tests.
 * @returns {Promise<Uint8Array>} the file's bytes.
 * @throws {Error} with the server's reason.
 */
export function exported({ url, token, resumeToken }, format, name, Socket = globalThis.WebSocket) {
  return new Promise((resolve, reject) => {
    const socket = new Socket(url);
    const end = (act, value) => {
      clearTimeout(timer);
      socket.onclose = socket.onmessage = null;
      socket.close();
      act(value);
    };
    const timer = setTimeout(() => end(reject, new Error("the server did not answer")), ANSWER_MS);
    socket.onopen = () => {
      if (token) socket.send(JSON.stringify({ type: "session.authenticate", token }));
      socket.send(JSON.stringify({ type: "session.export", resume_token: resumeToken, format, name: name.slice(0, 100) }));
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "session.exported") end(resolve, Uint8Array.from(atob(message.content), (c) => c.charCodeAt(0)));
      else if (message.type === "error") end(reject, new Error(message.message));
    };
    socket.onclose = () => end(reject, new Error("the server cannot be reached"));
  });
}
