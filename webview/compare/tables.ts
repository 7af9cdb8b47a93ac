/** The tables of the Compare Runs view: points of a comparison, its runs, and runs side by side. They show and sort nothing by themselves. */
import type { RunCard } from "../../src/protocol/compareProtocol.ts";
import type { ScoreLine } from "../../src/protocol/compareResults.ts";
import { bestOfBudgets, type ComparedRun, type ComparisonSummary, type PointSummary } from "../../src/protocol/compareSummary.ts";
import { element } from "../element.ts";
import { exactCount, formatBytes, formatCount, formatPercent } from "../panel/byteUnits.ts";
import { t } from "../strings.ts";
import { bestRun, gain } from "./store.ts";
import { durationText, lossText, shareText } from "./texts.ts";

/** A cell: its text, and the exact value behind a rounded one. */
interface Cell {
  text: string;
  exact?: string;
  strong?: boolean;
}

function table(caption: string, head: readonly string[], rows: readonly (Cell | Node)[][], textColumns: number): HTMLElement {
  const headCells = head.map((text, i) => element("th", { scope: "col", class: i < textColumns ? null : "number" }, text));
  const bodyRows = rows.map((row) =>
    element(
      "tr",
      {},
      ...row.map((cell, i) => {
        if (cell instanceof Node) return element("td", {}, cell);
        const attributes = { class: i < textColumns ? null : "number", title: cell.exact ?? null };
        const text = cell.strong ? element("strong", {}, cell.text) : cell.text;
        return i === 0 ? element("th", { scope: "row" }, text) : element("td", attributes, text);
      }),
    ),
  );
  const made = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...headCells)),
    element("tbody", {}, ...bodyRows),
  );
  return element("div", { class: "table", tabindex: 0, role: "region", "aria-label": caption }, made);
}

/** The points of a comparison. */
export function pointTable(summary: ComparisonSummary): HTMLElement {
  const budgets = summary.plan.points.some(({ budget }) => budget !== null);
  const zeros = summary.points.some(({ lostZeros }) => lostZeros !== null);
  const best = bestOfBudgets(summary);
  const { task } = summary;
  const head = [
    t("Method"),
    t("Setting"),
    ...(budgets ? [t("Budget")] : []),
    t("Trained parameters"),
    t("Learning rate"),
    t("Held-out loss"),
    ...(task ? [task.majorityFloor === null ? task.title : t("{0} (floor {1})", task.title, shareText(task.majorityFloor))] : []),
    t("Seeds"),
    t("Peak memory"),
    t("Time per step"),
    ...(zeros ? [t("Zeros lost")] : []),
  ];
  const rows = summary.points.map((point) => [
    { text: point.point.label },
    { text: point.point.setting },
    ...(budgets ? [{ text: point.point.budget === null ? "" : formatCount(point.point.budget), exact: String(point.point.budget ?? "") }] : []),
    trained(point),
    rate(point),
    meanCell(point, best.has(point.point.id)),
    ...(task ? [accuracyCell(point)] : []),
    { text: t("{0} of {1}", point.seedsDone, summary.plan.seeds.length) },
    point.peakBytes === null ? none() : { text: formatBytes(point.peakBytes), exact: exactCount(point.peakBytes) },
    { text: durationText(point.secondsPerStep) },
    ...(zeros ? [{ text: point.lostZeros === null ? "" : exactCount(point.lostZeros) }] : []),
  ]);
  return table(t("Methods at their budgets: mean and standard deviation over the seeds"), head, rows, 2);
}

function none(): Cell {
  return { text: "" };
}

function trained({ trainableParameters, point }: PointSummary): Cell {
  const exact = exactCount(trainableParameters);
  if (point.budget === null || point.budget === trainableParameters) return { text: formatCount(trainableParameters), exact };
  const off = trainableParameters / point.budget - 1;
  return { text: `${formatCount(trainableParameters)} (${off < 0 ? "−" : "+"}${formatPercent(Math.abs(off))})`, exact };
}

function rate({ learningRate, atEdge, search }: PointSummary): Cell {
  if (learningRate !== null) {
    if (atEdge === null) return { text: String(learningRate) };
    const edge = atEdge === "lowest" ? t("the lowest tried: a better one may lie below") : t("the highest tried: a better one may lie above");
    return { text: `${learningRate} ${atEdge === "lowest" ? "⤓" : "⤒"}`, exact: edge };
  }
  const tried = search.filter(({ result }) => result !== null).length;
  return { text: tried === search.length && tried > 0 ? t("none worked") : t("{0} of {1} tried", tried, search.length) };
}

function meanCell({ mean, spread, ended }: PointSummary, best: boolean): Cell {
  const bad = ended.diverged + ended.failed;
  const exact = bad > 0 ? t("{0} runs diverged or failed", bad) : mean === null ? undefined : String(mean);
  if (mean === null) return { text: bad > 0 ? t("diverged") : "", exact };
  return { text: spread === null ? lossText(mean) : `${lossText(mean)} ± ${lossText(spread)}`, exact, strong: best };
}

function accuracyCell({ accuracy, accuracySpread, scored }: PointSummary): Cell {
  if (accuracy === null) return none();
  const text = accuracySpread === null ? shareText(accuracy) : `${shareText(accuracy)} ± ${(100 * accuracySpread).toFixed(1)}`;
  return { text, exact: t("{0} over {1} seeds", accuracy, scored) };
}

/** What a reader should know of the accuracies: what little it takes to get them, and what the scores say. */
export function taskNotes({ task }: ComparisonSummary): string[] {
  if (!task) return [];
  const { title, before, majorityFloor, notes } = task;
  return [
    ...(majorityFloor === null ? [] : [t("{0}: always giving the file's most frequent answer is right in {1}.", title, shareText(majorityFloor))]),
    ...(before?.accuracy == null
      ? []
      : [t("{0}: the untrained model is right in {1} of {2} questions.", title, shareText(before.accuracy), before.total)]),
    ...notes.map((note) => `${title}: ${note}`),
  ];
}

/** What can be done with a run of a row. */
export interface RunDoors {
  openRun(id: string): void;
  openRunFile(id: string): void;
}

function doors(id: string, name: string, { openRun, openRunFile }: RunDoors): Node {
  const door = (text: string, label: string, open: (id: string) => void) => {
    const button = element("button", { class: "door", "aria-label": label }, text);
    button.addEventListener("click", () => open(id));
    return button;
  };
  return element(
    "span",
    { class: "doors" },
    door(t("Panel"), t("Open the panel of {0}", name), openRun),
    door(t("Run file"), t("Open the run file of {0}", name), openRunFile),
  );
}

/** Every run of a comparison; `task` is the title of its test set. */
export function runTable(runs: readonly ComparedRun[], task: string | null, open: RunDoors): HTMLElement {
  const head = [
    t("Run"),
    t("State"),
    t("Learning rate"),
    t("Seed"),
    t("Held-out loss before"),
    t("after"),
    ...(task === null ? [] : [task]),
    t("Peak memory"),
    t("Time per step"),
    t("Steps"),
    "",
  ];
  const rows = runs.map(({ run, learningRate, seed, result, score }) => [
    { text: run },
    { text: result === null ? t("running") : statusText(result.status), exact: result?.message ?? "" },
    { text: String(learningRate) },
    { text: String(seed) },
    { text: lossText(result?.lossBefore ?? null) },
    { text: lossText(result?.lossAfter ?? null) },
    ...(task === null ? [] : [scoreCell(score)]),
    { text: result?.peakBytes == null ? "" : formatBytes(result.peakBytes) },
    { text: durationText(result?.secondsPerStep ?? null) },
    { text: result === null ? "" : String(result.steps) },
    doors(run, run, open),
  ]);
  return table(t("Every run"), head, rows, 2);
}

function scoreCell(score: ScoreLine | null): Cell {
  if (!score) return none();
  if (score.accuracy === null) return { text: t("failed"), exact: score.message };
  return { text: shareText(score.accuracy), exact: t("{0} of {1}", score.correct, score.total) };
}

function statusText(status: "done" | "diverged" | "failed"): string {
  return status === "done" ? t("done") : status === "diverged" ? t("diverged") : t("failed");
}

/** Runs side by side, the best in the end marked. */
export function cardTable(runs: readonly RunCard[], open: RunDoors): HTMLElement {
  const head = [
    t("Run"),
    t("Method"),
    t("Trained parameters"),
    t("Held-out loss before"),
    t("after"),
    t("change"),
    t("Peak memory"),
    t("Time per step"),
    t("Steps"),
    "",
  ];
  const best = bestRun(runs);
  const rows = runs.map((run, index) => {
    const change = gain(run);
    return [
      { text: run.name },
      { text: run.method },
      run.trainableParameters === null
        ? { text: t("unknown") }
        : { text: formatCount(run.trainableParameters), exact: exactCount(run.trainableParameters) },
      { text: lossText(run.lossBefore) },
      { text: lossText(run.lossAfter), strong: index === best },
      { text: change === null ? "" : `${change < 0 ? "−" : "+"}${lossText(Math.abs(change))}` },
      run.peakBytes === null ? none() : { text: formatBytes(run.peakBytes), exact: exactCount(run.peakBytes) },
      { text: durationText(run.secondsPerStep) },
      { text: String(run.steps) },
      doors(run.id, run.name, open),
    ];
  });
  return table(t("Runs side by side"), head, rows, 2);
}
