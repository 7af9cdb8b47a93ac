/**
 * The suite every device must pass: each op against the float64 reference. One test per device and op; a failing test names each failing case.
 * What a device does not support is counted and printed, and is no failure; docs/devices.md shows it, and fails here when it is stale.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { openReferenceDevice } from "../../src/core/devices/reference.ts";
import { UnsupportedError } from "../../src/core/devices/unsupported.ts";
import { allCases } from "./cases/all.ts";
import { openDevices } from "./devices.ts";
import type { ConformanceCase, TestedDevice } from "./harness.ts";
import { columns, Parity, tableOf, watchDTypes, withTable } from "./parity.ts";

const { devices, notRun } = await openDevices();
for (const line of notRun) console.log(line);

const parity = new Parity();

/** Digest of each case's results by family: threads must not change a bit. */
const digests = new Map<string, string>();

/** Cases of an op that a slow device computes, at most; it compiles a kernel for nearly each. */
const mostCases = 80;

/** Titles of numbers that a careless kernel, or one in f16, would lose. */
const telling = /NaN|infinit|\b1e-\d|\b100000\b/;

/**
 * All of them; for a slow device the small ones, and of many the telling ones and every so-manieth. SPARSE_TUNER_FULL=1 asks for all,
 * SPARSE_TUNER_EVERY=n for the telling ones and every n-th.
 */
function casesFor({ largestCase = Number.POSITIVE_INFINITY }: TestedDevice, cases: readonly ConformanceCase[]): ConformanceCase[] {
  if (process.env.SPARSE_TUNER_FULL === "1") return [...cases];
  const small = cases.filter(({ elements = 0 }) => elements <= largestCase);
  // Odd: dtypes take turns in many lists, and each is to be met.
  const stride = Number.isFinite(largestCase) ? Math.ceil(small.length / mostCases) | 1 : Number(process.env.SPARSE_TUNER_EVERY ?? 1);
  return small.filter(({ title }, i) => i % stride === 0 || telling.test(title));
}

test("the reference computes every op", async () => {
  const device: TestedDevice = openReferenceDevice();
  device.largestCase = 2000;
  const dtypes = watchDTypes(device);
  for (const [op, cases] of Object.entries(allCases))
    for (const { run } of casesFor(device, cases)) {
      dtypes.clear();
      // It rounds nothing and keeps no memory as devices do: only whether it computes is asked here.
      const error = await run(device, () => {}).catch((thrown: unknown) => thrown);
      parity.record("reference", op, dtypes, error instanceof UnsupportedError ? "unsupported" : "compared");
    }
});

for (const { label, family, device } of devices) {
  const unsupported: string[] = [];
  let left = 0;
  const dtypes = watchDTypes(device);
  for (const [op, cases] of Object.entries(allCases)) {
    test(`${label}: ${op} (${cases.length} cases)`, async () => {
      assert.ok(cases.length > 0, `${op} has no conformance case`);
      assert.equal(new Set(cases.map(({ title }) => title)).size, cases.length, `two cases of ${op} have the same title`);
      const failures: string[] = [];
      const chosen = casesFor(device, cases);
      left += cases.length - chosen.length;
      for (const { title, run } of chosen) {
        dtypes.clear();
        try {
          await run(device, (results) => {
            const key = `${family}: ${op} ${title}`;
            const digest = Buffer.from(results).toString("hex");
            if ((digests.get(key) ?? digest) !== digest) throw new Error(`the bits differ from those of another device of the family ${family}`);
            digests.set(key, digest);
          });
          parity.record(family, op, dtypes, "compared");
        } catch (error) {
          if (error instanceof UnsupportedError) {
            unsupported.push(`${op} ${title}`);
            parity.record(family, op, dtypes, "unsupported");
          } else failures.push(`${title}: ${error instanceof Error ? error.message : error}`);
        }
      }
      const listed = failures.slice(0, 12).join("\n  ");
      assert.equal(failures.length, 0, `${failures.length} of ${cases.length} cases of ${op} failed on ${label}:\n  ${listed}`);
    });
  }
  test(`${label}: supported ops are counted`, () => {
    for (const what of unsupported) console.log(`not run: ${label} does not support ${what}`);
    const total = Object.values(allCases).reduce((sum, cases) => sum + cases.length, 0);
    if (left > 0) console.log(`not run: ${left} of the large and many cases on ${label}`);
    console.log(`${label} (${device.description}): ${total - unsupported.length} of ${total} cases supported`);
    assert.ok(unsupported.length < total);
  });
}

test("docs/devices.md shows what each device answered", () => {
  const file = path.resolve(import.meta.dirname, "../../docs/devices.md");
  const document = readFileSync(file, "utf8");
  const rows = parity.rows();
  if (process.env.SPARSE_TUNER_WRITE_DEVICES === "1") {
    assert.equal(rows[0].length, 1 + Object.keys(columns).length, "every device has to run here before the table can be written");
    writeFileSync(file, withTable(document, rows));
    return;
  }
  const table = tableOf(document);
  // Devices that did not run here are judged where they do.
  const places = rows[0].map((heading) => table[0].indexOf(heading));
  const shown = table.map((cells) => places.map((place) => cells[place]).join(" | "));
  const found = rows.map((cells) => cells.join(" | "));
  const stale = [...shown.filter((line) => !found.includes(line)), ...found.filter((line) => !shown.includes(line))];
  assert.deepEqual(stale, [], "docs/devices.md is stale: run `npm run devices`");
});
