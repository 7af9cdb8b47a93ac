/**
 * One data file into tokenised documents: read, recognise, encode, cut to length, and account for every row that is left out.
 * It makes no batches. The rule to keep: nothing is dropped or cut in silence; what cannot be used is refused before anything is allocated.
 */

import { UserError } from "../../protocol/userError.ts";
import type { ModelConfig } from "../model/config.ts";
import { RenderProblem } from "./chatTemplate.ts";
import { identifyFile, readRows } from "./datasets.ts";
import { countTargets, Documents } from "./documents.ts";
import { type EncodedRow, RowEncoder } from "./rowEncoder.ts";
import { detectFormat, type Example, type RowFormat, readExample } from "./rowFormats.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface DocumentOptions {
  format: "auto" | RowFormat;
  /** `auto`, `none`, or the source of a template. */
  template: string;
  trainOnPrompt: boolean;
  /** Longest document, in tokens. */
  sequenceLength: number;
  /** Usable rows read at most; null for all. */
  maxRows: number | null;
  /** Reading ends when so many tokens are there. Default: never. */
  maxTokens?: number;
  /** Bytes of a plain text that are encoded at once; no token spans two such pieces. Default 16 MB. */
  textPieceBytes?: number;
}

/** A row that was left out. */
export interface SkippedRow {
  file: string;
  line: number;
  reason: string;
}

export interface LoadedDocuments {
  documents: Documents;
  format: RowFormat;
  /** Rows that became documents. */
  rows: number;
  /** Rows that could not be read, and rows whose every target was masked or cut off. */
  badRows: number;
  rowsWithoutTargets: number;
  /** The first rows of either kind, at most 20. */
  skipped: { bad: SkippedRow[]; withoutTargets: SkippedRow[] };
  /** Documents that were longer than sequenceLength: cut off (responses), or split into windows (text). */
  truncated: number;
  split: number;
}

/** Rows that may be bad before a file is refused: 1 %, and one in any case. */
const badShare = 0.01;
const listedRows = 20;

/** Rows with their lines and reasons, as sentences quote them. */
export function listed(rows: readonly SkippedRow[]): string {
  return rows.map(({ line, reason }) => `line ${line}: ${reason}`).join("; ");
}

/**
 * Reads `path`. `watch` sees every usable row. Throws UserError `data/…`, `template/…` or `tokenizer/no-eos`: unreadable file, unknown layout,
 * too many bad rows, no usable row, a token id outside the model's vocabulary.
 */
export async function loadDocuments(
  path: string,
  options: DocumentOptions,
  tokenizer: Tokenizer,
  config: ModelConfig,
  watch: (example: Example, line: number) => void = () => undefined,
): Promise<LoadedDocuments> {
  const kind = await identifyFile(path);
  const collector = new Collector(path, options, tokenizer, config);
  for await (const row of readRows(path, kind, options.textPieceBytes)) {
    if (options.maxRows !== null && collector.rows >= options.maxRows) break;
    if (options.maxTokens !== undefined && collector.tokens >= options.maxTokens) break;
    if ("problem" in row) collector.reject(row.line, row.problem);
    else collector.take(row.value, row.line, watch);
  }
  return collector.finish();
}

class Collector {
  rows = 0;
  readonly #path: string;
  readonly #options: DocumentOptions;
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #encoder: RowEncoder;
  readonly #documents = new Documents();
  readonly #skipped: LoadedDocuments["skipped"] = { bad: [], withoutTargets: [] };
  #format: RowFormat | null;
  #badRows = 0;
  #rowsWithoutTargets = 0;
  #cutPrompts = 0;
  #truncated = 0;
  #split = 0;
  /** Tokens of a text that goes on in the next row. */
  #open: EncodedRow | null = null;

  constructor(path: string, options: DocumentOptions, tokenizer: Tokenizer, config: ModelConfig) {
    this.#path = path;
    this.#options = options;
    this.#tokenizer = tokenizer;
    this.#vocabSize = config.vocabSize;
    this.#encoder = new RowEncoder(tokenizer, config, options);
    this.#format = options.format === "auto" ? null : options.format;
  }

  get tokens(): number {
    return this.#documents.tokenCount;
  }

  reject(line: number, reason: string): void {
    this.#badRows++;
    this.#list(this.#skipped.bad, line, reason);
  }

  #rejectWithoutTargets(line: number, reason: string): void {
    this.#rowsWithoutTargets++;
    this.#list(this.#skipped.withoutTargets, line, reason);
  }

  #list(list: SkippedRow[], line: number, reason: string): void {
    if (list.length < listedRows) list.push({ file: this.#path, line, reason });
  }

  take(value: unknown, line: number, watch: (example: Example, line: number) => void): void {
    this.#format ??= detectFormat(value);
    const example = this.#format === null ? "its layout is unknown" : readExample(value, this.#format);
    if (typeof example === "string") {
      this.reject(line, example);
      return;
    }
    try {
      if (example.shape === "text") this.#addText(example, line);
      else this.#addResponse(this.#encoder.encode(example), line);
    } catch (error) {
      if (!(error instanceof RenderProblem)) throw error;
      this.reject(line, error.message);
      return;
    }
    watch(example, line);
  }

  #addResponse(row: EncodedRow, line: number): void {
    const { sequenceLength } = this.#options;
    const length = Math.min(row.ids.length, sequenceLength);
    if (countTargets(row.marks, length) === 0) {
      if (row.ids.length > length) this.#cutPrompts++;
      this.#rejectWithoutTargets(line, row.ids.length > length ? `its prompt fills all ${sequenceLength} tokens` : "no token of it is trained on");
      return;
    }
    if (row.ids.length > length) this.#truncated++;
    this.#add({ ids: row.ids.slice(0, length), marks: row.marks.slice(0, length) }, line);
    this.rows++;
  }

  /** Cuts text into windows; what a text that goes on leaves over waits for its next piece. */
  #addText(example: Example & { shape: "text" }, line: number): void {
    const { sequenceLength } = this.#options;
    const row = this.#encoder.encodePiece(example.text, this.#open === null, !example.continues);
    const ids = [...(this.#open?.ids ?? []), ...row.ids];
    const marks = [...(this.#open?.marks ?? []), ...row.marks];
    const before = this.#documents.count;
    let start = 0;
    for (; ids.length - start > sequenceLength || (!example.continues && start < ids.length); start += sequenceLength) {
      const end = Math.min(ids.length, start + sequenceLength);
      // A window of one token has nothing to predict.
      if (end - start > 1) this.#add({ ids: ids.slice(start, end), marks: marks.slice(start, end) }, line);
    }
    this.#open = example.continues ? { ids: ids.slice(start), marks: marks.slice(start) } : null;
    if (example.continues) return;
    if (ids.length > sequenceLength) this.#split++;
    if (this.#documents.count > before) this.rows++;
    else this.#rejectWithoutTargets(line, "it has a single token");
  }

  #add(row: EncodedRow, line: number): void {
    const outside = row.ids.find((id) => id >= this.#vocabSize);
    if (outside !== undefined) {
      throw new UserError(
        "data/token-outside-vocabulary",
        `Line ${line} of ${this.#path} gives the token ${JSON.stringify(this.#tokenizer.tokenText(outside))} with the id ${outside}, but the model has only ${this.#vocabSize} tokens.`,
        "Use the tokenizer that belongs to the model, or a template without that token.",
      );
    }
    this.#documents.add({ ...row, line });
  }

  finish(): LoadedDocuments {
    const usable = this.rows + this.#rowsWithoutTargets;
    const { bad, withoutTargets } = this.#skipped;
    const found = (rows: SkippedRow[]) => (rows.length === 0 ? "" : ` (${listed(rows.slice(0, 3))})`);
    if (this.#documents.count === 0 || this.#format === null) {
      const layouts = "{prompt, completion}, {instruction, input, output}, {question, answer}, {messages} or {text}";
      throw new UserError(
        "data/no-usable-row",
        `${this.#path} has no usable row${found([...bad, ...withoutTargets])}.`,
        this.#cutPrompts > 0
          ? "Raise train.sequenceLength, so that there is room for an answer behind the prompt."
          : `Give rows like ${layouts}; data.format names the layout.`,
      );
    }
    const allowed = Math.max(1, Math.floor(badShare * (usable + this.#badRows)));
    if (this.#badRows > allowed) {
      const message = `${this.#badRows} of ${usable + this.#badRows} rows of ${this.#path} are bad, more than the ${allowed} that are skipped${found(bad)}.`;
      throw new UserError("data/too-many-bad-rows", message, "Correct or remove these rows.");
    }
    return {
      documents: this.#documents,
      format: this.#format,
      rows: this.rows,
      badRows: this.#badRows,
      rowsWithoutTargets: this.#rowsWithoutTargets,
      skipped: this.#skipped,
      truncated: this.#truncated,
      split: this.#split,
    };
  }
}
