// The server's API. Every refusal becomes an `ApiError` with the server's own words.

import { readEvents } from "./sse.js";

class ApiError extends Error {
  constructor(message, { status = 0, code = null, param = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.retryAfter = retryAfter;
  }
}

const UNREACHABLE = "The server cannot be reached. Is it running?";
const CUT = "The connection broke before the answer was finished.";

export class Api {
  /** @param {() => string} key gives the API key, or "" where the server needs none. */
  constructor(key) {
    this.key = key;
  }

  async models() {
    return (await this.#json("GET", "/v1/models")).data;
  }

  /** Gives the chunks of an answer as they come, until the server says that it is done. */
  async *chat(body, signal) {
    const wanted = { ...body, stream: true, stream_options: { include_usage: true } };
    const response = await this.#request("POST", "/v1/chat/completions", { json: wanted, signal });
    try {
      for await (const data of readEvents(response.body)) {
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw errorOf(chunk, response.status);
        yield chunk;
      }
    } catch (error) {
      throw error instanceof TypeError ? new ApiError(CUT) : error;
    }
    // A stream that just ends looks like a success, and is none.
    throw new ApiError(CUT);
  }

  /** Lists the states that the server keeps for this key; null where it keeps none at all. */
  async states() {
    try {
      return (await this.#json("GET", "/v1/states")).data;
    } catch (error) {
      if ([404, 405, 501].includes(error.status)) return null;
      throw error;
    }
  }

  createState(body) {
    return this.#json("POST", "/v1/states", body);
  }

  forkState(id) {
    return this.#json("POST", `/v1/states/${encodeURIComponent(id)}/fork`, {});
  }

  async deleteState(id) {
    await this.#request("DELETE", `/v1/states/${encodeURIComponent(id)}`);
  }

  async stateFile(id) {
    const path = `/v1/states/${encodeURIComponent(id)}/content`;
    return (await this.#request("GET", path)).blob();
  }

  async importState(file) {
    const response = await this.#request("POST", "/v1/states/import", { bytes: file });
    return response.json();
  }

  async #json(method, path, json) {
    return (await this.#request(method, path, { json })).json();
  }

  async #request(method, path, { json, bytes, signal } = {}) {
    const headers = {};
    if (this.key()) headers.authorization = `Bearer ${this.key()}`;
    if (json !== undefined) headers["content-type"] = "application/json";
    if (bytes !== undefined) headers["content-type"] = "application/octet-stream";
    const body = bytes ?? (json === undefined ? undefined : JSON.stringify(json));
    let response;
    try {
      response = await fetch(path, { method, headers, body, signal });
    } catch (error) {
      throw error.name === "AbortError" ? error : new ApiError(UNREACHABLE);
    }
    if (response.ok) return response;
    const answer = await response.json().catch(() => ({}));
    throw errorOf(answer, response.status, response.headers.get("retry-after"));
  }
}

function errorOf(answer, status, retryAfter = null) {
  const { message, code = null, param = null } = answer.error ?? {};
  const words = message ?? `The server answered with status ${status}.`;
  return new ApiError(words, { status, code, param, retryAfter });
}
