/**
 * Looks for a task's questions in the rows that a run was trained on. It compares questions alone: the same question with another worked answer has been
 * seen all the same.
 * The rule to keep: what could not be compared is said, never taken for no overlap.
 */
import type { RunConfig } from "../../protocol/runConfig.ts";
import { identifyFile, readRows } from "../data/datasets.ts";
import { OverlapWatch } from "../data/overlap.ts";
import { detectFormat, type Example, type RowFormat, readExample } from "../data/rowFormats.ts";
import type { TaskRow } from "./taskFiles.ts";

export interface TrainingOverlap {
  /** Questions that stand in the training data, each counted once; null where it could not be found out. */
  count: number | null;
  notes: string[];
}

const asText = (text: string): Example => ({ shape: "text", text, continues: false });

/** Reads the run's training file once. */
export async function trainingOverlap({ data }: Pick<RunConfig, "data">, rows: readonly TaskRow[]): Promise<TrainingOverlap> {
  const watch = new OverlapWatch();
  for (const { instruction, input, line } of rows) watch.addEvaluation(asText(`${instruction}\n${input}`), line);
  let format: RowFormat | null = data.format === "auto" ? null : data.format;
  let used = 0;
  try {
    for await (const row of readRows(data.train, await identifyFile(data.train))) {
      if (data.maxRows !== null && used >= data.maxRows) break;
      if ("problem" in row) continue;
      format ??= detectFormat(row.value);
      const example = format && readExample(row.value, format);
      if (!example || typeof example === "string") continue;
      used++;
      for (const question of questionsOf(example)) watch.checkTraining(asText(question), row.line);
    }
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { count: null, notes: [`Whether the run was trained on these questions is not known: its training data cannot be read (${reason})`] };
  }
  const { count, first } = watch.found;
  return { count, notes: [...overlapNote(count, rows.length, data.train, first), ...promptNote(format, data.template)] };
}

function questionsOf(example: Example): string[] {
  if (example.shape === "text") return [example.text];
  if (example.shape === "response") return [`${example.prompt}\n${example.input}`];
  return example.messages.filter(({ role }) => role === "user").map(({ content }) => content);
}

function overlapNote(count: number, total: number, file: string, first: readonly { evaluationLine: number; trainLine: number }[]): string[] {
  if (count === 0) return [];
  const pairs = first.map(({ evaluationLine, trainLine }) => `${evaluationLine} = ${trainLine}`).join(", ");
  return [
    `Warning: ${count} of these ${total} questions stand in the run's training data ${file} (line here = line there: ${pairs}${count > first.length ? ", …" : ""}); its accuracy is not that of a model that has not seen them.`,
  ];
}

function promptNote(format: RowFormat | null, template: string): string[] {
  if (format === "alpaca" && template === "auto") return [];
  return [
    "The run was trained with other prompts than the task's, which are those of Alpaca: its answers may be worse than it could give, or of another form.",
  ];
}
