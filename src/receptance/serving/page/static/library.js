// The conversations: listing, opening, naming, deleting, searching, and keeping them.

import { summaryOf } from "./database.js";
import { announce, notify } from "./notices.js";
import { newConversation } from "./tree.js";

const PAUSE_MS = 400;

export class Library {
  #channel = new BroadcastChannel("receptance");
  #searches = 0;
  #unsaved = new Map();
  #removed = new Set();

  constructor(store, database) {
    this.store = store;
    this.database = database;
    // Another tab wrote: what is listed here is read again.
    this.#channel.onmessage = () => this.#read();
  }

  async start() {
    await this.#read();
    this.create();
    if (!this.database.isPersistent) {
      notify("The browser keeps nothing for this page: conversations last until it is closed.");
    }
  }

  async #read() {
    const listed = await this.database.list();
    this.store.state.conversations = listed.sort((a, b) => b.updated - a.updated);
    this.store.changed("list");
  }

  /** Shows an empty conversation, which is kept from its first message on. */
  create(changes = {}) {
    const { state } = this.store;
    state.current = Object.assign(newConversation(state.defaults), changes);
    this.store.changed("list", "thread", "settings", "opened");
    this.store.flush();
    return state.current;
  }

  async open(id) {
    const { state } = this.store;
    // One that is being written is the object that its run writes to.
    const here = state.runs.get(id)?.conversation ?? this.#unsaved.get(id)?.conversation;
    const conversation = here ?? (await this.database.get(id));
    if (!conversation) return;
    state.current = conversation;
    this.store.changed("list", "thread", "settings", "opened");
    this.store.flush();
  }

  /** Writes a conversation that has messages when its user has paused. */
  saveSoon(conversation) {
    if (Object.keys(conversation.nodes).length === 0) return;
    clearTimeout(this.#unsaved.get(conversation.id)?.timer);
    const timer = setTimeout(() => this.save(conversation), PAUSE_MS);
    this.#unsaved.set(conversation.id, { conversation, timer });
  }

  /** Writes the conversation, and lists it first if its texts changed. */
  async save(conversation) {
    const { state } = this.store;
    clearTimeout(this.#unsaved.get(conversation.id)?.timer);
    this.#unsaved.delete(conversation.id);
    if (this.#removed.has(conversation.id)) return;
    const others = state.conversations.filter(({ id }) => id !== conversation.id);
    state.conversations = [summaryOf(conversation), ...others].sort((a, b) => b.updated - a.updated);
    this.store.changed("list");
    try {
      await this.database.put(structuredClone(conversation));
      this.#channel.postMessage("changed");
    } catch (error) {
      const isFull = error?.name === "QuotaExceededError";
      const why = isFull ? "its storage is full. Export and delete some" : error?.message;
      notify(`The browser could not keep this conversation: ${why}.`, { isError: true });
    }
  }

  async rename(id, title) {
    const { state } = this.store;
    const conversation = id === state.current.id ? state.current : await this.database.get(id);
    if (!conversation || !title.trim()) return;
    conversation.title = title.trim().slice(0, 200);
    await this.save(conversation);
    this.store.changed("thread");
  }

  /** Deletes at once; a notice gives it back. */
  async remove(id) {
    const { state } = this.store;
    const run = state.runs.get(id);
    const here = run?.conversation ?? this.#unsaved.get(id)?.conversation;
    const conversation = here ?? (await this.database.get(id));
    // What is still being written must not bring it back.
    this.#removed.add(id);
    run?.controller.abort();
    await this.database.delete(id);
    this.#channel.postMessage("changed");
    if (state.current.id === id) this.create();
    await this.#read();
    if (!conversation) return;
    const undo = async () => {
      this.#removed.delete(id);
      await this.save(conversation);
      await this.open(id);
    };
    notify(`“${conversation.title}” was deleted.`, { action: { label: "Undo", act: undo } });
  }

  /** Shows in the list only conversations in which the words occur. */
  async search(words) {
    const { state } = this.store;
    const turn = (this.#searches += 1);
    state.query = words.trim();
    const found = state.query ? await this.database.search(state.query) : null;
    // An answer that came after a later question is of no use.
    if (turn !== this.#searches) return;
    state.found = found;
    if (found) announce(`${found.size} conversations found.`);
    this.store.changed("list");
  }

  async all() {
    const listed = await this.database.list();
    return Promise.all(listed.map(({ id }) => this.database.get(id)));
  }
}
