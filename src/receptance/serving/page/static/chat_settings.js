// The tab of a conversation's own settings: its system prompt and its sampling.

import { h, setText } from "./dom.js";
import { icon } from "./icons.js";
import { PARAMETERS } from "./parameters.js";
import { setDefaults } from "./preferences.js";

export class ChatSettings {
  #fields = [];

  constructor(store, library) {
    Object.assign(this, { store, library });
    this.system = h("textarea", { id: "system", rows: "4", "aria-describedby": "system-hint",
      placeholder: "You are a careful assistant." });
    this.systemHint = h("p", { class: "hint", id: "system-hint" });
    this.system.addEventListener("input", () => {
      this.#conversation.system = this.system.value;
      this.#changed();
    });
    this.reset = h("button", { type: "button", class: "link", on: { click: () => this.#reset() } },
      icon("again"), "Reset");
    this.element = h("div", { class: "settings" },
      h("div", { class: "field" }, h("label", { for: "system" }, "System prompt"), this.system,
        this.systemHint),
      h("div", { class: "section-head" }, h("h2", {}, "Sampling"), this.reset),
      h("p", { class: "hint" }, "What is left as it is, the server decides."),
      PARAMETERS.map((parameter) => this.#slider(parameter)),
      this.#number("max_tokens", "Tokens at most", "the server’s limit", 1),
      this.#number("seed", "Seed", "a new one each time", 0),
      this.#stop());
    store.on(["settings", "opened"], () => this.#draw());
  }

  get #conversation() {
    return this.store.state.current;
  }

  #slider({ name, label, hint, off, min, max, step }) {
    const id = `sampling-${name}`;
    const range = h("input", { type: "range", id, min, max, step, "aria-describedby": `${id}-hint` });
    const number = h("input", { type: "number", min, max, step, "aria-label": `${label}, as a number` });
    const row = h("div", { class: "field slider" },
      h("div", { class: "label-row" }, h("label", { for: id }, label), number), range,
      h("p", { class: "hint", id: `${id}-hint` }, hint));
    const show = () => {
      const value = this.#conversation.sampling[name];
      row.classList.toggle("changed", value !== undefined);
      range.value = value ?? off;
      if (document.activeElement !== number) number.value = value ?? off;
      const filled = (100 * (range.value - min)) / (max - min);
      range.style.setProperty("--filled", `${filled}%`);
    };
    const set = (input) => {
      const value = input.valueAsNumber;
      if (Number.isNaN(value) || value < min || value > max) return;
      this.#set(name, value);
    };
    range.addEventListener("input", () => set(range));
    number.addEventListener("input", () => set(number));
    number.addEventListener("blur", show);
    this.#fields.push(show);
    return row;
  }

  #number(name, label, placeholder, min) {
    const id = `sampling-${name}`;
    const input = h("input", { type: "number", id, min, step: "1", placeholder });
    input.addEventListener("input", () => {
      const value = input.valueAsNumber;
      this.#set(name, Number.isInteger(value) && value >= min ? value : undefined);
    });
    this.#fields.push(() => {
      const value = this.#conversation.sampling[name];
      if (document.activeElement !== input) input.value = value ?? "";
    });
    return h("div", { class: "field" }, h("label", { for: id }, label), input);
  }

  #stop() {
    const input = h("textarea", { id: "sampling-stop", rows: "2", "aria-describedby": "stop-hint" });
    input.addEventListener("input", () => this.#set("stop", input.value || undefined));
    this.#fields.push(() => {
      if (document.activeElement !== input) input.value = this.#conversation.sampling.stop ?? "";
    });
    return h("div", { class: "field" }, h("label", { for: "sampling-stop" }, "Stop at"), input,
      h("p", { class: "hint", id: "stop-hint" }, "Each line is a text before which the answer ends."));
  }

  #set(name, value) {
    const { sampling } = this.#conversation;
    if (value === undefined) delete sampling[name];
    else sampling[name] = value;
    this.#changed();
  }

  #reset() {
    this.#conversation.sampling = {};
    document.activeElement.blur();
    this.#changed();
  }

  #changed() {
    setDefaults(this.#conversation);
    this.store.state.defaults = { system: this.#conversation.system, sampling: this.#conversation.sampling };
    this.store.changed("settings");
    this.library.saveSoon(this.#conversation);
  }

  #draw() {
    const { system, sampling, origin } = this.#conversation;
    this.system.disabled = origin !== null;
    setText(this.systemHint, origin
      ? "The state that this conversation goes on from has read its own."
      : "Said to the model before the conversation.");
    if (document.activeElement !== this.system) this.system.value = system;
    for (const show of this.#fields) show();
    this.reset.hidden = Object.keys(sampling).length === 0;
  }
}
