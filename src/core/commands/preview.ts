/** `sparse-tuner preview`, and the service's: the real first batch of a run, token by token, and the rows that were left out. No weights are read. */
import { parseRunFile, type RunConfig } from "../../protocol/runConfig.ts";
import type { Batch } from "../data/batch.ts";
import { tokenRoles } from "../data/documents.ts";
import { type LoadedData, loadData } from "../data/loadData.ts";
import { BatchSource } from "../data/packing.ts";
import { type PreviewRow, type PreviewToken, previewBatch } from "../data/preview.ts";
import { openTokenizer } from "../data/tokenizer.ts";
import { openModelConfig } from "../files/modelFolder.ts";
import { readText } from "../files/textFile.ts";
import { formatPercent } from "../terminal/format.ts";
import { paint, styleOf, type TerminalStyle } from "../terminal/style.ts";
import type { PreviewOptions } from "./options.ts";

/** The first micro-batch of a run, and what was left out of its data. */
export interface PreviewedRun {
  batch: Batch;
  rows: PreviewRow[];
  data: LoadedData;
}

/** Reads a run's data as the run will. Throws UserError. */
export async function previewRun(config: RunConfig): Promise<PreviewedRun> {
  const { config: model } = await openModelConfig(config.model);
  const tokenizer = await openTokenizer(config.model);
  const { batchSize, sequenceLength, seed } = config.train;
  const data = await loadData({ ...config.data, sequenceLength, evaluationRows: config.evaluate.rows }, tokenizer, model);
  const source = new BatchSource(data.train, {
    batchSize,
    sequenceLength,
    packing: config.data.packing,
    seed,
    padTokenId: data.padTokenId,
    longestFirst: true,
  });
  return { batch: source.batch(0), rows: previewBatch(source, 0, tokenizer), data };
}

/** The tokens of a row by the document they belong to, in their order. */
export function documentsOf({ tokens }: PreviewRow): PreviewToken[][] {
  const documents = new Map<number, PreviewToken[]>();
  for (const token of tokens) {
    const document = documents.get(token.document);
    if (document) document.push(token);
    else documents.set(token.document, [token]);
  }
  return [...documents.values()];
}

export async function preview({ runFile }: PreviewOptions): Promise<number> {
  const { batch, rows, data } = await previewRun(parseRunFile(await readText(runFile), runFile));
  const { batchSize, sequenceLength } = batch;
  const style = styleOf(process.stdout);
  const lines = [
    `first batch: ${batchSize} rows of ${sequenceLength} tokens, ${formatPercent(batch.tokens / batch.inputs.length)} filled, ${batch.unmaskedTokens} targets in the loss`,
  ];
  for (const [number, row] of rows.entries()) lines.push("", `row ${number + 1}`, ...describeRow(row, style));
  lines.push("", style.color ? "green: in the loss; grey: read only; ⏎ a line break" : "in brackets: a token in the loss; ⏎ a line break");
  for (const { message } of data.notices) lines.push(`note: ${message}`);
  for (const { file, line, reason } of data.skipped) lines.push(`left out: ${file}:${line}: ${reason}`);
  if (data.skippedRows > data.skipped.length) lines.push(`left out: ${data.skippedRows - data.skipped.length} more`);
  process.stdout.write(`${lines.join("\n")}\n`);
  return 0;
}

/** The documents of a row, each with its line in the data, what its tokens serve, and its text. */
function describeRow(row: PreviewRow, style: TerminalStyle): string[] {
  const lines: string[] = [];
  for (const parts of documentsOf(row)) {
    const roles = tokenRoles.map((role) => [role, parts.filter((token) => token.role === role).length] as const).filter(([, count]) => count > 0);
    const counted = roles.map(([role, count]) => `${count} ${role}`).join(" + ");
    const inLoss = parts.filter(({ loss }) => loss).length;
    lines.push(paint(`  line ${parts[0].line}: ${counted} tokens, ${inLoss} in the loss`, style, 75));
    lines.push(`  ${parts.map((token) => describeToken(token, style)).join("")}`);
  }
  if (row.padding > 0) lines.push(paint(`  ${row.padding} positions of padding`, style, 244));
  return lines;
}

/** Without colour the loss's tokens stand in brackets. */
function describeToken({ text, loss }: PreviewToken, style: TerminalStyle): string {
  const shown = text.replaceAll("\n", "⏎");
  if (style.color) return paint(shown, style, loss ? 78 : 244);
  return loss ? `[${shown}]` : shown;
}
