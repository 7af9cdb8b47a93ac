/**
 * The first batch of a run as a text that a person reads: documents, tokens, padding, rows left out; with the stretches that are coloured, that lead to a
 * file, and that explain themselves. Plain data in and out; who shows it colours it.
 * The rule to keep: what is in the loss can be read without colours: it stands between ⟦ and ⟧.
 */
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";

type Preview = ServiceResults["preview"];
type Document = Preview["rows"][number]["documents"][number];
type Token = Document["tokens"][number];

/** What the text says around the data, in the display language. */
export interface PreviewWords {
  title: string;
  summary(rows: number, columns: number, filledPercent: string, inLoss: number): string;
  legend: string[];
  row(number: number): string;
  document(line: number, counts: string, inLoss: number): string;
  role(role: string, count: number): string;
  padding(count: number): string;
  notices: string;
  skipped: string;
  more(count: number): string;
}

export type SpanKind = "loss" | "context" | "heading" | "padding" | "mark";

export interface Span {
  start: number;
  end: number;
  kind: SpanKind;
}

/** A place of the text that leads to a line of a file, counted from 1. */
export interface PreviewLink {
  start: number;
  end: number;
  file: string;
  line: number;
}

export interface PreviewText {
  text: string;
  /** In order; tokens of one kind beside each other are one span. */
  spans: Span[];
  links: PreviewLink[];
  /** Every token, in order. */
  tokens: { start: number; end: number; token: Token }[];
}

/** Documents' lines are of `dataFile`. */
export function previewText(preview: Preview, dataFile: string | null, words: PreviewWords): PreviewText {
  const page = new Page();
  page.line(words.title, "heading");
  const positions = preview.batchSize * preview.sequenceLength;
  const percent = `${((100 * preview.tokens) / Math.max(1, positions)).toFixed(1)} %`;
  page.line(words.summary(preview.batchSize, preview.sequenceLength, percent, preview.unmaskedTokens));
  for (const line of words.legend) page.line(line, "padding");
  for (const [index, { documents, padding }] of preview.rows.entries()) {
    page.line("");
    page.line(words.row(index + 1), "heading");
    for (const document of documents) writeDocument(page, document, dataFile, words);
    if (padding > 0) page.line(`  ${words.padding(padding)}`, "padding");
  }
  if (preview.notices.length > 0) page.line("").line(words.notices, "heading");
  for (const notice of preview.notices) page.line(`  ${visible(notice)}`);
  if (preview.skippedRows > 0) page.line("").line(words.skipped, "heading");
  for (const { file, line, reason } of preview.skipped) {
    page
      .write("  ")
      .link(`${visible(file)}:${line}`, file, line)
      .line(`: ${visible(reason)}`);
  }
  const more = preview.skippedRows - preview.skipped.length;
  if (more > 0) page.line(`  ${words.more(more)}`);
  return page.done();
}

function writeDocument(page: Page, { line, tokens }: Document, dataFile: string | null, words: PreviewWords): void {
  const counts = new Map<string, number>();
  for (const { role } of tokens) counts.set(role, (counts.get(role) ?? 0) + 1);
  const counted = [...counts].map(([role, count]) => words.role(role, count)).join(" + ");
  const heading = words.document(line, counted, tokens.filter(({ loss }) => loss).length);
  page.write("  ");
  if (dataFile) page.link(heading, dataFile, line).line("");
  else page.line(heading);
  page.write("    ");
  let inLoss = false;
  for (const token of tokens) {
    if (token.loss !== inLoss) page.write(token.loss ? "⟦" : "⟧", "mark");
    inLoss = token.loss;
    page.token(token);
  }
  if (inLoss) page.write("⟧", "mark");
  page.line("");
}

/** Text as it can be seen: signs for line breaks, tabs and other control characters. */
function visible(text: string): string {
  return text
    .replace(/\r\n|[\n\u0085\u2028\u2029]/g, "⏎")
    .replaceAll("\t", "→")
    .replace(/\p{Cc}/gu, (character) => {
      const code = character.charCodeAt(0);
      return code < 0x20 ? String.fromCharCode(0x2400 + code) : code === 0x7f ? "␡" : `\\x${code.toString(16)}`;
    });
}

/** The text while it is written. */
class Page {
  readonly #parts: string[] = [];
  readonly #spans: Span[] = [];
  readonly #links: PreviewLink[] = [];
  readonly #tokens: PreviewText["tokens"] = [];
  #length = 0;

  write(text: string, kind?: SpanKind): this {
    this.#parts.push(text);
    const start = this.#length;
    this.#length += text.length;
    if (kind && text !== "") this.#span(start, kind);
    return this;
  }

  line(text: string, kind?: SpanKind): this {
    return this.write(text, kind).write("\n");
  }

  link(text: string, file: string, line: number): this {
    const start = this.#length;
    this.write(text);
    this.#links.push({ start, end: this.#length, file, line });
    return this;
  }

  /** A token; its line breaks break the line as well, and the next one stands in. */
  token(token: Token): this {
    const start = this.#length;
    const kind = token.loss ? "loss" : "context";
    const lines = token.text.split("\n");
    for (const line of lines.slice(0, -1)) this.write(`${visible(line)}⏎`, kind).write("\n    ");
    this.write(visible(lines.at(-1) ?? ""), kind);
    this.#tokens.push({ start, end: this.#length, token });
    return this;
  }

  #span(start: number, kind: SpanKind): void {
    const last = this.#spans.at(-1);
    if (last?.kind === kind && last.end === start) last.end = this.#length;
    else this.#spans.push({ start, end: this.#length, kind });
  }

  done(): PreviewText {
    return { text: this.#parts.join(""), spans: this.#spans, links: this.#links, tokens: this.#tokens };
  }
}
