// One message: its text, what can be done with it, and how long it took.

import { copyText } from "./clipboard.js";
import { h, setText } from "./dom.js";
import { bytes, count, rate, seconds } from "./formats.js";
import { icon } from "./icons.js";
import { MarkdownView } from "./markdown.js";
import { splitThinking } from "./thinking.js";

export class MessageView {
  #drawn = "";
  #said = [];

  constructor(node, handlers) {
    this.node = node;
    this.handlers = handlers;
    this.isEditing = false;
    const isUser = node.role === "user";
    this.body = isUser ? h("div", { class: "said" }) : h("div", { class: "body" });
    this.foot = h("div", { class: "foot" });
    const who = isUser ? "You" : "The model";
    this.element = h("li", { class: `message ${node.role}`, data: { node: node.id } },
      h("span", { class: "visually-hidden" }, `${who} said:`), this.body, this.foot);
    if (!isUser) this.#prepareAnswer();
  }

  #prepareAnswer() {
    this.text = new MarkdownView();
    this.thought = new MarkdownView();
    this.summary = h("summary", {}, icon("right"), h("span", {}));
    this.thinking = h("details", { class: "thinking", hidden: true }, this.summary, this.thought.element);
    this.waiting = h("div", { class: "waiting", role: "img", "aria-label": "Reading" }, h("i"), h("i"), h("i"));
    this.problem = h("div", { class: "problem", role: "alert", hidden: true });
    this.body.append(this.thinking, this.text.element, this.waiting, this.problem);
  }

  /**
   * Draws what changed. `place` is `{index, count}` among the message's branches; `isKept` says
   * whether the server keeps the state after it.
   */
  update({ isRunning, isBusy, place, canSaveState, isKept }) {
    if (this.isEditing) return;
    const { node } = this;
    if (node.role === "user") setText(this.body, node.content);
    else this.#drawAnswer(isRunning);
    const key = JSON.stringify([isRunning, isBusy, place, canSaveState, isKept, node.stats, node.isEdited]);
    if (key === this.#drawn) return;
    this.#drawn = key;
    this.element.toggleAttribute("aria-busy", isRunning);
    const focused = this.foot.contains(document.activeElement) && document.activeElement.dataset.tool;
    this.foot.replaceChildren(...this.#tools({ isRunning, isBusy, place, canSaveState, isKept }));
    if (focused) this.foot.querySelector(`[data-tool="${focused}"]`)?.focus();
  }

  #drawAnswer(isRunning) {
    const { content, thought, error } = this.node;
    // Only one message changes while an answer is written, and reading Markdown takes time.
    const said = [content, thought, error, isRunning];
    if (said.every((each, index) => each === this.#said[index])) return;
    this.#said = said;
    const parts = splitThinking(content);
    const thinking = thought ?? parts.thought;
    const isThinking = isRunning && (parts.isThinking || Boolean(thought && !content));
    this.thinking.hidden = !thinking && !isThinking;
    setText(this.summary.lastChild, isThinking ? "Thinking…" : "Thoughts");
    if (thinking) this.thought.update(thinking);
    this.text.update(parts.answer);
    this.waiting.hidden = !isRunning || Boolean(content || thought);
    this.text.element.classList.toggle("writing", isRunning && Boolean(parts.answer));
    this.problem.hidden = !error;
    if (error && this.problem.dataset.error !== error) {
      this.problem.dataset.error = error;
      const again = h("button", { type: "button", class: "link",
        on: { click: () => this.handlers.regenerate(this.node) } }, "Try again");
      this.problem.replaceChildren(icon("alert"), h("span", {}, error), again);
    }
  }

  #tools({ isRunning, isBusy, place, canSaveState, isKept }) {
    const { node } = this;
    const tools = [];
    if (place.count > 1) tools.push(this.#branches(place, isBusy));
    if (isRunning) return [...tools, this.#stats(isKept)];
    tools.push(this.#tool("copy", "Copy", (event) => copyText(node.content, event.currentTarget)));
    if (!isBusy) {
      tools.push(this.#tool("edit", "Edit", () => this.#edit()));
      if (node.role === "assistant") {
        tools.push(this.#tool("again", "Write again", () => this.handlers.regenerate(node)));
        if (canSaveState && node.content && !isKept) {
          tools.push(this.#tool("bookmark", "Save the state here", () => this.handlers.saveState(node)));
        }
      }
    }
    return node.role === "assistant" ? [...tools, this.#stats(isKept)] : tools;
  }

  #tool(name, label, click, disabled = false) {
    return h("button", { type: "button", class: "quiet tool", "aria-label": label, title: label, disabled,
      data: { tool: label }, on: { click } }, icon(name));
  }

  #branches({ index, count: total }, isBusy) {
    const step = (by) => () => this.handlers.choose(this.node, by);
    return h("span", { class: "branches", role: "group", "aria-label": "Branches" },
      this.#tool("left", "Previous branch", step(-1), isBusy || index === 0),
      h("span", {}, `${index + 1} / ${total}`),
      this.#tool("right", "Next branch", step(1), isBusy || index === total - 1));
  }

  #stats(isKept) {
    const { stats = {}, state, isEdited } = this.node;
    const { usage, perSecond, firstMs, finish } = stats;
    const facts = [];
    if (perSecond) facts.push([`${rate(perSecond)} tokens/s`, "Tokens a second, after the first"]);
    if (firstMs !== undefined) facts.push([`first after ${seconds(firstMs)}`, "Time to the first token"]);
    if (usage) {
      const { prompt_tokens: read, completion_tokens: written, cached_tokens: cached } = usage;
      const remembered = cached ? `, of which ${count(cached)} were remembered` : "";
      facts.push([`${count(written)} tokens`, `${count(read)} tokens read${remembered}; ${count(written)} written`]);
    }
    if (finish === "length") facts.push(["cut at its length limit", "The limit of tokens ended the answer"]);
    if (finish === "stopped") facts.push(["stopped", "You stopped it"]);
    if (isEdited) facts.push(["edited", "You wrote this"]);
    const row = h("span", { class: "stats" }, facts.map(([words, title]) => h("span", { title }, words)));
    if (isKept) {
      const title = "The server keeps the state after this message: what follows starts from it";
      row.prepend(h("span", { class: "saved", title }, icon("bookmark"), `state kept, ${bytes(state.bytes)}`));
    }
    return row;
  }

  #edit() {
    this.isEditing = true;
    const { node } = this;
    const area = h("textarea", { "aria-label": "Edit the message", rows: "1" });
    area.value = node.content;
    const end = (isSent) => {
      this.isEditing = false;
      const text = area.value;
      this.element.classList.remove("editing");
      form.replaceWith(this.body);
      this.foot.hidden = false;
      if (isSent && text !== node.content) this.handlers.edit(node, text);
      else this.foot.querySelector('[data-tool="Edit"]')?.focus();
    };
    const cancel = h("button", { type: "button", class: "plain", on: { click: () => end(false) } }, "Cancel");
    const label = node.role === "user" ? "Send" : "Keep";
    const form = h("form", { class: "edit" }, area,
      h("div", { class: "row" }, cancel, h("button", { type: "submit", class: "primary" }, label)));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      end(true);
    });
    area.addEventListener("keydown", (event) => this.#editKey(event, end));
    area.addEventListener("input", () => fit(area));
    this.body.replaceWith(form);
    this.element.classList.add("editing");
    this.foot.hidden = true;
    area.focus();
    fit(area);
  }

  #editKey(event, end) {
    if (event.isComposing) return;
    if (event.key === "Escape") {
      event.stopPropagation();
      end(false);
    } else if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      end(true);
    }
  }
}

/** Makes a text area as high as its text. */
export function fit(area) {
  area.style.height = "auto";
  area.style.height = `${area.scrollHeight + 2}px`;
}
