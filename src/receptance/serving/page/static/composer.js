// The box in which a message is written.

import { h, setAttribute } from "./dom.js";
import { icon } from "./icons.js";
import { fit } from "./message.js";

export class Composer {
  #drafts = new Map();
  #shown = null;

  constructor(form, store, session) {
    Object.assign(this, { store, session });
    this.area = h("textarea", { id: "message", rows: "1", placeholder: "Write a message",
      "aria-label": "Message", enterkeyhint: "send", autocomplete: "off" });
    this.button = h("button", { type: "submit", id: "send", class: "send" });
    this.note = h("p", { class: "note" }, "Enter sends, Shift+Enter begins a line. ",
      h("span", {}, "Models err; check what matters."));
    form.append(h("div", { class: "box" }, this.area, this.button), this.note);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.querySelector(".box").addEventListener("click", (event) => {
      if (event.target === event.currentTarget) this.area.focus();
    });
    this.area.addEventListener("input", () => this.#draw());
    this.area.addEventListener("keydown", (event) => {
      // Enter within an input method chooses a word.
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!session.isRunning()) this.#submit();
    });
    store.on(["run", "thread"], () => this.#draw());
    store.on(["opened"], () => this.#open());
  }

  focus() {
    this.area.focus();
  }

  /** Puts words into the box, for its user to finish. */
  write(text) {
    this.area.value = text;
    this.focus();
    this.#draw();
  }

  #submit() {
    if (this.session.isRunning()) {
      this.session.stop();
      return;
    }
    this.session.send(this.area.value);
    if (this.session.isRunning()) this.area.value = "";
    this.#draw();
  }

  /** Each conversation has a draft of its own. */
  #open() {
    const id = this.store.state.current.id;
    if (id === this.#shown) return;
    if (this.#shown) this.#drafts.set(this.#shown, this.area.value);
    this.#shown = id;
    this.area.value = this.#drafts.get(id) ?? "";
    this.#draw();
  }

  #draw() {
    const isRunning = this.session.isRunning();
    const name = isRunning ? "stop" : "send";
    if (this.button.dataset.shows !== name) {
      this.button.dataset.shows = name;
      this.button.replaceChildren(icon(name));
      this.button.title = isRunning ? "Stop (Esc)" : "Send (Enter)";
      setAttribute(this.button, "aria-label", isRunning ? "Stop" : "Send");
    }
    this.button.disabled = !isRunning && !this.area.value.trim();
    fit(this.area);
  }
}
