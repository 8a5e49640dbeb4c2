// The microphone, the sound of a tab or of the whole system, or both as two channels: chunks of 16 kHz, 16 bit.

const RATE = 16_000;
const STALL_MS = 3_000;          // without audio for so long, the device is gone, whatever the browser says
const WATCH_MS = 1_000;
const UNPROCESSED = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Return whether this browser can share the sound of a tab or of the system. */
export const canShareSound = () => Boolean(globalThis.navigator?.mediaDevices?.getDisplayMedia);

/** Explain to the user why the source cannot be heard. @param {string} source a value of `settings.source`. */
export function sourceError(error, source) {
  if (error?.name === "NoSoundError") return "What was shared has no sound. Share it again, choose a tab or the whole screen, and let its sound be shared too.";
  if (source !== "microphone" && error?.shared && error.name === "NotAllowedError") return "Nothing was shared. Press the button again and choose a tab or the whole screen, with its sound.";
  return microphoneError(error);
}

/** Explain to the user why the microphone cannot be used. */
export function microphoneError(error) {
  if (!globalThis.isSecureContext) return "The browser gives the microphone to secure pages only: open this page by https, or on this machine as http://localhost.";
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError": return "The browser was not allowed to use the microphone. Allow it beside the address, then start again.";
    case "NotFoundError":
    case "OverconstrainedError": return "No microphone was found. Connect one or choose another, or hear the sample conversation or a file.";
    case "NotReadableError":
    case "AbortError": return "The microphone could not be opened: another program may be using it.";
    default: return `The microphone could not be opened: ${error?.message ?? error}`;
  }
}

/** Return the microphones; their names are known once the user has allowed one. @returns {Promise<MediaDeviceInfo[]>} */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "default" && device.deviceId !== "communications");
}

export class Recorder {
  /**
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {(which: "microphone"|"tab") => void} hooks.onGone the device was disconnected, or is shared no more.
   * @param {(muted: boolean) => void} hooks.onMuted the system or a switch has muted the microphone, or no longer does.
   */
  constructor({ onAudio, onGone, onMuted }) {
    Object.assign(this, { onAudio, onGone, onMuted });
    this.streams = [];
    this.context = this.node = this.timer = null;
    this.open = true;
  }

  get running() { return this.node !== null; }

  /**
   * Open the source and start recording.
   * @param {object} options
   * @param {"microphone"|"tab"|"both"} options.source "both" are two channels: the microphone, then the tab.
   * @param {string} options.deviceId "" for the default device.
   * @param {boolean} options.cleanUp whether the browser removes echo and noise and sets the level.
   * @returns {Promise<boolean>} false if stopped or started again before it was open.
   */
  async start({ source, deviceId, cleanUp }) {
    if (!navigator.mediaDevices) throw new DOMException("no media devices", "SecurityError");
    const asked = this.asked = {}, opened = [];
    let context;
    try {
      if (source !== "microphone") opened.push(["tab", await share()]);      // first: it needs the user's press
      if (source !== "tab") opened.unshift(["microphone", await openMicrophone(deviceId, cleanUp)]);
      let nodes;
      [context, nodes] = join(opened.map(([, stream]) => stream));
      await context.audioWorklet.addModule("recorder-worklet.js");
      await context.resume();
      if (this.asked === asked) this.#listen(opened, context, nodes);
    } catch (error) {
      await letGo(opened.map(([, stream]) => stream), context);
      if (this.asked === asked) throw error;
      return false;
    }
    if (this.asked !== asked) await letGo(opened.map(([, stream]) => stream), context);
    return this.asked === asked;
  }

  #listen(opened, context, nodes) {
    const gated = opened[0][0] === "microphone";
    const node = new AudioWorkletNode(context, "recorder", { numberOfInputs: nodes.length, numberOfOutputs: 0, processorOptions: { open: this.open, gated } });
    node.port.onmessage = ({ data }) => {
      this.heardAt = performance.now();
      if (data === "stopped") this.stopped?.();
      else this.onAudio(data);
    };
    nodes.forEach((one, input) => one.connect(node, 0, input));
    Object.assign(this, { streams: opened.map(([, stream]) => stream), context, node });
    for (const [which, stream] of opened) {
      const [track] = stream.getAudioTracks();
      const hearing = (type, act) => track.addEventListener(type, () => { if (this.node === node) act(); });
      hearing("ended", () => this.onGone(which));
      if (which !== "microphone") continue;
      for (const type of ["mute", "unmute"]) hearing(type, () => this.onMuted(track.muted));
      this.onMuted(track.muted);
    }
    context.onstatechange = () => { if (this.node === node && context.state !== "running") context.resume().catch(() => {}); };
    this.heardAt = performance.now();
    this.timer = setInterval(() => { if (performance.now() - this.heardAt > STALL_MS) this.onGone(opened[0][0]); }, WATCH_MS);
  }

  /** Pass the microphone's audio on, or silence instead; also before the start. */
  setOpen(open) {
    this.open = open;
    this.node?.port.postMessage({ open });
  }

  /** Deliver the rest of the audio, and close the microphone. */
  async stop() {
    this.asked = null;
    clearInterval(this.timer);
    const { streams, context, node } = this;
    if (node) {
      const stopped = new Promise((resolve) => { this.stopped = resolve; });
      node.port.postMessage("stop");
      await Promise.race([stopped, new Promise((resolve) => { setTimeout(resolve, 300); })]);
      node.port.onmessage = null;
      node.disconnect();
    }
    if (this.node === node) {
      this.streams = [];
      this.context = this.node = null;
    }
    await letGo(streams, context);
  }
}

function openMicrophone(deviceId, cleanUp) {
  return navigator.mediaDevices.getUserMedia({
    audio: {
      ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
      channelCount: 1, echoCancellation: cleanUp, noiseSuppression: cleanUp, autoGainControl: cleanUp,
    },
  });
}

/** Ask the user to share a tab or the screen; its pictures are let go of at once. */
async function share() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: true, audio: UNPROCESSED, systemAudio: "include", selfBrowserSurface: "exclude", surfaceSwitching: "include" });
  } catch (error) {
    throw Object.assign(error, { shared: true });
  }
  if (!stream.getAudioTracks().length) {
    await letGo([stream]);
    throw new DOMException("shared without sound", "NoSoundError");
  }
  for (const track of stream.getVideoTracks()) {
    track.stop();
    stream.removeTrack(track);
  }
  return stream;
}

/** Create an audio context, and a source node for each stream in it. */
function join(streams) {
  const inside = (context) => [context, streams.map((stream) => context.createMediaStreamSource(stream))];
  const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  try {
    return inside(context);
  } catch {
    // Firefox connects only equal sample rates: use the device's, and let the worklet resample.
    context.close();
    return inside(new AudioContext({ latencyHint: "interactive" }));
  }
}

async function letGo(streams, context) {
  for (const stream of streams) for (const track of stream.getTracks()) track.stop();
  if (context && context.state !== "closed") await context.close();
}
