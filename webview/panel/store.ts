/**
 * The panel's state: one immutable value, made from what the host sends by a pure function, and who wants to know of its changes.
 * It knows no DOM. The rules to keep: the state after `hydrate` and changes equals the state after one later `hydrate`; scalars are never lost; nothing is
 * here that the host did not say.
 */
import type { CardReport } from "../../src/protocol/cardReading.ts";
import type { Cell } from "../../src/protocol/coreProtocol.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import { type MemoryClass, memoryClasses } from "../../src/protocol/memory.ts";
import type { FormView, HeatmapFrame, PlanView, RunView, ToPanel } from "../../src/protocol/panelProtocol.ts";
import { applyFrame, emptyHeatmap, type HeatmapModel, withoutFramesAfter } from "./heatmap/model.ts";
import { Series } from "./series.ts";

type EventOf<Kind extends RunEvent["kind"]> = Extract<RunEvent, { kind: Kind }>;

/** A thing to know: something was done otherwise than asked, or (`skipped`) an update was left out because a number was not finite. */
export interface Notice {
  sequence: number;
  timeMs: number;
  kind: "notice" | "skipped";
  /** Stable; `step/skipped` for updates left out. */
  code: string;
  message: string;
  /** The update it belongs to; null where it belongs to none. */
  step: number | null;
}

export interface PanelState {
  /** Null before the first message. */
  run: RunView | null;
  form: FormView | null;
  plan: PlanView;
  started: EventOf<"started"> | null;
  /** One row an update. */
  steps: Series<"step" | "loss" | "learningRate" | "gradNorm" | "tokensPerSecond" | "timeMs">;
  /** One row a scoring step of a warm-up. */
  warmups: Series<"step" | "of" | "afterStep" | "loss" | "tokensPerSecond">;
  evaluations: Series<"step" | "loss" | "tokens">;
  /** The ledger's peak by class, as events report it. Bytes, exact up to 2^53. */
  memory: Series<"step" | "peakBytes" | "processBytes" | MemoryClass>;
  /** The graphics card's figures while somebody looked, oldest first. */
  cards: readonly EventOf<"card">[];
  /** What the card tells now; null where nothing is watched. */
  card: CardReport | null;
  /** Oldest first. */
  notices: readonly Notice[];
  /** Every choice of blocks that holds, oldest first. */
  selections: readonly EventOf<"selection">[];
  /** The newest of them. */
  selection: EventOf<"selection"> | null;
  /** What adapters train; null for a method without any. */
  adapters: EventOf<"adapters"> | null;
  /** What was measured of a pruned base's zeros, oldest first; empty where the run has no such base. */
  sparsities: readonly EventOf<"sparsity">[];
  /** Why the run waits, when it does: the reason of the newest `paused` event. */
  pauseReason: string;
  heatmap: HeatmapModel;
  /** The newest answer to `readCell`. */
  cell: { request: number; cell: Cell | null; reason: string } | null;
}

const noEvents = {
  started: null,
  steps: Series.empty("step", "loss", "learningRate", "gradNorm", "tokensPerSecond", "timeMs"),
  warmups: Series.empty("step", "of", "afterStep", "loss", "tokensPerSecond"),
  evaluations: Series.empty("step", "loss", "tokens"),
  memory: Series.empty("step", "peakBytes", "processBytes", ...memoryClasses),
  cards: [],
  notices: [],
  selections: [],
  selection: null,
  adapters: null,
  sparsities: [],
  pauseReason: "",
} satisfies Partial<PanelState>;

export const initialState: PanelState = { run: null, form: null, plan: { kind: "none" }, ...noEvents, card: null, heatmap: emptyHeatmap, cell: null };

/** The state after a message. Throws an Error when a frame contradicts itself; the state before is still good then. */
export function reduce(state: PanelState, message: ToPanel): PanelState {
  switch (message.kind) {
    case "hydrate": {
      const { run, form, plan, events, frames, card = null } = message;
      return { ...withEvents({ ...initialState, run, form, plan, card }, events), heatmap: framesApplied(frames) };
    }
    case "run":
      return { ...state, run: message.run };
    case "form":
      return { ...state, form: message.form };
    case "plan":
      // While another one is being made, the last one stays on the screen: numbers that come and go cannot be read.
      return message.plan.kind === "planning" && state.plan.kind !== "none" ? state : { ...state, plan: message.plan };
    case "events":
      return withEvents(state, message.events);
    case "frame":
      return { ...state, heatmap: applyFrame(state.heatmap, message.frame) };
    case "card":
      return { ...state, card: message.card };
    case "cell":
      return { ...state, cell: { request: message.request, cell: message.cell, reason: message.reason } };
  }
}

function framesApplied(frames: readonly HeatmapFrame[]): HeatmapModel {
  const order = ["scores", "selection", "magnitudes"];
  return [...frames].sort((a, b) => order.indexOf(a.header.kind) - order.indexOf(b.header.kind)).reduce(applyFrame, emptyHeatmap);
}

/** Takes the events between two resumes at once, so that a series grows once and not with each event. */
function withEvents(state: PanelState, events: readonly RunEvent[]): PanelState {
  let next = state;
  let from = 0;
  for (const [index, event] of events.entries()) {
    if (event.kind !== "resumed") continue;
    next = withoutStepsAfter(withPlainEvents(next, events.slice(from, index)), event.fromStep);
    from = index + 1;
  }
  return withPlainEvents(next, from === 0 ? events : events.slice(from));
}

function withPlainEvents(state: PanelState, events: readonly RunEvent[]): PanelState {
  if (events.length === 0) return state;
  const of = <Kind extends RunEvent["kind"]>(kind: Kind) => events.filter((event): event is EventOf<Kind> => event.kind === kind);
  const notices = events.flatMap((event): Notice[] => {
    const { sequence, timeMs } = event;
    if (event.kind === "notice") return [{ sequence, timeMs, kind: "notice", code: event.code, message: event.message, step: null }];
    if (event.kind === "skipped") return [{ sequence, timeMs, kind: "skipped", code: "step/skipped", message: event.reason, step: event.step }];
    return [];
  });
  const selections = [...state.selections, ...of("selection")];
  const sparsities = of("sparsity");
  const cards = of("card");
  return {
    ...state,
    started: of("started").at(-1) ?? state.started,
    steps: state.steps.append(of("step")),
    warmups: state.warmups.append(of("warmup")),
    evaluations: state.evaluations.append(of("evaluation")),
    memory: state.memory.append(
      of("memory").map(({ step, peakBytes, processBytes, bytesByClass }) => ({ step, peakBytes, processBytes, ...bytesByClass })),
    ),
    cards: cards.length > 0 ? [...state.cards, ...cards] : state.cards,
    notices: notices.length > 0 ? [...state.notices, ...notices] : state.notices,
    selections,
    selection: selections.at(-1) ?? null,
    adapters: of("adapters").at(-1) ?? state.adapters,
    sparsities: sparsities.length > 0 ? [...state.sparsities, ...sparsities] : state.sparsities,
    pauseReason: of("paused").at(-1)?.reason ?? state.pauseReason,
  };
}

/** A resume does again what its checkpoint does not hold: as `history` of the protocol says. */
function withoutStepsAfter(state: PanelState, fromStep: number): PanelState {
  const { steps, warmups, evaluations, memory, notices } = state;
  const [step, afterStep, evaluationStep, memoryStep] = [
    steps.column("step"),
    warmups.column("afterStep"),
    evaluations.column("step"),
    memory.column("step"),
  ];
  // A choice of blocks comes after what its step left was saved; the first one is part of the checkpoint of step 0.
  const behind = (chosenAt: number) => (chosenAt > 0 ? chosenAt + 0.5 : 0);
  const selections = state.selections.filter((event) => behind(event.step) <= fromStep);
  return {
    ...state,
    steps: steps.filter((row) => step[row] <= fromStep),
    warmups: warmups.filter((row) => behind(afterStep[row]) <= fromStep),
    evaluations: evaluations.filter((row) => evaluationStep[row] <= fromStep),
    memory: memory.filter((row) => memoryStep[row] <= fromStep),
    cards: state.cards.filter(({ step }) => step <= fromStep),
    notices: notices.filter((notice) => (notice.step ?? Number.NEGATIVE_INFINITY) <= fromStep),
    selections,
    selection: selections.at(-1) ?? null,
    sparsities: state.sparsities.filter((event) => event.step <= fromStep),
    pauseReason: "",
    heatmap: withoutFramesAfter(state.heatmap, fromStep),
  };
}

export type StateListener = (state: PanelState, changed: ToPanel["kind"]) => void;

/** Holds the state and tells of changes. */
export class Store {
  #state: PanelState = initialState;
  readonly #listeners = new Set<StateListener>();

  get state(): PanelState {
    return this.#state;
  }

  /** Returns what ends it. A part of the panel is mounted when the first `hydrate` is in the state already; it reads the state and then subscribes. */
  subscribe(listener: StateListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes a message of the host. Throws what `reduce` throws, without a change. */
  receive(message: ToPanel): void {
    const next = reduce(this.#state, message);
    if (next === this.#state) return;
    this.#state = next;
    for (const listener of this.#listeners) listener(next, message.kind);
  }
}
