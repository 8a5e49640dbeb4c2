// The source with the user's settings: the device, whether it passes audio, and the note if it fails.

import { note, unnote } from "./notes.js";
import { Recorder, sourceError } from "./recorder.js";
import { mutedText } from "./texts.js";

export class Microphone {
  /**
   * @param {import("./settings.js").Settings} settings
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {(which: string) => void} hooks.onGone the device was disconnected, or the tab is shared no more.
   */
  constructor(settings, hooks) {
    this.settings = settings;
    this.recorder = new Recorder({ ...hooks, onMuted: (muted) => (muted ? note("muted", mutedText, { mild: true }) : unnote("muted")) });
  }

  /**
   * Open the source.
   * @param {[string, () => void][]} instead buttons to offer if there is none.
   * @param {boolean} [quietly] without a note if it fails.
   * @returns {Promise<"open"|"overtaken"|"refused"|"none">} "overtaken" if stopped or started again meanwhile.
   */
  async start(instead, quietly = false) {
    if (!quietly) unnote("microphone");
    const { source, device, cleanUp } = this.settings.values;
    try {
      return (await this.recorder.start({ source, deviceId: device, cleanUp })) ? "open" : "overtaken";
    } catch (error) {
      await this.recorder.stop();
      if (!quietly) note("microphone", sourceError(error, source), { actions: instead });
      return error?.name === "NotAllowedError" ? "refused" : "none";
    }
  }

  /** Pass the audio on, or silence instead. */
  setOpen(open) { this.recorder.setOpen(open); }

  stop() {
    unnote("muted");
    return this.recorder.stop();
  }
}
