// The page's dialogs: a token, the speaker of a turn, a new conversation.

import { $, el } from "./elements.js";

/** Open a dialog. @returns {Promise<string>} the value of the button that closed it; "" for Escape. */
function ask(dialog) {
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => { dialog.onclose = () => resolve(dialog.returnValue); });
}

/** Ask for a token. @param {string|null} message why the last one was refused. @returns {Promise<string|null>} */
export async function askToken(message) {
  $("token-note").textContent = message ?? "Ask whoever runs the server for it. It is kept in this tab only.";
  const answer = await ask($("token-dialog"));
  const token = $("token").value.trim();
  $("token").value = "";
  return answer === "send" && token ? token : null;
}

export const closeToken = () => { if ($("token-dialog").open) $("token-dialog").close(""); };

export async function confirmAnew(text) {
  $("confirm-text").textContent = text;
  return (await ask($("confirm"))) === "yes";
}

/**
 * Ask who spoke a turn.
 * @param {object} turn
 * @param {string[]} speakers
 * @returns {Promise<string|null>} a name, known or new; null where nothing changes.
 */
export async function askSpeaker(turn, speakers) {
  const dialog = $("who-dialog");
  let chosen = null;
  $("who-said").textContent = turn.text || "no words";
  $("who-new").value = "";
  $("who-choices").replaceChildren(...speakers.map((name) => {
    const own = name === turn.speaker;
    const button = el("button", { type: "button", class: "pill", dir: "auto", ...(own ? { "aria-current": "true", title: "As heard" } : {}) }, name);
    button.addEventListener("click", () => {
      chosen = own ? null : name;
      dialog.close("chosen");
    });
    return button;
  }));
  $("who-cancel").onclick = () => dialog.close("");
  const answer = await ask(dialog);
  if (answer === "new") chosen = $("who-new").value.trim() || null;
  return chosen === turn.speaker ? null : chosen;
}
