// The user's settings, saved by the browser between visits.

import { $, el, languageName } from "./elements.js";

const KEY = "stream-erc-settings";
const DEFAULTS = { model: "", language: "", speakers: "", pace: "live", partials: true, cleanUp: false, announceTurns: true, voices: false, pushToTalk: false, device: "", source: "microphone", channels: "auto" };
const FIELDS = { model: "model", language: "language", speakers: "speakers", pace: "pace", channels: "channels", partials: "partials", "clean-up": "cleanUp", "announce-turns": "announceTurns", voices: "voices" };
const MAX_SPEAKERS = 8;

export class Settings {
  constructor() {
    this.values = { ...DEFAULTS };
    try { Object.assign(this.values, JSON.parse(localStorage.getItem(KEY) ?? "{}")); } catch { /* as if for the first time */ }
    for (const [id, name] of Object.entries(FIELDS)) {
      $(id).addEventListener("change", () => this.set(name, $(id).type === "checkbox" ? $(id).checked : $(id).value));
    }
    $("speakers").replaceChildren(el("option", { value: "" }, "Not known"), ...Array.from({ length: MAX_SPEAKERS }, (_, i) => el("option", { value: String(i + 1) }, String(i + 1))));
    this.offer(null);
  }

  set(name, value) {
    this.values[name] = value;
    try { localStorage.setItem(KEY, JSON.stringify(this.values)); } catch { /* a page without storage forgets */ }
  }

  /** Show the choices that a server offers in its `session.created`. */
  offer(created) {
    const fill = (id, first, choices) => {
      $(id).replaceChildren(el("option", { value: "" }, first), ...choices.map(([value, text]) => el("option", { value }, text)));
    };
    const models = (created?.models ?? []).map((model) => [model.name, `${model.name} (${model.labels.length} emotions)`]);
    fill("model", created ? `Server default (${created.configuration?.model ?? created.model})` : "Server default", models);
    const languages = created?.languages ?? [];
    fill("language", "Server default", languages.map((code) => [code, languageName(code)]));
    for (const [id, name] of Object.entries(FIELDS)) {
      const field = $(id), value = this.values[name];
      if (field.type === "checkbox") field.checked = value;
      else field.value = [...field.options].some((option) => option.value === value) ? value : "";
    }
    const voices = created?.voices ?? [];
    $("voices-choice").hidden = !voices.length;
    $("voices-names").textContent = voices.join(", ");
    for (const id of ["model", "language"]) $(id).disabled = $(id).options.length <= 1;
  }

  /** Open the dialog. @param {boolean} started whether a conversation is running, which keeps its settings. */
  show(started) {
    $("settings-note").hidden = !started;
    $("settings").showModal();
  }

  /**
   * Return the fields of `session.update`, with only the choices that this server has.
   * @param {"live"|"replay"} pace
   * @param {(string|null)[]|null} channels the names of channels that are heard separately.
   */
  update(created, pace, channels = null) {
    const { model, language, speakers, partials } = this.values;
    const fields = { audio: { encoding: "pcm_s16le", sample_rate_hz: 16_000 }, partials, pace };
    if (channels) {
      fields.audio.channels = channels.length;
      if (channels.some((name) => name !== null)) fields.channel_names = channels;
    }
    if (created?.models?.some((one) => one.name === model)) fields.model = model;
    if (created?.languages?.includes(language)) fields.language = language;
    if (speakers && !channels) fields.speakers = Number(speakers);
    if (this.values.voices && created?.voices?.length && !channels) fields.voices = created.voices;
    return fields;
  }
}
