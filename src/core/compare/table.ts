/**
 * table.md of a comparison: a line for each method at each budget, what is behind its figures, and what a reader should know of them. Pure text, and printed
 * at the end of `compare` too.
 * The rule to keep: a mean stands beside its number of seeds; what diverged, failed or lies at the edge of the searched rates is said.
 */
import { bestOfBudgets, type ComparisonSummary, type PointSummary, type TaskSummary } from "../../protocol/compareSummary.ts";
import { formatBytes, formatCount, formatDuration, formatLoss, formatPercent } from "../terminal/format.ts";

/** Head and rows of the table, as cells. */
export function comparisonRows(summary: ComparisonSummary): string[][] {
  const budgets = summary.plan.points.some(({ budget }) => budget !== null);
  const zeros = summary.points.some(({ lostZeros }) => lostZeros !== null);
  const best = bestOfBudgets(summary);
  const head = [
    "method",
    ...(budgets ? ["budget"] : []),
    "trained",
    "as",
    "learning rate",
    "held-out loss",
    ...(summary.task ? [accuracyHeading(summary.task)] : []),
    "seeds",
    "peak memory",
    "time per step",
    ...(zeros ? ["zeros lost"] : []),
  ];
  const rows = summary.points.map((point) => [
    point.point.label,
    ...(budgets ? [point.point.budget === null ? "" : formatCount(point.point.budget)] : []),
    trainedText(point),
    point.point.setting,
    rateText(point),
    point.mean !== null && best.has(point.point.id) ? `**${lossText(point)}**` : lossText(point),
    ...(summary.task ? [accuracyText(point)] : []),
    String(point.seedsDone),
    point.peakBytes === null ? "" : formatBytes(point.peakBytes),
    point.secondsPerStep === null ? "" : formatDuration(point.secondsPerStep * 1000),
    ...(zeros ? [point.lostZeros === null ? "" : String(point.lostZeros)] : []),
  ]);
  return [head, ...rows];
}

function trainedText({ trainableParameters, point }: PointSummary): string {
  const shown = formatCount(trainableParameters);
  if (point.budget === null || point.budget === trainableParameters) return shown;
  const off = trainableParameters / point.budget - 1;
  return `${shown} (${off < 0 ? "−" : "+"}${formatPercent(Math.abs(off))})`;
}

function rateText({ learningRate, atEdge, search }: PointSummary): string {
  if (learningRate !== null) return `${learningRate}${atEdge ? ` (${atEdge} tried)` : ""}`;
  const tried = search.filter(({ result }) => result !== null).length;
  return tried === search.length && tried > 0 ? "none worked" : `${tried} of ${search.length} tried`;
}

function lossText({ mean, spread }: PointSummary): string {
  if (mean === null) return "";
  return spread === null ? formatLoss(mean) : `${formatLoss(mean)} ± ${formatLoss(spread)}`;
}

/** The floor stands beside the figures it is one of. */
function accuracyHeading({ title, majorityFloor }: TaskSummary): string {
  return `${title}${majorityFloor === null ? "" : ` (floor ${formatShare(majorityFloor)})`}`;
}

function accuracyText({ accuracy, accuracySpread }: PointSummary): string {
  if (accuracy === null) return "";
  return `${formatShare(accuracy)}${accuracySpread === null ? "" : ` ± ${(100 * accuracySpread).toFixed(1)}`}`;
}

/** A share of right answers; one digit, as papers have it. */
function formatShare(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** What a reader should know of the figures. */
export function comparisonNotes(summary: ComparisonSummary): string[] {
  const { points, plan } = summary;
  const before = points.map(({ lossBefore }) => lossBefore).find((loss) => loss !== null);
  const notes = [
    `Held-out loss after ${plan.steps === null ? "training" : `${plan.steps} updates`}, mean ± standard deviation over the seeds${before == null ? "" : `; the untrained model's is ${formatLoss(before)}`}.`,
  ];
  if (plan.learningRates.length > 1)
    notes.push(
      `Learning rates ${plan.learningRates.join(", ")} were tried for each with seed ${plan.seeds[0]}, which is also one of its seeds; the one with the ${plan.criterion === "accuracy" ? `highest accuracy on ${summary.task?.title}` : "lowest held-out loss"} was kept.`,
    );
  if (summary.task) notes.push(...taskNotes(summary.task, plan.task?.scoring ?? ""));
  if (points.some(({ trainableParameters, point }) => point.budget !== null && trainableParameters !== point.budget))
    notes.push("In brackets: how far the trained parameters are from the budget.");
  for (const edge of ["lowest", "highest"] as const) {
    const there = points.filter(({ atEdge }) => atEdge === edge).map(({ point }) => nameOf(point));
    if (there.length > 0) notes.push(`The best learning rate is the ${edge} that was tried, and a better one may lie beyond: ${there.join("; ")}.`);
  }
  for (const { point, ended } of points) {
    if (point.note) notes.push(`${point.label}, budget ${point.budget}: ${point.note}.`);
    if (ended.diverged > 0) notes.push(`${nameOf(point)}: ${counted(ended.diverged)} diverged.`);
    if (ended.failed > 0) notes.push(`${nameOf(point)}: ${counted(ended.failed)} failed.`);
  }
  if (summary.runsDone < summary.runsInAll) notes.push(`${summary.runsDone} of ${summary.runsInAll} runs are done.`);
  return notes;
}

function taskNotes({ title, before, majorityFloor, notes }: TaskSummary, scoring: string): string[] {
  const floor = majorityFloor === null ? "" : `; always giving the file's most frequent answer has ${formatShare(majorityFloor)}`;
  const own = before?.accuracy == null ? "" : `; the untrained model's is ${formatShare(before.accuracy)}, over ${before.total} questions`;
  const by = scoring === "generation" ? "by generation" : "by log-likelihood";
  return [`Accuracy on ${title} ${by}, mean ± standard deviation over the seeds${own}${floor}.`, ...notes.map((note) => `${title}: ${note}`)];
}

function nameOf({ label, budget }: PointSummary["point"]): string {
  return budget === null ? label : `${label}, budget ${budget}`;
}

function counted(runs: number): string {
  return runs === 1 ? "one run" : `${runs} runs`;
}

/** The table as Markdown, with its notes. */
export function comparisonTable(summary: ComparisonSummary): string {
  const [head, ...rows] = comparisonRows(summary);
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  const table = [line(head), line(head.map(() => "---")), ...rows.map(line)];
  return `${[...table, "", ...comparisonNotes(summary).map((note) => `- ${note}`)].join("\n")}\n`;
}
