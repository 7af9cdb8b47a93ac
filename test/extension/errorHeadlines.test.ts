/** Headlines of errors in a window that is not English: the codes that people meet most have one, each is a code that there is, and no sentence is lost. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { l10n } from "./vscodeStandIn.ts";

const { failureText } = await import("../../src/extension/failures.ts");
const { headlineOf, withHeadline } = await import("../../src/extension/errorHeadlines.ts");
const root = path.resolve(import.meta.dirname, "../..");
after(() => {
  l10n.bundle = undefined;
});

/** What goes wrong in daily use: files, memory, disk, devices, targets. */
const frequent = [
  ...["config/invalid", "data/unreadable", "data/empty-file", "data/no-usable-row", "data/too-many-bad-rows", "data/unsupported-file"],
  ...["run/disk-full", "run/disk-too-small", "run/memory-too-small", "run/cannot-write", "run/locked", "run/not-finite", "run/nothing-trained"],
  ...["run/changed-data", "run/changed-base", "device/out-of-memory", "device/no-addon", "node/not-found", "node/not-usable", "core/slow-start"],
  ...["model/no-config", "model/no-weights", "model/missing-file", "model/bad-json", "model/unsupported", "tokenizer/missing"],
  ...["method/unknown-target", "method/rank-too-large", "method/groups", "export/not-empty", "task/missing-file", "compare/runs-failed"],
];

/** All sources of a folder as one text. */
function sources(folder: string): string {
  const files = readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return files
    .filter((name) => !name.endsWith("errorHeadlines.ts"))
    .map((name) => readFileSync(path.join(root, folder, name), "utf8"))
    .join("\n");
}

test("each frequent code has a headline with a Chinese text", () => {
  l10n.bundle = JSON.parse(readFileSync(path.join(root, "l10n/bundle.l10n.zh-cn.json"), "utf8")) as Record<string, string>;
  for (const code of frequent) {
    const headline = headlineOf(code);
    assert.ok(headline, `${code} has no headline`);
    assert.match(l10n.bundle[headline] ?? "", /\p{Script=Han}/u, `${code} has no Chinese text`);
  }
});

test("a headline stands for a code that is thrown", () => {
  const text = ["src/core", "src/extension", "src/protocol"].map(sources).join("\n");
  const written = readFileSync(path.join(root, "src/extension/errorHeadlines.ts"), "utf8").matchAll(/^ {4}"([a-z]+\/[a-zA-Z-]+)":/gm);
  const codes = [...written].map(([, code]) => code);
  assert.ok(codes.length >= frequent.length);
  for (const code of codes)
    assert.ok(text.includes(`"${code}"`) || (/^run\/changed-(base|data)$/.test(code) && text.includes("`run/changed-${")), code);
});

test("the core's own sentence, its action and the code stay; an English window shows them alone", () => {
  const failure = { code: "run/locked", message: "/r is in use by process 7.", action: "Stop that run first.", place: null };
  const own = "/r is in use by process 7. Stop that run first. (run/locked)";
  l10n.bundle = undefined;
  assert.equal(failureText(failure), own);
  l10n.bundle = {};
  assert.equal(failureText(failure), `Another process works on this folder; stop it first. ${own}`);
  const unknown = { ...failure, code: "no/such" };
  assert.equal(withHeadline(unknown), unknown);
});
