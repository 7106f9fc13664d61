// Short notices at the edge of the page, and words that only a screen reader says.

import { h } from "./dom.js";

const SHOWN_MS = 6000;

/** Has a screen reader say it, when it has finished what it is saying. */
export function announce(words) {
  document.getElementById("announcer").textContent = words;
}

/** Shows a notice for some seconds; `action` is a button in it: `{label, act}`. */
export function notify(words, { isError = false, action = null } = {}) {
  const notice = h("div", { class: isError ? "notice error" : "notice", role: isError ? "alert" : "status" },
    h("span", {}, words));
  const close = () => notice.remove();
  if (action) {
    const act = () => {
      close();
      action.act();
    };
    notice.append(h("button", { type: "button", class: "link", on: { click: act } }, action.label));
  }
  document.getElementById("notices").append(notice);
  setTimeout(close, SHOWN_MS);
}
