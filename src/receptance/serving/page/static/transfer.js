// Conversations as a JSON file: written whole, and read back with suspicion.

import { h } from "./dom.js";
import { newId, ROOT } from "./tree.js";

const FORMAT = "receptance-conversations";
const ROLES = new Set(["user", "assistant"]);
const MAX_NODES = 100_000;

/** Returns the text of a file with these conversations. */
export function exportText(conversations) {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 1);
}

/** Reads the conversations of a file; each becomes a new one, so that none is overwritten. */
export function importText(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("the file is not JSON");
  }
  if (data?.format !== FORMAT || !Array.isArray(data.conversations)) {
    throw new Error("the file holds no conversations that were exported here");
  }
  return data.conversations.map(readConversation);
}

function readConversation(data) {
  const nodes = {};
  const entries = Object.entries(data?.nodes ?? {});
  if (entries.length > MAX_NODES) throw new Error("a conversation in the file is too long");
  for (const [id, node] of entries) nodes[id] = readNode(id, node);
  for (const node of Object.values(nodes)) {
    if (node.parent !== ROOT && !Object.hasOwn(nodes, node.parent)) {
      throw new Error("a conversation in the file lacks some of its messages");
    }
  }
  const chosen = Object.entries(data.chosen ?? {}).filter(([, id]) => Object.hasOwn(nodes, id));
  return {
    id: newId(),
    title: textOf(data.title).slice(0, 200) || "Imported conversation",
    created: timeOf(data.created),
    updated: timeOf(data.updated),
    system: textOf(data.system),
    sampling: readSampling(data.sampling),
    nodes,
    chosen: Object.fromEntries(chosen),
    // States stay on the server that made them: the text is read again here.
    origin: null,
  };
}

function readNode(id, node) {
  if (!ROLES.has(node?.role) || typeof node.content !== "string" || node.parent === id) {
    throw new Error("a message in the file has no role or no text");
  }
  const { role, content } = node;
  return { id, parent: String(node.parent), role, content, created: timeOf(node.created) };
}

function readSampling(data) {
  const isKept = ([name, value]) => Number.isFinite(value) || name === "stop";
  const entries = Object.entries(data ?? {}).filter(isKept);
  return Object.fromEntries(entries.filter(([, value]) => typeof value !== "object"));
}

const textOf = (value) => (typeof value === "string" ? value : "");
const timeOf = (value) => (Number.isFinite(value) ? value : Date.now());

/** Has the browser save a file. */
export function saveFile(content, name) {
  const address = URL.createObjectURL(content instanceof Blob ? content : new Blob([content]));
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** Asks for a file; never resolves if none is chosen. */
export function chooseFile(accept) {
  return new Promise((resolve) => {
    const input = h("input", { type: "file", accept });
    input.addEventListener("change", () => input.files[0] && resolve(input.files[0]));
    input.click();
  });
}
