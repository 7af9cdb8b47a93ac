/** The text of a new run file. Pure; what it says is what New Run asked for and the few keys that people change first. */
import path from "node:path";
import { stringify } from "yaml";

export interface Budget {
  key: "ratio" | "blocks";
  value: number;
}

export interface NewRun {
  /** Absolute. */
  model: string;
  data: string;
  method: "smt" | "full";
  /** Of smt. */
  budget: Budget;
}

/** `folder` is where the file will lie: paths below it are written relative to it, so that the folder can be carried elsewhere. */
export function runFileText({ model, data, method, budget }: NewRun, folder: string, comment: string, lineEnd: string): string {
  const content = {
    model: pathIn(folder, model),
    data: { train: pathIn(folder, data) },
    method: method === "full" ? { name: "full" } : { name: "smt", [budget.key]: budget.value },
    train: { steps: 500, batchSize: 4, sequenceLength: 512, learningRate: 1e-4, precision: "bf16" },
  };
  return `# ${comment}\n${stringify(content, { lineWidth: 0 })}`.replaceAll("\n", lineEnd);
}

function pathIn(folder: string, file: string): string {
  const relative = path.relative(folder, file);
  if (relative === "" || relative.startsWith("..") || path.isAbsolute(relative)) return file;
  return `./${relative.replaceAll(path.sep, "/")}`;
}
