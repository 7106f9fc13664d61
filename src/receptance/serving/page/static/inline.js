// Markdown within a line: emphasis, code and links, as plain objects. HTML is text like any other.

const MAX_DEPTH = 8;
const ADDRESS = /^(?:https?:\/\/|mailto:)[^\s<>"'`]+/i;
const SAFE = new Set(["http:", "https:", "mailto:"]);
const PAIRS = [["**", "strong"], ["__", "strong"], ["~~", "deleted"], ["*", "emphasis"],
  ["_", "emphasis"]];
const SPECIAL = /[\\`*_~[!<\n]|https?:\/\/|mailto:/i;

/** Returns a link's address if it is one that may be followed, or null. */
function safeAddress(text) {
  if (!/^(https?:\/\/|mailto:)/i.test(text.trim())) return null;
  try {
    const url = new URL(text.trim());
    return SAFE.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Returns the parts of a text: `{type, text | parts, href}`. */
export function parseInline(text, depth = 0) {
  return new InlineParser(text, depth).parse();
}

class InlineParser {
  constructor(text, depth) {
    this.text = text;
    this.depth = depth;
    this.at = 0;
    this.parts = [];
    // Where each end was found: without this, many openings would cost their square.
    this.found = new Map();
  }

  parse() {
    if (this.depth >= MAX_DEPTH) return [{ type: "text", text: this.text }];
    while (this.at < this.text.length) {
      const rest = this.text.slice(this.at, this.at + 4096);
      const plain = rest.search(SPECIAL);
      if (plain !== 0) this.#text(plain < 0 ? rest : rest.slice(0, plain));
      else if (!this.#special()) this.#text(this.text[this.at]);
    }
    return this.parts;
  }

  #text(text) {
    const last = this.parts.at(-1);
    if (last?.type === "text") last.text += text;
    else this.parts.push({ type: "text", text });
    this.at += text.length;
  }

  #add(part, end) {
    this.parts.push(part);
    this.at = end;
    return true;
  }

  #special() {
    const character = this.text[this.at];
    if (character === "\\") return this.#escape();
    if (character === "\n") return this.#add({ type: "break" }, this.at + 1);
    if (character === "`") return this.#code();
    if (character === "[") return this.#link(this.at);
    if (character === "!") return this.text[this.at + 1] === "[" && this.#image();
    if (character === "<") return this.#bracketed();
    if (/[hm]/i.test(character)) return this.#bare();
    return this.#emphasis();
  }

  #escape() {
    const next = this.text[this.at + 1] ?? "";
    if (!/[!-/:-@[-`{-~]/.test(next)) return false;
    this.at += 1;
    this.#text(next);
    return true;
  }

  #find(mark, from) {
    const known = this.found.get(mark);
    const holds = known && known.from <= from && (known.at < 0 || from <= known.at);
    if (!holds) this.found.set(mark, { from, at: this.text.indexOf(mark, from) });
    return this.found.get(mark).at;
  }

  #code() {
    const ticks = /^`+/.exec(this.text.slice(this.at, this.at + 64))[0];
    const start = this.at + ticks.length;
    const end = this.#find(ticks, start);
    if (end < 0) {
      this.#text(ticks);
      return true;
    }
    const inner = this.text.slice(start, end).replaceAll("\n", " ");
    const text = /^ .*[^ ].* $/.test(inner) ? inner.slice(1, -1) : inner;
    return this.#add({ type: "code", text }, end + ticks.length);
  }

  /** Reads `[label](address "title")` from a bracket on; null where it is none. */
  #bracketPair(open) {
    const close = this.#find("](", open);
    if (close < 0 || close - open > 2000) return null;
    const end = this.#find(")", close);
    if (end < 0 || end - close > 4000) return null;
    let address = this.text.slice(close + 2, end);
    let after = end + 1;
    // An address may hold one pair of parentheses, as those of Wikipedia do.
    if (address.includes("(") && this.text[after] === ")") {
      address += ")";
      after += 1;
    }
    const href = address.trim().split(/\s/, 1)[0].replace(/^<|>$/g, "");
    return { label: this.text.slice(open + 1, close), href, after };
  }

  #link(open) {
    const pair = this.#bracketPair(open);
    if (!pair) return false;
    const href = safeAddress(pair.href);
    const parts = parseInline(pair.label, this.depth + 1);
    if (href) return this.#add({ type: "link", href, parts }, pair.after);
    // What may not be followed is shown as it was written.
    this.#text(this.text.slice(this.at, pair.after));
    return true;
  }

  /** An image is only ever a link: loading it would tell its server that the text was read. */
  #image() {
    const pair = this.#bracketPair(this.at + 1);
    if (!pair) return false;
    const text = `image: ${pair.label || pair.href}`;
    const href = safeAddress(pair.href);
    if (!href) return this.#add({ type: "text", text }, pair.after);
    return this.#add({ type: "link", href, parts: [{ type: "text", text }] }, pair.after);
  }

  #bracketed() {
    const rest = this.text.slice(this.at + 1, this.at + 2048);
    const found = ADDRESS.exec(rest)?.[0];
    if (!found || rest[found.length] !== ">" || !safeAddress(found)) return false;
    const parts = [{ type: "text", text: found }];
    return this.#add({ type: "link", href: safeAddress(found), parts }, this.at + found.length + 2);
  }

  #bare() {
    const found = ADDRESS.exec(this.text.slice(this.at, this.at + 2048))?.[0];
    const text = found?.replace(/[).,;:!?\]*_~]+$/, "");
    const href = text && safeAddress(text);
    if (!href) return false;
    const parts = [{ type: "text", text }];
    return this.#add({ type: "link", href, parts }, this.at + text.length);
  }

  #emphasis() {
    for (const [mark, type] of PAIRS) {
      if (!this.text.startsWith(mark, this.at)) continue;
      const start = this.at + mark.length;
      const before = this.text[this.at - 1] ?? " ";
      if (/\s/.test(this.text[start] ?? " ")) continue;
      // An underscore within a word is part of its name.
      if (mark[0] === "_" && /\w/.test(before)) continue;
      const end = this.#closing(mark, start);
      if (end < 0) continue;
      const parts = parseInline(this.text.slice(start, end), this.depth + 1);
      return this.#add({ type, parts }, end + mark.length);
    }
    return false;
  }

  #closing(mark, start) {
    for (let tries = 0, from = start + 1; tries < 16; tries += 1) {
      const end = this.#find(mark, from);
      if (end < 0) return -1;
      const after = this.text[end + mark.length] ?? " ";
      const isOfDouble = mark.length === 1 && (after === mark || this.text[end - 1] === mark);
      const isWithinWord = mark[0] === "_" && /\w/.test(after);
      if (!/\s/.test(this.text[end - 1]) && !isOfDouble && !isWithinWord) return end;
      from = end + (isOfDouble && after === mark ? 2 : 1);
    }
    return -1;
  }
}
