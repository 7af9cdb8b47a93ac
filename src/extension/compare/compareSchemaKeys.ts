/**
 * The schema of a comparison's file for editors. Its methods are a run file's, and so are the sections that both have: they are described by the same texts.
 * Plain Node. The rule to keep: what a comparison describes in other words goes by a name of its own, `compare.train`.
 */
import { checkCompareFile } from "../../protocol/compareConfig.ts";
import { compareSchema } from "../../protocol/compareSchema.ts";
import type { RunFileProblem } from "../../protocol/runConfig.ts";
import { FileSchema } from "../language/fileSchema.ts";

const asInRunFile = (name: string) => name.replace(/^methods(?=[[.])/, "method");

export const compareFileSchema = new FileSchema(compareSchema, (id, path) => [`compare.${path}`, asInRunFile(id), asInRunFile(path)]);

/** All errors of a comparison's file at once, in its order. */
export function compareFileProblems(text: string): RunFileProblem[] {
  return checkCompareFile(text, "/").problems;
}
