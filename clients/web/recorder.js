// The microphone as chunks of 16 kHz, 16 bit, mono.

const RATE = 16_000;

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
   * @param {() => void} hooks.onGone the device was disconnected.
   */
  constructor({ onAudio, onGone }) {
    Object.assign(this, { onAudio, onGone });
    this.stream = this.context = this.node = null;
    this.open = true;
  }

  get running() { return this.node !== null; }

  /**
   * Open the microphone and start recording.
   * @param {object} options
   * @param {string} options.deviceId "" for the default device.
   * @param {boolean} options.cleanUp whether the browser removes echo and noise and sets the level.
   * @returns {Promise<boolean>} false if stopped or started again before it was open.
   */
  async start({ deviceId, cleanUp }) {
    if (!navigator.mediaDevices) throw new DOMException("no media devices", "SecurityError");
    const asked = this.asked = {};
    let stream, context;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: {
          ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
          channelCount: 1, echoCancellation: cleanUp, noiseSuppression: cleanUp, autoGainControl: cleanUp,
        },
      });
      let source;
      [context, source] = join(stream);
      await context.audioWorklet.addModule("recorder-worklet.js");
      await context.resume();
      if (this.asked === asked) this.#listen(stream, context, source);
    } catch (error) {
      await letGo(stream, context);
      if (this.asked === asked) throw error;
      return false;
    }
    if (this.asked !== asked) await letGo(stream, context);
    return this.asked === asked;
  }

  #listen(stream, context, source) {
    const node = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0, processorOptions: { open: this.open } });
    node.port.onmessage = ({ data }) => {
      if (data === "stopped") this.stopped?.();
      else this.onAudio(data);
    };
    source.connect(node);
    Object.assign(this, { stream, context, node });
    stream.getAudioTracks()[0].addEventListener("ended", () => { if (this.stream === stream) this.onGone(); });
  }

  /** Pass the microphone's audio on, or silence instead; also before the start. */
  setOpen(open) {
    this.open = open;
    this.node?.port.postMessage({ open });
  }

  /** Deliver the rest of the audio, and close the microphone. */
  async stop() {
    this.asked = null;
    const { stream, context, node } = this;
    if (node) {
      const stopped = new Promise((resolve) => { this.stopped = resolve; });
      node.port.postMessage("stop");
      await Promise.race([stopped, new Promise((resolve) => { setTimeout(resolve, 300); })]);
      node.port.onmessage = null;
      node.disconnect();
    }
    if (this.node === node) this.stream = this.context = this.node = null;
    await letGo(stream, context);
  }
}

/** Create an audio context and the microphone's source node in it. */
function join(stream) {
  let context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
  try {
    return [context, context.createMediaStreamSource(stream)];
  } catch {
    // Firefox connects only equal sample rates: use the device's, and let the worklet resample.
    context.close();
    context = new AudioContext({ latencyHint: "interactive" });
    return [context, context.createMediaStreamSource(stream)];
  }
}

async function letGo(stream, context) {
  for (const track of stream?.getTracks() ?? []) track.stop();
  if (context && context.state !== "closed") await context.close();
}
