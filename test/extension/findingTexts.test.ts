/** Doctor's findings in a window that is not English: each subject of the core has a name and says what it means where it is not usable. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { disk } from "../../src/core/commands/doctor.ts";
import { l10n } from "./vscodeStandIn.ts";

const { findingTexts, inLanguage } = await import("../../src/extension/commands/findingTexts.ts");
const { doctorText } = await import("../../src/extension/commands/doctor.ts");
const root = path.resolve(import.meta.dirname, "../..");
after(() => {
  l10n.bundle = undefined;
});

test("each subject that the core looks at is known, and nothing else", () => {
  const source = ["doctor.ts", "doctorDevices.ts"].map((name) => readFileSync(path.join(root, "src/core/commands", name), "utf8")).join("\n");
  const written = [...source.matchAll(/subject(?::| =) "([^"]+)"|triedDevice\("([^"]+)"/g)].map(([, subject, device]) => subject ?? device);
  assert.deepEqual(Object.keys(findingTexts()).sort(), [...new Set(written)].sort());
});

test("what is to be mended begins with what it means; the core's own words stay", () => {
  const broken = disk(path.join(os.tmpdir(), "sparse-tuner-is-not-there"));
  l10n.bundle = undefined;
  assert.equal(inLanguage(broken), broken);
  l10n.bundle = {};
  const { disk: texts, webgpu } = findingTexts();
  assert.equal(inLanguage(broken).result, `${texts.notUsable} ${broken.result}`);
  const usable = { ...broken, usable: true };
  assert.equal(inLanguage(usable).result, `${texts.toMend} ${broken.result}`);
  assert.equal(inLanguage({ ...usable, fix: null }).result, broken.result);
  assert.deepEqual(inLanguage({ ...broken, subject: "new" }), { ...broken, subject: "new" });
  assert.ok(doctorText(false, [{ ...broken, subject: "webgpu" }]).includes(`## ${webgpu.name}: not usable\n\n${webgpu.notUsable} ${broken.result}`));
});
