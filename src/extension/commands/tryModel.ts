/**
 * Try Model: one prompt, continued by the base model and by the run, with the same seed, side by side, as it is written.
 * The rule to keep: when it is done, each text is what `sparse-tuner generate` prints for that model, to the character.
 */
import * as vscode from "vscode";
import { shortName } from "../views/runText.ts";
import { cancellable } from "./cancellable.ts";
import { askAll, back, inputStep, pickStep, type Step } from "./multiStep.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { configOf } from "./useModel.ts";

/** Text that came is shown this often at most; a document redraws with each change. */
const showMs = 60;

interface Ask {
  prompt: string;
  tokens: number;
  temperature: number;
  seed: number;
}

export function tryModelCommand(parts: ShellParts): Handlers<"tryModel"> {
  return { tryModel: (argument) => tryModel(parts, argument) };
}

async function tryModel(parts: ShellParts, argument: unknown): Promise<{ before: string; after: string } | null> {
  const title = vscode.l10n.t("Try Model");
  const session = await parts.targets.run(argument, title, "use");
  if (!session) return null;
  const ask: Ask = { prompt: parts.context.workspaceState.get("tryModel.prompt", ""), tokens: 100, temperature: 0, seed: 1 };
  if (!(await askAll(title, [promptStep, tokensStep, samplingStep, { applies: isSampled, ask: seedStep }], ask))) return null;
  await parts.context.workspaceState.update("tryModel.prompt", ask.prompt);
  const { model } = await configOf(session.runFolder);
  const name = shortName(session.view);
  const before = vscode.l10n.t("Before: base model of {0}", name).concat(".txt");
  const after = vscode.l10n.t("After: {0}", name).concat(".txt");
  await parts.documents.show(parts.documents.set(before, ask.prompt), vscode.ViewColumn.One);
  await parts.documents.show(parts.documents.set(after, ask.prompt), vscode.ViewColumn.Two, true);
  return cancellable(title, async (signal, say) => {
    say(vscode.l10n.t("base model"));
    const first = await write(parts, before, model, ask, signal);
    say(vscode.l10n.t("the run"));
    return { before: first, after: await write(parts, after, session.runFolder, ask, signal) };
  });
}

const isSampled = ({ temperature }: Ask) => temperature > 0;

/** Continues the prompt into a document; returns its whole text. What was written until a cancellation stays. */
async function write({ service, documents, log }: ShellParts, name: string, modelOrRun: string, ask: Ask, signal: AbortSignal): Promise<string> {
  let text = ask.prompt;
  let timer: NodeJS.Timeout | null = null;
  const show = () => {
    timer = null;
    documents.set(name, text);
  };
  const onText = (more: string) => {
    text += more;
    timer ??= setTimeout(show, showMs);
  };
  try {
    const { notes, text: whole } = await service.generate({ modelOrRun, ...ask }, onText, { signal });
    for (const note of notes) log.info(`${name}: ${note}`);
    text = `${ask.prompt}${whole}\n`;
    return text;
  } finally {
    if (timer) clearTimeout(timer);
    show();
  }
}

const promptStep: Step<Ask> = {
  ask: async (ask, place) => {
    const entered = await inputStep({
      ...place,
      prompt: vscode.l10n.t("Prompt to continue; \\n stands for a new line"),
      value: escapeLines(ask.prompt),
      problem: () => null,
    });
    if (entered === undefined || entered === back) return entered;
    ask.prompt = unescapeLines(entered);
    return true;
  },
};

/** An input box has one line. */
export function escapeLines(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

export function unescapeLines(text: string): string {
  return text.replace(/\\(\\|n)/g, (_, letter: string) => (letter === "n" ? "\n" : "\\"));
}

const tokensStep: Step<Ask> = {
  ask: async (ask, place) => {
    const problem = (text: string) =>
      /^\d+$/.test(text) && Number(text) >= 1 && Number(text) <= 65536 ? null : vscode.l10n.t("Give a whole number from 1 to 65536.");
    const entered = await inputStep({ ...place, prompt: vscode.l10n.t("New tokens at most"), value: String(ask.tokens), problem });
    if (entered === undefined || entered === back) return entered;
    ask.tokens = Number(entered);
    return true;
  },
};

const samplingStep: Step<Ask> = {
  ask: async (ask, place) => {
    const items = [
      { label: vscode.l10n.t("Greedy"), description: vscode.l10n.t("the likeliest token each time"), temperature: 0 },
      { label: vscode.l10n.t("Sampled, temperature {0}", 0.7), description: vscode.l10n.t("by chance, from a seed"), temperature: 0.7 },
      { label: vscode.l10n.t("Sampled, temperature {0}", 1), description: vscode.l10n.t("by chance, from a seed"), temperature: 1 },
    ];
    const active = ({ temperature }: { temperature: number }) => temperature === ask.temperature;
    const picked = await pickStep({ ...place, placeholder: vscode.l10n.t("Choose how tokens are chosen"), items, active });
    if (picked === undefined || picked === back) return picked;
    ask.temperature = picked.temperature;
    return true;
  },
};

const seedStep: Step<Ask>["ask"] = async (ask, place) => {
  const problem = (text: string) =>
    /^\d+$/.test(text) && Number(text) <= 0xffffffff ? null : vscode.l10n.t("Give a whole number from 0 to 4294967295.");
  const entered = await inputStep({ ...place, prompt: vscode.l10n.t("Seed; the same one for both models"), value: String(ask.seed), problem });
  if (entered === undefined || entered === back) return entered;
  ask.seed = Number(entered);
  return true;
};
