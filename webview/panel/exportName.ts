/** Names of files that the panel offers to save: what the protocol allows, whatever a run is called. Pure text. */

/** The most characters of a saved file that a message holds; the protocol refuses more. */
export const longestContent = 1 << 26;

/** `<run>-<what>.<extension>` of letters that every file system takes; a run whose name has none of them is `run`. */
export function exportName(runName: string, what: string, extension: "csv" | "png" | "svg"): string {
  const plain = runName
    .replace(/[^A-Za-z0-9._-]+/g, "-")
    .replace(/^[-.]+|[-.]+$/g, "")
    .slice(0, 60)
    .replace(/[-.]+$/, "");
  return `${plain || "run"}-${what}.${extension}`;
}
