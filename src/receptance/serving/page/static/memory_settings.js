// The tab of memory: what a conversation costs, and the states that the server keeps.

import { h } from "./dom.js";
import { bytes, count } from "./formats.js";
import { icon } from "./icons.js";
import { contextOf, drawMemory } from "./memory.js";
import { chooseFile } from "./transfer.js";

export class MemorySettings {
  constructor(store, states) {
    Object.assign(this, { store, states });
    this.meter = h("div");
    this.list = h("div");
    this.element = h("div", { class: "settings" }, this.meter, this.list);
    store.on(["thread", "run", "model", "opened"], () => this.#drawMeter());
    store.on(["states"], () => this.#drawStates());
  }

  #drawMeter() {
    const { models, modelId, current } = this.store.state;
    const meta = models.find(({ id }) => id === modelId)?.meta ?? {};
    const tokens = contextOf(current);
    const key = JSON.stringify([meta, tokens]);
    if (key === this.drawn) return;
    this.drawn = key;
    const nothing = h("p", { class: "hint" }, "The server does not say how large this model’s state is.");
    this.meter.replaceChildren(h("h2", {}, "Memory"), meta.state_bytes ? drawMemory(meta, tokens) : nothing);
  }

  #drawStates() {
    const { states } = this.store.state;
    this.list.hidden = states === null;
    if (states === null) return;
    const upload = async () => this.states.upload(await chooseFile(".safetensors"));
    const words = "A state is all that the model remembers. Save one below any answer; " +
      "going on from it reads nothing again.";
    this.list.replaceChildren(
      h("div", { class: "section-head" }, h("h2", {}, "Saved states"),
        h("button", { type: "button", class: "link", on: { click: upload } }, icon("upload"), "From a file")),
      h("p", { class: "hint" }, words),
      h("ul", { class: "states" }, states.map((state) => this.#entry(state))));
  }

  #entry(state) {
    const name = state.name || state.id;
    const tool = (image, label, act) => h("button", { type: "button", class: "quiet tool",
      "aria-label": `${label}: ${name}`, title: label, on: { click: () => act(state) } }, icon(image));
    const facts = `${count(state.tokens)} tokens in ${bytes(state.bytes)}`;
    return h("li", {},
      h("div", { class: "words" }, h("strong", {}, name), h("span", {}, facts)),
      h("div", { class: "tools" },
        tool("play", "Go on in a new conversation", (each) => this.states.open(each)),
        tool("fork", "Fork", (each) => this.states.fork(each)),
        tool("download", "Download", (each) => this.states.download(each)),
        tool("trash", "Delete", (each) => this.states.remove(each))));
  }
}
