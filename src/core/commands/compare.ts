/** `sparse-tuner compare`: methods on the same model and data, run after run, in the foreground; a folder that was stopped or killed goes on. */
import { stat } from "node:fs/promises";
import path from "node:path";
import { parseCompareFile } from "../../protocol/compareConfig.ts";
import { comparisonFiles, type ResultLine, type ScoreLine } from "../../protocol/compareResults.ts";
import { type ComparedRun, type ComparisonSummary, untrained } from "../../protocol/compareSummary.ts";
import type { RunEvent } from "../../protocol/events.ts";
import { UserError } from "../../protocol/userError.ts";
import { type CheckedComparison, checkComparison, comparisonNameOf, createComparison, openComparison, runComparison } from "../compare/comparison.ts";
import { remainingMs } from "../compare/queue.ts";
import { comparisonNotes, comparisonRows } from "../compare/table.ts";
import { readText } from "../files/textFile.ts";
import { formatBytes, formatCount, formatDuration, formatLoss } from "../terminal/format.ts";
import { ProgressBar } from "../terminal/progressBar.ts";
import { paint, styleOf, type TerminalStyle, wrap } from "../terminal/style.ts";
import type { CompareOptions } from "./options.ts";
import { programName, shownPath } from "./programName.ts";
import { listenForStop } from "./stopSignal.ts";

/** Starts a comparison, or goes on with the one of a folder. */
export async function compare({ fileOrFolder, json, resume }: CompareOptions): Promise<number> {
  const isFolder = (await stat(fileOrFolder).catch(() => null))?.isDirectory() ?? false;
  if (resume && !isFolder)
    throw new UserError("compare/no-comparison", `${fileOrFolder} is no folder of a comparison.`, "Give the folder that the comparison made.");
  const { folder, checked } = isFolder ? await opened(fileOrFolder) : await created(fileOrFolder);
  return inForeground(folder, checked, json);
}

async function opened(folder: string): Promise<{ folder: string; checked: CheckedComparison }> {
  return { folder: path.resolve(folder), checked: await openComparison(folder) };
}

async function created(file: string): Promise<{ folder: string; checked: CheckedComparison }> {
  const checked = await checkComparison(parseCompareFile(await readText(file), file));
  return { folder: await createComparison(checked, comparisonNameOf(file)), checked };
}

async function inForeground(folder: string, checked: CheckedComparison, json: boolean): Promise<number> {
  const style = styleOf(process.stdout);
  const screen = json ? null : new Screen(style);
  const say = (text: string) => (screen ? screen.say(text) : process.stderr.write(`${text}\n`));
  const signal = listenForStop(() => say("stopping after this step; a second signal ends it at once"));
  let last: ComparisonSummary | null = null;
  try {
    if (!json) say(`${paint("comparison", style, 75)} ${shownPath(folder)}`);
    const ended = await runComparison(folder, checked, {
      onLine(line, summary) {
        last = summary;
        if (json) process.stdout.write(`${JSON.stringify(line)}\n`);
        else if (line.kind === "result") screen?.onResult(line);
        else if (line.kind === "score") screen?.onScore(line, summary);
      },
      onRun: (run, summary) => {
        last = summary;
        screen?.onRun(run, summary);
      },
      onEvent: (_, event) => screen?.onEvent(event),
      onScoring: (_, done, of, summary) => screen?.onScoring(done, of, summary),
      onWaiting: say,
      stopRequested: () => signal.received !== null,
    });
    screen?.finish();
    if (ended === "stopped") {
      say(`Go on with: ${programName()} compare ${shownPath(folder)}`);
      return signal.exitCode ?? 0;
    }
    if (!json) for (const line of concluding(folder, last, style)) say(line);
    return 0;
  } finally {
    screen?.finish();
    signal.close();
  }
}

/** Table, notes, and where everything is. */
function concluding(folder: string, summary: ComparisonSummary | null, style: TerminalStyle): string[] {
  const files = [comparisonFiles.table, comparisonFiles.csv, comparisonFiles.chart].map((name) => shownPath(path.join(folder, name)));
  const table = summary ? ["", ...textTable(comparisonRows(summary), style), "", ...comparisonNotes(summary).map((note) => wrap(note, style))] : [];
  return [...table, "", `${paint("done", style, 75)} ${files.join(", ")}`];
}

function textTable(rows: readonly string[][], style: TerminalStyle): string[] {
  const plain = rows.map((row) => row.map((cell) => cell.replaceAll("**", "")));
  const widths = plain[0].map((_, column) => Math.max(...plain.map((row) => row[column].length)));
  return plain.map((row, index) => {
    const line = row.map((cell, column) => cell.padEnd(widths[column])).join("  ");
    return index === 0 ? paint(line.trimEnd(), style, 244) : line.trimEnd();
  });
}

/** What a person sees while it works: a line a run, a bar for the one that is being done. */
class Screen {
  readonly #style: TerminalStyle;
  readonly #bar: ProgressBar;
  /** Told once: every run of a comparison has the same data and model. */
  readonly #told = new Set<string>();
  #steps = 0;

  constructor(style: TerminalStyle) {
    this.#style = style;
    this.#bar = new ProgressBar(process.stdout, style);
  }

  say(text: string): void {
    this.#bar.log(wrap(text, this.#style));
  }

  finish(): void {
    this.#bar.finish();
  }

  onRun(run: ComparedRun, summary: ComparisonSummary): void {
    this.#bar.finish();
    this.#steps = 0;
    const eta = remainingMs(summary, null);
    const rest = eta === null ? "" : `, about ${formatDuration(eta)} left`;
    this.say(`${paint(`run ${summary.runsDone + 1} of ${summary.runsInAll}`, this.#style, 75)}  ${nameOf(run)}${paint(rest, this.#style, 244)}`);
  }

  /** Where nobody watches, a line a run is enough. */
  onEvent(event: RunEvent): void {
    if (event.kind === "notice") this.#notice(event.message);
    if (!this.#style.interactive) return;
    if (event.kind === "started") this.#steps = event.totalSteps;
    if (event.kind === "warmup")
      this.#bar.update({ label: "Warm-up", step: event.step, of: event.of, loss: event.loss, tokensPerSecond: event.tokensPerSecond });
    if (event.kind === "initialising") this.#bar.update({ label: "Initial", step: event.done, of: event.of });
    if (event.kind === "step")
      this.#bar.update({ label: "Training", step: event.step, of: this.#steps, loss: event.loss, tokensPerSecond: event.tokensPerSecond });
  }

  onScoring(done: number, of: number, { task }: ComparisonSummary): void {
    if (this.#style.interactive) this.#bar.update({ label: task?.title ?? "", step: done, of });
  }

  onScore({ run, accuracy, correct, total, majorityFloor, message }: ScoreLine, { task }: ComparisonSummary): void {
    this.#bar.finish();
    const whose = run === untrained ? "the untrained model's " : "  ";
    const floor = majorityFloor === null ? "" : `, floor ${percent(majorityFloor)}`;
    if (accuracy === null) this.say(`${whose}${task?.title}: ${paint("failed", this.#style, 209)}: ${message}`);
    else this.say(`${whose}${task?.title} accuracy ${percent(accuracy)} (${correct} of ${total}${floor})`);
  }

  #notice(message: string): void {
    if (this.#told.has(message)) return;
    this.#told.add(message);
    this.say(`note: ${message}`);
  }

  onResult(result: ResultLine): void {
    this.#bar.finish();
    if (result.status !== "done") {
      this.say(`  ${paint(result.status, this.#style, 209)}: ${result.message}`);
      return;
    }
    const { lossBefore, lossAfter, peakBytes, secondsPerStep } = result;
    const parts = [
      `held-out loss ${lossBefore === null ? "" : `${formatLoss(lossBefore)} → `}${lossAfter === null ? "?" : formatLoss(lossAfter)}`,
      ...(peakBytes === null ? [] : [`peak ${formatBytes(peakBytes)}`]),
      ...(secondsPerStep === null ? [] : [`${formatDuration(secondsPerStep * 1000)} a step`]),
    ];
    this.say(`  ${parts.join(", ")}`);
  }
}

function nameOf({ point, learningRate, seed, search }: ComparedRun): string {
  const size = `${formatCount(point.trainableParameters)} parameters${point.setting ? ` (${point.setting})` : ""}`;
  return `${point.label}, ${size}, learning rate ${learningRate}, seed ${seed}${search ? " (search)" : ""}`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
