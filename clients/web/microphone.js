// The microphone with the user's settings: the device, whether it passes audio, and the note if it fails.

import { note, unnote } from "./notes.js";
import { Recorder, microphoneError } from "./recorder.js";

export class Microphone {
  /**
   * @param {import("./settings.js").Settings} settings
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {() => void} hooks.onGone the device was disconnected.
   */
  constructor(settings, hooks) {
    this.settings = settings;
    this.recorder = new Recorder(hooks);
  }

  /**
   * Open the microphone.
   * @param {[string, () => void][]} instead buttons to offer if there is none.
   * @returns {Promise<"open"|"overtaken"|"none">} "overtaken" if stopped or started again meanwhile.
   */
  async start(instead) {
    unnote("microphone");
    const { device, cleanUp } = this.settings.values;
    try {
      return (await this.recorder.start({ deviceId: device, cleanUp })) ? "open" : "overtaken";
    } catch (error) {
      await this.recorder.stop();
      note("microphone", microphoneError(error), { actions: instead });
      return "none";
    }
  }

  /** Pass the audio on, or silence instead. */
  setOpen(open) { this.recorder.setOpen(open); }

  stop() { return this.recorder.stop(); }
}
