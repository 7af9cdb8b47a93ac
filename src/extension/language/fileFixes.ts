/**
 * What would put an error of a run file or comparison right, where its guess says how: another key, another word, or the same key in its own section. Plain text in,
 * changes out.
 * The rule to keep: a fix that is offered removes its error and brings no new one.
 */
import { isDeepStrictEqual } from "node:util";
import { isScalar, isSeq } from "yaml";
import type { RunFileProblem } from "../../protocol/runConfig.ts";
import { editRunFile, type FormEdit } from "../files/runFileDocument.ts";
import { applyChanges, type TextChange } from "../files/textPieces.ts";
import { nodeAt, parseYaml } from "../files/yamlEdits.ts";
import { yamlScalar } from "../files/yamlScalars.ts";

export interface FileFix {
  kind: "change" | "move";
  /** The key or word that it becomes. */
  to: string;
  changes: TextChange[];
}

/** The fix of a problem; null where there is none. `problemsOf` finds what is wrong with such a file. */
export function fixOf(text: string, problem: RunFileProblem, problemsOf: (text: string) => RunFileProblem[]): FileFix | null {
  const { guess, start, end } = problem;
  if (guess === null) return null;
  const moves = problem.atKey && guess.includes(".");
  const old = text.slice(start, end).trimEnd();
  const changes = moves ? moved(text, problem.path, guess) : [{ offset: start, length: old.length, text: yamlScalar(guess, { like: old }) }];
  if (!changes) return null;
  const left = problemsOf(applyChanges(text, changes));
  const same = (a: RunFileProblem, b: RunFileProblem) => isDeepStrictEqual([a.path, a.message], [b.path, b.message]);
  const before = problemsOf(text);
  const helps = !left.some((other) => same(other, problem)) && left.every((other) => before.some((known) => same(known, other)));
  return helps ? { kind: moves ? "move" : "change", to: guess, changes } : null;
}

/** A key with its value in another section. */
function moved(text: string, from: string, to: string): TextChange[] | null {
  const path = from.split(".");
  const node = nodeAt(parseYaml(text), path);
  const value: unknown = isScalar(node) ? node.value : isSeq(node) ? node.toJSON() : undefined;
  if (value === undefined) return null;
  try {
    return editRunFile(text, [{ path }, { path: to.split("."), value: value as FormEdit["value"] }]);
  } catch {
    return null;
  }
}
