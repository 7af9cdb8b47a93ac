/**
 * One side of the inspector: a block as of a step, part by part. It asks for what it shows and says what was not kept.
 * The rules to keep: an answer is shown only if its block, step and part are still the ones shown; values, statistics and the step they are of come of one
 * reading, and stay until the next one has come; looking at a run that goes on is paid by the clock.
 */
import { type Analysis, type BlockPart, type BlockPlace, blockParts, type Cell } from "../../src/protocol/coreProtocol.ts";
import type { StepChoice } from "../../src/protocol/inspectorProtocol.ts";
import { send } from "../host.ts";
import { t } from "../strings.ts";
import { MatrixView } from "./matrixView.ts";
import { neighbourGrid } from "./neighbours.ts";
import { seriesPlot } from "./plots.ts";
import { repeated } from "./repeated.ts";
import { type Answer, ask } from "./requests.ts";
import { factsOf, plotsOf, scaleOf } from "./statistics.ts";
import type { Window } from "./viewport.ts";

type ShownBlock = BlockPlace & { at: StepChoice };

const partNames: Record<BlockPart, () => string> = {
  weight: () => t("Weight"),
  delta: () => t("Delta since the base"),
  gradient: () => t("Gradient"),
  firstMoment: () => t("First moment"),
  secondMoment: () => t("Second moment"),
};

/** A run that goes on is looked at again after so many times what the last statistics took: they cost a twentieth of one thread at most. */
const restPerAnalysis = 20;

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
  #live = false;
  /** What the last reading of the block and part said. */
  #shown: { step: number; analysis: Analysis | null } | null = null;
  /** These read anew what is shown, and what stands around it; others for each block, step and part. */
  #readPicture = async () => {};
  #readAround = async () => {};
  #restUntilMs = 0;
  #later: ReturnType<typeof setTimeout> | null = null;

  constructor(side: "left" | "right", listener: SideListener) {
    this.#side = side;
    this.#listener = listener;
    this.#matrix = new MatrixView(() => void this.#readPicture());
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
    this.#history.replaceChildren();
    this.#neighbours.replaceChildren();
    this.#showPart(this.#part);
    this.#readAround = repeated(async () => {
      if (block === this.#block) await Promise.all([this.#readHistory(block), this.#readNeighbours(block)]);
    });
    void this.#readAround();
  }

  /** Steps that can be chosen; `live` names what "now" is. */
  offer(steps: readonly number[], live: boolean): void {
    this.#live = live;
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
    if (this.#block?.at !== "now") return;
    const read = () => {
      this.#later = null;
      void this.#readPicture();
      void this.#readAround();
    };
    this.#later ??= setTimeout(read, Math.max(0, this.#restUntilMs - performance.now()));
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
      input.addEventListener("change", () => this.#showPart(part));
      label.append(input, partNames[part]());
      this.#parts.append(label);
    }
  }

  /** Figures of another block or part never stand under this one's name. */
  #empty(instead: string): void {
    this.#shown = null;
    this.#matrix.clear();
    this.#facts.replaceChildren();
    this.#plots.replaceChildren();
    this.#missing.textContent = instead;
  }

  #showPart(part: BlockPart): void {
    const block = this.#block;
    this.#part = part;
    this.#empty(t("Reading…"));
    const read = repeated(async () => {
      if (!block || read !== this.#readPicture) return;
      const { window } = this.#matrix;
      // Of a step that stays the same, the statistics do too.
      const analyze = this.#shown === null || (this.#live && block.at === "now");
      const answer = await ask({ kind: "readWindow", ...block, part, window, analyze });
      if (read === this.#readPicture) this.#take(answer, window);
    });
    this.#readPicture = read;
    void read();
  }

  /** Shows values and statistics of one reading in place of those of the one before. */
  #take(answer: Answer, { row, column }: Window): void {
    if (answer.kind !== "values") {
      this.#empty(answer.kind === "missing" ? answer.reason : "");
      return;
    }
    const { step, rows, columns, blockRows, blockColumns, values, analysisMs = 0 } = answer;
    const analysis = answer.analysis === undefined && step === this.#shown?.step ? this.#shown.analysis : answer.analysis;
    if (analysis === undefined) {
      // The newest checkpoint is another one by now: its values come with its own statistics.
      this.#shown = null;
      void this.#readPicture();
      return;
    }
    this.#shown = { step, analysis };
    this.#restUntilMs = performance.now() + restPerAnalysis * analysisMs;
    const block = { rows: blockRows, columns: blockColumns };
    this.#missing.textContent = "";
    this.#facts.replaceChildren(...factsOf(step, block, analysis).flatMap(([name, value]) => definition(name, value)));
    this.#plots.replaceChildren(...plotsOf(analysis));
    this.#matrix.show({ row, column, rows, columns, values, block, scale: scaleOf(analysis, values) });
  }

  async #readHistory(block: ShownBlock): Promise<void> {
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

  async #readNeighbours(block: ShownBlock): Promise<void> {
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
