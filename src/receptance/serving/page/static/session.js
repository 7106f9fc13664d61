// Conducts a conversation: sends, stops, writes again, edits; and keeps the times of each answer.

import { announce } from "./notices.js";
import { requestOf } from "./request.js";
import { addNode, forgetState, pathOf, ROOT, titleOf } from "./tree.js";

const SAVE_EVERY_MS = 2000;
const SHORTEST_RATE_MS = 50;

export class Session {
  constructor(store, api, library) {
    this.store = store;
    this.api = api;
    this.library = library;
  }

  isRunning(conversation = this.store.state.current) {
    return this.store.state.runs.has(conversation.id);
  }

  /** Says something at the end of the branch that is shown, and has it answered. */
  send(text) {
    const conversation = this.store.state.current;
    if (this.isRunning(conversation) || !text.trim()) return;
    const parent = pathOf(conversation).at(-1)?.id ?? ROOT;
    const node = addNode(conversation, parent, "user", text);
    conversation.title ||= titleOf(text);
    this.#answer(conversation, node);
  }

  /** Has an answer written once more, beside the one that is there. */
  regenerate(node) {
    const conversation = this.store.state.current;
    const question = conversation.nodes[node.parent];
    if (!this.isRunning(conversation) && question) this.#answer(conversation, question);
  }

  /** Puts other words beside a message: a question is answered, an answer stands as written. */
  edit(node, text) {
    const conversation = this.store.state.current;
    if (this.isRunning(conversation) || !text.trim()) return;
    const edited = addNode(conversation, node.parent, node.role, text);
    if (node.role === "user") this.#answer(conversation, edited);
    else {
      edited.isEdited = true;
      this.library.save(conversation);
      this.store.changed("thread");
    }
  }

  stop() {
    this.store.state.runs.get(this.store.state.current.id)?.controller.abort();
  }

  async #answer(conversation, question) {
    const path = pathOf(conversation);
    const upToQuestion = path.slice(0, path.indexOf(question) + 1);
    const node = addNode(conversation, question.id, "assistant", "");
    const run = { conversation, node, controller: new AbortController(), started: performance.now() };
    this.store.state.runs.set(conversation.id, run);
    this.store.changed("thread", "run", "sent");
    await this.library.save(conversation);
    announce("The answer is being written.");
    try {
      await this.#write(run, upToQuestion);
    } catch (error) {
      if (error.name === "AbortError") node.stats = { ...node.stats, finish: "stopped" };
      else node.error = describe(error);
      this.#noteConnection(error);
    }
    this.store.state.runs.delete(conversation.id);
    conversation.updated = Date.now();
    this.store.changed("thread", "run");
    announce(node.error ? `Error: ${node.error}` : `The answer: ${node.content.slice(0, 2000)}`);
    await this.library.save(conversation);
  }

  #noteConnection({ status }) {
    if (![0, 401].includes(status)) return;
    this.store.state.connection = status === 401 ? "key" : "down";
    this.store.changed(status === 401 ? "key" : "lost", "model");
  }

  async #write(run, path) {
    const { modelId } = this.store.state;
    const { body, state } = requestOf(run.conversation, path, modelId);
    try {
      await this.#read(run, body, state);
    } catch (error) {
      const isGone = error.code === "state_not_found" && forgetState(path, state?.id);
      if (!isGone) throw error;
      // The conversation is here in full, and is read again.
      await this.#write(run, path);
    }
  }

  async #read(run, body, state) {
    const { node, controller, conversation } = run;
    const times = { first: null, last: null };
    let savedAt = performance.now();
    for await (const chunk of this.api.chat(body, controller.signal)) {
      const choice = chunk.choices?.[0];
      const text = choice?.delta?.content ?? "";
      const thought = choice?.delta?.reasoning_content ?? "";
      if (text || thought) {
        times.last = performance.now();
        times.first ??= times.last;
      }
      node.content += text;
      if (thought) node.thought = (node.thought ?? "") + thought;
      const finish = choice?.finish_reason ?? node.stats?.finish ?? null;
      node.stats = statsOf(run, times, finish, chunk.usage ?? node.stats?.usage, state);
      this.store.changed("run");
      if (performance.now() - savedAt > SAVE_EVERY_MS) {
        savedAt = performance.now();
        this.library.save(conversation);
      }
    }
  }
}

function statsOf(run, { first, last }, finish, usage, state) {
  const stats = { finish };
  if (first !== null) stats.firstMs = first - run.started;
  if (!usage) return stats;
  stats.usage = {
    prompt_tokens: usage.prompt_tokens,
    completion_tokens: usage.completion_tokens,
    cached_tokens: usage.prompt_tokens_details?.cached_tokens ?? usage.cached_tokens ?? 0,
  };
  // The first token ends the wait; the rate is that of those after it. Tokens come in bunches, and
  // the time between two or three of these tells nothing.
  const rest = usage.completion_tokens - 1;
  if (rest > 0 && last - first >= SHORTEST_RATE_MS) stats.perSecond = (rest / (last - first)) * 1000;
  stats.context = (state?.tokens ?? 0) + usage.prompt_tokens + usage.completion_tokens;
  return stats;
}

function describe(error) {
  const again = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
  return `${error.message}${again}`;
}
