/**
 * New Run's questions on the method: which one, and how much it trains: SMT's budget, an adapter's rank, SPP's groups. Everything else has a default that the
 * form shows.
 * The rule to keep: a method that would fill the zeros of a pruned model says so before it is chosen.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { type Answer, back, inputStep, type Place, pickStep } from "./multiStep.ts";
import { type Budget, defaultsOf, type NewRun, sizeKey } from "./runFileText.ts";

type Method = NewRun["method"];

/** What a folder holds beside a model that Prune Model, or `sparse-tuner prune`, has written. */
export const pruningReportName = "pruning.json";

export function isPruned(modelFolder: string): boolean {
  return existsSync(path.join(modelFolder, pruningReportName));
}

interface MethodPick extends vscode.QuickPickItem {
  method: Method;
  /** What it does to the zeros of a pruned model. */
  keepsZeros: boolean;
}

function methodPicks(): MethodPick[] {
  return [
    {
      label: "SMT",
      method: "smt",
      keepsZeros: false,
      description: vscode.l10n.t("Sparse Matrix Tuning"),
      detail: vscode.l10n.t("Scores every block of every matrix by its gradient, then trains only the best. Takes a fraction of the memory."),
    },
    {
      label: "LoRS",
      method: "lors",
      keepsZeros: true,
      description: vscode.l10n.t("for pruned models"),
      detail: vscode.l10n.t("Low-rank adapters under the model's own mask: what was pruned stays zero, in training and when merged."),
    },
    {
      label: "LoRA",
      method: "lora",
      keepsZeros: false,
      description: vscode.l10n.t("low-rank adapters"),
      detail: vscode.l10n.t("Trains two thin matrices beside each frozen one. Its adapters load in PEFT."),
    },
    {
      label: "DoRA",
      method: "dora",
      keepsZeros: false,
      description: vscode.l10n.t("LoRA with row lengths"),
      detail: vscode.l10n.t("As LoRA, and trains the length of each row of the weights as well. Its adapters load in PEFT."),
    },
    {
      label: "SPP",
      method: "spp",
      keepsZeros: true,
      description: vscode.l10n.t("for pruned models"),
      detail: vscode.l10n.t("Scales the weights that are left by row and column. Trains very little."),
    },
    {
      label: "SQFT",
      method: "sqft",
      keepsZeros: true,
      description: vscode.l10n.t("for pruned or 4-bit models"),
      detail: vscode.l10n.t("Low-rank adapters under the mask with exact gradients; on request against a base of 4-bit weights."),
    },
    {
      label: vscode.l10n.t("Full fine-tuning"),
      method: "full",
      keepsZeros: true,
      detail: vscode.l10n.t("Trains every weight. Takes the most memory; good to compare with."),
    },
  ];
}

export async function askMethod(state: NewRun, place: Place): Promise<Answer<true>> {
  const pruned = isPruned(state.model);
  const fills = vscode.l10n.t("fills the zeros of this pruned model");
  const items = methodPicks().map((item) =>
    pruned && !item.keepsZeros ? { ...item, label: `$(warning) ${item.label}`, description: [item.description, fills].join(" · ") } : item,
  );
  const proposed = pruned && state.method === "smt" ? "lors" : state.method;
  const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose a method"), items, active: ({ method }) => method === proposed });
  if (picked === undefined || picked === back) return picked;
  if (picked.method !== state.method) state.size = null;
  state.method = picked.method;
  state.keepZeros = pruned;
  return true;
}

export const isSmt = ({ method }: NewRun) => method === "smt";
export const hasSize = ({ method }: NewRun) => sizeKey(method) !== null;

interface SizePick extends vscode.QuickPickItem {
  /** Null asks for a number. */
  size: number | null;
}

/** The rank of adapters, or the groups of SPP. */
export async function askSize(state: NewRun, place: Place): Promise<Answer<true>> {
  const key = sizeKey(state.method);
  const usual = Number(defaultsOf(state.method)[key ?? "rank"]);
  const isRank = key === "rank";
  const items: SizePick[] = [...new Set([usual, 8, 16, 32, 64])].map((size) => ({
    label: isRank ? vscode.l10n.t("Rank {0}", size) : vscode.l10n.t("{0} groups", size),
    description: size === usual ? vscode.l10n.t("default") : "",
    size,
  }));
  items.push({ label: vscode.l10n.t("Another number…"), size: null });
  const placeholder = isRank ? vscode.l10n.t("Choose the rank of the adapters") : vscode.l10n.t("Choose how many groups of rows share scales");
  for (;;) {
    const picked = await pickStep({ ...place, placeholder, items, active: ({ size }) => size === (state.size ?? usual) });
    if (picked === undefined || picked === back) return picked;
    const size = picked.size ?? (await askCount(place, placeholder, usual));
    if (size === undefined) return undefined;
    if (size === back) continue;
    state.size = size;
    return true;
  }
}

/** A whole number from 1 to 65536. */
export async function askCount(place: Place, prompt: string, usual: number): Promise<Answer<number>> {
  const entered = await inputStep({
    ...place,
    prompt,
    value: String(usual),
    problem: (text) =>
      /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 65536 ? null : vscode.l10n.t("Give a whole number from 1 to {0}.", 65536),
  });
  return entered === undefined || entered === back ? entered : Number(entered);
}

interface BudgetPick extends vscode.QuickPickItem {
  budget: Budget | null;
}

export async function askBudget(state: NewRun, place: Place): Promise<Answer<true>> {
  const ratio = (value: number, description: string): BudgetPick => ({
    label: `${Number((value * 100).toPrecision(3))} %`,
    description,
    budget: { key: "ratio", value },
  });
  const items: BudgetPick[] = [
    ratio(0.0084, vscode.l10n.t("of the model's weights; what the paper uses for LLaMA-7B")),
    ratio(0.0486, vscode.l10n.t("of the model's weights; nearer to full fine-tuning")),
    ratio(0.002, vscode.l10n.t("of the model's weights; the least memory")),
    { label: vscode.l10n.t("Another share…"), description: vscode.l10n.t("in percent of the model's weights"), budget: null },
    { label: vscode.l10n.t("A number of blocks…"), budget: { key: "blocks", value: 0 } },
  ];
  const same = ({ budget }: BudgetPick) => budget?.key === state.budget.key && budget.value === state.budget.value;
  for (;;) {
    const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose how much is trained"), items, active: same });
    if (picked === undefined || picked === back) return picked;
    const budget = picked.budget && picked.budget.value > 0 ? picked.budget : await askNumber(place, picked.budget ? "blocks" : "ratio");
    if (budget === undefined) return undefined;
    if (budget === back) continue;
    state.budget = budget;
    return true;
  }
}

async function askNumber(place: Place, key: "ratio" | "blocks"): Promise<Answer<Budget>> {
  const isRatio = key === "ratio";
  const entered = await inputStep({
    ...place,
    prompt: isRatio ? vscode.l10n.t("Share of the model's weights to train, in percent") : vscode.l10n.t("Number of blocks to train"),
    value: isRatio ? "1" : "128",
    problem: (text) => {
      const value = Number(text);
      if (isRatio) return value > 0 && value <= 100 ? null : vscode.l10n.t("Give a number above 0 and up to 100.");
      return Number.isInteger(value) && value >= 1 ? null : vscode.l10n.t("Give a whole number above 0.");
    },
  });
  if (entered === undefined || entered === back) return entered;
  return { key, value: isRatio ? Number((Number(entered) / 100).toPrecision(12)) : Number(entered) };
}
