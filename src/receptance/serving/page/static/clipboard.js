// Copies text, and says on the button that it did.

import { h } from "./dom.js";
import { icon } from "./icons.js";
import { announce } from "./notices.js";

/** Copies the text; the button shows a tick for a moment. */
export async function copyText(text, button) {
  const isCopied = await copy(text);
  announce(isCopied ? "Copied." : "The browser did not allow copying.");
  if (!isCopied || button.dataset.isDone) return;
  const before = [...button.childNodes];
  button.dataset.isDone = "yes";
  button.replaceChildren(icon("check"), ...(before.length > 1 ? ["Copied"] : []));
  setTimeout(() => {
    button.replaceChildren(...before);
    delete button.dataset.isDone;
  }, 1500);
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copySelected(text);
  }
}

/** The old way, for pages that came over plain HTTP, where browsers withhold the clipboard. */
function copySelected(text) {
  const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;
  const focused = document.activeElement;
  document.body.append(area);
  area.select();
  const isCopied = document.execCommand("copy");
  area.remove();
  focused?.focus();
  return isCopied;
}
