// What an empty conversation shows.

import { h } from "./dom.js";
import { bytes, count } from "./formats.js";
import { icon } from "./icons.js";

const IDEAS = [
  ["Explain", "Explain how a recurrent network can forget, to someone who knows none."],
  ["Write", "Write the opening of a story that begins in a lighthouse."],
  ["Program", "Write a Python function that finds the longest word of a text."],
];

export class Welcome {
  constructor(element, store, composer) {
    Object.assign(this, { element, store, composer });
    store.on(["thread", "opened", "model"], () => this.#draw());
  }

  #draw() {
    const { current, models, modelId } = this.store.state;
    this.element.hidden = Object.keys(current.nodes).length > 0;
    if (this.element.hidden) return;
    const size = models.find(({ id }) => id === modelId)?.meta?.state_bytes;
    this.element.replaceChildren(
      h("h2", {}, current.origin ? "Go on from here" : "What is on your mind?"),
      h("p", {}, current.origin ? originWords(current.origin) : modelWords(size)),
      current.origin ? "" : h("ul", { class: "ideas" }, IDEAS.map((idea) => this.#idea(idea))));
  }

  #idea([title, text]) {
    return h("li", {}, h("button", { type: "button", on: { click: () => this.composer.write(text) } },
      h("strong", {}, title), h("span", {}, text)));
  }
}

function modelWords(size) {
  return size
    ? [icon("wave"), `This model remembers a conversation in ${bytes(size)}, however long it grows.`]
    : ["Conversations are kept in this browser, and nowhere else."];
}

function originWords({ name, tokens, bytes: size }) {
  const read = tokens ? `It has read ${count(tokens)} tokens already, ` : "It has read a text already, ";
  return [icon("bookmark"), `“${name || "A saved state"}”: ${read}held in ${bytes(size)}.`];
}
