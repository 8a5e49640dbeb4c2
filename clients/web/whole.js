// The whole of a conversation by speaker, once the server has said it.

import { $, el, face, percent, plural } from "./elements.js";
import { changesText, expressed, spokenText } from "./texts.js";

/**
 * Show the summary of each speaker in the place of the last turn's emotion, or nothing before the end.
 * @param {object[]} summary of `session.closed`.
 * @param {import("./look.js").Look} look
 */
export function showWhole(summary, look) {
  $("whole").hidden = !summary.length;
  $("reading").hidden = summary.length > 0;
  $("wholes").replaceChildren(...summary.map((one) => el("li", {},
    el("b", { dir: "auto" }, one.speaker),
    el("p", {}, spokenText(one)),
    el("ul", { class: "expressed" }, ...expressed(one).map(([label, e]) =>
      el("li", { title: `${plural(e.turns, "turn")}, mean probability ${percent(e.probability)}` }, face(look.style(label)), `${label} ${e.turns}`))),
    el("p", { class: "soft" }, changesText(one)))));
}
