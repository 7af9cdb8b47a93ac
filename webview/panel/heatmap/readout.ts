/**
 * What is known of the block under the pointer or the keyboard: at once as it is drawn, and exactly as soon as the host has read it.
 * The rule to keep: an answer counts only for the block that was asked for last; what was not kept is said so and is never a zero.
 */
import type { Cell } from "../../../src/protocol/coreProtocol.ts";
import { element, setText } from "../../element.ts";
import { send } from "../../host.ts";
import { t } from "../../strings.ts";
import type { Store } from "../store.ts";
import type { HeatmapControl } from "./control.ts";
import { cellSentence, cellText, modeText } from "./texts.ts";
import type { ValueMode } from "./values.ts";

/** A block is read when it was looked at for so long, and again after newer frames, but no more often than this. */
const restMs = 120;
const rereadMs = 2000;
const modes: readonly ValueMode[] = ["score", "gradient", "delta", "secondMoment"];

let lastRequest = 0;

/** Builds the readout; the returned function brings it up to date. `spoken` gets the sentence of the block the keyboard is on. */
export function mountReadout(container: HTMLElement, control: HeatmapControl, store: Store, spoken: (sentence: string) => void): () => void {
  const hint = element(
    "p",
    { class: "muted" },
    t("Point at a block, or walk over them with the arrow keys, to see its values; click or Enter inspects it."),
  );
  const name = element("span", { class: "readout-name" });
  const place = element("span", { class: "readout-place" });
  const source = element("span", { class: "muted" });
  const chosen = element("dd");
  const numbers = new Map(modes.map((mode) => [mode, element("dd", { "data-mode": mode })]));
  const list = element(
    "dl",
    { class: "readout-values" },
    pair(t("Chosen"), chosen),
    ...modes.map((mode) => pair(modeText(mode), numbers.get(mode) as HTMLElement)),
  );
  const details = element("div", { class: "readout-details" }, element("p", {}, name, " ", place, " ", source), list);
  container.append(hint, details);

  let asked: { place: string; frames: string; request: number; atMs: number } | null = null;
  let exact: { place: string; cell: Cell | null; reason: string } | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let timerFor = "";

  const show = () => {
    const { cursor, model } = control;
    hint.hidden = cursor !== null;
    details.hidden = cursor === null;
    if (!cursor) return;
    const answer = exact?.place === placeKey(control) ? exact : null;
    const text = cellText(model, cursor, answer?.cell ?? null);
    setText(name, text.name);
    setText(place, t("row {0}, column {1}", text.row, text.column));
    setText(source, answer && !answer.cell ? answer.reason : text.source);
    setText(chosen, text.chosen);
    for (const mode of modes) setText(numbers.get(mode) as HTMLElement, text.values[mode]);
    if (control.active && !control.hovered) spoken(cellSentence(text));
  };

  const ask = () => {
    timerFor = "";
    const { cursor, model } = control;
    if (!cursor || !store.state.run?.runFolder) return;
    asked = { place: placeKey(control), frames: framesKey(control), request: ++lastRequest, atMs: performance.now() };
    send({ kind: "readCell", request: asked.request, name: model.matrices[cursor.matrix].name, row: cursor.row, column: cursor.column });
  };

  /** Asks soon for another block, later for newer values of the same one; a question that is due already stays due. */
  const askInTime = () => {
    const place = placeKey(control);
    if (place === asked?.place && framesKey(control) === asked.frames) return;
    if (place === timerFor) return;
    clearTimeout(timer);
    timerFor = place;
    const wait = place === asked?.place ? Math.max(restMs, asked.atMs + rereadMs - performance.now()) : restMs;
    if (place !== "") timer = setTimeout(ask, wait);
  };

  store.subscribe(({ cell }, changed) => {
    if (changed !== "cell" || !cell || cell.request !== asked?.request) return;
    exact = { place: asked.place, cell: cell.cell, reason: cell.reason };
    show();
  });

  return () => {
    askInTime();
    show();
  };
}

/** The block the cursor is on; empty when it is on none. */
function placeKey({ cursor, model }: HeatmapControl): string {
  return cursor ? `${cursor.row} ${cursor.column} ${model.matrices[cursor.matrix].name}` : "";
}

/** What is drawn: newer frames make an answer old. */
function framesKey({ model: { scores, chosen, magnitudes } }: HeatmapControl): string {
  return [scores?.afterStep, scores?.step, chosen?.step, magnitudes?.step].join(" ");
}

function pair(term: string, value: HTMLElement): HTMLElement {
  return element("div", {}, element("dt", {}, term), value);
}
