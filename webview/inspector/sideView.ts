/**
 * One side of the inspector: a block as of a step, part by part. It asks for what it shows and says what was not kept.
 * The rule to keep: an answer is shown only if its block, step and part are still the ones shown.
 */
import { type BlockPart, type BlockPlace, blockParts, type Cell } from "../../src/protocol/coreProtocol.ts";
import type { StepChoice } from "../../src/protocol/inspectorProtocol.ts";
import type { ServiceResults } from "../../src/protocol/serviceProtocol.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { MatrixView, type WindowValues } from "./matrixView.ts";
import { neighbourGrid } from "./neighbours.ts";
import { histogramPlot, seriesPlot, shown, spectrumPlot } from "./plots.ts";
import { ask } from "./requests.ts";
import type { Window } from "./viewport.ts";

type ShownBlock = BlockPlace & { at: StepChoice };

const partNames: Record<BlockPart, () => string> = {
  weight: () => t("Weight"),
  delta: () => t("Delta since the base"),
  gradient: () => t("Gradient"),
  firstMoment: () => t("First moment"),
  secondMoment: () => t("Second moment"),
};

/** What a side asks its surroundings. */
export interface SideListener {
  /** Shows the block on the other side too, or takes this side away. */
  onPin(block: ShownBlock): void;
}

export class SideView {
  readonly element = document.createElement("section");
  readonly #side: "left" | "right";
  readonly #listener: SideListener;
  readonly #title = document.createElement("h2");
  readonly #steps = document.createElement("select");
  readonly #parts = document.createElement("fieldset");
  readonly #facts = document.createElement("dl");
  readonly #missing = document.createElement("p");
  readonly #plots = document.createElement("div");
  readonly #neighbours = document.createElement("div");
  readonly #history = document.createElement("div");
  readonly #matrix: MatrixView;
  #block: ShownBlock | null = null;
  #part: BlockPart = "weight";
  #number = 0;
  #reading = false;

  constructor(side: "left" | "right", listener: SideListener) {
    this.#side = side;
    this.#listener = listener;
    this.#matrix = new MatrixView((window) => this.#readWindow(window));
    this.element.className = "side";
    this.element.setAttribute("aria-label", side === "left" ? t("Block") : t("Pinned block"));
    this.#missing.className = "missing";
    this.#missing.setAttribute("role", "status");
    this.#steps.setAttribute("aria-label", t("Step"));
    this.#steps.addEventListener("change", () => this.#chooseStep(this.#steps.value));
    this.#fillParts();
    this.element.append(
      this.#title,
      this.#buttons(),
      this.#steps,
      this.#parts,
      this.#missing,
      this.#matrix.element,
      this.#facts,
      this.#plots,
      this.#history,
      this.#neighbours,
    );
  }

  get block(): ShownBlock | null {
    return this.#block;
  }

  show(block: ShownBlock): void {
    this.#block = block;
    this.#title.textContent = `${block.name} · ${block.row}, ${block.column}`;
    this.#steps.value = String(block.at);
    this.#empty();
    this.#history.replaceChildren();
    this.#neighbours.replaceChildren();
    void this.#readAll();
  }

  /** Steps that can be chosen; `live` names what "now" is. */
  offer(steps: readonly number[], live: boolean): void {
    const option = (value: string, text: string) => {
      const element = document.createElement("option");
      element.value = value;
      element.textContent = text;
      return element;
    };
    const now = option("now", live ? t("Now (live, at its next step)") : t("Newest checkpoint"));
    this.#steps.replaceChildren(now, ...steps.toReversed().map((step) => option(String(step), t("Checkpoint of step {0}", String(step)))));
    this.#steps.value = String(this.#block?.at ?? "now");
  }

  /** The run has moved on: what is shown of it as it is now is read again. */
  moved(): void {
    if (this.#block?.at === "now" && !this.#reading) void this.#readAll();
  }

  #chooseStep(value: string): void {
    if (this.#block) this.show({ ...this.#block, at: value === "now" ? "now" : Number(value) });
  }

  #buttons(): HTMLElement {
    const bar = document.createElement("div");
    bar.className = "buttons";
    const button = (text: string, action: () => void) => {
      const element = document.createElement("button");
      element.type = "button";
      element.textContent = text;
      element.addEventListener("click", action);
      bar.append(element);
    };
    button(t("Choose block…"), () => send({ kind: "pick", side: this.#side }));
    button(this.#side === "left" ? t("Pin beside") : t("Unpin"), () => this.#block && this.#listener.onPin(this.#block));
    button(t("Copy as CSV"), () => this.#copy("csv"));
    button(t("Save as .npy"), () => this.#copy("npy"));
    return bar;
  }

  #copy(format: "csv" | "npy"): void {
    if (this.#block) send({ kind: "copy", ...this.#block, part: this.#part, format });
  }

  #fillParts(): void {
    const legend = document.createElement("legend");
    legend.textContent = t("Show");
    this.#parts.append(legend);
    for (const part of blockParts) {
      const label = document.createElement("label");
      const input = document.createElement("input");
      input.type = "radio";
      input.name = `part-${this.#side}`;
      input.value = part;
      input.checked = part === this.#part;
      input.addEventListener("change", () => {
        this.#part = part;
        this.#empty();
        void this.#readPart();
      });
      label.append(input, partNames[part]());
      this.#parts.append(label);
    }
  }

  /** Figures of another block or part never stand under this one's name. */
  #empty(): void {
    this.#matrix.clear();
    this.#facts.replaceChildren();
    this.#plots.replaceChildren();
    this.#missing.textContent = t("Reading…");
  }

  async #readAll(): Promise<void> {
    this.#reading = true;
    try {
      await Promise.all([this.#readPart(), this.#readHistory(), this.#readNeighbours()]);
    } finally {
      this.#reading = false;
    }
  }

  /** Statistics first: the colours of the values are scaled by the whole block's extremes. */
  async #readPart(): Promise<void> {
    const block = this.#block;
    if (!block) return;
    const number = ++this.#number;
    const answer = await ask({ kind: "analyze", ...block, part: this.#part });
    if (number !== this.#number) return;
    if (answer.kind !== "analysis") {
      this.#empty();
      this.#missing.textContent = answer.kind === "missing" ? answer.reason : "";
      return;
    }
    this.#missing.textContent = "";
    const { analysis } = answer;
    const first = await ask({ kind: "readWindow", ...block, part: this.#part, window: { row: 0, column: 0, rows: 1, columns: 1 } });
    if (number !== this.#number || first.kind !== "values") return;
    this.#showFacts(answer.step, first.blockRows, first.blockColumns, analysis);
    this.#matrix.show({ rows: first.blockRows, columns: first.blockColumns }, Math.max(Math.abs(analysis.minimum), Math.abs(analysis.maximum)));
    const plots = [histogramPlot(analysis.histogram, analysis.minimum, analysis.maximum)];
    if (analysis.singularValues.length > 0) plots.push(spectrumPlot(analysis.singularValues, analysis.effectiveRank));
    this.#plots.replaceChildren(...plots);
  }

  async #readWindow(window: Window): Promise<WindowValues | null> {
    if (!this.#block) return null;
    const answer = await ask({ kind: "readWindow", ...this.#block, part: this.#part, window });
    if (answer.kind !== "values") return null;
    return { row: window.row, column: window.column, rows: answer.rows, columns: answer.columns, values: answer.values };
  }

  #showFacts(step: number, rows: number, columns: number, analysis: ServiceResults["analyze"]): void {
    const facts: [string, string][] = [
      [t("Step"), String(step)],
      [t("Size"), `${rows} × ${columns}`],
      [t("Mean"), shown(analysis.mean)],
      [t("Standard deviation"), shown(analysis.standardDeviation)],
      [t("Smallest"), shown(analysis.minimum)],
      [t("Largest"), shown(analysis.maximum)],
      [t("Frobenius norm"), shown(analysis.norm)],
      [t("Zeros"), String(analysis.zeros)],
    ];
    if (analysis.nonFinite > 0) facts.push([t("NaN or infinite"), String(analysis.nonFinite)]);
    this.#facts.replaceChildren(...facts.flatMap(([name, value]) => definition(name, value)));
  }

  async #readHistory(): Promise<void> {
    const block = this.#block;
    if (!block) return;
    const answer = await ask({ kind: "history", name: block.name, row: block.row, column: block.column });
    if (block !== this.#block || answer.kind !== "history") return;
    const { cells } = answer;
    const steps = cells.map(({ step }) => step);
    const series = (title: string, of: (cell: Cell) => number | null) => seriesPlot(title, steps, cells.map(of));
    this.#history.replaceChildren(
      series(t("Score"), ({ score }) => score),
      series(t("Rank"), ({ rank }) => (rank === null ? null : rank + 1)),
      series(t("Mean |gradient|"), ({ gradient }) => gradient),
      series(t("Mean |delta|"), ({ delta }) => delta),
      series(t("Mean second moment"), ({ secondMoment }) => secondMoment),
    );
  }

  async #readNeighbours(): Promise<void> {
    const block = this.#block;
    if (!block) return;
    const answer = await ask({ kind: "neighbours", ...block });
    if (block !== this.#block || answer.kind !== "neighbours") return;
    this.#neighbours.replaceChildren(neighbourGrid(block, answer.cells, (place) => this.show({ ...place, at: block.at })));
  }
}

function definition(name: string, value: string): HTMLElement[] {
  const [term, description] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  description.textContent = value;
  return [term, description];
}
