// Makes the request for an answer from a conversation.

import { requestFields } from "./parameters.js";
import { lastSaved } from "./tree.js";

/**
 * Returns the request that asks what follows the path. If a state was saved on the way, the model
 * goes on from it, and only what came after it is sent.
 */
export function requestOf(conversation, path, model) {
  const { state, after } = startOf(conversation, path, model);
  const messages = after.map(({ role, content }) => ({ role, content }));
  const system = conversation.system.trim();
  // A state has read its system prompt already.
  if (system && !state) messages.unshift({ role: "system", content: system });
  const body = { messages, ...requestFields(conversation.sampling) };
  if (model) body.model = model;
  if (state) body.state = state.id;
  return { body, state };
}

function startOf(conversation, path, model) {
  const saved = lastSaved(conversation, path);
  const after = saved ? path.slice(path.indexOf(saved) + 1) : path;
  const isOfModel = !saved?.state.model || !model || saved.state.model === model;
  if (saved && isOfModel && after.length > 0) return { state: saved.state, after };
  return { state: conversation.origin, after: path };
}
