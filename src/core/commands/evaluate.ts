/**
 * `sparse-tuner evaluate`, and the service's: mean NLL and perplexity of a model or a run on a file; response tokens for chat data, all tokens for text.
 * A run is evaluated as it evaluates itself, with its sequence length, template and precision, so that on its own held-out file the figures agree.
 */
import path from "node:path";
import type { RunConfig } from "../../protocol/runConfig.ts";
import { checkSequenceLength, padTokenId, readTemplate } from "../data/loadData.ts";
import { type DocumentOptions, type LoadedDocuments, listed, loadDocuments } from "../data/loadDocuments.ts";
import { evaluationBatches } from "../data/packing.ts";
import { openModel } from "../inference.ts";
import type { ModelConfig } from "../model/config.ts";
import { runBatch } from "../model/llama.ts";
import { perplexityOf } from "../tasks/perplexity.ts";
import { formatLoss } from "../terminal/format.ts";
import { evaluatePerplexity, evaluateTasks } from "./evaluateTasks.ts";
import { printNotes } from "./notes.ts";
import type { CommandOptions, EvaluateOptions, Waiting } from "./options.ts";

/** Longest row of a model folder: what most models were made for, and a bound on memory for those made for more. */
const longestRow = 2048;
const tokensPerBatch = 2048;

/** Mean NLL in nats over the tokens that count. */
export interface Evaluated {
  loss: number;
  perplexity: number;
  tokens: number;
  rows: number;
  sequenceLength: number;
}

/** Evaluates. Throws UserError for a model or data that cannot be read, and when the loss is no number. */
export async function evaluateOn(
  { modelOrRun, base, data, sequenceLength: asked, rows }: Omit<EvaluateOptions, "json" | "verbose">,
  { onNotes, signal }: Waiting,
): Promise<Evaluated> {
  const opened = await openModel(modelOrRun, {
    device: "auto",
    threads: "auto",
    positions: asked ?? longestRow,
    base,
    async prepare({ model, tokenizer, config }) {
      const options = await documentOptions(config, model.config, data, asked, rows);
      return { loaded: await loadDocuments(data, options, tokenizer, model.config), sequenceLength: options.sequenceLength };
    },
  });
  const { model, tokenizer, config: run, reasons } = opened;
  const { loaded, sequenceLength } = opened.prepared;
  try {
    onNotes([...reasons, ...notesOf(loaded, data, sequenceLength)]);
    const batchSize = Math.max(1, Math.floor(tokensPerBatch / sequenceLength));
    const layout = { batchSize, sequenceLength, packing: run?.data.packing ?? true, padTokenId: padTokenId(tokenizer, model.config) };
    let lossSum = 0;
    let tokens = 0;
    for (const batch of evaluationBatches(loaded.documents, layout)) {
      signal?.throwIfAborted();
      lossSum += await runBatch(model, opened.method, batch, null);
      tokens += batch.unmaskedTokens;
    }
    const loss = lossSum / tokens;
    return { loss, perplexity: perplexityOf(loss), tokens, rows: loaded.rows, sequenceLength };
  } finally {
    opened.close();
  }
}

/** Prints mean NLL in nats, perplexity and the number of tokens counted; or accuracy on tasks, or the perplexity of a text, where those are asked for. */
export async function evaluate(options: CommandOptions["evaluate"]): Promise<number> {
  if ("tasks" in options) return evaluateTasks(options);
  if ("text" in options) return evaluatePerplexity(options);
  const { json, ...asked } = options;
  const { loss, perplexity, tokens, rows, sequenceLength } = await evaluateOn(asked, { onNotes: printNotes });
  const text = `loss ${formatLoss(loss)}, perplexity ${perplexity.toFixed(3)}, over ${tokens} tokens of ${rows} ${rows === 1 ? "row" : "rows"} at a sequence length of ${sequenceLength}`;
  process.stdout.write(json ? `${JSON.stringify({ loss, perplexity, tokens, rows, sequenceLength })}\n` : `${text}\n`);
  return 0;
}

/** A run's own settings, or what suits a model folder. The layout of a file other than the run's is looked for. */
async function documentOptions(
  run: RunConfig | null,
  model: ModelConfig,
  data: string,
  asked: number | null,
  rows: number | null,
): Promise<DocumentOptions> {
  const sequenceLength = asked ?? run?.train.sequenceLength ?? Math.min(longestRow, model.maxPositions);
  checkSequenceLength(sequenceLength, model, asked === null ? "train.sequenceLength" : "--sequence-length");
  const known = run !== null && [run.data.train, run.data.eval].includes(path.resolve(data));
  const template = run ? await readTemplate(run.data.template) : "auto";
  return { format: known ? run.data.format : "auto", template, trainOnPrompt: run?.data.trainOnPrompt ?? false, sequenceLength, maxRows: rows };
}

function notesOf({ badRows, rowsWithoutTargets, truncated, skipped }: LoadedDocuments, data: string, sequenceLength: number): string[] {
  const first = listed([...skipped.bad, ...skipped.withoutTargets].slice(0, 3));
  const out = badRows + rowsWithoutTargets;
  return [
    ...(out > 0 ? [`${out} of the rows of ${data} left out (${first}${out > 3 ? "; …" : ""}).`] : []),
    ...(truncated > 0 ? [`${truncated} of the rows of ${data} cut off at ${sequenceLength} tokens, without their end.`] : []),
  ];
}
