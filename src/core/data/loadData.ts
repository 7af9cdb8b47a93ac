/**
 * Everything the trainer needs of the data, in one call: training and evaluation documents, what was left out, what to tell, a hash.
 * It opens files and allocates nothing on a device. The rule to keep: whatever was changed against what the user asked is a notice.
 */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { UserError } from "../../protocol/userError.ts";
import { hashFile, sha256OfFile } from "../files/fileHash.ts";
import type { ModelConfig } from "../model/config.ts";
import { Documents } from "./documents.ts";
import { type DocumentOptions, type LoadedDocuments, listed, loadDocuments, type SkippedRow } from "./loadDocuments.ts";
import { OverlapWatch } from "./overlap.ts";
import type { RowFormat } from "./rowFormats.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface DataOptions {
  train: string;
  eval: string | null;
  format: "auto" | RowFormat;
  /** `auto`, `none`, the path of a .jinja file, or a template itself. */
  template: string;
  maxRows: number | null;
  trainOnPrompt: boolean;
  sequenceLength: number;
  /** Rows of `eval` used at most; null for all. */
  evaluationRows: number | null;
}

/** Something to know about the data, with a stable code; becomes a `notice` event. */
export interface DataNotice {
  code: string;
  message: string;
}

export interface LoadedData {
  train: Documents;
  evaluation: Documents;
  /** Training rows used, and rows left out of both files. */
  trainRows: number;
  skippedRows: number;
  /** The first rows left out of each file: at most 20 bad ones and 20 without targets, bad ones first. */
  skipped: SkippedRow[];
  /** Training documents cut at sequenceLength. */
  truncated: number;
  notices: DataNotice[];
  /** An id to fill rows with; always inside the model's vocabulary. */
  padTokenId: number;
  /** sha256, hexadecimal, over the data files and the template. */
  hash: string;
}

/** Throws UserError; see {@link loadDocuments}, and `data/sequence-too-long`. */
export async function loadData(options: DataOptions, tokenizer: Tokenizer, config: ModelConfig): Promise<LoadedData> {
  checkSequenceLength(options.sequenceLength, config);
  const template = await readTemplate(options.template);
  const shared: DocumentOptions = { ...options, template };
  const watch = new OverlapWatch();
  const evaluation =
    options.eval === null
      ? null
      : await loadDocuments(options.eval, { ...shared, maxRows: options.evaluationRows }, tokenizer, config, (example, line) =>
          watch.addEvaluation(example, line),
        );
  const train = await loadDocuments(options.train, shared, tokenizer, config, (example, line) => watch.checkTraining(example, line));
  const notices = tokenizer.notices.map((message) => ({ code: "tokenizer/note", message }));
  notices.push(...describe(options.train, train, options.sequenceLength));
  if (options.eval !== null && evaluation !== null) notices.push(...describe(options.eval, evaluation, options.sequenceLength));
  notices.push(...describeOverlap(watch));
  const loaded = evaluation === null ? [train] : [train, evaluation];
  return {
    train: train.documents,
    evaluation: evaluation?.documents ?? new Documents(),
    trainRows: train.rows,
    skippedRows: loaded.reduce((sum, { badRows, rowsWithoutTargets }) => sum + badRows + rowsWithoutTargets, 0),
    skipped: loaded.flatMap(({ skipped }) => [...skipped.bad, ...skipped.withoutTargets]),
    truncated: train.truncated,
    notices,
    padTokenId: padTokenId(tokenizer, config),
    hash: await hashData(options, template),
  };
}

/** Refuses rows longer than the model's positions: UserError `data/sequence-too-long`; `name` is what set their length. */
export function checkSequenceLength(sequenceLength: number, config: ModelConfig, name = "train.sequenceLength"): void {
  if (sequenceLength <= config.maxPositions) return;
  throw new UserError(
    "data/sequence-too-long",
    `${name} is ${sequenceLength}, but the model knows only ${config.maxPositions} positions.`,
    `Set ${name} to ${config.maxPositions} or less.`,
  );
}

/** The tokenizer's padding id, else EOS, else 0; padding is masked by position, so any valid id serves. */
export function padTokenId(tokenizer: Tokenizer, config: ModelConfig): number {
  const usable = [tokenizer.padTokenId, tokenizer.eosTokenId, config.eosTokenIds[0]].find(
    (id) => id !== null && id !== undefined && id < config.vocabSize,
  );
  return usable ?? 0;
}

/** The template's source where the option names a file (anything without braces or line breaks). Throws UserError `template/unreadable`. */
export async function readTemplate(template: string): Promise<string> {
  if (template === "auto" || template === "none" || /[{}\n]/.test(template)) return template;
  try {
    return await readFile(template, "utf8");
  } catch (error) {
    throw new UserError(
      "template/unreadable",
      `The template ${template} cannot be read.`,
      "Check data.template: auto, none, a .jinja file, or the template itself.",
      {
        cause: error,
      },
    );
  }
}

function describe(path: string, loaded: LoadedDocuments, sequenceLength: number): DataNotice[] {
  const { badRows, rowsWithoutTargets, truncated, split, skipped } = loaded;
  const notices: DataNotice[] = [];
  const found = (rows: SkippedRow[], all: number) => `(${listed(rows)}${all > rows.length ? "; …" : ""})`;
  if (badRows > 0) notices.push({ code: "data/bad-rows", message: `${count(badRows, "row")} of ${path} left out ${found(skipped.bad, badRows)}.` });
  if (rowsWithoutTargets > 0) {
    const rows = found(skipped.withoutTargets, rowsWithoutTargets);
    const message = `${count(rowsWithoutTargets, "row")} of ${path} left out because nothing in the first ${sequenceLength} tokens is trained on ${rows}.`;
    notices.push({ code: "data/rows-without-targets", message });
  }
  if (truncated > 0) {
    notices.push({
      code: "data/truncated",
      message: `${count(truncated, "document")} of ${path} cut off at ${sequenceLength} tokens, without their end.`,
    });
  }
  if (split > 0) notices.push({ code: "data/split", message: `${count(split, "text")} of ${path} split into windows of ${sequenceLength} tokens.` });
  return notices;
}

function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

function describeOverlap(watch: OverlapWatch): DataNotice[] {
  const { count: rows, first } = watch.found;
  if (rows === 0) return [];
  const pairs = first.map(({ evaluationLine, trainLine }) => `${evaluationLine} = ${trainLine}`).join(", ");
  const message = `${count(rows, "evaluation row")} also in the training data, so held-out loss will look too good (evaluation line = training line: ${pairs}).`;
  return [{ code: "data/overlap", message }];
}

async function hashData({ train, eval: held }: DataOptions, template: string): Promise<string> {
  const hash = createHash("sha256").update(`train ${await hashOf(train)}\n`);
  if (held !== null) hash.update(`eval ${await hashOf(held)}\n`);
  return hash.update(`template ${template}`).digest("hex");
}

/** Hashing a large file once is worth remembering; a small one is read faster than a memory of it is written. */
const rememberedFrom = 64 << 20;

async function hashOf(file: string): Promise<string> {
  return (await stat(file)).size < rememberedFrom ? sha256OfFile(file) : hashFile(file);
}
