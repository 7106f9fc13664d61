// The keyboard, and the dialog that lists it.

import { h } from "./dom.js";
import { icon } from "./icons.js";

const KEYS = [
  [["Enter"], "Send the message"],
  [["Shift", "Enter"], "Begin a new line"],
  [["Esc"], "Stop the answer, or close what is open"],
  [["Ctrl", "Shift", "O"], "New conversation"],
  [["Ctrl", "K"], "Search the conversations"],
  [["Ctrl", ","], "Settings"],
  [["Ctrl", "/"], "These shortcuts"],
];

/** Fills the dialog, and has the keys call the actions. */
export function listenToKeys(dialog, actions) {
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close",
    on: { click: () => dialog.close() } }, icon("close"));
  dialog.append(
    h("div", { class: "dialog-head" }, h("h2", { id: "shortcuts-title" }, "Keyboard"), close),
    h("dl", {}, KEYS.map(([keys, meaning]) => h("div", {},
      h("dt", {}, meaning), h("dd", {}, keys.map((key) => h("kbd", {}, key)))))));
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  document.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const act = actionOf(event, actions);
    if (!act || (dialog.open && event.key === "Escape")) return;
    event.preventDefault();
    act();
  });
}

function actionOf(event, actions) {
  if (event.key === "Escape") return actions.escape;
  if (!event.ctrlKey && !event.metaKey) return null;
  const key = event.key.toLowerCase();
  if (event.shiftKey) return key === "o" ? actions.create : null;
  return { "/": actions.showShortcuts, k: actions.search, ",": actions.togglePanel }[key] ?? null;
}
