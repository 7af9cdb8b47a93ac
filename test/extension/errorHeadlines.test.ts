/**
 * Headlines of errors and notices in a window that is not English: every code that can reach one has its own, each is a code that there is, and no sentence is
 * lost.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: codes as they stand in sources.
import "./withVscode.ts";
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { noticeTexts } from "../../webview/panel/noticeTexts.ts";
import { l10n } from "./vscodeStandIn.ts";

const { failureText } = await import("../../src/extension/failures.ts");
const { headlineOf, withHeadline } = await import("../../src/extension/errorHeadlines.ts");
const { headlines } = await import("../../src/extension/errorHeadlineTexts.ts");
const root = path.resolve(import.meta.dirname, "../..");
after(() => {
  l10n.bundle = undefined;
});

/** Sources as path → text without comments. */
function sources(folder: string): [string, string][] {
  const files = readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return files.map((name) => {
    const text = readFileSync(path.join(root, folder, name), "utf8");
    return [`${folder}/${name}`, text.replace(/^\s*\/\*[\s\S]*?\*\//gm, "").replace(/^\s*\/\/.*$/gm, "")];
  });
}

/** Where sentences are English: the core, what it shares, and plain modules of the extension. Modules that know VS Code translate their own. */
const english = ["src/core", "src/protocol", "src/install", "src/extension"].flatMap(sources).filter(([, text]) => !/from "vscode"/.test(text));

const codeShape = /"([a-z][A-Za-z]*)\/([A-Za-z][A-Za-z-]*)"/g;
const areas = new Set(english.flatMap(([, text]) => [...text.matchAll(/(?:UserError|super)\(\s*[`"]([a-z][A-Za-z]*)\//g)].map(([, area]) => area)));
const codes = new Set(
  english.flatMap(([, text]) => [...text.matchAll(codeShape)].filter(([, area]) => areas.has(area)).map(([, area, name]) => `${area}/${name}`)),
);

/** Codes that no window shows, each with the reason. */
const neverShown: Record<string, string> = {
  "bench/no-peer": "no window measures speed",
  "bench/peer-failed": "no window measures speed",
  "bench/unknown-method": "no window measures speed",
  "core/usage": "windows start the core with arguments that it knows",
  "delta/already-applied": "no window puts a delta into a model",
  "delta/not-applied": "no window takes a delta out of a model",
  "delta/missing": "no window puts a delta into a model",
  "export/dtype-given": "windows ask for a type only where there is a choice",
  "export/rank-given": "windows ask for a rank only where there is a choice",
  "perplexity/no-text": "no window measures perplexity over windows of text",
  "perplexity/too-short": "no window measures perplexity over windows of text",
  "run/base-given": "windows name no base beside a run",
};
const notices = noticeTexts();
const isKnown = (code: string, known: object) => Object.hasOwn(known, code) || Object.hasOwn(known, code.replace(/\/.*/, "/*"));

test("each code that reaches a window has a headline, or is a notice's", () => {
  assert.ok(codes.size > 150, `${codes.size} codes were found`);
  const known = { ...headlines(), ...notices, ...neverShown };
  assert.deepEqual(
    [...codes].filter((code) => !isKnown(code, known)),
    [],
  );
});

test("codes are written out, so that they are found", () => {
  const made = english.flatMap(([, text]) =>
    [...text.matchAll(/`([a-z][A-Za-z]*\/[^`\s]*\$\{[^`]*)`/g)].filter(([, code]) => areas.has(code.split("/")[0])),
  );
  // Headlines: area/* has every code of safetensors; those of changes stand below; the last one is a path.
  assert.deepEqual([...new Set(made.map(([, code]) => code))].sort(), ["package/${pinned.program}", "run/changed-${key}", "safetensors/${code}"]);
  for (const key of ["base", "config", "data"]) assert.ok(isKnown(`run/changed-${key}`, headlines()) && isKnown(`run/changed-${key}`, notices));
});

test("nothing is said of a code that there is not", () => {
  const made = ["internal", "safetensors/*", "run/changed-base", "run/changed-config", "run/changed-data"];
  for (const code of Object.keys({ ...headlines(), ...notices, ...neverShown })) assert.ok(codes.has(code) || made.includes(code), code);
  for (const code of Object.keys(neverShown)) assert.ok(!Object.hasOwn(headlines(), code), code);
});

test("each headline has a Chinese text", () => {
  const chinese = JSON.parse(readFileSync(path.join(root, "l10n/bundle.l10n.zh-cn.json"), "utf8")) as Record<string, string>;
  for (const [code, text] of Object.entries({ ...headlines(), ...notices })) assert.match(chinese[text] ?? "", /\p{Script=Han}/u, code);
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
  assert.equal(headlineOf("safetensors/Pickle"), headlines()["safetensors/*"]);
});
