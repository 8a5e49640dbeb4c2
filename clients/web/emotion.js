// The emotion panel: the emotion of the last turn, with all probabilities.

import { $, bar, el, face, percent } from "./elements.js";
import { speakerText } from "./texts.js";

/** Show a turn's emotion. @param {{emotion: object, speaker: string|null}|null} turn @param {boolean} partial whether it is still being spoken. */
export function showEmotion(turn, partial, look) {
  if (!turn?.emotion) return;
  const { label, confidence, probabilities } = turn.emotion;
  const style = look.style(label);
  const who = el("span", { class: "soft", dir: "auto" }, partial ? `${turn.speaker ?? "Somebody"} · is speaking` : speakerText(turn));
  // In the model's order, so that bars stay in place.
  const rows = [...look.styles.keys()].filter((name) => name in probabilities).map((name) => {
    const one = look.style(name);
    return el("div", { class: one.css }, face(one), el("span", { class: "label" }, name), bar(probabilities[name]), el("span", { class: "n" }, percent(probabilities[name])));
  });
  $("emotion").replaceChildren(
    el("div", { class: "first" }, face(style), el("div", {}, el("b", {}, `${label} ${percent(confidence)}`), who)),
    el("div", { class: "all" }, ...rows),
  );
}
