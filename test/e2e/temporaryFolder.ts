/** A folder for the tests of a file, removed after the last of them. */
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";

export function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-e2e-")));
  after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
