/**
 * Progress of a run in the terminal: one line that is redrawn, or, where nobody watches, a line every tenth of the way.
 * `progressLine` is the picture, a pure function; `ProgressBar` is only when to draw it and where.
 */
import { formatCount, formatDuration, formatLoss } from "./format.ts";
import { paint, type TerminalStyle } from "./style.ts";

export interface Progress {
  /** What is going on, e.g. `Training`. A new label starts a new bar. */
  label: string;
  step: number;
  of: number;
  loss?: number | null;
  tokensPerSecond?: number | null;
  /** Milliseconds to the end; null while unknown. */
  etaMs?: number | null;
}

const barWidth = 24;
const narrowestBar = 6;
const labelWidth = 9;
/** The screen is redrawn no oftener. */
const redrawMs = 100;
const plainLines = 10;

/** One line no wider than the style's width: the bar gives way first, then the last figures. */
export function progressLine(progress: Progress, style: TerminalStyle): string {
  const { step, of, loss, tokensPerSecond, etaMs } = progress;
  const share = of > 0 ? Math.min(step / of, 1) : 1;
  const label = progress.label.padEnd(labelWidth);
  const figures = [
    `${String(step).padStart(String(of).length)}/${of}`,
    ...(loss === undefined || loss === null ? [] : [`loss ${formatLoss(loss)}`]),
    ...(tokensPerSecond === undefined || tokensPerSecond === null ? [] : [`${formatCount(tokensPerSecond)} tokens/s`]),
    ...(etaMs === undefined || etaMs === null || step >= of ? [] : [`ETA ${formatDuration(etaMs)}`]),
  ];
  if (!style.interactive) return [label, ...figures].join("  ");
  const used = () => label.length + 1 + figures.reduce((sum, figure) => sum + figure.length + 2, 0);
  while (figures.length > 1 && used() + narrowestBar > style.width) figures.pop();
  const cells = Math.min(barWidth, Math.max(style.width - used(), 0));
  const filled = Math.round(share * cells);
  const bar = cells < narrowestBar ? "" : ` ${paint("█".repeat(filled), style, 37)}${paint("░".repeat(cells - filled), style, 240)}`;
  return `${label}${bar}  ${figures.join("  ")}`;
}

/** Where the bar is drawn. */
export interface Screen {
  write(text: string): unknown;
}

export class ProgressBar {
  readonly #screen: Screen;
  readonly #style: TerminalStyle;
  readonly #now: () => number;
  #label = "";
  /** First step seen under this label, and when: a resumed run's rate counts from there. */
  #first = { step: 0, timeMs: 0 };
  #drawnMs = Number.NEGATIVE_INFINITY;
  #line = "";
  #onScreen = false;

  constructor(screen: Screen, style: TerminalStyle, now: () => number = () => performance.now()) {
    this.#screen = screen;
    this.#style = style;
    this.#now = now;
  }

  /** Shows how far it is. ETA is worked out here unless it is given. Cheap enough for every step. */
  update(progress: Progress): void {
    const now = this.#now();
    if (progress.label !== this.#label) {
      this.finish();
      this.#label = progress.label;
      this.#first = { step: progress.step, timeMs: now };
      this.#drawnMs = Number.NEGATIVE_INFINITY;
    }
    const done = progress.step - this.#first.step;
    const etaMs = progress.etaMs ?? (done > 0 ? ((now - this.#first.timeMs) / done) * (progress.of - progress.step) : null);
    this.#line = progressLine({ ...progress, etaMs }, this.#style);
    const last = progress.step >= progress.of;
    if (!this.#style.interactive) {
      const every = Math.ceil(progress.of / plainLines);
      if (last || progress.step % every === 0) this.#screen.write(`${this.#line}\n`);
    } else if (last || now - this.#drawnMs >= redrawMs) {
      this.#drawnMs = now;
      this.#draw();
    }
  }

  /** Writes a line of text above the bar. */
  log(text: string): void {
    this.#screen.write(this.#onScreen ? `\r\x1b[2K${text}\n` : `${text}\n`);
    if (this.#onScreen) this.#draw();
  }

  /** Leaves the bar as it stands and goes to a new line. */
  finish(): void {
    if (this.#onScreen) {
      this.#draw();
      this.#screen.write("\n");
    }
    this.#onScreen = false;
    this.#label = "";
  }

  #draw(): void {
    this.#screen.write(`\r\x1b[2K${this.#line}`);
    this.#onScreen = true;
  }
}
