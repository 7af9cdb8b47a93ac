/** The end of a run's log.txt, which says most about a core that crashed. The file may be of any size and hold anything. */
import { open } from "node:fs/promises";
import path from "node:path";

const tailLines = 20;
const tailBytes = 1 << 14;
const lineCharacters = 1000;

/** The last lines of a run's log.txt. */
export async function readLogTail(runFolder: string): Promise<string[]> {
  try {
    const handle = await open(path.join(runFolder, "log.txt"), "r");
    try {
      const { size } = await handle.stat();
      const buffer = Buffer.alloc(Math.min(size, tailBytes));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, size - buffer.length);
      const lines = buffer
        .toString("utf8", 0, bytesRead)
        .split(/\r?\n/)
        .filter((line) => line.trim() !== "");
      return lines.slice(-tailLines).map((line) => line.slice(0, lineCharacters));
    } finally {
      await handle.close();
    }
  } catch {
    return [];
  }
}
