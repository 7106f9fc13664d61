// Models that think aloud write it between <think> and </think>, before the answer.

const OPEN = "<think>";
const CLOSE = "</think>";

/** Parts a text into what was thought and what was answered. */
export function splitThinking(text) {
  const trimmed = text.trimStart();
  if (!trimmed.startsWith(OPEN)) return { thought: "", isThinking: false, answer: text };
  const end = trimmed.indexOf(CLOSE);
  if (end < 0) return { thought: trimmed.slice(OPEN.length).trim(), isThinking: true, answer: "" };
  return {
    thought: trimmed.slice(OPEN.length, end).trim(),
    isThinking: false,
    answer: trimmed.slice(end + CLOSE.length).trimStart(),
  };
}
