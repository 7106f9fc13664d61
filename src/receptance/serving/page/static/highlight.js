// Colours code a little: comments, strings, numbers and keywords of the commonest languages.

const MAX_LENGTH = 60_000;
const C_LIKE = "break case catch class const continue default delete do else enum export extends " +
  "false finally for function if import in instanceof interface let new null of private public " +
  "return static struct super switch template this throw true try type typedef typeof undefined " +
  "using var void while with yield async await int float double char bool long unsigned auto " +
  "namespace fn impl mut pub trait use match mod where loop move crate func package range go " +
  "defer chan map string";
const PYTHON = "and as assert async await break class continue def del elif else except False " +
  "finally for from global if import in is lambda match None nonlocal not or pass raise return " +
  "self True try while with yield";
const SHELL = "case do done elif else esac export fi for function if in local return then until " +
  "while";
const SQL = "select from where insert into values update set delete create table join left right " +
  "inner outer on group by order having limit as and or not null distinct union with";

const C_COMMENT = String.raw`\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)`;
const HASH_COMMENT = String.raw`(?<=^|\s)#[^\n]*`;
const TEXT = String.raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?`;
const TEMPLATE = "|`(?:\\\\.|[^`\\\\])*`?";

const FAMILIES = [
  { names: "js javascript ts typescript jsx tsx java c cpp c++ h cs go rust rs swift kotlin php json",
    comment: C_COMMENT, text: TEXT + TEMPLATE, keywords: C_LIKE },
  { names: "py python", comment: HASH_COMMENT, keywords: PYTHON,
    text: String.raw`[rbfRBF]{0,2}(?:"""[\s\S]*?(?:"""|$)|'''[\s\S]*?(?:'''|$)|${TEXT})` },
  { names: "sh bash shell zsh console toml yaml yml ruby rb", comment: HASH_COMMENT, text: TEXT,
    keywords: SHELL },
  { names: "sql", comment: "--[^\\n]*", text: TEXT, keywords: SQL + " " + SQL.toUpperCase() },
];

/** Returns the parts of a code: `[kind, text]`, where kind is "" for what has no colour. */
export function highlight(code, language) {
  const family = FAMILIES.find(({ names }) => names.split(" ").includes(language));
  if (!family || code.length > MAX_LENGTH) return [["", code]];
  const keywords = new Set(family.keywords.split(" "));
  const pattern = new RegExp(
    `(?<comment>${family.comment})|(?<string>${family.text})` +
      "|(?<number>\\b\\d[\\w.]*)|(?<word>[A-Za-z_$][\\w$]*)", "gm");
  const parts = [];
  let at = 0;
  for (const found of code.matchAll(pattern)) {
    const kind = kindOf(found, code, keywords);
    if (!kind) continue;
    if (found.index > at) parts.push(["", code.slice(at, found.index)]);
    parts.push([kind, found[0]]);
    at = found.index + found[0].length;
  }
  if (at < code.length) parts.push(["", code.slice(at)]);
  return parts;
}

function kindOf(found, code, keywords) {
  const { comment, string, number, word } = found.groups;
  if (comment !== undefined) return "comment";
  if (string !== undefined) return "string";
  if (number !== undefined) return "number";
  if (keywords.has(word)) return "keyword";
  return code[found.index + word.length] === "(" ? "call" : "";
}
