// The look of an expressed emotion: a colour, letters and a face, as in the report and the terminal
// (stream_erc/cli/palette.py; a test checks that the values agree). No colour is used alone.

const COLOURS = {
  neutral: ["#949aa4", "#afb5bf"],
  joy: ["#e3a81f", "#f0c050"],
  sadness: ["#22509f", "#5f69d1"],
  anger: ["#c74b2d", "#e36938"],
  fear: ["#a266ba", "#cc81e8"],
  surprise: ["#56b4ef", "#9be6f7"],
  disgust: ["#20846f", "#1fa37d"],
};

const SPARE_COLOURS = [
  ["#7a4b1e", "#c79a6b"],
  ["#6d7a00", "#c3cf55"],
  ["#c2185b", "#ff8fb7"],
  ["#00838f", "#4dd0c5"],
  ["#3d3d3d", "#ededed"],
];

const FAMILIES = {
  neutral: ["neutral", "calm", "no_emotion", "peaceful", "none"],
  joy: ["joy", "happy", "happiness", "joyful", "excited", "amused", "amusement"],
  sadness: ["sadness", "sad"],
  anger: ["anger", "angry", "mad", "frustrated", "frustration"],
  fear: ["fear", "fearful", "scared", "afraid", "anxious"],
  surprise: ["surprise", "surprised"],
  disgust: ["disgust", "disgusted", "contempt"],
};

/** Return the styles of a model's labels, in its order. @returns {Map<string, object>} by label. */
export function emotionStyles(labels) {
  const taken = new Set();
  const all = codes(labels);
  let spares = 0;
  return new Map(labels.map((label, i) => {
    const face = Object.keys(FAMILIES).find((family) => FAMILIES[family].includes(label.toLowerCase())) ?? "";
    const own = face && !taken.has(face);
    const [light, dark] = own ? COLOURS[face] : SPARE_COLOURS[spares++ % SPARE_COLOURS.length];
    taken.add(face);
    return [label, { label, code: all[i], face, drawn: Boolean(own), light, dark }];
  }));
}

function codes(labels) {
  const given = [];
  for (const label of labels) {
    const letters = [...label].filter((c) => /[\p{L}\p{N}]/u.test(c));
    const prefixes = [2, 3].map((n) => capitalised(letters.slice(0, n).join("")));
    given.push(prefixes.find((code) => code && !given.includes(code)) ?? String(given.length + 1));
  }
  return given;
}

const capitalised = (text) => text.slice(0, 1).toUpperCase() + text.slice(1).toLowerCase();

export const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function luminance(colour) {
  const [r, g, b] = colour.map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Return black or white as ink on a colour [r, g, b]: the contrast is 4.5 to 1 or better on every colour. */
export const inkOn = (colour) => (luminance(colour) > 0.179 ? "#000000" : "#ffffff");

/** Return an emotion's colour on a surface, stronger with more confidence, and the ink on it. */
export function tint(colour, surface, confidence) {
  const share = 0.16 + 0.84 * confidence;
  const base = rgb(surface);
  const mixed = rgb(colour).map((v, i) => Math.round(v * share + base[i] * (1 - share)));
  return { fill: `rgb(${mixed})`, ink: inkOn(mixed) };
}

const EYES = { low: 7.5 };
const FACES = {
  neutral: ["M5.2 10.7h5.6", "dots"],
  joy: ["M4.4 9.3q3.6 4.2 7.2 0", "dots"],
  sadness: ["M5.2 11.6q2.8-2.6 5.6 0", "dots"],
  anger: ["M5.4 11.5q2.6-1.6 5.2 0M4 4.9l2.9 1.5M12 4.9l-2.9 1.5", "low"],
  fear: ["M4.6 11.2q.85-1.5 1.7 0t1.7 0 1.7 0 1.7 0", "wide"],
  surprise: ["M8 9.4a1.6 1.9 0 1 0 .01 0M4.6 4.1q.9-.8 1.8-.3M11.4 4.1q-.9-.8-1.8-.3", "dots"],
  disgust: ["M4.8 11.4q1.6-1.9 3.2-.5t3.2-.9M4.5 6.6l2.3.3M11.5 6.6l-2.3.3", "none"],
};

/**
 * Return the parts of a face in a box of 16 by 16, as [tag, attributes, text]; a label of no family shows its letters.
 * @param {object} style of `emotionStyles`.
 */
export function faceParts(style) {
  const parts = [["circle", { class: "skin", cx: 8, cy: 8, r: 8 }]];
  if (!style.drawn) return [...parts, ["text", { x: 8, y: 10.3 }, style.code]];
  const [path, eyes] = FACES[style.face];
  parts.push(["path", { class: "feature", d: path }]);
  if (eyes === "none") return parts;
  for (const cx of [5.5, 10.5]) parts.push(["circle", { class: "dot", cx, cy: EYES[eyes] ?? 6.5, r: eyes === "wide" ? 1.5 : 1 }]);
  return parts;
}
