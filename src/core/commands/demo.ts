/** `sparse-tuner demo`, and `npm start`: fine-tunes the bundled model with SMT on bundled rows and shows everything there is to see. Offline. */
import path from "node:path";
import { parseRunFile, type RunConfig, stringifyRunConfig } from "../../protocol/runConfig.ts";
import { assetPath } from "../assets.ts";
import type { Tokenizer } from "../data/tokenizer.ts";
import { createRunFolder } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { generate } from "../generate.ts";
import { checkRun } from "../prepare.ts";
import type { Run } from "../run.ts";
import { paint, styleOf, type TerminalStyle, wrap } from "../terminal/style.ts";
import { continuation, promptIds, stopIds } from "./generate.ts";
import type { DemoOptions } from "./options.ts";
import { runInForeground } from "./train.ts";

const generatedTokens = 60;
/** Of the held-out rows, a short one. */
const questionRow = 1;

/** Runs the bundled run file in a new run folder under `output`; exit code as of `train`. */
export async function demo({ output, json }: DemoOptions): Promise<number> {
  const runFile = assetPath("media/demo/demo.sparse-tuner.yaml");
  const config = { ...parseRunFile(await readText(runFile), runFile), output: path.resolve(output) };
  const checked = await checkRun(config);
  const folder = await createRunFolder(config.output, "demo", stringifyRunConfig(config));
  const style = styleOf(process.stdout);
  const prompt = await firstQuestion(config.data.eval as string);
  const answers: string[] = [];
  const ask = async (run: Run) => void answers.push(await answer(run, checked.tokenizer, prompt));
  if (!json)
    process.stdout.write(
      `${introduction(config)
        .map((line) => wrap(line, style))
        .join("\n")}\n\n`,
    );
  return runInForeground(checked, folder, {
    json,
    resume: null,
    onOpen: ask,
    onDone: ask,
    conclusion: () => [...answerLines(prompt, answers, style), ""],
  });
}

function introduction({ method, train }: RunConfig): string[] {
  return [
    "Sparse Matrix Tuning of a small language model that has only read children's stories, on grade-school maths.",
    `A warm-up${method.name === "smt" ? ` of ${method.warmup.steps} steps` : ""} scores every block of every matrix; the best are trained for ${train.steps} steps, all others stay as they are.`,
  ];
}

/** A held-out question in the layout the model is trained on. */
async function firstQuestion(file: string): Promise<string> {
  const row: { question: string } = JSON.parse((await readText(file)).split("\n")[questionRow]);
  return `Question: ${row.question}\nAnswer:`;
}

function answerLines(prompt: string, answers: readonly string[], style: TerminalStyle): string[] {
  const oneLine = (text: string) => text.trim().replaceAll("\n", "⏎");
  const lines = [
    ["prompt", prompt, 244],
    ["before", answers[0], 250],
    ["after", answers[1], 78],
  ] as const;
  const shown = lines.map(([label, text, colour]) => paint(label, style, 75) + " ".repeat(10 - label.length) + paint(oneLine(text), style, colour));
  const unknown = answers[1].includes("<unk>") ? "; <unk> is a sign that it has no token for, such as + or =" : "";
  return ["", ...shown, `A model of this size picks up the form of the answers, not arithmetic${unknown}.`];
}

async function answer(run: Run, tokenizer: Tokenizer, prompt: string): Promise<string> {
  const opened = { model: run.model, tokenizer };
  const ids = promptIds(opened, prompt, generatedTokens);
  return continuation(tokenizer, ids, await generate(run.model, ids, { tokens: generatedTokens, temperature: 0, seed: 1, stopIds: stopIds(opened) }));
}
