/**
 * Reads YAML files that people write: text in, a checked value out, or all that is wrong with it, each with its place in the file. What the value must be
 * is said by who reads it; run files and comparisons are read alike.
 * The rule to keep: a problem always has a place, of at least the nearest mapping around it.
 */
import { type Document, isMap, isNode, isSeq, LineCounter, parseDocument } from "yaml";
import { say, type Words, words } from "./problemWords.ts";
import type { Problem } from "./schemaProblems.ts";

/** Such a file is written by hand; beyond this it is something else. */
const maxFileBytes = 1 << 20;

/** One error of a file. `path` as in `train.learningRate`, empty for the file; line and column count from 1. */
export interface FileProblem {
  path: string;
  line: number;
  column: number;
  /** In English, as the words say it. */
  message: string;
  words: Words;
  /** Whether the key itself is wrong, rather than its value. */
  atKey: boolean;
  /** What an editor underlines: offsets into the text. */
  start: number;
  end: number;
  /** The key or word that was probably meant; a key of another section with its path. */
  guess: string | null;
}

/** The value of a file, or null with the problems that keep it from being one. */
export interface CheckedFile<Value> {
  config: Value | null;
  problems: FileProblem[];
}

/** Reads a text. */
export function readYamlFile<Value>(text: string, check: (value: unknown) => { config: Value | null; problems: Problem[] }): CheckedFile<Value> {
  const whole = (found: Words) => failed(problemOf({ words: found }, { path: "", line: 1, column: 1, start: 0, end: 0 }));
  if (text.length > maxFileBytes) return whole(words("tooLarge"));
  const lines = new LineCounter();
  const place = (offset: number) => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
  let document: Document;
  try {
    document = parseDocument(text, { lineCounter: lines, prettyErrors: false, stringKeys: true });
  } catch (error) {
    // Nesting deeper than the stack ends here.
    return whole(notYaml(error as Error));
  }
  // After the first few, syntax errors are echoes of one another.
  const syntax = [...document.errors, ...document.warnings].slice(0, 20);
  if (syntax.length > 0)
    return failed(
      ...syntax.map((error) => {
        const [start, end] = error.pos;
        return problemOf({ words: notYaml(error) }, { path: "", ...place(start), start, end });
      }),
    );

  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    return whole(notYaml(error as Error));
  }
  const { config, problems } = check(value);
  if (problems.length > 0) {
    const placed = problems.map((problem) => {
      const { offset, start, end } = placeOf(document, problem);
      return problemOf(problem, { path: pathText(problem.path), ...place(offset), start, end });
    });
    return failed(...placed.sort((a, b) => a.line - b.line || a.column - b.column));
  }
  return { config, problems: [] };
}

type Place = Pick<FileProblem, "path" | "line" | "column" | "start" | "end">;

function problemOf(
  { words: found, atKey = false, guess = null }: Pick<Problem, "words" | "atKey"> & { guess?: string | null },
  place: Place,
): FileProblem {
  return { ...place, message: say(found), words: found, atKey, guess };
}

function failed(...problems: FileProblem[]): { config: null; problems: FileProblem[] } {
  return { config: null, problems };
}

/** All problems as the sentence of an error; `what` names the kind of file. */
export function problemText(file: string, what: string, problems: readonly FileProblem[]): string {
  const lines = problems.map(({ path, line, column, message }) => `${file}:${line}:${column}: ${path ? `${path} ` : ""}${message}`);
  return lines.length === 1 ? lines[0] : `The ${what} has ${lines.length} errors:\n  ${lines.join("\n  ")}`;
}

/**
 * Where a problem lies in the text: at its key, its value, or, where that is missing, at the nearest mapping around it. `offset` is where it is said to
 * be; from `start` to `end` it is underlined: never nothing, and of a mapping only the key.
 */
function placeOf(document: Document, problem: Problem): { offset: number; start: number; end: number } {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  let [start, end] = [offset, offset];
  for (const [depth, step] of problem.path.entries()) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isNode(item.key) && String(item.key) === String(step));
      if (!pair) break;
      const last = depth === problem.path.length - 1;
      const at = (last && problem.atKey) || !isNode(pair.value) || !pair.value.range ? pair.key : pair.value;
      offset = (isNode(at) && at.range?.[0]) || offset;
      const underlined = at === pair.value && last && !isMap(at) && !isEmpty(at) ? at : pair.key;
      [start, end] = isNode(underlined) && underlined.range ? underlined.range : [offset, offset];
      node = pair.value;
    } else if (isSeq(node)) {
      node = node.items[Number(step)];
      if (!isNode(node) || !node.range) break;
      [start, end] = node.range;
      offset = start;
    } else break;
  }
  return { offset, start, end };
}

function isEmpty(node: unknown): boolean {
  return isNode(node) && node.range?.[0] === node.range?.[1];
}

function pathText(steps: (string | number)[]): string {
  return steps.reduce<string>((text, step) => (typeof step === "number" ? `${text}[${step}]` : text ? `${text}.${step}` : step), "");
}

/** The parser speaks English alone. */
function notYaml({ message }: { message: string }): Words {
  return words("notYaml", message.split("\n")[0].replace(/[.:]$/, ""));
}
