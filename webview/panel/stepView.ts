/**
 * Which steps a group of plots shows, and the buttons that change it. All of them, following the live end, until somebody zooms or pans.
 * The rule to keep: whoever changes the range does it here, so that plots, buttons and wheel never disagree.
 */
import { createButton } from "../controls.ts";
import { element } from "../element.ts";
import { t } from "../strings.ts";
import { panned, type StepRange, wholeRange, within, zoomed } from "./stepRange.ts";

export class StepView {
  #asked: StepRange | null = null;
  #whole: StepRange = wholeRange(0, 0);
  readonly #changed: () => void;

  /** `changed` is called when somebody zooms, pans or goes back. */
  constructor(changed: () => void) {
    this.#changed = changed;
  }

  get shown(): StepRange {
    return this.#asked ?? this.#whole;
  }

  get following(): boolean {
    return this.#asked === null;
  }

  /** The steps that there are. A resumed run may take steps back; what was zoomed to then moves to where steps are. */
  setSteps(first: number, last: number): void {
    this.#whole = wholeRange(first, last);
    if (this.#asked) this.#asked = within(this.#asked, this.#whole);
  }

  show(range: StepRange): void {
    this.#set(within(range, this.#whole));
  }

  zoom(factor: number, center = (this.shown.from + this.shown.to) / 2): void {
    this.#set(zoomed(this.shown, this.#whole, factor, center));
  }

  pan(share: number): void {
    this.#set(panned(this.shown, this.#whole, share));
  }

  reset(): void {
    this.#set(null);
  }

  #set(range: StepRange | null): void {
    this.#asked = range;
    this.#changed();
  }
}

/** Buttons for who has no wheel or no mouse. */
export function stepButtons(view: StepView): HTMLElement {
  const title = t("Drag to zoom, Shift and drag to pan, Ctrl and wheel to zoom, double click to see everything.");
  return element(
    "div",
    { class: "chart-zoom", role: "group", "aria-label": t("Steps shown"), title },
    createButton("−", "quiet", () => view.zoom(2), t("Show more steps")),
    createButton("+", "quiet", () => view.zoom(0.5), t("Show fewer steps")),
    createButton("◂", "quiet", () => view.pan(-0.25), t("Earlier steps")),
    createButton("▸", "quiet", () => view.pan(0.25), t("Later steps")),
    createButton(t("All steps"), "secondary", () => view.reset()),
  );
}
