// Server-sent events, as the HTML standard defines them, from the bytes of a response.

/**
 * Splits text into the data of events. Give it pieces as they come; it keeps what is unfinished.
 * Lines may end with LF, CRLF or CR, wherever the pieces are cut; comments are passed over.
 */
class EventParser {
  #line = "";
  #data = [];
  #endedWithReturn = false;

  /** Returns the data of each event that this piece completes. */
  push(piece) {
    const events = [];
    let text = piece;
    // The LF of a CRLF that was cut in two ends no second line.
    if (this.#endedWithReturn && text.startsWith("\n")) text = text.slice(1);
    if (piece !== "") this.#endedWithReturn = piece.endsWith("\r");
    const lines = (this.#line + text).split(/\r\n|\n|\r/);
    this.#line = lines.pop();
    for (const line of lines) this.#take(line, events);
    return events;
  }

  #take(line, events) {
    if (line === "") {
      if (this.#data.length > 0) events.push(this.#data.join("\n"));
      this.#data = [];
    } else if (line.startsWith("data:")) {
      this.#data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
    }
  }
}

/** Gives the data of each event in a stream of bytes. */
export async function* readEvents(stream) {
  const reader = stream.getReader();
  const parser = new EventParser();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield* parser.push(decoder.decode(value, { stream: true }));
    }
  } finally {
    // Whoever stops listening ends the request, so that the server stops writing.
    reader.cancel().catch(() => {});
  }
}
