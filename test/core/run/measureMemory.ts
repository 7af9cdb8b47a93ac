/**
 * A process for memory.test.ts: does the run of the file it is given and prints what the system says of its memory, when tokenizer and data are
 * loaded and at the peak, beside the ledger's peak. Linux only.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createRunFolder } from "../../../src/core/files/runFolder.ts";
import { checkRun } from "../../../src/core/prepare.ts";
import { runSession } from "../../../src/core/session.ts";
import { stringifyRunConfig } from "../../../src/protocol/runConfig.ts";
import { readConfig } from "./smallRuns.ts";

/** A figure of /proc/self/status in bytes. */
function status(key: string): number {
  return 1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
}

const config = readConfig(process.argv[2]);
const checked = await checkRun(config);
const folder = await createRunFolder(config.output, "memory", stringifyRunConfig(config));
writeFileSync("/proc/self/clear_refs", "5"); // the peak counts from here
const loadedBytes = status("VmRSS");
let ledgerBytes = 0;
let reportedBytes = 0;
await runSession(checked, folder, {
  stopRequested: () => false,
  onWaiting: () => {},
  resume: null,
  onEvent(event) {
    if (event.kind === "memory") reportedBytes = Math.max(reportedBytes, event.processBytes);
  },
  async onDone({ device }) {
    ledgerBytes = device.ledger.peakBytes;
  },
});
console.log(JSON.stringify({ loadedBytes, peakBytes: status("VmHWM"), ledgerBytes, reportedBytes, plannedBytes: checked.plan.peakBytes }));
