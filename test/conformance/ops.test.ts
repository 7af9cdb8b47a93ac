/**
 * The suite every device must pass: each op against the float64 reference. One test per device and op; a failing test names each failing case.
 * What a device does not support is counted and printed, and is no failure.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { UnsupportedError } from "../../src/core/devices/unsupported.ts";
import { allCases } from "./cases/all.ts";
import { openDevices } from "./devices.ts";

const { devices, notRun } = await openDevices();
for (const line of notRun) console.log(line);

/** Digest of each case's results by family: threads must not change a bit. */
const digests = new Map<string, string>();

for (const { label, family, device } of devices) {
  const unsupported: string[] = [];
  for (const [op, cases] of Object.entries(allCases)) {
    test(`${label}: ${op} (${cases.length} cases)`, async () => {
      assert.ok(cases.length > 0, `${op} has no conformance case`);
      assert.equal(new Set(cases.map(({ title }) => title)).size, cases.length, `two cases of ${op} have the same title`);
      const failures: string[] = [];
      for (const { title, run } of cases) {
        try {
          await run(device, (results) => {
            const key = `${family}: ${op} ${title}`;
            const digest = Buffer.from(results).toString("hex");
            if ((digests.get(key) ?? digest) !== digest) throw new Error(`the bits differ from those of another device of the family ${family}`);
            digests.set(key, digest);
          });
        } catch (error) {
          if (error instanceof UnsupportedError) unsupported.push(`${op} ${title}`);
          else failures.push(`${title}: ${error instanceof Error ? error.message : error}`);
        }
      }
      const listed = failures.slice(0, 12).join("\n  ");
      assert.equal(failures.length, 0, `${failures.length} of ${cases.length} cases of ${op} failed on ${label}:\n  ${listed}`);
    });
  }
  test(`${label}: supported ops are counted`, () => {
    for (const what of unsupported) console.log(`not run: ${label} does not support ${what}`);
    const total = Object.values(allCases).reduce((sum, cases) => sum + cases.length, 0);
    console.log(`${label} (${device.description}): ${total - unsupported.length} of ${total} cases supported`);
    assert.ok(unsupported.length < total);
  });
}
