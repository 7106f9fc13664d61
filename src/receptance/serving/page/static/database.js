// Conversations in the browser's IndexedDB: nothing of them is ever kept by the server.
//
// Two stores: "conversations" holds what the list shows, "trees" the texts, which may be long.

const NAME = "receptance";

/** Opens the database, or one in memory where the browser allows none (and says so). */
export async function openDatabase() {
  try {
    return new Database(await open());
  } catch {
    return new MemoryDatabase();
  }
}

function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("trees", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("the database is in use by an older page"));
  });
}

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** What the list shows of a conversation. */
export function summaryOf({ id, title, created, updated }) {
  return { id, title, created, updated };
}

class Database {
  isPersistent = true;

  constructor(database) {
    this.database = database;
  }

  list() {
    return done(this.#store("conversations", "readonly").getAll());
  }

  get(id) {
    return done(this.#store("trees", "readonly").get(id));
  }

  /** Writes both or neither. Branches that another tab wrote meanwhile are kept. */
  put(conversation) {
    const transaction = this.database.transaction(["conversations", "trees"], "readwrite");
    const trees = transaction.objectStore("trees");
    const before = trees.get(conversation.id);
    before.onsuccess = () => {
      const nodes = { ...before.result?.nodes, ...conversation.nodes };
      trees.put({ ...conversation, nodes });
      transaction.objectStore("conversations").put(summaryOf(conversation));
    };
    return ended(transaction);
  }

  delete(id) {
    const transaction = this.database.transaction(["conversations", "trees"], "readwrite");
    transaction.objectStore("conversations").delete(id);
    transaction.objectStore("trees").delete(id);
    return ended(transaction);
  }

  /** Finds the conversations in whose texts the words occur, one tree in memory at a time. */
  search(words) {
    return new Promise((resolve, reject) => {
      const found = new Set();
      const request = this.#store("trees", "readonly").openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (!cursor) return resolve(found);
        if (holds(cursor.value, words)) found.add(cursor.value.id);
        return cursor.continue();
      };
    });
  }

  #store(name, mode) {
    return this.database.transaction(name, mode).objectStore(name);
  }
}

class MemoryDatabase {
  isPersistent = false;
  #trees = new Map();

  async list() {
    return [...this.#trees.values()].map(summaryOf);
  }

  async get(id) {
    return structuredClone(this.#trees.get(id));
  }

  async put(conversation) {
    this.#trees.set(conversation.id, structuredClone(conversation));
  }

  async delete(id) {
    this.#trees.delete(id);
  }

  async search(words) {
    const found = [...this.#trees.values()].filter((tree) => holds(tree, words));
    return new Set(found.map((tree) => tree.id));
  }
}

function holds(tree, words) {
  const wanted = words.toLowerCase();
  return [tree.title, ...Object.values(tree.nodes).map((node) => node.content)].some((text) =>
    text.toLowerCase().includes(wanted),
  );
}

function ended(transaction) {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
}
