/**
 * `npm run devices`: runs the conformance suite on every device and writes the table of docs/devices.md from what they answered. It takes minutes, most of them
 * on a software card; the same suite fails when the table is stale.
 */
import { spawnSync } from "node:child_process";
import path from "node:path";

const env = { ...process.env, SPARSE_TUNER_WRITE_DEVICES: "1" };
const suite = path.resolve(import.meta.dirname, "../conformance/ops.test.ts");
process.exitCode = spawnSync(process.execPath, ["--test", "--test-reporter=dot", suite], { env, stdio: "inherit" }).status ?? 1;
