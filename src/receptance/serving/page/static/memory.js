// What a conversation costs to hold, beside what a Transformer's cache of keys and values would.

import { h } from "./dom.js";
import { bytes, count } from "./formats.js";
import { icon, svg } from "./icons.js";
import { pathOf } from "./tree.js";

const WIDTH = 280;
const HEIGHT = 120;

/** Returns how many tokens the branch that is shown has, as its last answer counted them. */
export function contextOf(conversation) {
  const last = pathOf(conversation).findLast((node) => node.stats?.context);
  return last?.stats.context ?? conversation.origin?.tokens ?? 0;
}

/** Bytes for each token in a Transformer of this shape: a key and a value in each layer, 16 bits. */
function cacheBytesPerToken({ n_layer: layers, n_embd: width }) {
  return layers && width ? 2 * layers * width * 2 : null;
}

/** Draws the meter for a model's `meta`. */
export function drawMemory(meta, tokens) {
  const size = meta.state_bytes;
  const perToken = cacheBytesPerToken(meta);
  const parts = [
    h("p", { class: "figure" }, bytes(size)),
    h("p", { class: "hint" }, tokens
      ? `holds the ${count(tokens)} tokens of this conversation, and would hold a million.`
      : "holds a conversation of any length."),
  ];
  if (perToken) parts.push(chart(size, perToken, tokens), legend(meta, size, perToken, tokens));
  return h("div", { class: "memory" }, parts);
}

function chart(size, perToken, tokens) {
  const most = Math.max(tokens * 1.25, (2.5 * size) / perToken, 1024);
  const top = Math.max(most * perToken, size) * 1.05;
  const y = (value) => HEIGHT - (value / top) * (HEIGHT - 8) - 2;
  const x = (value) => (value / most) * WIDTH;
  const line = (from, to, kind) => svg("path", { class: kind, d: `M0 ${y(from)}L${WIDTH} ${y(to)}` });
  const parts = [
    svg("path", { class: "area", d: `M0 ${y(size)}H${WIDTH}V${HEIGHT}H0Z` }),
    line(0, most * perToken, "cache"), line(size, size, "state"),
  ];
  if (tokens) {
    parts.push(svg("path", { class: "now", d: `M${x(tokens)} 0V${HEIGHT}` }),
      svg("circle", { class: "point", cx: x(tokens), cy: y(size), r: 4.5 }));
  }
  const label = `Memory over tokens: this model's state stays at ${bytes(size)}; ` +
    `a Transformer's cache grows by ${bytes(perToken)} with each token.`;
  return svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label }, ...parts);
}

function legend(meta, size, perToken, tokens) {
  const key = (kind, words, value) => h("li", {}, h("i", { class: kind }), h("span", {}, words), h("b", {}, value));
  const cache = tokens ? bytes(tokens * perToken) : `${bytes(perToken)} a token`;
  const { n_layer: layers, n_embd: width } = meta;
  return h("div", {},
    h("ul", { class: "legend" }, key("state", "This state", bytes(size)), key("cache", "A Transformer’s cache", cache)),
    h("details", { class: "how" }, h("summary", {}, icon("right"), "How this is counted"),
      h("p", { class: "hint" }, `Of a Transformer with the same ${layers} layers and width ${count(width)}, ` +
        `a key and a value in each layer in 16 bits: 2 × ${layers} × ${width} × 2 bytes = ${bytes(perToken)} ` +
        "for each token. Models that share keys among heads need a part of it.")));
}
