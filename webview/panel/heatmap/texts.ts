/** What the heatmap says in words: names of modes and kinds, what a cell holds, what is shown and what is not. No DOM; every text goes through `t`. */
import type { Cell } from "../../../src/protocol/coreProtocol.ts";
import type { RunView } from "../../../src/protocol/panelProtocol.ts";
import { t } from "../../strings.ts";
import { isAdapter, methodName, methodOf } from "../methodTexts.ts";
import type { PanelState } from "../store.ts";
import { type CellPlace, cellOf, type MatrixGrid } from "./grids.ts";
import type { HeatmapModel } from "./model.ts";
import { exactText, valueText } from "./numberText.ts";
import type { ScaleKind } from "./scale.ts";
import { chosenAt, type HeatmapMode, heatmapModes, type ValueMode, valueAt } from "./values.ts";

export function modeText(mode: HeatmapMode): string {
  switch (mode) {
    case "score":
      return t("Score");
    case "selected":
      return t("Chosen");
    case "gradient":
      return t("|Gradient|");
    case "delta":
      return t("|Delta|");
    case "secondMoment":
      return t("Adam second moment");
  }
}

/** What a mode's numbers are. */
export function modeExplanation(mode: HeatmapMode): string {
  switch (mode) {
    case "score":
      return t("What the blocks are ranked by: gathered from the gradients of the warm-up.");
    case "selected":
      return t("The blocks that the run trains.");
    case "gradient":
      return t("Mean of |gradient| over a block's entries, at the last update, before clipping.");
    case "delta":
      return t("Mean of |value − base| over a block's entries.");
    case "secondMoment":
      return t("Mean of Adam's second moment over a block's entries.");
  }
}

export function scaleText(kind: ScaleKind): string {
  return kind === "linear" ? t("Linear") : t("Logarithmic");
}

/** One cell in words, for the readout. A value is null where it is unknown or was not kept. */
export interface CellText {
  name: string;
  row: string;
  column: string;
  chosen: string;
  values: Record<ValueMode, string>;
  /** Which step the numbers are of, and whether they are exact. */
  source: string;
}

/** `exact` is the answer to `readCell`, when it has come. */
export function cellText(model: HeatmapModel, place: CellPlace, exact: Cell | null): CellText {
  const { name } = model.matrices[place.matrix];
  const cell = cellOf(model.matrices, place);
  const chosen = exact ? exact.selected : chosenAt(model, cell);
  const rank = exact ? exact.rank : rankOf(model, cell);
  const textOf = (mode: ValueMode): string => {
    if (exact) return exact[mode] === null ? t("not kept") : exactText(exact[mode]);
    const shown = valueAt(model, mode, place.matrix, cell);
    return shown ? valueText(shown) : t("unknown");
  };
  const modes = heatmapModes.filter((mode): mode is ValueMode => mode !== "selected");
  return {
    name,
    row: String(place.row),
    column: String(place.column),
    chosen: chosen === null ? t("no blocks chosen yet") : !chosen ? t("no") : rank === null ? t("yes") : t("yes, rank {0}", shownRank(rank)),
    values: Object.fromEntries(modes.map((mode) => [mode, textOf(mode)])) as Record<ValueMode, string>,
    source: exact ? t("Exact, at step {0}", exact.step) : t("As drawn"),
  };
}

/** A chosen block's rank, 0 for the best; null where it is not chosen. */
function rankOf({ chosen }: HeatmapModel, cell: number): number | null {
  const block = chosen?.ofCell[cell] ?? -1;
  return chosen && block >= 0 ? chosen.ranks[block] : null;
}

/** Ranks as people count them: the best block is the first, here as in the inspector and in `sparse-tuner inspect`. */
function shownRank(rank: number): number {
  return rank + 1;
}

/** A block's rank in the table; a dash where it is not chosen. */
export function rankText(model: HeatmapModel, cell: number): string {
  const rank = rankOf(model, cell);
  return rank === null ? "–" : String(shownRank(rank));
}

/** One cell as a sentence, for who hears it. */
export function cellSentence(text: CellText): string {
  const { name, row, column, chosen, values } = text;
  const place = t("{0}, row {1}, column {2}", name, row, column);
  const parts = Object.entries(values).map(([mode, value]) => `${modeText(mode as HeatmapMode)} ${value}`);
  return `${place}: ${t("chosen: {0}", chosen)}; ${parts.join("; ")}. ${text.source}.`;
}

/** `Layer 3`, or what stands outside the layers. */
export function layerText(layer: number): string {
  return layer < 0 ? t("Outside the layers") : t("Layer {0}", layer);
}

/** Which step the picture is of; empty when there is none. */
export function sourceText(model: HeatmapModel, mode: HeatmapMode): string {
  const { scores, chosen, magnitudes } = model;
  if (mode === "score" && scores) return scores.final ? finalScoresText(scores.step) : t("Scores after warm-up step {0}.", scores.step);
  if (mode === "score" && chosen) return t("Scores of the chosen blocks; those of the others were not kept.");
  if (mode === "selected" && chosen) return t("Chosen at step {2}: {0} blocks of {1} × {1}.", chosen.count, chosen.blockSize, chosen.step);
  if (mode !== "score" && mode !== "selected" && magnitudes) return t("Measured after step {0}, for the chosen blocks.", magnitudes.step);
  return "";
}

function finalScoresText(steps: number): string {
  if (steps === 1) return t("Scores of the one warm-up step, which the blocks were chosen by.");
  return t("Scores of all {0} warm-up steps, which the blocks were chosen by.", steps);
}

/** Why a mode has nothing to show. */
export function missingText(model: HeatmapModel, mode: HeatmapMode): string {
  if (mode === "score") return t("No scores were measured yet.");
  if (mode === "selected") return t("No blocks chosen yet.");
  return model.chosen ? t("Not measured yet; it comes with the next updates.") : t("Measured for chosen blocks; none are chosen yet.");
}

/** Says that squares stand for more than one block. */
export function aggregationText(blocksDown: number, blocksAcross: number, mode: HeatmapMode): string {
  const size = t("Each square stands for up to {0} × {1} blocks:", blocksDown, blocksAcross);
  return `${size} ${mode === "selected" ? t("it is marked when any of them is chosen.") : t("it shows the highest of their values.")}`;
}

/** What stands where there is no heatmap, and why. */
export function emptyText(state: PanelState): string {
  const { run } = state;
  const method = methodOf(state);
  if (method === "full") return t("Full fine-tuning trains every block, so there is nothing to choose and no heatmap.");
  if (method !== null && isAdapter(method))
    return t("{0} trains adapters beside the frozen matrices: there are no blocks to choose, and so no heatmap.", methodName(method));
  if (!run || run.state === "draft" || run.state === "restricted")
    return t("Start the run to see which blocks matter: the heatmap fills during the warm-up.");
  return isMoving(run) ? t("Waiting for the first scores of the warm-up.") : t("This run has kept no scores and chosen no blocks.");
}

function isMoving({ state }: RunView): boolean {
  return ["starting", "opening", "running", "pausing", "paused", "waiting", "stopping"].includes(state);
}

/** How large the model is, for who cannot see it. */
export function gridLabel(matrices: readonly MatrixGrid[], cellCount: number, mode: HeatmapMode): string {
  return t(
    "Block heatmap of {0} matrices with {1} blocks, showing: {2}. Arrow keys walk over blocks, Enter inspects one.",
    matrices.length,
    cellCount,
    modeText(mode),
  );
}
