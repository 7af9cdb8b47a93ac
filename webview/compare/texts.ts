/** Figures and states of the Compare Runs view as people read them. Pure text. */
import type { PictureWords } from "../../src/protocol/comparePicture.ts";
import { formatBytes, formatCount } from "../panel/byteUnits.ts";
import { durationText as durationInMs } from "../panel/runStatus.ts";
import { t } from "../strings.ts";
import type { ComparisonState } from "./store.ts";

/** Four places; nothing for what was not measured. */
export function lossText(loss: number | null): string {
  return loss === null ? "" : loss.toFixed(4);
}

/** `62.2 %`: one digit, as papers have it. */
export function shareText(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

/** `840 ms`, `4.2 s`, and longer ones as the panel says them; nothing for what was not measured. */
export function durationText(seconds: number | null): string {
  if (seconds === null || !Number.isFinite(seconds) || seconds < 0) return "";
  if (seconds < 0.9995) return t("{0} ms", seconds < 0.0995 ? Number((seconds * 1000).toPrecision(3)) : Math.round(seconds * 1000));
  return seconds < 9.95 ? t("{0} s", seconds.toFixed(1)) : durationInMs(seconds * 1000);
}

/** What a comparison is doing. */
export function stateText(state: ComparisonState): string {
  const texts: Record<ComparisonState, string> = {
    waiting: t("running; the first run has not ended yet"),
    diskFull: t("waiting for disk space"),
    running: t("running"),
    done: t("done"),
    stopped: t("stopped"),
    failed: t("failed"),
    interrupted: t("interrupted"),
    notStarted: t("not started"),
  };
  return texts[state];
}

/** Words of the figure. */
export function pictureWords(): PictureWords {
  return {
    loss: t("Held-out loss"),
    parameters: t("trained parameters"),
    memory: t("Peak memory"),
    seconds: t("Time per step"),
    accuracy: (task) => t("{0} accuracy", task),
    floor: t("most frequent answer"),
    before: t("untrained model"),
    formatLoss: (value) => value.toFixed(4),
    formatShare: shareText,
    formatCount,
    formatBytes,
    formatSeconds: (value) => (value === 0 ? "0" : durationText(value)),
    tip: (label, parameters, value, spread, seeds) =>
      t("{0} with {1} parameters: {2} over {3} seeds", label, parameters, spread === null ? value : `${value} ± ${spread}`, seeds),
  };
}
