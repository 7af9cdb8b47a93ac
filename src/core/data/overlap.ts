/**
 * Finds evaluation rows that also stand in the training data. Only hashes are kept, of the evaluation rows alone.
 * The rule to keep: rows are compared without regard to case, Unicode form and white space, so that a reformatted copy is found.
 */
import { createHash } from "node:crypto";
import type { Example } from "./rowFormats.ts";

export interface Overlap {
  /** Evaluation rows that stand in the training data, each counted once. */
  count: number;
  /** The first of them: their lines in both files. */
  first: Array<{ evaluationLine: number; trainLine: number }>;
}

const listed = 5;

export class OverlapWatch {
  readonly #lineOfHash = new Map<string, number>();
  readonly #found: Overlap = { count: 0, first: [] };

  addEvaluation(example: Example, line: number): void {
    const hash = hashOf(example);
    if (!this.#lineOfHash.has(hash)) this.#lineOfHash.set(hash, line);
  }

  checkTraining(example: Example, line: number): void {
    if (this.#lineOfHash.size === 0) return;
    const hash = hashOf(example);
    const evaluationLine = this.#lineOfHash.get(hash);
    if (evaluationLine === undefined) return;
    this.#lineOfHash.delete(hash);
    this.#found.count++;
    if (this.#found.first.length < listed) this.#found.first.push({ evaluationLine, trainLine: line });
  }

  get found(): Overlap {
    return this.#found;
  }
}

function hashOf(example: Example): string {
  const parts = partsOf(example).map((part) => part.normalize("NFKC").toLowerCase().replace(/\s+/g, " ").trim());
  return createHash("sha256").update(parts.join("\0")).digest("base64").slice(0, 22);
}

function partsOf(example: Example): string[] {
  switch (example.shape) {
    case "text":
      return [example.text];
    case "response":
      return [example.prompt, example.input, example.response];
    case "chat":
      return example.messages.flatMap(({ role, content }) => [role, content]);
  }
}
