// What the page remembers of its user: looks and defaults, and the key only if that is asked for.

const LOOK = "receptance.theme";
const DEFAULTS = "receptance.defaults";
const KEY = "receptance.key";

function read(storage, name) {
  try {
    return storage().getItem(name);
  } catch {
    return null;
  }
}

function write(storage, name, value) {
  try {
    if (value === null) storage().removeItem(name);
    else storage().setItem(name, value);
  } catch {
    // A browser that keeps nothing still shows the page.
  }
}

const local = () => window.localStorage;
const ofTab = () => window.sessionStorage;

/** The look: "auto" follows the system. */
export function theme() {
  const stored = read(local, LOOK);
  return ["light", "dark"].includes(stored) ? stored : "auto";
}

export function setTheme(name) {
  write(local, LOOK, name === "auto" ? null : name);
  showTheme();
}

export function showTheme() {
  document.documentElement.dataset.theme = theme();
}

/** The system prompt and the sampling with which a conversation begins. */
export function defaults() {
  try {
    const { system = "", sampling = {} } = JSON.parse(read(local, DEFAULTS) ?? "{}");
    return { system: String(system), sampling: { ...sampling } };
  } catch {
    return { system: "", sampling: {} };
  }
}

export function setDefaults({ system, sampling }) {
  write(local, DEFAULTS, JSON.stringify({ system, sampling }));
}

/** The API key: in memory, and in the tab's own storage if its user wants that. Never elsewhere. */
export class KeyHolder {
  #key = read(ofTab, KEY) ?? "";

  get key() {
    return this.#key;
  }

  get isKept() {
    return read(ofTab, KEY) !== null;
  }

  set(key, isKept) {
    this.#key = key.trim();
    write(ofTab, KEY, isKept && this.#key ? this.#key : null);
  }
}
