// The microphone as chunks of 16 kHz, 16 bit, mono.

const RATE = 16_000;

/** Why there is no sound from a microphone, in words for the person in front of it. */
export function microphoneTrouble(error) {
  if (!globalThis.isSecureContext) return "The browser gives the microphone to secure pages only: open this page by https, or on this machine as http://localhost.";
  switch (error?.name) {
    case "NotAllowedError":
    case "SecurityError": return "The browser was not allowed to use the microphone. Allow it beside the address, then start again.";
    case "NotFoundError":
    case "OverconstrainedError": return "No microphone was found. Connect one, or choose another.";
    case "NotReadableError":
    case "AbortError": return "The microphone could not be opened: another program may hold it.";
    default: return `The microphone could not be opened: ${error?.message ?? error}`;
  }
}

/** The microphones; their names are known once one was allowed. @returns {Promise<MediaDeviceInfo[]>} */
export async function microphones() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter((device) => device.kind === "audioinput" && device.deviceId !== "default" && device.deviceId !== "communications");
}

export class Recorder {
  /**
   * @param {object} hooks
   * @param {(pcm: Int16Array) => void} hooks.onAudio
   * @param {() => void} hooks.onGone the device was taken away.
   */
  constructor({ onAudio, onGone }) {
    Object.assign(this, { onAudio, onGone });
    this.stream = this.context = this.node = null;
    this.open = true;
  }

  get running() { return this.node !== null; }

  /**
   * @param {object} options
   * @param {string} options.deviceId "" for the default one.
   * @param {boolean} options.cleanUp whether the browser takes out echo and noise and sets the level.
   */
  async start({ deviceId, cleanUp }) {
    if (!navigator.mediaDevices) throw new DOMException("no media devices", "SecurityError");
    const stream = await navigator.mediaDevices.getUserMedia({
      audio: {
        ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
        channelCount: 1, echoCancellation: cleanUp, noiseSuppression: cleanUp, autoGainControl: cleanUp,
      },
    });
    this.stream = stream;
    const [track] = stream.getAudioTracks();
    track.addEventListener("ended", () => { if (this.stream === stream) this.onGone(); });
    let source;
    try {
      this.context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
      source = this.context.createMediaStreamSource(stream);
    } catch {
      // Firefox joins only equal rates: take the device's, the worklet converts.
      await this.context?.close();
      this.context = new AudioContext({ latencyHint: "interactive" });
      source = this.context.createMediaStreamSource(stream);
    }
    await this.context.audioWorklet.addModule("recorder-worklet.js");
    await this.context.resume();
    const node = new AudioWorkletNode(this.context, "recorder", { numberOfOutputs: 0, processorOptions: { open: this.open } });
    node.port.onmessage = ({ data }) => {
      if (data === "stopped") this.stopped?.();
      else this.onAudio(data);
    };
    source.connect(node);
    this.node = node;
  }

  /** Let the microphone through, or silence; also before it has started. */
  setOpen(open) {
    this.open = open;
    this.node?.port.postMessage({ open });
  }

  /** Take what is on its way, and let go of the microphone. */
  async stop() {
    const { stream, context, node } = this;
    if (node) {
      const stopped = new Promise((resolve) => { this.stopped = resolve; });
      node.port.postMessage("stop");
      await Promise.race([stopped, new Promise((resolve) => { setTimeout(resolve, 300); })]);
      node.port.onmessage = null;
      node.disconnect();
    }
    this.stream = this.context = this.node = null;
    for (const track of stream?.getTracks() ?? []) track.stop();
    await context?.close();
  }
}
