// The line above a conversation: its title, the model, and what it costs to hold.

import { h, setText } from "./dom.js";
import { bytes, count } from "./formats.js";
import { icon } from "./icons.js";
import { contextOf } from "./memory.js";

export class Header {
  constructor(element, store, actions) {
    this.store = store;
    this.title = h("h1", {});
    this.models = h("select", { id: "model", "aria-label": "Model" });
    this.models.addEventListener("change", () => {
      store.state.modelId = this.models.value;
      store.changed("model");
    });
    this.model = h("span", { class: "model" });
    this.held = h("button", { type: "button", class: "meter", hidden: true,
      on: { click: () => actions.openPanel("memory") } });
    const button = (name, label, id, click) => h("button", { type: "button", class: "quiet", id,
      "aria-label": label, title: label, on: { click } }, icon(name));
    element.append(
      button("menu", "Conversations", "open-sidebar", actions.toggleSidebar),
      this.title, this.model, this.models, this.held,
      button("sliders", "Settings", "open-panel", () => actions.togglePanel()));
    store.on(["thread", "list", "run", "model", "opened"], () => this.#draw());
  }

  #draw() {
    const { current, models, modelId } = this.store.state;
    const title = current.title || "New conversation";
    setText(this.title, title);
    document.title = current.title ? `${title} · Receptance` : "Receptance";
    this.#drawModels(models, modelId);
    const model = models.find(({ id }) => id === modelId);
    const size = model?.meta?.state_bytes;
    this.held.hidden = !size;
    if (!size) return;
    const tokens = contextOf(current);
    const words = tokens ? `${bytes(size)} · ${count(tokens)} tokens` : bytes(size);
    const label = `Memory of this conversation: ${words}. Show more.`;
    if (this.held.getAttribute("aria-label") === label) return;
    this.held.setAttribute("aria-label", label);
    this.held.title = "What the server holds for this conversation; it does not grow";
    this.held.replaceChildren(icon("wave"), h("span", {}, bytes(size)),
      ...(tokens ? [h("span", { class: "tokens" }, `${count(tokens)} tokens`)] : []));
  }

  #drawModels(models, modelId) {
    const isChoice = models.length > 1;
    this.models.hidden = !isChoice;
    this.model.hidden = isChoice || models.length === 0;
    setText(this.model, modelId ?? "");
    const ids = models.map(({ id }) => id).join("\n");
    if (isChoice && this.models.dataset.ids !== ids) {
      this.models.replaceChildren(...models.map(({ id }) => h("option", { value: id }, id)));
      this.models.dataset.ids = ids;
    }
    if (isChoice) this.models.value = modelId;
  }
}
