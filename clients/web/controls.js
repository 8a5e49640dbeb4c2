// The bar at the bottom: start and pause, push-to-talk, the microphone, the clock and the level.

import { $, clock, el, write } from "./elements.js";
import { canShareSound, microphones } from "./recorder.js";

const BUSY_KEYS = "input, select, textarea, button, dialog, [role=slider]";
const SHARED = "source:";        // begins the values of choices that are no microphone
const FINISH = "Finish (Ctrl+Enter): the last turns are processed, then the whole of the conversation is shown; nothing can be corrected afterwards";
const WORDS = {
  idle: "Start listening", listening: "Pause", paused: "Continue listening", playing: "Pause", waiting: "Continue",
  cut: "Finish", heard: "Finish", finishing: "Finishing", ended: "New conversation",
};

export class Controls {
  /**
   * @param {object} hooks
   * @param {() => void} hooks.onTalk the main button.
   * @param {(holding: boolean) => void} hooks.onHold push-to-talk was pressed or released.
   * @param {() => void} hooks.onDevice another source was chosen.
   * @param {() => void} hooks.onDevices devices were connected or disconnected.
   * @param {() => void} hooks.onMode push-to-talk was switched on or off.
   */
  constructor(settings, hooks) {
    Object.assign(this, { settings, hooks });
    this.holding = false;
    this.mode = "idle";
    $("push-to-talk").checked = settings.values.pushToTalk;
    $("push-to-talk").addEventListener("change", () => {
      settings.set("pushToTalk", $("push-to-talk").checked);
      this.#hold(false);
      this.show(this.mode, this.ready);
      hooks.onMode();
    });
    $("talk-button").addEventListener("click", () => hooks.onTalk());
    $("device").addEventListener("change", () => {
      const { value } = $("device"), shared = value.startsWith(SHARED);
      settings.set("source", shared ? value.slice(SHARED.length) : "microphone");
      if (!shared) settings.set("device", value);
      this.show(this.mode, this.ready);
      hooks.onDevice();
    });
    $("finish").title = FINISH;
    this.#listenHold();
    navigator.mediaDevices?.addEventListener?.("devicechange", async () => {
      await this.listDevices();
      hooks.onDevices();
    });
    this.listDevices();
  }

  get pushToTalk() { return this.settings.values.pushToTalk && this.settings.values.source !== "tab"; }

  #listenHold() {
    const button = $("hold");
    button.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      button.setPointerCapture(event.pointerId);
      this.#hold(true);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, () => this.#hold(false));
    button.addEventListener("contextmenu", (event) => event.preventDefault());
    addEventListener("keydown", (event) => {
      const key = event.code === "Space" || (event.code === "Enter" && event.target === button);
      if (!key || !this.pushToTalk || $("hold").hidden || event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target !== button && event.target.closest?.(BUSY_KEYS)) return;
      event.preventDefault();
      if (!event.repeat) this.#hold(true);
    });
    addEventListener("keyup", (event) => {
      if (!this.holding || (event.code !== "Space" && event.code !== "Enter")) return;
      event.preventDefault();
      this.#hold(false);
    });
    addEventListener("blur", () => this.#hold(false));
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.#hold(false); });
    // After a mouse click, give Space back to push-to-talk instead of the clicked element.
    addEventListener("click", (event) => { if (event.detail && this.pushToTalk) event.target.closest?.("button, .switch")?.querySelector?.("input")?.blur(); });
    addEventListener("click", (event) => { if (event.detail && this.pushToTalk && !document.querySelector("dialog[open]")) event.target.closest?.("button")?.blur(); });
  }

  #hold(holding) {
    if (holding === this.holding) return;
    this.holding = holding;
    $("hold").setAttribute("aria-pressed", String(holding));
    $("hold").textContent = holding ? "Talking" : "Hold to talk";
    this.hooks.onHold(holding);
  }

  async listDevices() {
    const devices = await microphones();
    const named = devices.filter((device) => device.label);
    const option = (value, text) => el("option", { value }, text);
    const shared = canShareSound() ? [el("optgroup", { label: "Sound of this computer" }, option(`${SHARED}tab`, "Tab or system audio"), option(`${SHARED}both`, "Microphone and tab"))] : [];
    $("device").replaceChildren(option("", "Default mic"), ...named.map((device) => option(device.deviceId, device.label)), ...shared);
    const { source, device } = this.settings.values, wanted = source === "microphone" ? device : SHARED + source;
    $("device").value = [...$("device").options].some(({ value }) => value === wanted) ? wanted : "";
    if (source !== "microphone" && !shared.length) this.settings.set("source", "microphone");
    this.setChannels(this.channels);
  }

  /** Offer the sources that fit a conversation that has begun. @param {number|null} channels null before it begins. */
  setChannels(channels = null) {
    this.channels = channels;
    for (const option of $("device").options) option.disabled = channels !== null && (option.value === `${SHARED}both`) !== (channels > 1);
  }

  /** Show the controls of a mode. @param {string} mode a key of `WORDS`. @param {boolean} ready whether a server is connected. */
  show(mode, ready) {
    this.mode = mode;
    this.ready = ready;
    const running = mode === "listening" || mode === "playing";
    document.body.classList.toggle("listening", running);
    $("talk-text").textContent = WORDS[mode];
    $("talk-button").firstElementChild.toggleAttribute("hidden", WORDS[mode].startsWith("Finish"));
    $("talk-button").title = WORDS[mode] === "Finish" ? FINISH : "";
    $("talk-button").disabled = mode === "finishing" || (mode === "idle" && !ready);
    $("hold").hidden = !this.pushToTalk || !["idle", "listening", "paused"].includes(mode) || !ready;
    $("finish").hidden = !["listening", "paused", "playing", "waiting"].includes(mode);
    $("mute").hidden = mode !== "playing";
    $("choose-file").hidden = running || mode === "finishing";
    const withMicrophone = ["idle", "listening", "paused", "ended"].includes(mode);      // a file needs none
    $("device").parentElement.hidden = !withMicrophone;
    $("push-to-talk").parentElement.hidden = !withMicrophone || this.settings.values.source === "tab";
    if (!running) this.level(0);
  }

  /** Show the time. @param {number} [totalMs] duration of a file, which is followed by some silence. */
  time(ms, totalMs) {
    write("clock", totalMs > ms ? `${clock(ms)} / ${clock(totalMs)}` : clock(totalMs ?? ms));
  }

  /** Show a level. @param {number} level 0 to 1, shown in decibels from -54 dB. */
  level(level) {
    const share = level > 0 ? Math.max(0, Math.min(1, 1 + (20 * Math.log10(level)) / 54)) : 0;
    $("level").style.transform = `scaleX(${share.toFixed(3)})`;
  }
}
