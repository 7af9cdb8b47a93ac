/** `sparse-tuner train` and `resume`: a run in the foreground. */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseRunFile, stringifyRunConfig } from "../../protocol/runConfig.ts";
import { runNameOf } from "../../protocol/runName.ts";
import { parseSelection, type Selection } from "../../protocol/selection.ts";
import { UserError } from "../../protocol/userError.ts";
import { sizeOf } from "../devices/device.ts";
import { readEvents } from "../files/eventLog.ts";
import { createRunFolder, removeUnbegun, requireRunFolder, runFiles } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { weightShapes } from "../model/config.ts";
import { type CheckedRun, checkRun } from "../prepare.ts";
import { runSession, type SessionOptions } from "../session.ts";
import { formatCount, formatDuration } from "../terminal/format.ts";
import { paint, styleOf, type TerminalStyle } from "../terminal/style.ts";
import type { ResumeOptions, TrainOptions } from "./options.ts";
import { programName, shownPath } from "./programName.ts";
import { jsonReporter, textReporter } from "./runReporter.ts";
import { lossLines, MemoryPhases, memoryLines } from "./runSummary.ts";
import { listenForStop } from "./stopSignal.ts";

export async function train({ runFile, json }: TrainOptions): Promise<number> {
  const config = parseRunFile(await readText(runFile), runFile);
  const checked = await checkRun(config);
  const folder = await createRunFolder(config.output, runNameOf(runFile), stringifyRunConfig(config));
  return runInForeground(checked, folder, { json, resume: null });
}

export async function resume({ runFolder, json, acceptChanges }: ResumeOptions): Promise<number> {
  await requireRunFolder(runFolder);
  const finished = (await readEvents(runFolder)).findLast(({ kind }) => kind === "done");
  if (finished) {
    process.stdout.write(json ? `${JSON.stringify(finished)}\n` : `done: ${runFolder} is finished\n`);
    return 0;
  }
  const file = path.join(runFolder, runFiles.config);
  const checked = await checkRun(parseRunFile(await readText(file), file), runFolder);
  return runInForeground(checked, path.resolve(runFolder), { json, resume: { acceptChanges } });
}

/** A run on the terminal, and what is shown beside its events. */
export interface Foreground {
  json: boolean;
  resume: SessionOptions["resume"];
  /** Looks at the open run before its first step, and at its end. */
  onOpen?: SessionOptions["onOpen"];
  onDone?: SessionOptions["onDone"];
  /** Sentences for the end of a run that is done, above its folder; not asked for with --json. */
  conclusion?(): string[];
}

/** Runs a session on the terminal; the exit code says how it ended. */
export async function runInForeground(
  checked: CheckedRun,
  folder: string,
  { json, resume, onOpen, onDone, conclusion }: Foreground,
): Promise<number> {
  const began = performance.now();
  const style = styleOf(process.stdout);
  const reporter = json ? jsonReporter() : textReporter(() => readSelection(folder));
  const memory = new MemoryPhases();
  let begun = resume !== null;
  const signal = listenForStop(() => reporter.say("stopping after this step; a second signal ends it at once"));
  try {
    const ended = await runSession(checked, folder, {
      onEvent(event) {
        memory.onEvent(event);
        begun ||= event.kind === "started";
        if (event.kind === "started" && !json) reporter.say(modelLine(checked, style));
        reporter.onEvent(event);
      },
      onWaiting: (reason) => reporter.say(reason),
      stopRequested: () => signal.received !== null,
      resume,
      async onOpen(run, emit) {
        memory.open(run);
        await onOpen?.(run, emit);
      },
      onDone,
    });
    reporter.finish();
    if (ended === "stopped") {
      reporter.say(`Go on with: ${programName()} resume ${shownPath(folder)}`);
      return signal.exitCode ?? 0;
    }
    if (json) return 0;
    const method = checked.config.method.name;
    const lines = [
      ...memoryLines(memory.columns, checked.plan, method, style),
      "",
      ...(await lossLines(folder, style)),
      ...(conclusion?.() ?? []),
      `${paint("done", style, 75)}      ${shownPath(folder)} in ${formatDuration(performance.now() - began)}`,
      "",
      ...nextLines(folder, method),
    ];
    for (const line of ["", ...lines]) reporter.say(line);
    return 0;
  } catch (error) {
    // What the weights, the disk or the memory were refused for is said here, and is no run.
    if (!begun && error instanceof UserError) await removeUnbegun(folder).catch(() => {});
    throw error;
  } finally {
    reporter.finish();
    signal.close();
  }
}

function modelLine({ config, base }: CheckedRun, style: TerminalStyle): string {
  const parameters = [...weightShapes(base.config).values()].reduce((sum, shape) => sum + sizeOf(shape), 0);
  const name = `${paint("model", style, 75)}     ${shownPath(config.model)}`;
  return `${name}: ${formatCount(parameters)} parameters in ${base.config.numLayers} layers, computed in ${config.train.precision}`;
}

function nextLines(folder: string, method: string): string[] {
  const [program, shown] = [programName(), shownPath(folder)];
  const commands = [
    ...(method === "full" ? [] : [`inspect ${shown}`]),
    `generate ${shown} --prompt "Once upon a time"`,
    `export ${shown} --format merged --to tuned-model`,
  ];
  return ["Next:", ...commands.map((command) => `  ${program} ${command}`)];
}

/** selection.json of a run folder, null before there is one. */
export function readSelection(folder: string): Selection | null {
  const file = path.join(folder, runFiles.selection);
  return existsSync(file) ? parseSelection(readFileSync(file, "utf8"), file) : null;
}
