// Messages to the user, each shown until it is dismissed or no longer true.

import { $, el } from "./elements.js";

const notes = new Map();

/**
 * Show a message.
 * @param {string} key its subject: a second note with the same key replaces the first.
 * @param {string} text
 * @param {object} [options]
 * @param {boolean} [options.mild] not an error.
 * @param {boolean} [options.lasting] it stays when a new conversation begins.
 * @param {() => void} [options.onDismiss] called when the user dismisses it.
 * @param {[string, () => void][]} [options.actions] buttons.
 */
export function note(key, text, { mild = false, lasting = false, onDismiss = () => {}, actions = [] } = {}) {
  unnote(key);
  const dismiss = el("button", { type: "button", class: "plain", "aria-label": "Dismiss", title: "Dismiss" }, "×");
  const buttons = actions.map(([label, act]) => {
    const button = el("button", { type: "button", class: "pill quiet" }, label);
    button.addEventListener("click", act);
    return button;
  });
  const box = el("div", { class: mild ? "note mild" : "note" }, el("span", {}, text), ...buttons, dismiss);
  dismiss.addEventListener("click", () => {
    unnote(key);
    onDismiss();
  });
  if (lasting) box.dataset.lasting = "";
  notes.set(key, box);
  $("notes").append(box);
}

export function unnoteAll() {
  for (const [key, box] of [...notes]) if (!("lasting" in box.dataset)) unnote(key);
}

export function unnote(key) {
  notes.get(key)?.remove();
  notes.delete(key);
}
