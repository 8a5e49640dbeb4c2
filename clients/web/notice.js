// What everybody who uses the page should know, shown until it has been read.

import { note } from "./notes.js";

const KEY = "stream-erc-notice";
const TEXT = "A network hears which emotion a voice and its words express. It is often wrong, and knows nothing of what a person feels. Tell everybody who is heard that it listens.";

/** Show the notice, unless this browser's user has read it. */
export function showNotice() {
  let read = null;
  try { read = localStorage.getItem(KEY); } catch { /* a page without storage forgets */ }
  if (read !== null) return;
  const remember = () => { try { localStorage.setItem(KEY, "read"); } catch { /* as above */ } };
  note("notice", TEXT, { mild: true, lasting: true, onDismiss: remember, actions: [
    ["What it can and cannot tell", () => open("responsible-use.txt", "_blank", "noopener")],
  ] });
}
