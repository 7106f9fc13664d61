// The tab of the page itself: looks, the key, and the conversations as files.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { notify } from "./notices.js";
import { setTheme, theme } from "./preferences.js";
import { chooseFile, exportText, importText, saveFile } from "./transfer.js";

export class PageSettings {
  constructor(store, library, keyHolder, { onKey, showShortcuts }) {
    Object.assign(this, { store, library, keyHolder, onKey });
    this.element = h("div", { class: "settings" },
      this.#looks(), this.#keyForm(),
      h("h2", {}, "Conversations"),
      h("p", { class: "hint" }, "They are kept in this browser, and nowhere else."),
      h("div", { class: "buttons" },
        this.#button("download", "Export all", () => this.#exportAll()),
        this.#button("download", "Export this one", () => this.#exportCurrent()),
        this.#button("upload", "Import", () => this.#import())),
      h("h2", {}, "Keyboard"),
      h("div", { class: "buttons" }, this.#button("keyboard", "Show the shortcuts", showShortcuts)));
  }

  #button(image, label, click) {
    return h("button", { type: "button", class: "plain", on: { click } }, icon(image), label);
  }

  #looks() {
    const choices = [["auto", "auto", "System"], ["sun", "light", "Light"], ["moon", "dark", "Dark"]];
    const radios = choices.map(([image, value, label]) => {
      const radio = h("input", { type: "radio", name: "theme", value, checked: theme() === value });
      radio.addEventListener("change", () => setTheme(value));
      return h("label", {}, radio, icon(image), h("span", {}, label));
    });
    return h("fieldset", { class: "choice" }, h("legend", {}, "Looks"), h("div", {}, radios));
  }

  #keyForm() {
    this.key = h("input", { type: "password", id: "api-key", autocomplete: "off", spellcheck: "false",
      "aria-describedby": "key-hint", placeholder: "none", value: this.keyHolder.key });
    this.keeps = h("input", { type: "checkbox", id: "keep-key", checked: this.keyHolder.isKept });
    const form = h("form", { class: "field" },
      h("label", { for: "api-key" }, "API key"),
      h("div", { class: "row" }, this.key, h("button", { type: "submit", class: "plain" }, "Use")),
      h("label", { class: "check", for: "keep-key" }, this.keeps, "Keep it until this tab is closed"),
      h("p", { class: "hint", id: "key-hint" }, "Forgotten on reload unless kept; it goes to this server only."));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.keyHolder.set(this.key.value, this.keeps.checked);
      this.onKey();
    });
    this.keeps.addEventListener("change", () => this.keyHolder.set(this.keyHolder.key, this.keeps.checked));
    return form;
  }

  async #exportAll() {
    saveFile(exportText(await this.library.all()), "conversations.json");
  }

  #exportCurrent() {
    const { current } = this.store.state;
    const name = current.title.replace(/[^\p{L}\p{N}]+/gu, "-").slice(0, 60) || "conversation";
    saveFile(exportText([current]), `${name}.json`);
  }

  async #import() {
    const file = await chooseFile(".json,application/json");
    try {
      const conversations = importText(await file.text());
      for (const each of conversations) await this.library.save(each);
      notify(`${conversations.length} conversations were imported.`);
    } catch (error) {
      notify(`Nothing was imported: ${error.message}.`, { isError: true });
    }
  }
}
