/**
 * Finds the texts of a TypeScript source that people will see: those given to `t`, and those that reach a message, a quick pick, an element or an
 * attribute without it. It reads tokens, not types: it knows names of properties and functions, and an expression as far as its brackets.
 * The rule to keep: whatever it overlooks can be shown untranslated; a new way of showing text gets a name here and an example in the test.
 */

interface Token {
  kind: "name" | "string" | "template" | "other";
  /** A string's value; of a template what stands between its expressions, which follow as tokens of their own. */
  text: string;
  line: number;
}

export interface Literal {
  text: string;
  line: number;
}

/** Properties, attributes and assignments whose value is shown. */
const shownNames = new Set([
  "title",
  "label",
  "description",
  "detail",
  "tooltip",
  "placeHolder",
  "placeholder",
  "prompt",
  "buttonLabel",
  "openLabel",
  "saveLabel",
  "alt",
  "caption",
  "textContent",
  "innerText",
  "validationMessage",
  "ariaLabel",
  "ariaDescription",
  "ariaValueText",
  "ariaRoleDescription",
  "aria-label",
  "aria-description",
  "aria-valuetext",
  "aria-roledescription",
]);
/** Shown when assigned, and too common a name for properties of data. */
const shownWhenAssigned = new Set(["text", "message"]);
/** Functions, methods (with a dot) and constructors that show arguments: which, or from which one on. */
const all = { from: 0 };
const shownArguments: Record<string, readonly number[] | { from: number }> = {
  ".showInformationMessage": all,
  ".showWarningMessage": all,
  ".showErrorMessage": all,
  ".setStatusBarMessage": [0],
  ".TreeItem": [0],
  ".CodeAction": [0],
  ".MarkdownString": [0],
  ".Hover": [0],
  ".createTextNode": [0],
  ".fillText": [0],
  ".strokeText": [0],
  ".append": all,
  ".prepend": all,
  ".replaceChildren": all,
  ".createWebviewPanel": [1],
  ".Diagnostic": [1],
  UserError: [1, 2],
  createButton: [0, 3],
  setText: [1],
  element: { from: 2 },
  svgElement: { from: 2 },
};
/** Names, formats and units that are the same in every language. */
const methods = ["SMT", "LoRS", "LoRA", "DoRA", "SPP", "SQFT", "Wanda", "SparseGPT", "RIA"];
const sameEverywhere = new Set(["Sparse Tuner", ...methods, "CSV", "PNG", "SVG", "px"]);

/** First arguments of `t` and `l10n.t`. Null stands for one that is no literal, which nobody could translate. */
export function translatedTexts(source: string): { text: string | null; line: number }[] {
  const tokens = tokensOf(source);
  const found: { text: string | null; line: number }[] = [];
  for (let at = 0; at + 2 < tokens.length; at++) {
    if (!isTranslation(tokens, at) || tokens[at - 1]?.text === "function") continue;
    const [given, next] = [tokens[at + 2], tokens[at + 3]];
    const literal = given.kind === "string" && (next?.text === "," || next?.text === ")");
    found.push({ text: literal ? given.text : null, line: tokens[at].line });
  }
  return found;
}

/** `t(` alone or as `l10n.t(`; a method of that name of something else is another one. */
function isTranslation(tokens: readonly Token[], at: number): boolean {
  if (tokens[at].kind !== "name" || tokens[at].text !== "t" || tokens[at + 1]?.text !== "(") return false;
  return tokens[at - 1]?.text !== "." || tokens[at - 2]?.text === "l10n";
}

/** Literals with words in them that are shown without having been translated. */
export function untranslatedTexts(source: string): Literal[] {
  const tokens = tokensOf(source);
  const found = new Map<Token, Literal>();
  const look = (start: number) => {
    for (const token of literalsFrom(tokens, start)) if (hasWords(token.text)) found.set(token, { text: token.text, line: token.line });
  };
  tokens.forEach((token, at) => {
    const next = tokens[at + 1]?.text;
    const named = token.kind === "name" || token.kind === "string";
    if (named && next === ":" && shownNames.has(token.text)) look(at + 2);
    const assigned = tokens[at - 1]?.text === "." && ["=", "??=", "+="].includes(next ?? "");
    if (assigned && (shownNames.has(token.text) || shownWhenAssigned.has(token.text))) look(at + 2);
    if (token.kind !== "name" || next !== "(" || tokens[at - 1]?.text === "function") return;
    const places = argumentsOf(tokens, at + 1);
    const name = `${tokens[at - 1]?.text === "." ? "." : ""}${token.text}`;
    const shown = Object.hasOwn(shownArguments, name) ? shownArguments[name] : [];
    places.forEach((place, index) => {
      if ("from" in shown ? index >= shown.from : shown.includes(index)) look(place);
    });
    if (token.text === "setAttribute" && shownNames.has(tokens[places[0]]?.text) && places.length > 1) look(places[1]);
  });
  return [...found.values()];
}

function hasWords(text: string): boolean {
  const plain = text.replace(/\$\([\w~-]+\)/g, "").trim();
  return /\p{L}{2}/u.test(plain) && !sameEverywhere.has(plain);
}

/** Where each argument of a call begins; `open` is its parenthesis. */
function argumentsOf(tokens: readonly Token[], open: number): number[] {
  const starts: number[] = [];
  let depth = 0;
  for (let at = open; at < tokens.length; at++) {
    const text = tokens[at].kind === "other" ? tokens[at].text : "";
    if (opening.has(text)) depth++;
    if (closing.has(text) && --depth === 0) return tokens[open + 1].text === ")" && tokens[open + 1].kind === "other" ? [] : starts;
    if (depth === 1 && (text === "," || at === open)) starts.push(at + 1);
  }
  return starts;
}

const opening = new Set(["(", "[", "{", "${"]);
const closing = new Set([")", "]", "}"]);
const keywords = new Set(["return", "await", "if", "while", "for", "typeof", "void", "new", "case"]);

/** The literals that an expression may come out as; what it passes on to functions or compares with is none. */
function literalsFrom(tokens: readonly Token[], start: number): Token[] {
  const found: Token[] = [];
  let depth = 0;
  for (let at = start; at < tokens.length; at++) {
    const token = tokens[at];
    if (token.kind === "string" || token.kind === "template") {
      if (!isOperand(tokens, at)) found.push(token);
      continue;
    }
    if (token.kind !== "other") continue;
    if (token.text === "(" && isCall(tokens[at - 1]) && at > start) at = closeOf(tokens, at);
    else if (opening.has(token.text)) depth++;
    else if (closing.has(token.text) && --depth < 0) return found;
    else if (depth === 0 && (token.text === "," || token.text === ";")) return found;
  }
  return found;
}

/** Compared with, used as a key or an index, or a type. */
function isOperand(tokens: readonly Token[], at: number): boolean {
  const [before, after] = [tokens[at - 1]?.text, tokens[at + 1]?.text];
  const compares = (text: string | undefined) => ["===", "!==", "==", "!=", "in", "as", "case"].includes(text ?? "");
  if (compares(before) || after === "===" || after === "!==" || after === "in") return true;
  if (before === "[" && after === "]" && isCall(tokens[at - 2])) return true;
  return after === ":" && (before === "{" || before === ",");
}

function isCall(before: Token | undefined): boolean {
  return (
    before !== undefined &&
    ((before.kind === "name" && !keywords.has(before.text)) || (before.kind === "other" && (before.text === ")" || before.text === "]")))
  );
}

function closeOf(tokens: readonly Token[], open: number): number {
  let depth = 0;
  for (let at = open; at < tokens.length; at++) {
    if (tokens[at].kind !== "other") continue;
    if (opening.has(tokens[at].text)) depth++;
    if (closing.has(tokens[at].text) && --depth === 0) return at;
  }
  return tokens.length;
}

/** Comments and white space are left out; numbers and regular expressions are `other`. */
function tokensOf(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  let line = 1;
  const push = (kind: Token["kind"], text: string) => tokens.push({ kind, text, line });
  const patterns: [RegExp, (match: RegExpExecArray) => void][] = [
    [/\s+|\/\/[^\n]*|\/\*[\s\S]*?\*\//y, () => undefined],
    [/"(?:[^"\\\n]|\\[\s\S])*"|'(?:[^'\\\n]|\\[\s\S])*'/y, (match) => push("string", unescaped(match[0].slice(1, -1)))],
    [/[\p{L}_$#][\p{L}\p{N}_$]*/uy, (match) => push("name", match[0])],
    [/[\d.]*\d[\w.]*/y, (match) => push("other", match[0])],
    [/\?\?=|===|!==|=>|==|!=|\?\.|\+=|\.\.\.|[\s\S]/y, (match) => push("other", match[0])],
  ];
  /** Reads until a closing brace that belongs to a template, or to the end. */
  const read = (inTemplate: boolean): void => {
    let depth = 0;
    while (at < source.length) {
      if (source[at] === "`") template();
      else if (inTemplate && depth === 0 && source[at] === "}") return;
      else if (source[at] === "/" && !/[/*]/.test(source[at + 1]) && mayBeRegExp(tokens.at(-1))) regExp();
      else {
        for (const [pattern, take] of patterns) {
          pattern.lastIndex = at;
          const match = pattern.exec(source);
          if (!match) continue;
          take(match);
          at += match[0].length;
          line += match[0].split("\n").length - 1;
          break;
        }
        if (tokens.at(-1)?.kind === "other" && source[at - 1] === "{" && tokens.at(-1)?.text === "{") depth++;
        if (tokens.at(-1)?.kind === "other" && source[at - 1] === "}" && tokens.at(-1)?.text === "}") depth--;
      }
    }
  };
  const template = (): void => {
    const token: Token = { kind: "template", text: "", line };
    tokens.push(token);
    for (at++; at < source.length && source[at] !== "`"; ) {
      if (source.startsWith("${", at)) {
        push("other", "${");
        at += 2;
        read(true);
        push("other", "}");
        at++;
      } else {
        if (source[at] === "\n") line++;
        const length = source[at] === "\\" ? 2 : 1;
        token.text += unescaped(source.slice(at, at + length));
        at += length;
      }
    }
    at++;
  };
  const regExp = (): void => {
    const match = /^\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/.exec(source.slice(at, at + 2000));
    push("other", match ? "/regexp/" : "/");
    at += match?.[0].length ?? 1;
  };
  read(false);
  return tokens;
}

/** A slash divides after a value and begins a pattern elsewhere. */
function mayBeRegExp(before: Token | undefined): boolean {
  if (!before) return true;
  if (before.kind === "other") return !/^(?:[)\]}]|\d.*|\/regexp\/)$/.test(before.text);
  return before.kind === "name" && keywords.has(before.text);
}

function unescaped(text: string): string {
  const named: Record<string, string> = { n: "\n", t: "\t", r: "\r" };
  return text.replace(/\\(?:u\{([\da-f]+)\}|u([\da-f]{4})|([\s\S]))/gi, (_, braced, four, single) =>
    single === undefined ? String.fromCodePoint(Number.parseInt(braced ?? four, 16)) : (named[single] ?? single),
  );
}
