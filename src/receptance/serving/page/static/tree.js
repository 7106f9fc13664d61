// A conversation is a tree: whatever is edited or written again becomes a branch beside the old one.
//
// A node never changes its parent, and a text that was answered is never overwritten, so that a
// state saved at a node stays the state of everything above it.

export const ROOT = "root";

export function newId() {
  // Not `randomUUID`, which browsers withhold where the page came over plain HTTP.
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Makes an empty conversation with these settings. */
export function newConversation(settings) {
  const now = Date.now();
  const { system, sampling } = structuredClone(settings);
  return {
    id: newId(), title: "", created: now, updated: now, system, sampling,
    nodes: {}, chosen: {}, origin: null,
  };
}

const byAge = (a, b) => a.created - b.created || (a.id < b.id ? -1 : 1);

/** Returns all nodes by their parent, oldest first. */
export function childrenByParent(conversation) {
  const children = new Map();
  for (const node of Object.values(conversation.nodes)) {
    if (!children.has(node.parent)) children.set(node.parent, []);
    children.get(node.parent).push(node);
  }
  for (const nodes of children.values()) nodes.sort(byAge);
  return children;
}

/** Returns the nodes from the first to the last of the branch that is shown. */
export function pathOf(conversation, children = childrenByParent(conversation)) {
  const path = [];
  for (let parent = ROOT; children.has(parent); parent = path.at(-1).id) {
    const found = children.get(parent);
    path.push(found.find((node) => node.id === conversation.chosen[parent]) ?? found.at(-1));
  }
  return path;
}

/** Adds a node under a parent and shows its branch. */
export function addNode(conversation, parent, role, content) {
  const latest = childrenByParent(conversation).get(parent)?.at(-1);
  // Two nodes made within a millisecond keep their order.
  const created = Math.max(Date.now(), (latest?.created ?? 0) + 1);
  const node = { id: newId(), parent, role, content, created };
  conversation.nodes[node.id] = node;
  conversation.chosen[parent] = node.id;
  conversation.updated = Date.now();
  return node;
}

/** Shows the branch of the sibling that is so many places further. */
export function chooseSibling(conversation, node, step) {
  const siblings = childrenByParent(conversation).get(node.parent);
  const index = siblings.findIndex((each) => each.id === node.id) + step;
  if (siblings[index]) conversation.chosen[node.parent] = siblings[index].id;
}

/** Returns the last of the nodes on the path that still has a saved state, or null. */
export function lastSaved(conversation, path) {
  const node = path.findLast((each) => each.state && each.state.system === conversation.system);
  return node ?? null;
}

/** Forgets a state that the server no longer has; returns whether it was on the path. */
export function forgetState(path, id) {
  const node = path.find((each) => each.state && each.state.id === id);
  if (node) delete node.state;
  return node !== undefined;
}

/** Gives a title from the first thing that was said. */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0].replace(/^[#>*\-\s`]+/, "").trim();
  return line.length > 60 ? `${line.slice(0, 57).trimEnd()}…` : line || "New conversation";
}
