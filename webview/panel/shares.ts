/**
 * Which part of what is trained lies where: per kind of matrix in total and per layer, of chosen blocks and of adapters, from the events that say it. No DOM.
 * The rule to keep: numbers are the events' own; nothing is estimated before blocks are chosen.
 */
import type { RunEvent, Shares } from "../../src/protocol/events.ts";
import { t } from "../strings.ts";

/** In the order of a layer's computation; what the event names besides comes after these. */
const knownProjections: readonly string[] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/** The kinds that blocks can lie in: Q, K and V always, others when they hold any. */
export function shownProjections(shares: Shares): string[] {
  const always = knownProjections.slice(0, 3);
  const others = [...knownProjections.slice(3), ...Object.keys(shares).filter((name) => !knownProjections.includes(name))];
  return [...always, ...others.filter((name) => (shares[name] ?? 0) > 0)];
}

/** `Q`, `K`, `V`, `O`; the MLP's by their names. */
export function projectionText(projection: string): string {
  const short = projection.replace(/_proj$/, "");
  return short.length === 1 ? short.toUpperCase() : knownProjections.includes(projection) ? t("MLP {0}", short) : projection;
}

/** Which of the theme's series colours a kind has, always the same. */
export function projectionColor(projection: string): number {
  const index = knownProjections.indexOf(projection);
  return index < 0 ? knownProjections.length : index;
}

/** A share as a percentage with one digit; tiny ones are not rounded to nothing. */
export function percentText(share: number): string {
  if (share > 0 && share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(1)} %`;
}

/** Part of a circle, in turns from the top, clockwise. */
export interface Slice {
  projection: string;
  share: number;
  from: number;
  to: number;
}

export function pieSlices(shares: Shares): Slice[] {
  let from = 0;
  return shownProjections(shares).map((projection) => {
    const share = shares[projection] ?? 0;
    const slice = { projection, share, from, to: from + share };
    from += share;
    return slice;
  });
}

/** Whether a label so wide fits in a slice where it is drawn, so far from the middle; all in the units of the figure. */
export function holdsLabel(share: number, width: number, distance: number): boolean {
  return share >= 0.5 || 2 * distance * Math.sin(Math.PI * share) >= width;
}

/** The outline of a slice around (0, 0) as an SVG path; a whole circle takes two arcs. */
export function slicePath({ from, to }: Pick<Slice, "from" | "to">, radius: number): string {
  const point = (turn: number) =>
    [radius * Math.sin(2 * Math.PI * turn), -radius * Math.cos(2 * Math.PI * turn)].map((value) => value.toFixed(3)).join(" ");
  if (to - from >= 1 - 1e-9) return `M ${point(0)} A ${radius} ${radius} 0 1 1 ${point(0.5)} A ${radius} ${radius} 0 1 1 ${point(0)} Z`;
  return `M 0 0 L ${point(from)} A ${radius} ${radius} 0 ${to - from > 0.5 ? 1 : 0} 1 ${point(to)} Z`;
}

/** What is drawn of either. */
export interface ShareFigure {
  shares: Shares;
  sharesByLayer: readonly Shares[];
  /** A sentence on the whole. */
  summary: string;
  /** Of the pie, for who does not see it; `{0}` are its parts. */
  ofPie(parts: string): string;
  caption: string;
  /** Of adapters: parameters behind the shares, in all and by layer, which the table shows; of blocks null. */
  parameters: { all: Record<string, number>; byLayer: readonly Record<string, number>[]; total: number } | null;
}

type Selection = Extract<RunEvent, { kind: "selection" }>;
type Adapters = Extract<RunEvent, { kind: "adapters" }>;

/** The newest choice of blocks, else what adapters train; null where there is neither. */
export function shareFigure({ selection, adapters }: { selection: Selection | null; adapters: Adapters | null }): ShareFigure | null {
  return selection ? ofBlocks(selection) : adapters && ofAdapters(adapters);
}

function ofBlocks({ shares, sharesByLayer, blocks, trainableParameters, step }: Selection): ShareFigure {
  return {
    shares,
    sharesByLayer,
    summary: blocksText(blocks, trainableParameters.toLocaleString("en-US"), step),
    ofPie: (parts) => t("Share of the chosen blocks: {0}", parts),
    caption: t("Share of the chosen blocks by layer and kind of matrix"),
    parameters: null,
  };
}

function blocksText(blocks: number, parameters: string, step: number): string {
  if (blocks === 1) return t("One block with {0} parameters, chosen at step {1}.", parameters, step);
  return t("{0} blocks with {1} parameters, chosen at step {2}.", blocks, parameters, step);
}

function ofAdapters({ matrices, trainableParameters: total, parameters, parametersByLayer }: Adapters): ShareFigure {
  const sharesOf = (own: Record<string, number>) =>
    Object.fromEntries(Object.entries(own).map(([name, count]) => [name, total > 0 ? count / total : 0]));
  return {
    shares: sharesOf(parameters),
    sharesByLayer: parametersByLayer.map(sharesOf),
    summary: t("{0} trained parameters in adapters beside {1} matrices.", total.toLocaleString("en-US"), matrices),
    ofPie: (parts) => t("Share of the trained parameters: {0}", parts),
    caption: t("Trained parameters by layer and kind of matrix"),
    parameters: { all: parameters, byLayer: parametersByLayer, total },
  };
}
