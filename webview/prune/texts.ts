/** What the pruning view says: of a pruning in every state, of a matrix, of numbers. No DOM. */
import type { PruneAction, PruneState, PruneView } from "../../src/protocol/prunePanelProtocol.ts";
import { type PrunedMatrix, type PruningMethod, patternTitle } from "../../src/protocol/pruning.ts";
import { exactCount, formatCount } from "../panel/byteUnits.ts";
import { projectionText } from "../panel/shares.ts";
import { shareText } from "../panel/zeros.ts";
import { t } from "../strings.ts";

/** How a state is told apart at a glance; each has a shape of its own, not only a colour. */
export type Tone = "busy" | "good" | "waiting" | "bad" | "neutral";

export interface StateText {
  label: string;
  sentence: string;
  tone: Tone;
  /** The first is the one that is most likely wanted. */
  actions: PruneAction[];
}

export function stateText(state: PruneState): StateText {
  switch (state) {
    case "running":
      return {
        label: t("Pruning"),
        sentence: t("Layer by layer; nothing is written before the last one is done."),
        tone: "busy",
        actions: ["cancel"],
      };
    case "done":
      return {
        label: t("Finished"),
        sentence: t("The pruned model is written. Fine-tune it with a method that keeps its zeros."),
        tone: "good",
        actions: ["startRun", "reveal"],
      };
    case "report":
      return { label: t("Report"), sentence: t("How this model was pruned."), tone: "neutral", actions: ["startRun", "reveal"] };
    case "cancelled":
      return { label: t("Cancelled"), sentence: t("Nothing was written."), tone: "waiting", actions: ["again"] };
    case "failed":
      return { label: t("Failed"), sentence: t("The model was not pruned, and nothing was written."), tone: "bad", actions: ["again", "showLog"] };
  }
}

export function actionText(action: PruneAction): string {
  switch (action) {
    case "cancel":
      return t("Cancel");
    case "startRun":
      return t("Start a LoRS Run");
    case "reveal":
      return t("Reveal Folder");
    case "again":
      return t("Prune Again");
    case "showLog":
      return t("Show Log");
  }
}

export function methodText(method: PruningMethod): string {
  switch (method) {
    case "magnitude":
      return t("Magnitude");
    case "wanda":
      return "Wanda";
    case "sparsegpt":
      return "SparseGPT";
    case "ria":
      return "RIA";
  }
}

/** What was done to which model, and on what it was calibrated. */
export function subjectText({ base, method, pattern, grouping, permuted, calibration }: PruneView): string {
  const what = t("{0}, by {1} to {2}", base, methodText(method), patternTitle(pattern));
  const variants = [...(grouping === "row" ? [t("of each row")] : []), ...(permuted ? [t("with channels in another order")] : [])];
  const how = [what, ...variants].join(", ");
  if (!calibration) return `${how}. ${t("Not calibrated.")}`;
  const { file, samples, tokens } = calibration;
  const on =
    tokens === null
      ? t("Calibrated on {0} windows of {1}.", samples, file)
      : t("Calibrated on {0} windows, {1} tokens, of {2}.", samples, formatCount(tokens), file);
  return `${how}. ${on}`;
}

/** Where it is. */
export function stageText({ progress }: Pick<PruneView, "progress">): string {
  if (!progress) return t("Starting");
  const { stage, layer, layers } = progress;
  switch (stage) {
    case "loading":
      return t("Reading the model");
    case "permuting":
      return t("Putting the channels into an order");
    case "calibrating":
      return t("Layer {0} of {1}: watching what flows through it", Math.min(layer + 1, layers), layers);
    case "pruning":
      return t("Layer {0} of {1}: choosing the weights that go", Math.min(layer + 1, layers), layers);
    case "writing":
      return t("Writing the pruned model");
  }
}

/** A reconstruction error: three digits. */
export function errorText(error: number | null): string {
  return error === null ? t("not measured") : error === 0 ? "0" : error < 1e-3 ? error.toExponential(2) : error.toPrecision(3);
}

/** One matrix as a sentence. */
export function matrixSentence(matrix: PrunedMatrix): string {
  const { layer, projection, zeros, entries, error } = matrix;
  const share = entries > 0 ? zeros / entries : 0;
  const where = t("Layer {0}, {1}", layer, projectionText(projection));
  return `${where}: ${t("{0} zeros ({1} of {2}), reconstruction error {3}", shareText(share), exactCount(zeros), exactCount(entries), errorText(error))}`;
}
