// What is not acknowledged, kept by the browser so that it outlives a reload of the page (IndexedDB).
// Where the browser keeps nothing, everything works but that.

const DATABASE = "stream-erc", STORE = "unacknowledged", WRITE_MS = 250;
const DAY_MS = 86_400_000;

function asked(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

export class Shelf {
  /** @returns {Promise<Shelf|null>} null where the browser has none. */
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
    this.session = null;         // nothing is kept until it is known whose it is
    this.waiting = [];
    this.timer = null;
  }

  /** Keep for this session from now on, and only for this one; items given before are kept as well. */
  keepFor(session) {
    if (session !== null && session === this.session) return;
    this.session = session;
    if (session === null) this.waiting = [];
  }

  put(item) {
    this.waiting.push(item);
    if (this.session !== null) this.timer ??= setTimeout(() => this.flush(), WRITE_MS);
  }

  /** Write what waits. Also called when the page is hidden or left. */
  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    const items = this.waiting.splice(0);
    if (!items.length || this.session === null) return;
    this.#write((store) => { for (const item of items) store.add({ session: this.session, keptAt: Date.now(), ...item }); });
  }

  forget(samples, inputId) {
    const acknowledged = (item) => (item.pcm ? item.start + item.pcm.length <= samples : item.message.input_id <= inputId);
    this.waiting = this.waiting.filter((item) => !acknowledged(item));
    this.#remove(acknowledged);
  }

  /** Keep these in place of all that was kept. */
  replace(items) {
    this.waiting = [...items];
    this.#remove(() => true);
    this.flush();
  }

  /** What was kept for a session, in order; what any session left for more than a day goes. */
  async load(session) {
    this.#each(null, (cursor) => { if (cursor.value.keptAt < Date.now() - DAY_MS) cursor.delete(); });
    try {
      const index = this.database.transaction(STORE).objectStore(STORE).index("session");
      return (await asked(index.getAll(session))).map(({ session: _, keptAt: __, ...item }) => item);
    } catch {
      return [];
    }
  }

  /** Forget a session that has ended. */
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
      this.session = null;       // full or closed: go on without
    }
  }
}
