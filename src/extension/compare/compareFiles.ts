/** Names of comparisons' files, and where they send their folders. Plain Node. */
import { readFile } from "node:fs/promises";
import path from "node:path";
import { checkCompareFile } from "../../protocol/compareConfig.ts";

/** How the file of a comparison ends, so that editors know it. */
export const compareFileEnding = ".sparse-tuner-compare.yaml";

export function isCompareFile(file: string): boolean {
  return /\.sparse-tuner-compare\.ya?ml$/.test(file);
}

/** The folder that holds a file's comparisons; the usual one while the file is wrong. */
export async function outputOf(file: string): Promise<string> {
  const text = await readFile(file, "utf8").catch(() => "");
  return checkCompareFile(text, file).config?.output ?? path.join(path.dirname(file), ".sparse-tuner", "comparisons");
}
