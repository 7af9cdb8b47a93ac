/** Merge and Export offers what the service writes of a run, and all of it: a run of every method, exported in every format. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { exportResult } from "../../src/core/commands/export.ts";
import type { ExportFormat } from "../../src/core/commands/options.ts";
import { UserError } from "../../src/protocol/userError.ts";
import { type Overrides, readConfig, session, temporaryFolder, writeRunFile } from "../core/run/smallRuns.ts";

const { exportFormats } = await import("../../src/extension/commands/exportModel.ts");

const smt = { name: "smt", blocks: 8, blockSize: 16 };
/** What is offered for a run of each method. */
const runs: Record<string, { method: NonNullable<Overrides["method"]>; offered: ExportFormat[] }> = {
  smt: { method: { ...smt, warmup: { steps: 1 } }, offered: ["merged", "delta", "peft"] },
  "smt on a base of its own": { method: { ...smt, warmup: { steps: 1, update: true } }, offered: ["merged", "delta"] },
  full: { method: { name: "full" }, offered: ["merged"] },
  lora: { method: { name: "lora", rank: 4 }, offered: ["merged", "peft"] },
  dora: { method: { name: "dora", rank: 4 }, offered: ["merged", "peft"] },
  lors: { method: { name: "lors", rank: 4, initSamples: 1 }, offered: ["merged", "adapter"] },
  spp: { method: { name: "spp", groups: 8 }, offered: ["merged", "adapter"] },
  sqft: { method: { name: "sqft", rank: 4 }, offered: ["merged", "adapter"] },
};

const filesOf = (folder: string) =>
  Object.fromEntries(readdirSync(folder).map((file) => [file, readFileSync(path.join(folder, file)).toString("base64")]));

for (const [name, { method, offered }] of Object.entries(runs))
  test(`formats of ${name}`, async (t) => {
    const home = temporaryFolder(t);
    const runFile = writeRunFile(home, { method, train: { steps: 1, precision: "f32" }, evaluate: { every: 1000 } });
    const config = readConfig(runFile);
    assert.deepEqual(exportFormats(config), offered);
    const { folder } = await session(runFile);
    const written: ExportFormat[] = [];
    for (const format of ["merged", "delta", "adapter", "peft"] as const) {
      const blocksToPeft = format === "peft" && method === runs.smt.method;
      try {
        const rank = blocksToPeft || (format === "peft" && "warmup" in method) ? { rank: 2 } : {};
        const { relativeError } = await exportResult({ runFolder: folder, format, to: path.join(home, format), ...rank });
        assert.equal(relativeError !== undefined, blocksToPeft);
        if (relativeError !== undefined) assert.ok(relativeError > 0 && relativeError < 1, `${relativeError}`);
        written.push(format);
      } catch (error) {
        assert.match(error instanceof UserError ? error.code : String(error), /^export\/no-/, format);
      }
    }
    // PEFT's files are LoRA's and DoRA's own: it would be the same offer twice.
    const twice = offered.includes("peft") && written.includes("adapter");
    if (twice) assert.deepEqual(filesOf(path.join(home, "adapter")), filesOf(path.join(home, "peft")));
    assert.deepEqual(
      written.filter((format) => !(twice && format === "adapter")),
      offered,
    );
  });
