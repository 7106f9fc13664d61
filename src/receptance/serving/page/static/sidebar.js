// The list of conversations, with search, renaming and deleting.

import { h } from "./dom.js";
import { dayOf } from "./formats.js";
import { icon, svg } from "./icons.js";

const TYPING_MS = 150;

export class Sidebar {
  constructor(element, store, library, actions) {
    this.element = element;
    this.store = store;
    this.library = library;
    this.actions = actions;
    this.renaming = null;
    this.list = h("nav", { class: "conversations", "aria-label": "Conversations" });
    this.status = h("p", { class: "status" });
    element.append(this.#head(), this.#searchBox(), this.list, this.status);
    store.on(["list", "run"], () => this.#draw());
    store.on(["model"], () => this.#drawStatus());
  }

  #head() {
    const start = h("button", { type: "button", class: "quiet", "aria-label": "New conversation",
      title: "New conversation (Ctrl+Shift+O)", on: { click: this.actions.create } }, icon("plus"));
    const mark = svg("svg", { viewBox: "0 0 32 32", class: "mark", "aria-hidden": "true" },
      svg("rect", { width: "32", height: "32", rx: "9" }),
      svg("path", { d: "M7 19.5c3 0 3-8 6-8s3 9 6 9 3-6 6-6" }));
    return h("div", { class: "brand" }, mark, h("span", {}, "Receptance"), start);
  }

  #searchBox() {
    let timer = null;
    const search = () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.library.search(this.input.value), TYPING_MS);
    };
    this.input = h("input", { type: "search", id: "search", placeholder: "Search",
      "aria-label": "Search conversations", autocomplete: "off", on: { input: search } });
    return h("div", { class: "search" }, icon("search"), this.input);
  }

  #draw() {
    if (this.renaming) return;
    const { conversations, found, current, runs } = this.store.state;
    const shown = found ? conversations.filter(({ id }) => found.has(id)) : conversations;
    // While an answer is written, what is about to be pressed must stay where it is.
    const listed = shown.map(({ id, title, updated }) => [id, title, dayOf(updated), runs.has(id)]);
    const key = JSON.stringify([listed, current.id, found !== null]);
    if (key === this.drawn) return;
    this.drawn = key;
    const days = new Map();
    for (const each of shown) {
      const day = dayOf(each.updated);
      if (!days.has(day)) days.set(day, []);
      days.get(day).push(this.#entry(each));
    }
    const groups = [...days].map(([day, entries]) =>
      h("section", {}, h("h2", {}, day), h("ul", {}, entries)));
    const nothing = found ? "Nothing was found." : "Your conversations will be listed here. They stay in this browser.";
    const focused = this.list.contains(document.activeElement) && document.activeElement.dataset.entry;
    this.list.replaceChildren(...(groups.length ? groups : [h("p", { class: "hint" }, nothing)]));
    if (focused) this.list.querySelector(`[data-entry="${focused}"]`)?.focus();
  }

  #entry({ id, title }) {
    const isCurrent = this.store.state.current?.id === id;
    const isRunning = this.store.state.runs.has(id);
    const open = h("button", { type: "button", class: "title", data: { entry: id },
      "aria-current": isCurrent ? "page" : null, on: { click: () => this.actions.open(id) } },
      isRunning ? h("span", { class: "pulse", role: "img", "aria-label": "Being written" }) : null,
      h("span", { class: "words" }, title));
    const item = h("li", { class: isCurrent ? "entry current" : "entry" }, open);
    item.append(
      this.#tool("edit", `Rename ${title}`, () => this.#rename(item, id, title)),
      this.#tool("trash", `Delete ${title}`, () => this.library.remove(id)));
    return item;
  }

  #tool(name, label, click) {
    return h("button", { type: "button", class: "quiet tool", "aria-label": label, title: label.split(" ")[0],
      on: { click } }, icon(name));
  }

  #rename(item, id, title) {
    const input = h("input", { "aria-label": "Title", value: title, maxlength: "200" });
    this.renaming = id;
    let isOver = false;
    const end = async (isKept) => {
      if (isOver) return;
      isOver = true;
      this.renaming = null;
      this.drawn = null;
      if (isKept) await this.library.rename(id, input.value);
      this.#draw();
      this.list.querySelector(`[data-entry="${id}"]`)?.focus();
    };
    input.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter") end(true);
      if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
      }
    });
    input.addEventListener("blur", () => end(true));
    item.replaceChildren(input);
    input.select();
  }

  #drawStatus() {
    const { connection } = this.store.state;
    const words = { unknown: "Connecting…", ready: "Connected", key: "Needs an API key", down: "Not connected" };
    const dot = h("span", { class: `dot ${connection}`, "aria-hidden": "true" });
    this.status.replaceChildren(dot, words[connection]);
  }
}
