/**
 * An extension host to be killed by runSession.test.ts: `extensionHost.ts RUN_FILE_OR_FOLDER` starts or finds a run, tells what it sees as JSON lines, and
 * stays. It takes the register that its environment names, the test's own.
 */
import { statSync } from "node:fs";
import path from "node:path";
import type { RunSession } from "../../src/extension/runs/runSession.ts";
import { RunSessions } from "../../src/extension/runs/runSessions.ts";

const place = process.argv[2];
const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);
const noService = () => Promise.reject(new Error("nothing is read from checkpoints here"));
const runs = new RunSessions({
  program: async () => ({ node: process.execPath, core: path.resolve(import.meta.dirname, "../../src/core/main.ts") }),
  service: { request: noService, heatmap: noService, readBlock: noService },
  isTrusted: () => true,
  keepRunning: () => true,
  log: (line) => process.stderr.write(`${line}\n`),
});
let session: RunSession;
if (statSync(place).isDirectory()) {
  await runs.setRoots([path.dirname(place)]);
  await runs.attachLive();
  session = runs.get(place);
} else session = await runs.start(place);
session.listen({ onEvents: (events) => say({ events }) });
say({ runFolder: session.runFolder, pid: session.view.pid, state: session.view.state, events: session.events });
setInterval(() => {}, 1000);
