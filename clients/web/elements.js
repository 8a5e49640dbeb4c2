// Small helpers for all views.

import { faceParts } from "./palette.js";

const SVG = "http://www.w3.org/2000/svg";

export const $ = (id) => document.getElementById(id);

/** Set an element's text if it changed, so that unchanged text is neither laid out nor read aloud again. */
export function write(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

/** Create an element with properties and children; strings are inserted as text, never as HTML. */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key === "class") node.className = value;
    else if (key === "role" || key.includes("-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Create the face of an emotion's style, coloured by its class. */
export function face(style) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `face ${style.css}`);
  svg.setAttribute("aria-hidden", "true");
  for (const [tag, attributes, text] of faceParts(style)) {
    const node = document.createElementNS(SVG, tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text) node.textContent = text;
    svg.append(node);
  }
  return svg;
}

export function bar(share) {
  const fill = el("i");
  fill.style.width = percent(share);
  return el("div", { class: "bar", "aria-hidden": "true" }, fill);
}

/** Return the English name of a language, given its ISO 639-1 code. */
export function languageName(code) {
  try { return new Intl.DisplayNames(["en"], { type: "language" }).of(code) ?? code; } catch { return code; }
}

export const percent = (p) => `${Math.round(100 * p)}%`;
export const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

/** Turn a message of the server into a sentence. */
export const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

export function clock(ms, tenths = false) {
  const t = tenths ? Math.floor(ms / 100) : Math.floor(ms / 1000) * 10;
  const pad = (n) => String(n).padStart(2, "0");
  const h = Math.floor(t / 36000), m = Math.floor(t / 600) % 60, s = Math.floor(t / 10) % 60;
  return (h ? `${h}:` : "") + `${pad(m)}:${pad(s)}` + (tenths ? `.${t % 10}` : "");
}

export const milliseconds = (v) => (v < 10 ? `${v.toFixed(1)} ms` : `${Math.round(v).toLocaleString("en")} ms`);

/** Resize a canvas to a size in CSS pixels, and return its cleared 2D context. */
export function prepare(canvas, width, height) {
  const scale = Math.max(1, globalThis.devicePixelRatio || 1);
  const [w, h] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

/** Return a function that calls `draw` in the next animation frame, once per frame. */
export function onceAFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}
