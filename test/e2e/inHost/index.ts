/**
 * Runs in the extension host of the real VS Code, as `extensionTestsPath`: every check one after another, and a report of them in a file that
 * inHost.test.ts turns into tests. It needs nothing but Node and VS Code's own API.
 */
import { appendFileSync } from "node:fs";
import path from "node:path";
import type { Checks } from "./checks.ts";
import { commandChecks } from "./commandChecks.ts";
import { editChecks } from "./editChecks.ts";
import { languageChecks } from "./languageChecks.ts";
import { runChecks } from "./runChecks.ts";

/** One line of the report. */
export interface CheckResult {
  name: string;
  milliseconds: number;
  /** Null when it passed. */
  error: string | null;
}

export async function run(): Promise<void> {
  const report = path.join(process.env.SPARSE_TUNER_TEST_REPORT ?? "", "report.jsonl");
  const all: Checks = { ...languageChecks, ...editChecks, ...commandChecks, ...runChecks };
  for (const [name, check] of Object.entries(all)) {
    const started = Date.now();
    const error = await check().then(
      () => null,
      (reason: unknown) => (reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)),
    );
    const result: CheckResult = { name, milliseconds: Date.now() - started, error };
    appendFileSync(report, `${JSON.stringify(result)}\n`);
  }
}
