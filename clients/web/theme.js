// Sets light or dark before anything is drawn: a classic script, so that a dark page never flashes white.
"use strict";
{
  let theme = null;
  try { theme = localStorage.getItem("stream-erc-theme"); } catch { /* a page without storage forgets */ }
  document.documentElement.dataset.theme = theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}
