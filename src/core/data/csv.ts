/** Rows of a CSV or TSV file by csv-parse: the first record names the columns, every value is text. */
import { createReadStream } from "node:fs";
import { pipeline, type Readable } from "node:stream";
import { type CsvError, parse } from "csv-parse";
import { UserError } from "../../protocol/userError.ts";
import type { Row } from "./datasets.ts";
import { maxLineBytes } from "./lines.ts";

/** A record with the wrong number of fields is a bad row; a broken quote or wrong encoding refuses the file (UserError `data/unreadable`). */
export async function* readCsv(path: string, delimiter: string): AsyncGenerator<Row> {
  const wrong: Row[] = [];
  let lastLine = 1;
  const parser = parse({
    delimiter,
    columns: true,
    bom: true,
    info: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    max_record_size: maxLineBytes,
  });
  parser.on("skip", (error: CsvError | undefined) => {
    wrong.push({ line: Number(error?.lines ?? lastLine + 1), problem: String(error?.message ?? "it cannot be read").slice(0, 120) });
  });
  const source = createReadStream(path);
  // An error of the file or the encoding reaches the loop below through the parser.
  pipeline(source, checkUtf8, parser, () => undefined);
  try {
    for await (const { record, info } of parser as AsyncIterable<{ record: unknown; info: { lines: number } }>) {
      yield* wrong.splice(0);
      // The counter stands at the record's last line; a record over several lines is named by its last.
      lastLine = info.lines;
      yield { line: info.lines, value: record };
    }
    yield* wrong.splice(0);
  } catch (error) {
    const line = error instanceof Error && "lines" in error ? ` (line ${error.lines})` : "";
    throw new UserError(
      "data/unreadable",
      `${path} is not a readable CSV file: ${error instanceof Error ? error.message : error}${line}.`,
      "Correct the file or write it as JSON lines.",
      { cause: error },
    );
  } finally {
    source.destroy();
  }
}

async function* checkUtf8(source: Readable): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  for await (const chunk of source) yield decode(decoder, chunk);
  yield decode(decoder);
}

function decode(decoder: InstanceType<typeof TextDecoder>, chunk?: Buffer): string {
  try {
    return decoder.decode(chunk, { stream: chunk !== undefined });
  } catch {
    throw new Error("it is not valid UTF-8");
  }
}
