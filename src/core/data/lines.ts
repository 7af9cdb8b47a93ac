/**
 * Lines of a file of any size, by chunks, with their numbers. It decodes nothing.
 * The rule to keep: no more than one chunk and one line are held; a line over the limit is passed over and reported, never collected.
 */
import { open } from "node:fs/promises";

/** Longest line that is read, 8 MB. */
export const maxLineBytes = 8_000_000;

export interface Line {
  /** From 1. */
  number: number;
  /** Without the line feed; null where the line was longer than {@link maxLineBytes}. */
  bytes: Buffer | null;
}

const chunkBytes = 1 << 20;
const lineFeed = 0x0a;

/** Lines in groups, one group a chunk. A file that ends in a line feed has no empty last line. */
export async function* readLines(path: string): AsyncGenerator<Line[]> {
  const handle = await open(path, "r");
  try {
    let number = 1;
    let held: Buffer[] = [];
    let heldBytes = 0;
    const endLine = (rest: Buffer): Line => {
      const bytes = heldBytes + rest.length > maxLineBytes ? null : held.length === 0 ? rest : Buffer.concat([...held, rest]);
      held = [];
      heldBytes = 0;
      return { number: number++, bytes };
    };
    for (;;) {
      const { buffer, bytesRead } = await handle.read(Buffer.allocUnsafe(chunkBytes), 0, chunkBytes, null);
      if (bytesRead === 0) break;
      const chunk = buffer.subarray(0, bytesRead);
      const lines: Line[] = [];
      let start = 0;
      for (let end = chunk.indexOf(lineFeed); end >= 0; end = chunk.indexOf(lineFeed, start)) {
        lines.push(endLine(chunk.subarray(start, end)));
        start = end + 1;
      }
      const rest = chunk.subarray(start);
      heldBytes += rest.length;
      if (heldBytes <= maxLineBytes) held.push(rest);
      else held = [];
      yield lines;
    }
    if (heldBytes > 0) yield [endLine(Buffer.alloc(0))];
  } finally {
    await handle.close();
  }
}
