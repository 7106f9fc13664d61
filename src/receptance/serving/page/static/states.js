// States of conversations, kept by the server: saved, gone on from, forked, moved as files.

import { notify } from "./notices.js";
import { requestOf } from "./request.js";
import { saveFile } from "./transfer.js";
import { forgetState, pathOf } from "./tree.js";

export class States {
  constructor(store, api, library) {
    this.store = store;
    this.api = api;
    this.library = library;
  }

  /** Reads which states there are; the page shows nothing of them where the server keeps none. */
  async refresh() {
    try {
      this.store.state.states = await this.api.states();
    } catch {
      this.store.state.states = null;
    }
    this.store.changed("states");
  }

  /** Keeps the state after a message: from there on, nothing before it is ever read again. */
  save(node) {
    return this.#attempt("The state could not be saved", async () => {
      const { current, modelId } = this.store.state;
      const path = pathOf(current);
      const state = await this.#create(current, path.slice(0, path.indexOf(node) + 1), modelId);
      node.state = { ...markOf(state), model: modelId, system: current.system };
      await this.library.save(current);
      this.store.changed("thread");
      notify("The state is saved: the conversation goes on from here at once.");
    });
  }

  async #create(conversation, path, modelId) {
    const { body, state: before } = requestOf(conversation, path, modelId);
    const { messages, model, state } = body;
    const name = conversation.title.slice(0, 80);
    try {
      return await this.api.createState({ name, messages, model, state });
    } catch (error) {
      const isGone = error.code === "state_not_found" && forgetState(path, before?.id);
      if (!isGone) throw error;
      return this.#create(conversation, path, modelId);
    }
  }

  /** Opens an empty conversation that goes on from a state. */
  open(state) {
    const title = `From ${state.name || state.id}`;
    this.library.create({ title, system: "", origin: markOf(state) });
  }

  /** Makes a state of its own from another, and goes on from it. */
  fork(state) {
    return this.#attempt("The state could not be forked", async () => {
      this.open(await this.api.forkState(state.id));
    });
  }

  remove(state) {
    return this.#attempt("The state could not be deleted", () => this.api.deleteState(state.id));
  }

  download(state) {
    return this.#attempt("The state could not be downloaded", async () => {
      const name = (state.name || state.id).replace(/[^\p{L}\p{N}_-]+/gu, "-");
      saveFile(await this.api.stateFile(state.id), `${name}.safetensors`);
    });
  }

  upload(file) {
    return this.#attempt("The state could not be read", async () => {
      this.open(await this.api.importState(file));
    });
  }

  async #attempt(failure, act) {
    try {
      await act();
    } catch (error) {
      notify(`${failure}: ${error.message}`, { isError: true });
    }
    await this.refresh();
  }
}

function markOf({ id, name, tokens, bytes }) {
  return { id, name: name ?? "", tokens: tokens ?? 0, bytes: bytes ?? 0 };
}
