// The page's entry point: its buttons, dropped files, and leaving the page.

import { App } from "./app.js";
import { $ } from "./elements.js";
import { showNotice } from "./notice.js";
import { Shelf } from "./shelf.js";

function listen(app) {
  const on = (id, act) => $(id).addEventListener("click", act);
  on("open-settings", () => app.settings.show(app.started));
  on("open-side", () => $("open-side").setAttribute("aria-expanded", String(document.body.classList.toggle("side-open"))));
  on("retry", () => app.connection.now());
  on("finish", () => app.finish());
  on("sample", () => app.openSample());
  on("choose-file", () => $("file").click());
  on("mute", () => {
    const muted = $("mute").getAttribute("aria-pressed") !== "true";
    $("mute").setAttribute("aria-pressed", String(muted));
    app.player?.setMuted(muted);
  });
  on("save", () => app.save());
  $("file").addEventListener("change", () => {
    if ($("file").files.length) app.openFile($("file").files[0]);
    $("file").value = "";
  });
  const files = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!files(event)) return;
    event.preventDefault();
    $("drop").hidden = false;
  });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").hidden = true; });
  addEventListener("drop", (event) => {
    $("drop").hidden = true;
    if (!files(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files.length) app.openFile(event.dataTransfer.files[0]);
  });
  addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey || document.querySelector("dialog[open]")) return;
    const act = { Enter: () => app.finish(), s: () => app.save() }[event.key];
    if (!act || (event.key === "s" && $("save").disabled)) return;
    event.preventDefault();
    act();
  });
  addEventListener("online", () => app.connection.now());
  addEventListener("beforeunload", (event) => { if (app.unsaved) event.preventDefault(); });
  addEventListener("pagehide", () => app.leave());
  document.addEventListener("visibilitychange", () => { if (document.hidden) app.leave(); });
  setInterval(() => app.status.show(), 500);
}

const app = new App(await Shelf.open());
listen(app);
await app.restore();
showNotice();
