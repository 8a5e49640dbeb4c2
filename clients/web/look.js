// The theme and the colours of the labels, for the style sheet and for the canvases.

import { emotionStyles, inkOn, rgb, tint } from "./palette.js";

const NAMES = ["bg", "surface", "ink", "soft", "line", "hover", "wave", "speech", "band", "pending", "error", "sans"];

export class Look {
  constructor() {
    this.root = document.documentElement;
    this.sheet = new CSSStyleSheet();          // the page's content security policy forbids an inline style element
    document.adoptedStyleSheets = [...document.adoptedStyleSheets, this.sheet];
    this.styles = new Map();
    this.listeners = [];
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.dark.addEventListener("change", () => { if (!this.chosen) this.#show(this.dark.matches ? "dark" : "light"); });
    this.#read();
  }

  get theme() { return this.root.dataset.theme; }
  get chosen() { try { return localStorage.getItem("stream-erc-theme"); } catch { return null; } }

  /** Call `listener` whenever colours change. */
  onChange(listener) { this.listeners.push(listener); }

  toggle() {
    const theme = this.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("stream-erc-theme", theme); } catch { /* a page without storage forgets */ }
    this.#show(theme);
  }

  setLabels(labels) {
    this.styles = emotionStyles(labels);
    [...this.styles.values()].forEach((style, i) => { style.css = `e${i}`; });
    this.#write();
  }

  /** Return the style of a label; a neutral one for a label that the model did not announce. */
  style(label) {
    return this.styles.get(label) ?? { label, code: label.slice(0, 2), face: "", drawn: false, css: "", light: "#949aa4", dark: "#afb5bf" };
  }

  colour(label) { return this.style(label)[this.theme]; }

  /** Return fill and ink of a block: the emotion's colour, stronger with more confidence. */
  tint(emotion) { return tint(this.colour(emotion.label), this.colours.surface, emotion.confidence); }

  #show(theme) {
    this.root.dataset.theme = theme;
    this.#read();
    this.#write();
  }

  #read() {
    const style = getComputedStyle(this.root);
    this.colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
  }

  #write() {
    const theme = this.theme;
    this.sheet.replaceSync([...this.styles.values()].map((s) => `.${s.css}{--c:${s[theme]};--i:${inkOn(rgb(s[theme]))}}`).join("\n"));
    for (const listener of this.listeners) listener();
  }
}
