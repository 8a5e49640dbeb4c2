// What a person changes of what was heard: a speaker's name, and who spoke a turn.

import { askSpeaker } from "./dialogs.js";
import { note } from "./notes.js";

export class Edits {
  constructor(connection, conversation, view) {
    Object.assign(this, { connection, conversation, view });
    this.asked = new Map();              // input_id -> what was asked, for the case that it is refused
  }

  get names() { return this.conversation.speakers().map((one) => one.name); }

  /** Give a speaker another name. @param {string} mode of the page. @returns {boolean} whether the server is asked. */
  rename(speaker, name, mode) {
    if (mode !== "finishing" && mode !== "ended") {
      const id = this.connection.sendInput({ type: "speaker.rename", speaker, name });
      this.asked.set(id, { speaker, what: `The name ${name}` });
      return true;
    }
    if (mode === "finishing") note("input", "Names can be changed again when the server has heard the rest.", { mild: true });
    else if (this.names.includes(name)) note("input", `The name ${name} was refused: somebody else has it.`);
    else this.conversation.rename(speaker, name);      // the server has closed the book: it holds for what is kept
    this.view.named(speaker);
    return false;
  }

  /** Ask who really spoke a turn, and tell the server. @returns {Promise<boolean>} whether the server is asked. */
  async correct(turn) {
    const speaker = await askSpeaker(turn, this.names);
    if (speaker === null) return false;
    const id = this.connection.sendInput({ type: "turn.correct", turn: turn.index, speaker });
    this.asked.set(id, { speaker: turn.speaker, what: `${speaker} for turn ${turn.index + 1}` });
    return true;
  }

  /** The server refused something. @returns {boolean} whether it was asked for here. */
  refused(error) {
    const asked = this.asked.get(error.input_id);
    if (!asked) return false;
    this.asked.delete(error.input_id);
    this.view.named(asked.speaker);
    note("input", `${asked.what} was refused: ${error.message}`);
    return true;
  }
}
