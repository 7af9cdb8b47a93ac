/** Connecting to a core's socket at the moment it comes back: its name is there before anyone listens. */
import assert from "node:assert/strict";
import { linkSync, rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import test from "node:test";
import { openSocket } from "../../src/extension/coreRpc.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";

const skip = process.platform === "win32" && "not run: pipes of Windows have no such moment";

test("a socket that does not listen yet is tried again; one that never does is refused with a sentence", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const gone = net.createServer();
  await new Promise<void>((resolve) => gone.listen(path.join(folder, "gone.sock"), resolve));
  const file = path.join(folder, "late.sock");
  linkSync(path.join(folder, "gone.sock"), file);
  gone.close();
  await assert.rejects(openSocket(file, 5000), { code: "core/unreachable", message: /ECONNREFUSED/ });

  const server = net.createServer();
  t.after(() => server.close());
  const connected = openSocket(file, 5000);
  await new Promise((resolve) => setTimeout(resolve, 60));
  rmSync(file);
  server.listen(file);
  (await connected).destroy();
});
