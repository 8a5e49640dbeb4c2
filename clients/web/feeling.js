// The emotion of the last turn, and how probable the others are.

import { $, bar, el, face, percent } from "./elements.js";

/** @param {{emotion: object, speaker: string|null}|null} turn @param {boolean} provisional still being spoken. */
export function showFeeling(turn, provisional, look) {
  if (!turn?.emotion) return;
  const { label, confidence, probabilities } = turn.emotion;
  const style = look.style(label);
  const who = el("span", { class: "soft", dir: "auto" }, provisional ? `${turn.speaker ?? "Somebody"}, so far` : turn.speaker);
  // In the model's order, so that bars grow and shrink in their place.
  const rows = [...look.styles.keys()].filter((name) => name in probabilities).map((name) => {
    const one = look.style(name);
    return el("div", { class: one.css }, face(one), el("span", { class: "label" }, name), bar(probabilities[name]), el("span", { class: "n" }, percent(probabilities[name])));
  });
  $("feeling").replaceChildren(
    el("div", { class: "first" }, face(style), el("div", {}, el("b", {}, `${label} ${percent(confidence)}`), who)),
    el("div", { class: "all" }, ...rows),
  );
}
