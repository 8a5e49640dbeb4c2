// The user's corrections: a speaker's name, the speaker of a turn, and whose voice it is.

import { askSpeaker } from "./dialogs.js";
import { note } from "./notes.js";

export class Edits {
  constructor(connection, conversation, view) {
    Object.assign(this, { connection, conversation, view });
    this.requests = new Map();           // input_id -> the request, in case it is refused
  }

  get names() { return this.conversation.speakers().map((one) => one.name); }

  /** The names to choose from for a turn: those of the speakers, and of known voices that have not spoken. */
  get #choices() {
    return [...new Set([...this.names, ...(this.connection.protocol.configuration?.voices ?? [])])];
  }

  /** Rename a speaker. @param {string} mode of the page. @returns {boolean} whether it was sent to the server. */
  rename(speaker, name, mode) {
    if (mode !== "finishing" && mode !== "ended") {
      const id = this.connection.sendInput({ type: "speaker.rename", speaker, name });
      this.requests.set(id, { speaker, what: `The name ${name}` });
      return true;
    }
    if (mode === "finishing") note("input", "Names can be changed again when the server has processed the rest.", { mild: true });
    else if (this.names.includes(name)) note("input", `The name ${name} was refused: another speaker has it.`);
    else this.conversation.rename(speaker, name);      // the session is closed: the name is for saved files only
    this.view.showName(speaker);
    return false;
  }

  /** Ask who spoke a turn, and correct it or name its voice. @returns {Promise<boolean>} whether it was sent to the server. */
  async correct(turn) {
    const answer = await askSpeaker(turn, this.#choices, this.conversation.created?.keeps_voices ?? false, this.connection.protocol.buffer.channels === 1);
    if (answer === null) return false;
    const { speaker, know, keep } = answer;
    const message = know ? { type: "voice.enrol", name: speaker, turn: turn.index, keep } : { type: "turn.correct", turn: turn.index, speaker };
    const id = this.connection.sendInput(message);
    this.requests.set(id, { speaker: turn.speaker, what: `${speaker} for ${know ? "the voice of " : ""}turn ${turn.index + 1}` });
    return true;
  }

  /** Handle an error of the server. @returns {boolean} whether it was about a request made here. */
  refused(error) {
    const request = this.requests.get(error.input_id);
    if (!request) return false;
    this.requests.delete(error.input_id);
    this.view.showName(request.speaker);
    note("input", `${request.what} was refused: ${error.message}`);
    return true;
  }
}
