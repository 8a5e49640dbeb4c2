// Unacknowledged audio and inputs, stored in the browser to survive a reload of the page (IndexedDB).
// If the browser stores nothing, everything else works.

import { endOf } from "./buffer.js";

const DATABASE = "stream-erc", STORE = "unacknowledged", WRITE_MS = 250;
const DAY_MS = 86_400_000;

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Shelf {
  /** Open the database. @returns {Promise<Shelf|null>} null if the browser has none. */
  static async open(indexedDB = globalThis.indexedDB) {
    try {
      const request = indexedDB.open(DATABASE, 1);
      request.onupgradeneeded = () => {
        request.result.createObjectStore(STORE, { autoIncrement: true }).createIndex("session", "session");
      };
      return new Shelf(await asked(request));
    } catch {
      return null;
    }
  }

  constructor(database) {
    this.database = database;
    this.session = null;         // nothing is stored until the session is known
    this.waiting = [];
    this.timer = null;
  }

  /** Store for this session only from now on, including items put before. */
  keepFor(session) {
    if (session !== null && session === this.session) return;
    this.session = session;
    if (session === null) this.waiting = [];
  }

  put(item) {
    this.waiting.push(item);
    if (this.session !== null) this.timer ??= setTimeout(() => this.flush(), WRITE_MS);
  }

  /** Write the waiting items. Also called when the page is hidden or left. */
  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    const items = this.waiting.splice(0);
    if (!items.length || this.session === null) return;
    this.#write((store) => { for (const item of items) store.add({ session: this.session, keptAt: Date.now(), ...item }); });
  }

  forget(samples, inputId) {
    const acknowledged = (item) => (item.pcm ? endOf(item) <= samples : item.message.input_id <= inputId);
    this.waiting = this.waiting.filter((item) => !acknowledged(item));
    this.#remove(acknowledged);
  }

  /** Replace all stored items. */
  replace(items) {
    this.waiting = [...items];
    this.#remove(() => true);
    this.flush();
  }

  /** Return a session's items in order; delete items of any session that are older than a day. */
  async load(session) {
    this.#each(null, (cursor) => { if (cursor.value.keptAt < Date.now() - DAY_MS) cursor.delete(); });
    try {
      const index = this.database.transaction(STORE).objectStore(STORE).index("session");
      return (await asked(index.getAll(session))).map(({ session: _, keptAt: __, ...item }) => item);
    } catch {
      return [];
    }
  }

  /** Delete the items of a session that has ended. */
  drop(session) {
    if (session === this.session) this.keepFor(null);
    this.#each(session, (cursor) => cursor.delete());
  }

  #remove(acknowledged) {
    if (this.session === null) return;
    this.#each(this.session, (cursor) => { if (acknowledged(cursor.value)) cursor.delete(); });
  }

  #each(session, act) {
    this.#write((store) => {
      store.index("session").openCursor(session === null ? null : IDBKeyRange.only(session)).onsuccess = ({ target: { result: cursor } }) => {
        if (!cursor) return;
        act(cursor);
        cursor.continue();
      };
    });
  }

  #write(act) {
    try {
      act(this.database.transaction(STORE, "readwrite", { durability: "relaxed" }).objectStore(STORE));
    } catch {
      this.session = null;       // full or closed: continue without it
    }
  }
}
