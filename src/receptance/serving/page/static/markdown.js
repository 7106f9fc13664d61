// Shows Markdown as elements. A list of what may be made, and nothing else can be.

import { parseBlocks } from "./blocks.js";
import { h, showChildren } from "./dom.js";
import { highlight } from "./highlight.js";
import { icon } from "./icons.js";
import { parseInline } from "./inline.js";
import { copyText } from "./clipboard.js";

/** An element that shows a text, and as the text grows, draws only the blocks that changed. */
export class MarkdownView {
  #drawn = [];

  constructor() {
    this.element = h("div", { class: "prose" });
  }

  update(text) {
    const blocks = parseBlocks(text);
    this.#drawn = blocks.map((block, index) => {
      const before = this.#drawn[index];
      return before?.source === block.source
        ? before
        : { source: block.source, element: drawBlock(block) };
    });
    showChildren(this.element, this.#drawn.map(({ element }) => element));
  }
}

function drawBlock(block) {
  switch (block.type) {
    case "code":
      return drawCode(block);
    case "heading":
      // The first level is the conversation's title.
      return h(`h${Math.min(block.level + 1, 6)}`, { class: `h${block.level}` }, drawInline(block.text));
    case "rule":
      return h("hr");
    case "quote":
      return h("blockquote", {}, block.blocks.map(drawBlock));
    case "list":
      return drawList(block);
    case "table":
      return drawTable(block);
    default:
      return h("p", {}, drawInline(block.text));
  }
}

function drawList({ isOrdered, start, items }) {
  const rows = items.map(({ isDone, blocks }) => {
    // A single paragraph needs no space around it.
    const content = blocks.map((block, index) =>
      block.type === "paragraph" && index === 0 ? drawInline(block.text) : drawBlock(block));
    if (isDone === null) return h("li", {}, content);
    const label = isDone ? "done" : "to do";
    const box = h("span", { class: isDone ? "task done" : "task", role: "img", "aria-label": label },
      isDone ? icon("check") : null);
    return h("li", { class: "of-task" }, box, content);
  });
  return isOrdered ? h("ol", { start: start === 1 ? null : start }, rows) : h("ul", {}, rows);
}

function drawTable({ header, alignments, rows }) {
  const cells = (tag, row) =>
    row.map((cell, column) => h(tag, { class: `to-${alignments[column]}` }, drawInline(cell)));
  const table = h("table", {},
    h("thead", {}, h("tr", {}, cells("th", header))),
    h("tbody", {}, rows.map((row) => h("tr", {}, cells("td", row)))));
  // A wide table is scrolled by itself, with the keyboard too.
  return h("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, table);
}

function drawCode({ language, text }) {
  const code = h("code", {}, highlight(text, language).map(([kind, part]) =>
    kind ? h("span", { class: `code-${kind}` }, part) : part));
  const copy = h("button", { type: "button", class: "quiet small", "aria-label": "Copy code" },
    icon("copy"), "Copy");
  copy.addEventListener("click", () => copyText(text, copy));
  return h("div", { class: "code" },
    h("div", { class: "code-head" }, h("span", {}, language || "text"), copy),
    h("pre", { tabindex: "0", role: "region", "aria-label": `Code, ${language || "text"}` }, code));
}

function drawInline(text) {
  return parseInline(text).map(drawPart);
}

const TAGS = { strong: "strong", emphasis: "em", deleted: "del" };

function drawPart(part) {
  if (part.type === "text") return document.createTextNode(part.text);
  if (part.type === "break") return h("br");
  if (part.type === "code") return h("code", {}, part.text);
  const children = part.parts.map(drawPart);
  if (part.type !== "link") return h(TAGS[part.type], {}, children);
  const rel = "noopener noreferrer nofollow";
  return h("a", { href: part.href, target: "_blank", rel }, children);
}
