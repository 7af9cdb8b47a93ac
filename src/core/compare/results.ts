/**
 * results.jsonl of a comparison, and the measures of a run read from its folder. Lines are appended and handed to the disk before anybody sees them; a last
 * line that a kill has cut is taken off when the file is opened for writing.
 * The rule to keep: what a run has measured is read from its own events, so that a run that ended unseen counts like one that was watched.
 */
import { closeSync, fsyncSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import path from "node:path";
import { asComparisonLine, type ComparisonLine, comparisonFiles } from "../../protocol/compareResults.ts";
import { type Measures, measuresIn } from "../../protocol/runMeasures.ts";
import { UserError } from "../../protocol/userError.ts";
import { readEvents } from "../files/eventLog.ts";

/** The lines of a comparison, open for adding. One process at a time: who holds the comparison's lock. */
export class ResultLog {
  readonly lines: ComparisonLine[] = [];
  readonly #fd: number;

  /** Throws UserError `compare/bad-results` when a whole line is none of ours. */
  constructor(folder: string) {
    const file = path.join(folder, comparisonFiles.results);
    this.#fd = openSync(file, "a+");
    const content = readFileSync(file);
    const end = content.lastIndexOf(0x0a) + 1;
    for (const [index, text] of content.subarray(0, end).toString("utf8").split("\n").slice(0, -1).entries()) {
      const line = parsed(text);
      if (!line) {
        closeSync(this.#fd);
        throw new UserError(
          "compare/bad-results",
          `${file}: line ${index + 1} is no result.`,
          "The file was changed by hand or damaged; restore it, or start the comparison anew.",
        );
      }
      this.lines.push(line);
    }
    ftruncateSync(this.#fd, end);
  }

  /** Adds a line; it is on the disk when this returns. */
  append(line: ComparisonLine): void {
    const bytes = Buffer.from(`${JSON.stringify(line)}\n`);
    for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    fsyncSync(this.#fd);
    this.lines.push(line);
  }

  close(): void {
    closeSync(this.#fd);
  }
}

function parsed(text: string): ComparisonLine | null {
  try {
    return asComparisonLine(JSON.parse(text));
  } catch {
    return null;
  }
}

/** The measures of a run folder so far. */
export async function measuresOf(runFolder: string): Promise<Measures> {
  return measuresIn(await readEvents(runFolder));
}
