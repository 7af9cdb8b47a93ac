/**
 * What each method becomes at a budget of trained parameters: the rank, blocks or groups that come nearest. Pure; how many parameters a configuration
 * trains, and whether the model takes it, is asked of whoever knows.
 * The rule to keep: nothing is asked for that cannot be trained, and how near a method came is said in the result, not rounded away.
 */
import type { ComparisonPoint } from "../../protocol/compareResults.ts";
import type { MethodConfig } from "../../protocol/runConfig.ts";
import { UserError } from "../../protocol/userError.ts";

/** What is asked about a model. */
export interface MethodSizes {
  /** Parameters that a configuration trains. */
  parameters(method: MethodConfig): number;
  /** Whether the model takes it: a rank may be too large, groups may not divide. */
  accepts(method: MethodConfig): boolean;
  /** The blocks of SMT, and their size, at which whole diagonals come nearest to a number of parameters. */
  diagonals(method: Extract<MethodConfig, { name: "smt" }>, parameters: number): { blockSize: number; blocks: number };
  /** Entries of a block of SMT, and how many blocks the targets hold. */
  blocks(method: Extract<MethodConfig, { name: "smt" }>): { entries: number; available: number };
  /** No rank and no number of groups is above it. */
  largest: number;
}

/** A method that misses its budget by a larger share is noted. */
const noticedDistance = 0.1;

/** A point of the comparison with the method that is run there. */
export interface SizedMethod {
  point: ComparisonPoint;
  method: MethodConfig;
}

export interface NamedMethod {
  label: string;
  method: MethodConfig;
}

/**
 * All points: budget after budget, each with every method; full fine-tuning once, at its own size. Without budgets the methods as they are given.
 * Budgets that come to the same for a method make one point, that of the nearest.
 */
export function pointsOf(methods: readonly NamedMethod[], budgets: readonly number[], sizes: MethodSizes): SizedMethod[] {
  const ids = slugs(methods.map(({ label }) => label));
  if (budgets.length === 0) return methods.map((named, i) => asGiven(named, ids[i], sizes));
  const points: SizedMethod[] = [];
  for (const budget of [...budgets].sort((a, b) => a - b))
    for (const [i, named] of methods.entries()) {
      const full = named.method.name === "full";
      if (full && points.some(({ point }) => point.label === named.label)) continue;
      const sized = full ? asGiven(named, ids[i], sizes) : atBudget(named, ids[i], budget, sizes);
      const same = points.findIndex(({ point, method }) => point.label === named.label && JSON.stringify(method) === JSON.stringify(sized.method));
      if (same < 0) points.push(sized);
      else if (distance(sized.point) < distance(points[same].point)) points[same] = sized;
    }
  return points;
}

/** How far from its budget a point is, as a factor ≥ 1. */
function distance({ budget, trainableParameters }: ComparisonPoint): number {
  return budget === null ? 1 : Math.max(trainableParameters / budget, budget / Math.max(1, trainableParameters));
}

function asGiven({ label, method }: NamedMethod, id: string, sizes: MethodSizes): SizedMethod {
  const trainableParameters = sizes.parameters(method);
  return { method, point: { id, label, method: method.name, budget: null, trainableParameters, setting: settingOf(method), note: "" } };
}

function atBudget({ label, method: asked }: NamedMethod, id: string, budget: number, sizes: MethodSizes): SizedMethod {
  const method = sizedFor(asked, budget, sizes);
  const trainableParameters = sizes.parameters(method);
  const off = Math.abs(trainableParameters / budget - 1) > noticedDistance;
  const note = off ? `${trainableParameters} is the nearest to the ${budget} asked for` : "";
  const point = { id: `${id}-${budget}`, label, method: method.name, budget, trainableParameters, setting: settingOf(method), note };
  return { method, point };
}

function sizedFor(method: MethodConfig, budget: number, sizes: MethodSizes): MethodConfig {
  if (method.name === "smt" && method.score === "diagonal" && method.blockSize === "auto")
    return { ...method, ratio: null, trainableParameters: null, ...sizes.diagonals(method, budget) };
  if (method.name === "smt") {
    const { entries, available } = sizes.blocks(method);
    const blocks = Math.min(Math.max(1, Math.round(budget / entries)), Math.floor(available));
    return { ...method, ratio: null, trainableParameters: null, blocks };
  }
  return nearestSize(method, budget, sizes);
}

/** The rank, or for SPP the groups: the parameters grow with it, so that the nearest lie on either side of where they pass the budget. */
function nearestSize(method: MethodConfig, budget: number, sizes: MethodSizes): MethodConfig {
  const one = sizes.parameters(withSize(method, 1));
  const slope = sizes.parameters(withSize(method, 2)) - one;
  const exact = 1 + (budget - one) / Math.max(1, slope);
  let best: MethodConfig | null = null;
  let bestDistance = Number.POSITIVE_INFINITY;
  // Outwards from the exact size, so that the search ends at the first that is accepted on each side.
  for (const candidates of [downwards(exact, sizes.largest), upwards(exact, sizes.largest)])
    for (const size of candidates) {
      const candidate = withSize(method, size);
      if (!sizes.accepts(candidate)) continue;
      const far = Math.abs(sizes.parameters(candidate) - budget);
      if (far < bestDistance) [best, bestDistance] = [candidate, far];
      break;
    }
  if (best) return best;
  throw new UserError(
    "compare/no-size",
    `The model takes ${method.name} at no size: neither a rank nor a number of groups fits its targets.`,
    "Choose other targets, or leave that method out.",
  );
}

function* downwards(from: number, largest: number): Generator<number> {
  for (let size = Math.min(Math.floor(from), largest); size >= 1; size--) yield size;
}

function* upwards(from: number, largest: number): Generator<number> {
  for (let size = Math.max(1, Math.ceil(from)); size <= largest; size++) yield size;
}

/** The method with another rank; alpha keeps its proportion to it. */
function withSize(method: MethodConfig, size: number): MethodConfig {
  if (method.name === "spp") return { ...method, groups: size };
  if (!("rank" in method)) return method;
  return { ...method, rank: size, alpha: (method.alpha * size) / method.rank };
}

function settingOf(method: MethodConfig): string {
  switch (method.name) {
    case "smt":
      if (method.blocks !== null) return `${method.blocks} ${method.blocks === 1 ? "block" : "blocks"}`;
      return method.ratio !== null ? `ratio ${method.ratio}` : "";
    case "full":
      return method.sparse === "keep" ? "zeros kept" : "";
    case "spp":
      return `${method.groups} ${method.groups === 1 ? "group" : "groups"}`;
    default:
      return `rank ${method.rank}`;
  }
}

/** Labels as parts of folders' names: letters, digits and dashes, each another one. */
function slugs(labels: readonly string[]): string[] {
  const taken = new Set<string>();
  return labels.map((label) => {
    const plain = label.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
    const stem = plain.replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "") || "method";
    let slug = stem;
    for (let number = 2; taken.has(slug); number++) slug = `${stem}-${number}`;
    taken.add(slug);
    return slug;
  });
}
