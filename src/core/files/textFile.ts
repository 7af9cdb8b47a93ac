/** Small text files that a person named. */
import { readFile } from "node:fs/promises";
import { UserError } from "../../protocol/userError.ts";

/** The file's text. Throws UserError `file/unreadable` that names it. */
export async function readText(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === "ENOENT" ? "does not exist" : cause.code === "EISDIR" ? "is a folder" : `cannot be read (${cause.code})`;
    throw new UserError("file/unreadable", `${file} ${reason}.`, "Give a file that exists and can be read.", { cause });
  });
}
