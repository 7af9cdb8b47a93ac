/** Shows the events of a run on the terminal: a bar while it works, a line for what happens, the selection as shares and a map. With --json: the events themselves. */
import path from "node:path";
import type { RunEvent } from "../../protocol/events.ts";
import type { Selection } from "../../protocol/selection.ts";
import { blockMap, blockMapLegend, shareBars } from "../terminal/blockMap.ts";
import { formatCount, formatLoss, formatPercent } from "../terminal/format.ts";
import { ProgressBar, type Screen } from "../terminal/progressBar.ts";
import { paint, plainText, styleOf, type TerminalStyle, wrap } from "../terminal/style.ts";
import { shownPath } from "./programName.ts";

/** Where the text of a line begins that starts with a label such as `run` or `note:`. */
function indentOf(line: string): number {
  if (line.startsWith("note: ")) return 6;
  return /^(selection|[a-z-]+ {2,})/.test(plainText(line)) ? 10 : 0;
}

export interface RunReporter {
  onEvent(event: RunEvent): void;
  /** A sentence that is no event, for people only. */
  say(text: string): void;
  finish(): void;
}

/** One JSON line an event on standard output; sentences go to standard error. */
export function jsonReporter(): RunReporter {
  return {
    onEvent: (event) => process.stdout.write(`${JSON.stringify(event)}\n`),
    say: (text) => process.stderr.write(`${text}\n`),
    finish: () => {},
  };
}

/** Text for a person or a log file. `selection` reads the selection of the run once it is made. */
export function textReporter(selection: () => Selection | null, screen: Screen & Parameters<typeof styleOf>[0] = process.stdout): RunReporter {
  const style = styleOf(screen);
  const bar = new ProgressBar(screen, style);
  let totalSteps = 0;
  const log = (text: string) => bar.log(wrap(text, style, indentOf(text)));
  const heading = (text: string) => paint(text, style, 75);
  return {
    say: log,
    finish: () => bar.finish(),
    onEvent(event) {
      switch (event.kind) {
        case "started":
          totalSteps = event.totalSteps;
          log(`${heading("run")}       ${shownPath(event.run)}`);
          log(`${heading("device")}    ${event.device}`);
          log(
            `${heading("data")}      ${counted(event.trainRows, "row")}, ${formatCount(event.trainTokens)} tokens${event.skippedRows ? `, ${counted(event.skippedRows, "row")} left out` : ""}`,
          );
          break;
        case "warmup":
          bar.update({ label: "Warm-up", step: event.step, of: event.of, loss: event.loss, tokensPerSecond: event.tokensPerSecond });
          break;
        case "selection":
          bar.finish();
          for (const line of selectionLines(event, selection(), style)) bar.log(line);
          break;
        case "adapters":
          log(`${heading("adapters")}  ${formatCount(event.trainableParameters)} parameters beside ${counted(event.matrices, "matrix", "matrices")}`);
          break;
        case "step":
          bar.update({ label: "Training", step: event.step, of: totalSteps, loss: event.loss, tokensPerSecond: event.tokensPerSecond });
          break;
        case "initialising":
          bar.update({ label: "Start", step: event.done, of: event.of });
          break;
        case "sparsity":
          log(sparsityLine(event, style));
          break;
        case "evaluation":
          log(`${heading("held-out")}  loss ${formatLoss(event.loss)} after ${event.step} updates`);
          break;
        case "notice":
          log(`note: ${event.message.replaceAll(process.cwd() + path.sep, "")}`);
          break;
        case "skipped":
          log(`step ${event.step}: update skipped, ${event.reason}`);
          break;
        case "paused":
          log(`paused at step ${event.step}: ${event.reason}`);
          break;
        case "resumed":
          log(event.fromStep < 0 ? "resumed from the start: there was no checkpoint" : `resumed from step ${event.fromStep}`);
          break;
        case "stopped":
          bar.finish();
          log(`stopped at step ${event.step}: ${event.reason}`);
          break;
        case "done":
          bar.finish();
          break;
        case "command":
          log(`${event.by} asked to ${event.name}`);
          break;
        // The command line says itself what failed.
        case "failed":
        case "memory":
        case "checkpoint":
          break;
      }
    },
  };
}

/** The meter of a pruned model: it must stay flat. */
function sparsityLine({ step, zeros, entries, lost }: Extract<RunEvent, { kind: "sparsity" }>, style: TerminalStyle): string {
  const heading = paint("zeros", style, lost > 0 ? 203 : 75);
  const share = `${formatPercent(zeros / entries)} of the linear weights`;
  if (step === 0) return `${heading}     ${share} of the base`;
  return `${heading}     ${share} after ${step} updates, ${lost === 0 ? "none of the base's lost" : `${formatCount(lost)} of the base's LOST`}`;
}

type SelectionEvent = Extract<RunEvent, { kind: "selection" }>;

/** What was chosen, how it is shared between the projections, and where it lies. */
function selectionLines(event: SelectionEvent, chosen: Selection | null, style: TerminalStyle): string[] {
  const { blocks, blockSize, trainableParameters, shares } = event;
  const share = chosen ? `, ${formatPercent(trainableParameters / chosen.totalParameters)} of the matrices` : "";
  const heading = paint("selection", style, 75);
  const lines = [
    `${heading} ${counted(blocks, "block")} of ${blockSize} × ${blockSize}: ${formatCount(trainableParameters)} parameters${share}`,
    "",
    ...shareBars(shares, style),
    "",
  ];
  return chosen ? [...lines, ...blockMap(chosen.matrices, chosen.blocks, style), blockMapLegend(style), ""] : lines;
}

function counted(number: number, noun: string, nouns = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : nouns}`;
}
