/** Folders that belong to one user alone: where sockets lie, and the register of live runs. Who can write there can command a run, so both are checked. */
import { lstat, mkdir } from "node:fs/promises";
import { UserError } from "../../protocol/userError.ts";

/** Makes the folder for its owner alone, or checks that it is. Throws UserError `host/unsafe-folder`. */
export async function requirePrivateFolder(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (process.platform === "win32") return; // The profile's own rights hold there.
  const status = await lstat(folder);
  const problem = !status.isDirectory()
    ? "is no folder"
    : status.uid !== process.getuid?.()
      ? "belongs to another user"
      : (status.mode & 0o077) !== 0
        ? "can be entered by other users"
        : null;
  if (problem)
    throw new UserError("host/unsafe-folder", `${folder} ${problem}.`, `Remove it, or set its rights with \`chmod 700\`.`, { badInput: false });
}
