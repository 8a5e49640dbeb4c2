// Values that a tab keeps over a reload (sessionStorage). Without storage they are lost, and all else works.

export function recall(key) {
  try { return sessionStorage.getItem(key); } catch { return null; }
}

export function keep(key, text) {
  try { sessionStorage.setItem(key, text); } catch { /* full, or not allowed */ }
}

export function forget(key) {
  try { sessionStorage.removeItem(key); } catch { /* no storage */ }
}
