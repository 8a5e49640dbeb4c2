// The page's dialogs: a token, the speaker of a turn, a new conversation.

import { $, el } from "./elements.js";
import { consentText } from "./texts.js";

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
 * Ask as which file a conversation is to be saved.
 * @param {[string, string][]} choices the value and the name of each.
 * @returns {Promise<string>} the value; "" for none.
 */
export async function askFormat(choices) {
  $("save-formats").replaceChildren(...choices.map(([value, name]) => el("button", { class: "pill quiet", id: `save-${value}`, value }, name)));
  return ask($("save-dialog"));
}

/**
 * Ask who spoke a turn, and whether that voice is to be known.
 * @param {object} turn
 * @param {string[]} speakers
 * @param {boolean} keeps whether the server keeps voices for later conversations.
 * @param {boolean} knows whether voices can be named: not where channels are heard separately.
 * @returns {Promise<{speaker: string, know: boolean, keep: boolean}|null>} a name, known or new; null where nothing changes.
 */
export async function askSpeaker(turn, speakers, keeps, knows) {
  const dialog = $("who-dialog");
  let chosen = null;
  const showConsent = () => {
    const keep = $("who-keep").checked;
    $("who-keep-choice").hidden = !keeps || !$("who-know").checked;
    $("who-consent").hidden = !$("who-know").checked;
    $("who-consent").textContent = consentText(keep);
    $("who-done").textContent = $("who-know").checked ? "Name" : "Correct";
  };
  for (const id of ["who-know", "who-keep"]) {
    $(id).checked = false;
    $(id).onchange = showConsent;
  }
  showConsent();
  $("who-know").parentElement.hidden = !knows;
  $("who-said").textContent = turn.text || "no words";
  $("who-new").value = "";
  $("who-choices").replaceChildren(...speakers.map((name) => {
    const own = name === turn.speaker;
    const button = el("button", { type: "button", class: "pill", dir: "auto", ...(own ? { "aria-current": "true", title: "As heard" } : {}) }, name);
    button.addEventListener("click", () => {
      chosen = name;
      dialog.close("chosen");
    });
    return button;
  }));
  $("who-cancel").onclick = () => dialog.close("");
  const answer = await ask(dialog);
  if (answer === "new") chosen = $("who-new").value.trim() || null;
  const know = $("who-know").checked;
  return chosen === null || (chosen === turn.speaker && !know) ? null : { speaker: chosen, know, keep: know && keeps && $("who-keep").checked };
}
