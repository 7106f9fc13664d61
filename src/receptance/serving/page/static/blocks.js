// Markdown's blocks: paragraphs, headings, lists, tables, quotations and code, as plain objects.
//
// Each block has its `source`, so that a view which is fed a growing text draws only what changed.
// Every line is looked at once at each depth, and the depth is bounded: no text takes long.

const MAX_DEPTH = 12;
const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:\s(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*\s*){3,}|(?:-\s*){3,}|(?:_\s*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,8})([-*+]|\d{1,9}[.)])(?:\s+|$)(.*)$/;
const TABLE_RULE = /^:?-+:?$/;

/** Returns the blocks of a Markdown text, in order. */
export function parseBlocks(text, depth = 0) {
  const lines = text.replaceAll("\r\n", "\n").replaceAll("\t", "    ").split("\n");
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (lines[at].trim() === "") {
      at += 1;
      continue;
    }
    const take = depth >= MAX_DEPTH ? takeParagraph : takerOf(lines, at);
    const [block, next] = take(lines, at, depth);
    blocks.push({ ...block, source: lines.slice(at, next).join("\n") });
    at = next;
  }
  return blocks;
}

function takerOf(lines, at) {
  const line = lines[at];
  if (FENCE.test(line)) return takeCode;
  if (HEADING.test(line)) return takeHeading;
  if (RULE.test(line)) return takeRule;
  if (QUOTE.test(line)) return takeQuote;
  if (ITEM.test(line)) return takeList;
  if (startsTable(lines, at)) return takeTable;
  return takeParagraph;
}

function takeCode(lines, at) {
  const [, fence, info] = FENCE.exec(lines[at]);
  const content = [];
  let next = at + 1;
  let isClosed = false;
  for (; next < lines.length && !isClosed; next += 1) {
    const line = lines[next].trim();
    isClosed = line.length >= fence.length && line === fence[0].repeat(line.length);
    if (!isClosed) content.push(lines[next]);
  }
  const language = info.trim().split(/\s+/, 1)[0].toLowerCase().slice(0, 30);
  return [{ type: "code", language, text: content.join("\n") }, next];
}

function takeHeading(lines, at) {
  const [, marks, text = ""] = HEADING.exec(lines[at]);
  const words = text.trim().split(" ");
  if (/^#+$/.test(words.at(-1))) words.pop();
  return [{ type: "heading", level: marks.length, text: words.join(" ") }, at + 1];
}

function takeRule(lines, at) {
  return [{ type: "rule" }, at + 1];
}

function takeQuote(lines, at, depth) {
  const content = [];
  let next = at;
  for (; next < lines.length && QUOTE.test(lines[next]); next += 1) {
    content.push(lines[next].replace(QUOTE, ""));
  }
  return [{ type: "quote", blocks: parseBlocks(content.join("\n"), depth + 1) }, next];
}

function takeList(lines, at, depth) {
  const [, indent, mark] = ITEM.exec(lines[at]);
  const isOrdered = /\d/.test(mark);
  const list = { type: "list", isOrdered, start: isOrdered ? parseInt(mark, 10) : 1, items: [] };
  let next = at;
  while (next < lines.length) {
    const item = ITEM.exec(lines[next]);
    const isOfList = item && item[1].length <= indent.length + 1 && !RULE.test(lines[next]);
    if (!isOfList || /\d/.test(item[2]) !== isOrdered) break;
    const [content, end] = takeItem(lines, next, item);
    list.items.push(parseItem(content, depth));
    next = end;
  }
  return [list, next];
}

/** Takes the lines of one item: what is indented below it, and text that runs on. */
function takeItem(lines, at, item) {
  const inner = item[1].length + 2;
  const content = [item[3]];
  let next = at + 1;
  for (; next < lines.length; next += 1) {
    const line = lines[next];
    const spaces = line.length - line.trimStart().length;
    if (line.trim() === "") {
      const after = lines.slice(next + 1, next + 3).find((each) => each.trim() !== "");
      const goesOn = after !== undefined && after.length - after.trimStart().length >= inner;
      if (!goesOn) {
        // An empty line between two items does not end the list.
        if (after !== undefined && ITEM.test(after)) next += lines[next + 1].trim() === "" ? 2 : 1;
        break;
      }
      content.push("");
    } else if (spaces >= inner) {
      content.push(line.slice(Math.min(spaces, item[1].length + item[2].length + 1)));
    } else if (ITEM.test(line) || takerOf(lines, next) !== takeParagraph) break;
    else if (lines[next - 1].trim() === "") break;
    else content.push(line.trimStart());
  }
  return [content, next];
}

function parseItem(content, depth) {
  const task = /^\[([ xX])\]\s+/.exec(content[0]);
  if (task) content[0] = content[0].slice(task[0].length);
  const isDone = task ? task[1] !== " " : null;
  return { isDone, blocks: parseBlocks(content.join("\n"), depth + 1) };
}

function startsTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-")) return false;
  const rule = cellsOf(lines[at + 1]);
  return rule.every((cell) => TABLE_RULE.test(cell)) && cellsOf(lines[at]).length === rule.length;
}

function takeTable(lines, at) {
  const header = cellsOf(lines[at]);
  const alignments = cellsOf(lines[at + 1]).map((cell) => {
    if (!cell.endsWith(":")) return "start";
    return cell.startsWith(":") ? "center" : "end";
  });
  const rows = [];
  let next = at + 2;
  for (; next < lines.length && lines[next].includes("|"); next += 1) {
    const cells = cellsOf(lines[next]);
    rows.push(header.map((_, column) => cells[column] ?? ""));
  }
  return [{ type: "table", header, alignments, rows }, next];
}

/** Splits a row at its bars, but for those that are escaped or within code. */
function cellsOf(line) {
  const cells = [""];
  let isInCode = false;
  const text = line.trim().replace(/^\|/, "").replace(/(?<!\\)\|$/, "");
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] === "\\" && text[at + 1] === "|") cells[cells.length - 1] += text[(at += 1)];
    else if (text[at] === "|" && !isInCode) cells.push("");
    else {
      if (text[at] === "`") isInCode = !isInCode;
      cells[cells.length - 1] += text[at];
    }
  }
  return cells.map((cell) => cell.trim());
}

function takeParagraph(lines, at) {
  let next = at + 1;
  while (next < lines.length && lines[next].trim() !== "") {
    const taker = takerOf(lines, next);
    // A number at the start of a line that runs on is seldom a list.
    const isList = taker === takeList && /^\s*([-*+]|1[.)])\s/.test(lines[next]);
    if (taker !== takeParagraph && (taker !== takeList || isList)) break;
    next += 1;
  }
  const text = lines.slice(at, next).map((line) => line.trimStart()).join("\n").trimEnd();
  return [{ type: "paragraph", text }, next];
}
