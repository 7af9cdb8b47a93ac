/** A real micro-batch as rows a person can read: every token with its text, its role and whether the loss counts it. Plain data; the caller prints it. */
import { type TokenRole, tokenRoles } from "./documents.ts";
import type { BatchSource } from "./packing.ts";
import type { Tokenizer } from "./tokenizer.ts";

export interface PreviewToken {
  id: number;
  /** The token's own text, decoded; bytes that are no whole character show as U+FFFD. */
  text: string;
  role: TokenRole;
  /** The loss counts this token as a target. */
  loss: boolean;
  /** Index of the document and its line in the file. */
  document: number;
  line: number;
}

export interface PreviewRow {
  tokens: PreviewToken[];
  /** Positions at the end of the row that hold nothing. */
  padding: number;
}

/** Rows of micro-batch `index`; a row without tokens is all padding. */
export function previewBatch(source: BatchSource, index: number, tokenizer: Tokenizer): PreviewRow[] {
  const { batchSize, sequenceLength } = source.batch(index);
  const rows: PreviewRow[] = Array.from({ length: batchSize }, () => ({ tokens: [], padding: sequenceLength }));
  const { documents } = source;
  for (const { document, row } of source.placements(index)) {
    const marks = documents.marksOf(document);
    const line = documents.lineOf(document);
    for (const [place, id] of documents.tokensOf(document).entries()) {
      const role = tokenRoles[marks[place] >> 1];
      rows[row].tokens.push({ id, text: readable(tokenizer, id), role, loss: place > 0 && (marks[place] & 1) === 1, document, line });
      rows[row].padding--;
    }
  }
  return rows;
}

/** Decoders strip the space before a first token; here it is part of the token. */
function readable(tokenizer: Tokenizer, id: number): string {
  const text = tokenizer.tokenText(id) ?? "";
  return text.startsWith("▁") ? text.replaceAll("▁", " ") : tokenizer.decode([id]);
}
