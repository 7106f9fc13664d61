// The panel at the side: three tabs of what can be set and seen.

import { h } from "./dom.js";
import { icon } from "./icons.js";

export class Panel {
  /** @param tabs `{name, label, element}` each. */
  constructor(element, tabs, onToggle) {
    Object.assign(this, { element, tabs, onToggle });
    this.buttons = tabs.map(({ name, label }) => h("button", { type: "button", role: "tab",
      id: `tab-${name}`, "aria-controls": `tabpanel-${name}`, on: { click: () => this.show(name) } }, label));
    const close = h("button", { type: "button", class: "quiet", "aria-label": "Close settings",
      on: { click: () => this.toggle(false) } }, icon("close"));
    const list = h("div", { role: "tablist", "aria-label": "Settings" }, this.buttons);
    list.addEventListener("keydown", (event) => this.#key(event));
    this.pages = tabs.map(({ name, element: content }) => h("div", { role: "tabpanel", tabindex: "0",
      id: `tabpanel-${name}`, "aria-labelledby": `tab-${name}` }, content));
    element.append(h("div", { class: "panel-head" }, list, close), ...this.pages);
    this.show(tabs[0].name);
  }

  get isOpen() {
    return !this.element.hidden;
  }

  toggle(isOpen = !this.isOpen) {
    this.element.hidden = !isOpen;
    this.onToggle(isOpen);
    if (isOpen) this.buttons.find((each) => each.tabIndex === 0).focus();
  }

  show(name) {
    this.tabs.forEach((tab, index) => {
      const isShown = tab.name === name;
      this.buttons[index].setAttribute("aria-selected", String(isShown));
      this.buttons[index].tabIndex = isShown ? 0 : -1;
      this.pages[index].hidden = !isShown;
    });
    this.element.scrollTop = 0;
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = this.buttons.findIndex((each) => each.tabIndex === 0);
    const next = (at + step + this.tabs.length) % this.tabs.length;
    this.show(this.tabs[next].name);
    this.buttons[next].focus();
  }
}
