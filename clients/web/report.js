// A conversation as one self-contained page: no script, no request, light or dark like the system.

import { STAGES } from "./latency.js";
import { clock, languageName, milliseconds, percent, plural } from "./elements.js";
import { faceParts, inkOn, rgb, tint } from "./palette.js";
import { changesText, expressed, overlapText, speakerText, spokenText } from "./texts.js";

const LANE = 34, TOP = 24, WIDTH = 1000;
const SURFACE = { light: "#ffffff", dark: "#191c20" };
const STEPS_MS = [1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5];

const STYLE = `
:root{--bg:#fbfaf7;--surface:#fff;--ink:#1b1c1f;--soft:#5f636c;--line:#e5e2da;--error:#b3261e;color-scheme:light dark}
*{box-sizing:border-box}
body{margin:0 auto;max-width:1200px;padding:44px 32px 56px;background:var(--bg);color:var(--ink);font:400 16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Noto Sans",sans-serif}
h1{font-size:clamp(1.5rem,1.1rem + 1.6vw,2.25rem);font-weight:650;letter-spacing:-.022em;line-height:1.15;margin:0;overflow-wrap:anywhere}
h2{font-size:1.06rem;font-weight:620;margin:44px 0 8px}
.meta,footer,td.when,.soft{color:var(--soft)}
.meta{margin:8px 0 28px}
.timeline{background:var(--surface);border:1px solid var(--line);border-radius:14px;padding:8px 20px 16px;display:grid;grid-template-columns:max-content minmax(0,1fr);gap:0 16px}
.names{margin:0;padding:24px 0 0;list-style:none;max-width:160px}
.names li{height:34px;line-height:34px;font-weight:560;font-size:.9rem;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
svg.plot{width:100%;display:block;overflow:visible}
svg.plot line{stroke:var(--line)}
svg.face{width:1.15em;height:1.15em;vertical-align:-.2em;margin-right:8px}
.skin{fill:var(--c)}.feature{fill:none;stroke:var(--i);stroke-width:1.35;stroke-linecap:round;stroke-linejoin:round}.face .dot{fill:var(--i)}.face text{font:600 6.4px sans-serif;fill:var(--i);text-anchor:middle}
.ticks{position:relative;height:24px;font-size:.72rem;color:var(--soft);font-variant-numeric:tabular-nums}
.ticks span{position:absolute;top:2px;transform:translateX(-50%)}
table{border-collapse:collapse;width:100%}
td,th{padding:9px 12px 9px 0;border-top:1px solid var(--line);text-align:left;vertical-align:baseline}
th{font-weight:400;color:var(--soft);font-size:.84rem;border-top:0}
td.when,td.num,th.num{font-variant-numeric:tabular-nums;white-space:nowrap}
td.num,th.num{text-align:right}
td.who{font-weight:590;white-space:nowrap;max-width:160px;overflow:hidden;text-overflow:ellipsis}
td.said{overflow-wrap:anywhere;width:100%}
td.felt{white-space:nowrap}
tr.failed td{color:var(--error)}
.translation{color:var(--soft);font-size:.9rem}
.from,.overlap,.revised{font-size:.76rem;color:var(--soft);border:1px solid var(--line);border-radius:4px;padding:0 5px}
.overlap{display:inline-block}
.person{display:grid;grid-template-columns:minmax(90px,190px) minmax(0,1fr);gap:4px 24px;align-items:center;padding:7px 0}
.person b{font-weight:590;overflow-wrap:anywhere}.person small{color:var(--soft);display:block}
.share{display:flex;gap:2px;height:28px;border-radius:6px;overflow:hidden}
.share i{background:var(--c);color:var(--i);font:620 .74rem/28px sans-serif;overflow:hidden;min-width:3px;display:flex;flex-wrap:wrap;justify-content:center}
.share i::before{content:"";width:0;height:100%}.share span{padding:0 3px;white-space:nowrap}
.whole{padding:9px 0;overflow-wrap:anywhere}.whole b{font-weight:590}
.expressed{display:flex;flex-wrap:wrap;gap:4px 24px;margin-top:4px;font-size:.92rem}
footer{margin-top:48px;font-size:.86rem}
@media (prefers-color-scheme:dark){:root{--bg:#121417;--surface:#191c20;--ink:#e9e9e6;--soft:#a0a4ad;--line:#2c3036;--error:#ff9d94}}
@media (max-width:720px){body{padding:26px 18px}.ticks span:nth-child(even){display:none}.timeline{padding:8px 12px}.person{grid-template-columns:1fr}table.talk,table.talk tbody{display:block}table.talk thead{display:none}table.talk tr{display:grid;grid-template-columns:auto 1fr auto;gap:0 10px;padding:9px 0;border-top:1px solid var(--line)}table.talk td{border:0;padding:0}table.talk td.said{grid-column:1/-1;grid-row:2}}
@media (max-width:420px){.ticks span:nth-child(4n+3){display:none}}
@media print{:root{--bg:#fff}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}tr,.person,.whole{break-inside:avoid}}
`;

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

/**
 * Return the report as HTML.
 * @param {import("./conversation.js").Conversation} conversation
 * @param {{title: string, name: string}} source
 * @param {(label: string) => object} style of a label, see palette.js; with a `css` class.
 * @param {{stage: string, p50: number, p95: number}[]} stages
 */
export function reportPage(conversation, source, style, stages) {
  const turns = conversation.turns.filter(Boolean);
  const good = turns.filter((turn) => turn.failed === null);
  const speakers = conversation.speakers();
  const length = Math.max(0, conversation.closed?.audio_ms ?? 0, ...turns.map((turn) => turn.end ?? 0));
  const { created } = conversation;
  const meta = [source.name, clock(length), plural(good.length, "turn"), plural(speakers.length, "speaker"), `model ${created.model}`, `speech recognition ${created.asr}`];
  if (!conversation.closed) meta.push("not finished when this was saved");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>${escape(source.title)}</title>
<style>${STYLE}${colours(conversation, style)}</style>
</head>
<body>
<h1>${escape(source.title)}</h1>
<p class="meta">${meta.map(escape).join(" · ")}</p>
${length ? timeline(good, speakers, length, style) : ""}
<h2>Expressed emotion by speaker</h2>
${speakers.map((speaker) => person(speaker, speakers, style)).join("\n") || '<p class="soft">Nobody spoke.</p>'}
${conversation.summary.length ? `<h2>The whole of the conversation</h2>\n${conversation.summary.map((one) => whole(one, style)).join("\n")}` : ""}
<h2>Transcript</h2>
<table class="talk"><thead><tr><th scope="col">at</th><th scope="col">speaker</th><th scope="col">words</th><th scope="col">emotion</th></tr></thead><tbody>
${turns.map((turn) => row(turn, style)).join("\n")}
</tbody></table>
${latency(stages)}
<footer>Expressed emotion is what a voice and its words convey, as a network hears it; not what a person feels.</footer>
</body>
</html>
`;
}

/** Return the CSS of each label's colour, and of each block's, stronger with more confidence, on light and dark. */
function colours(conversation, style) {
  const rules = { light: [], dark: [] };
  const labels = new Set([...conversation.labels, ...conversation.turns.filter((t) => t?.emotion).map((t) => t.emotion.label)]);
  for (const theme of ["light", "dark"]) {
    for (const label of labels) {
      const look = style(label);
      rules[theme].push(`.${className(look)}{--c:${look[theme]};--i:${inkOn(rgb(look[theme]))}}`);
    }
    for (const turn of conversation.turns) {
      if (!turn?.emotion) continue;
      const { fill } = tint(style(turn.emotion.label)[theme], SURFACE[theme], turn.emotion.confidence);
      rules[theme].push(`.t${turn.index}{fill:${fill}}`);
    }
  }
  return `${rules.light.join("")}@media (prefers-color-scheme:dark){${rules.dark.join("")}}`;
}

const className = (look) => look.css || "e";

function face(look) {
  const parts = faceParts(look).map(([tag, attributes, text]) => {
    const written = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`).join("");
    return `<${tag}${written}>${text ? escape(text) : ""}</${tag}>`;
  });
  return `<svg class="face ${className(look)}" viewBox="0 0 16 16" aria-hidden="true">${parts.join("")}</svg>`;
}

function timeline(turns, speakers, length, style) {
  const height = speakers.length * LANE;
  const x = (ms) => ((ms / length) * WIDTH).toFixed(2);
  const rows = new Map(speakers.map((speaker, i) => [speaker.name, i]));
  const blocks = turns.filter((turn) => turn.start !== null).sort((a, b) => a.start - b.start || b.end - a.end).map((turn) => {
    const look = style(turn.emotion.label);
    const y = rows.get(turn.speaker) * LANE + 4, width = Math.max(1, ((turn.end - turn.start) / length) * WIDTH).toFixed(2);
    const tip = `${speakerText(turn)}, ${clock(turn.start)}: ${turn.emotion.label} ${percent(turn.emotion.confidence)}. ${turn.text}`;
    return `<g><title>${escape(tip)}</title><rect class="t${turn.index}" x="${x(turn.start)}" y="${y}" width="${width}" height="26"/><rect class="${className(look)}" style="fill:var(--c)" x="${x(turn.start)}" y="${y + 23}" width="${width}" height="3"/></g>`;
  });
  const step = STEPS_MS.find((s) => length / s <= 10) ?? STEPS_MS.at(-1);
  const ticks = Array.from({ length: Math.floor(length / step) + 1 }, (_, i) => `<span style="left:${((i * step) / length) * 100}%">${clock(i * step)}</span>`);
  return `<div class="timeline" role="img" aria-label="Who spoke when; the transcript below holds the same turns">
<ul class="names">${speakers.map((s) => `<li dir="auto">${escape(s.name)}</li>`).join("")}</ul>
<div><div class="ticks" style="height:${TOP}px">${ticks.join("")}</div><svg class="plot" viewBox="0 0 ${WIDTH} ${height}" preserveAspectRatio="none" style="height:${height}px">${speakers.map((_, i) => `<line x1="0" x2="${WIDTH}" y1="${i * LANE}" y2="${i * LANE}"/>`).join("")}${blocks.join("")}</svg></div>
</div>`;
}

function person(speaker, speakers, style) {
  const most = Math.max(...speakers.map((one) => one.turns));
  const parts = [...speaker.byLabel].sort((a, b) => b[1] - a[1]).map(([label, n]) => `<i class="${className(style(label))}" style="flex:${n} 1 0" title="${escape(`${label}: ${plural(n, "turn")}`)}"><span>${escape(label)}</span></i>`);
  const said = [...speaker.byLabel].map(([label, n]) => `${label} ${n}`).join(", ");
  return `<div class="person"><div><b dir="auto">${escape(speaker.name)}</b><small>${plural(speaker.turns, "turn")}${speaker.ms ? ` · ${clock(speaker.ms)} of speech` : ""}</small></div><div class="share" role="img" aria-label="${escape(said)}" style="width:${(100 * speaker.turns) / most}%">${parts.join("")}</div></div>`;
}

function whole(one, style) {
  const emotions = expressed(one).map(([label, e]) => `<span>${face(style(label))}${escape(label)} <span class="soft">${plural(e.turns, "turn")}${one.share === null ? "" : `, ${clock(e.speaking_ms)}`}, mean probability ${percent(e.probability)}</span></span>`);
  return `<div class="whole"><b dir="auto">${escape(one.speaker)}</b> <span class="soft">${escape(`${spokenText(one)}; ${changesText(one)}`)}</span><div class="expressed">${emotions.join("")}</div></div>`;
}

function row(turn, style) {
  const when = turn.start === null ? String(turn.index + 1) : clock(turn.start, true);
  if (turn.failed !== null) return `<tr class="failed"><td class="when">${when}</td><td class="who">failed</td><td class="said">${escape(turn.failed)}</td><td class="felt"></td></tr>`;
  const revised = turn.revision ? ' <span class="revised">revised</span>' : "";
  const overlap = overlapText(turn) && ` <span class="overlap" dir="auto">${escape(overlapText(turn))}</span>`;
  const named = turn.unsure ? ` aria-label="${escape(speakerText(turn))}" title="${escape(speakerText(turn))}"` : "";
  const lang = turn.text && turn.language ? ` lang="${escape(turn.language)}"` : "";
  const words = `<span${lang} dir="auto">${escape(turn.text) || '<i class="soft">no words</i>'}</span>`;
  return `<tr><td class="when">${when}</td><td class="who" dir="auto"${named}>${escape(turn.speaker)}${turn.unsure ? '<span class="soft">?</span>' : ""}</td><td class="said" dir="auto">${words}${overlap}${revised}${translated(turn)}</td><td class="felt">${face(style(turn.emotion.label))}${escape(turn.emotion.label)} <span class="soft">${percent(turn.emotion.confidence)}</span></td></tr>`;
}

function translated({ language, translation }) {
  if (!translation) return "";
  const from = language ? `<span class="from">from ${escape(languageName(language))}</span> ` : "";
  return `<div class="translation" dir="auto">${from}${escape(translation)}</div>`;
}

function latency(stages) {
  if (!stages.length) return "";
  const rows = stages.map((s) => `<tr><td>${STAGES[s.stage]}</td><td class="num">${milliseconds(s.p50)}</td><td class="num">${milliseconds(s.p95)}</td></tr>`);
  return `<h2>Latency</h2><p class="soft">From the end of speech to the result.</p><table><thead><tr><th scope="col">stage</th><th scope="col" class="num">median</th><th scope="col" class="num"><abbr title="95th percentile">p95</abbr></th></tr></thead><tbody>${rows.join("")}</tbody></table>`;
}
