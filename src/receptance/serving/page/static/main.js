// Puts the page together.

import { Api } from "./api.js";
import { ChatSettings } from "./chat_settings.js";
import { Composer } from "./composer.js";
import { openDatabase } from "./database.js";
import { Header } from "./header.js";
import { Library } from "./library.js";
import { MemorySettings } from "./memory_settings.js";
import { notify } from "./notices.js";
import { PageSettings } from "./page_settings.js";
import { Panel } from "./panel.js";
import { defaults, KeyHolder, showTheme } from "./preferences.js";
import { Session } from "./session.js";
import { listenToKeys } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { States } from "./states.js";
import { Store } from "./store.js";
import { Thread } from "./thread.js";
import { newConversation } from "./tree.js";
import { Welcome } from "./welcome.js";

const RETRY_MS = 5000;

showTheme();
const $ = (id) => document.getElementById(id);
const keyHolder = new KeyHolder();
const api = new Api(() => keyHolder.key);
const store = new Store({
  conversations: [], found: null, query: "", current: newConversation(defaults()),
  runs: new Map(), models: [], modelId: null, states: null, connection: "unknown",
  defaults: defaults(),
});
const library = new Library(store, await openDatabase());
const session = new Session(store, api, library);
const states = new States(store, api, library);
let retry = null;

const actions = {
  create() {
    library.create();
    closeSidebar();
    composer.focus();
  },
  async open(id) {
    await library.open(id);
    closeSidebar();
  },
  search() {
    toggleSidebar(true);
    sidebar.input.focus();
  },
  toggleSidebar: () => toggleSidebar(),
  togglePanel: () => panel.toggle(),
  openPanel(name) {
    panel.show(name);
    if (!panel.isOpen) panel.toggle(true);
  },
  showShortcuts() {
    if (!$("shortcuts").open) $("shortcuts").showModal();
  },
  /** Closes what lies over the page; with nothing there, ends the answer. */
  escape() {
    if (isNarrow() && panel.isOpen) panel.toggle(false);
    else if (isPhone() && isSidebarOpen()) toggleSidebar(false);
    else if (session.isRunning()) session.stop();
    else if (panel.isOpen) panel.toggle(false);
  },
};

const composer = new Composer($("composer"), store, session);
const sidebar = new Sidebar($("sidebar"), store, library, actions);
new Header($("header"), store, actions);
new Welcome($("welcome"), store, composer);
new Thread($("thread"), $("scroller"), store, { session, states, library });
const panel = new Panel($("panel"), [
  { name: "chat", label: "Chat", element: new ChatSettings(store, library).element },
  { name: "memory", label: "Memory", element: new MemorySettings(store, states).element },
  { name: "page", label: "Page", element: new PageSettings(store, library, keyHolder, {
    onKey: () => connect(), showShortcuts: actions.showShortcuts }).element },
], (isOpen) => {
  document.body.classList.toggle("with-panel", isOpen);
  showShade();
  if (!isOpen) $("open-panel").focus();
});
listenToKeys($("shortcuts"), actions);
$("shade").addEventListener("click", () => actions.escape());
store.on(["key"], (state) => state.connection === "key" && askForKey());
// On a narrow screen the panel lies over what was opened from it.
store.on(["opened"], () => isNarrow() && panel.isOpen && panel.toggle(false));
store.on(["lost"], (state) => state.connection === "down" && connect());
addEventListener("online", () => connect());

function isNarrow() {
  return matchMedia("(max-width: 1100px)").matches;
}

function isPhone() {
  return matchMedia("(max-width: 820px)").matches;
}

function isSidebarOpen() {
  const { classList } = document.body;
  return isPhone() ? classList.contains("with-sidebar") : !classList.contains("without-sidebar");
}

/** A wide screen shows the list until it is folded away; a narrow one hides it until it is opened. */
function toggleSidebar(isOpen = !isSidebarOpen()) {
  document.body.classList.toggle("with-sidebar", isOpen);
  document.body.classList.toggle("without-sidebar", !isOpen);
  showShade();
}

function closeSidebar() {
  if (isPhone()) toggleSidebar(false);
}

function showShade() {
  $("shade").hidden = !(isNarrow() && panel.isOpen) && !(isPhone() && isSidebarOpen());
}

function askForKey() {
  actions.openPanel("page");
  $("api-key").focus();
  notify(keyHolder.key ? "The server does not know this key." : "This server needs an API key.");
}

/** Finds out what the server has; tries again until it answers. */
async function connect() {
  const { state } = store;
  clearTimeout(retry);
  try {
    state.models = await api.models();
    state.modelId = state.models.some(({ id }) => id === state.modelId) ? state.modelId : state.models[0]?.id ?? null;
    state.connection = "ready";
    await states.refresh();
  } catch (error) {
    const needsKey = error.status === 401;
    state.connection = needsKey ? "key" : "down";
    if (needsKey) store.changed("key");
    else retry = setTimeout(connect, RETRY_MS);
  }
  store.changed("model");
}

await library.start();
composer.focus();
connect();
