// The microphone as a person set it: which one, whether it lets anything through, and what to do without one.

import { note, unnote } from "./notes.js";
import { Recorder, microphoneTrouble } from "./recorder.js";

export class Microphone {
  /**
   * @param {import("./settings.js").Settings} settings
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {() => void} hooks.onGone the device was taken away.
   */
  constructor(settings, hooks) {
    this.settings = settings;
    this.recorder = new Recorder(hooks);
  }

  /**
   * Open it.
   * @param {[string, () => void][]} instead what to offer where there is none.
   * @returns {Promise<"open"|"overtaken"|"none">} overtaken by a stop or another start.
   */
  async start(instead) {
    unnote("microphone");
    const { device, cleanUp } = this.settings.values;
    try {
      return (await this.recorder.start({ deviceId: device, cleanUp })) ? "open" : "overtaken";
    } catch (error) {
      await this.recorder.stop();
      note("microphone", microphoneTrouble(error), { actions: instead });
      return "none";
    }
  }

  /** Let it through, or silence. */
  setOpen(open) { this.recorder.setOpen(open); }

  stop() { return this.recorder.stop(); }
}
