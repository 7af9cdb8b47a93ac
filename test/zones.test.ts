/**
 * The zone check: which folder may import which. It reads every import, export-from and dynamic import of src/, webview/ and test/ and fails on a
 * forbidden one, so that the shape of ARCHITECTURE.md is a fact and not a wish. It does not look at what is done with an import.
 * The rule to keep: a rule added here gets a forbidden example below that proves it can fail.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

const root = path.resolve(import.meta.dirname, "..");

/** A rule: files matching `from` must not import what `forbidden` accepts; a target is a repository path with `/`, or a package's name. */
interface Rule {
  reason: string;
  from: (file: string) => boolean;
  forbidden: (target: string, file: string) => boolean;
}

const under = (folder: string) => (name: string) => name.startsWith(folder);
const isPackage = (name: string, target: string) => target === name || target.startsWith(`${name}/`);
const isLocal = (target: string) => /^(src|webview|test|media)\//.test(target) || /^[^/]+\.(mjs|json)$/.test(target);
/** A device, or what opens one; the interface, the ledger and the number formats beside it are none. */
const concreteDevice = (target: string) => /^src\/core\/devices\/((open|reference|meta|hostTensors)\.ts$|[^/]+\/)/.test(target);

const rules: Rule[] = [
  {
    reason: "src/protocol is a leaf: it imports itself, typebox, yaml, vscode-jsonrpc and node:path",
    from: under("src/protocol/"),
    forbidden: (target) =>
      !under("src/protocol/")(target) && !["typebox", "yaml", "vscode-jsonrpc"].some((name) => isPackage(name, target)) && target !== "node:path",
  },
  {
    reason: "src/install serves core and extension: of this repository it imports itself and src/protocol",
    from: under("src/install/"),
    forbidden: (target) => isLocal(target) && !under("src/install/")(target) && !under("src/protocol/")(target),
  },
  {
    reason: "the core runs without VS Code: it never imports the extension, the webview or vscode",
    from: under("src/core/"),
    forbidden: (target) => under("src/extension/")(target) || under("webview/")(target),
  },
  {
    reason: "vscode is imported only under src/extension",
    from: (file) => !under("src/extension/")(file) && !under("test/")(file),
    forbidden: (target) => target === "vscode",
  },
  {
    reason: "the extension knows the core only through src/protocol and a process",
    from: under("src/extension/"),
    forbidden: (target) => under("src/core/")(target) || under("webview/")(target),
  },
  {
    reason: "the webview imports only itself and src/protocol of this repository, and nothing of Node",
    from: under("webview/"),
    forbidden: (target) => (isLocal(target) && !under("webview/")(target) && !under("src/protocol/")(target)) || target.startsWith("node:"),
  },
  {
    reason: "the UI toolkit is imported only in webview/controls.ts",
    from: (file) => file !== "webview/controls.ts",
    forbidden: (target) => isPackage("@vscode/webview-ui-toolkit", target) || target.startsWith("@microsoft/fast-"),
  },
  {
    reason: "@tensorflow/* is imported only under src/core/devices/tensorflow",
    from: (file) => !under("src/core/devices/tensorflow/")(file),
    forbidden: (target) => target.startsWith("@tensorflow/"),
  },
  {
    reason: "webgpu is imported only under src/core/devices/webgpu",
    from: (file) => !under("src/core/devices/webgpu/")(file),
    forbidden: (target) => isPackage("webgpu", target),
  },
  {
    reason: "methods, model and optimizer see the Device interface, never a device",
    from: (file) => ["src/core/methods/", "src/core/model/", "src/core/optim/"].some((folder) => under(folder)(file)),
    forbidden: concreteDevice,
  },
  {
    reason: "a device knows neither the model nor a method",
    from: under("src/core/devices/"),
    forbidden: (target) => under("src/core/model/")(target) || under("src/core/methods/")(target),
  },
  { reason: "the product never imports a test", from: (file) => !under("test/")(file), forbidden: under("test/") },
];

/** What a source file imports: specifiers of static, re-exporting, side-effect and dynamic imports; comments and strings holding code are left out. */
function specifiers(source: string): string[] {
  const code = source.replace(/\/\*[\s\S]*?\*\/|(^|[\s;{}])\/\/.*$/gm, "$1");
  const statement =
    /(?:^|[;}\n])\s*(?:import|export)\s(?:[^"'`;]*?\sfrom\s*)?["']([^"']+)["']|\bimport\(\s*["'`]([^"'`]+)["'`]|\brequire\(\s*["']([^"']+)["']/g;
  return [...code.matchAll(statement)].map((match) => match[1] ?? match[2] ?? match[3]);
}

/** Violations of one file, each as a sentence. `file` is its repository path. */
function violations(file: string, source: string): string[] {
  return specifiers(source).flatMap((specifier) => {
    const target = specifier.startsWith(".") ? path.posix.join(path.posix.dirname(file), specifier) : specifier;
    return rules.filter((rule) => rule.from(file) && rule.forbidden(target, file)).map((rule) => `${file} imports ${target}: ${rule.reason}`);
  });
}

test("no file imports across a zone's border", () => {
  const found: string[] = [];
  let files = 0;
  for (const folder of ["src", "webview", "test"]) {
    if (!existsSync(path.join(root, folder))) continue;
    for (const entry of readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })) {
      if (!/\.(ts|tsx|mjs|cjs|js)$/.test(entry) || entry.includes("fixtures")) continue;
      const file = path.posix.join(folder, ...entry.split(path.sep));
      // This file quotes forbidden imports as examples.
      if (file === "test/zones.test.ts") continue;
      files++;
      found.push(...violations(file, readFileSync(path.join(root, file), "utf8")));
    }
  }
  assert.deepEqual(found, []);
  assert.ok(files > 10, `only ${files} files were read`);
});

test("every forbidden import is found, in every form", () => {
  const forbidden: [string, string][] = [
    ["src/protocol/a.ts", 'import { x } from "../core/cli.ts";'],
    ["src/protocol/a.ts", 'import { readFile } from "node:fs/promises";'],
    ["src/install/npmProgram.ts", 'import { findNode } from "../extension/startCore.ts";'],
    ["src/install/npmProgram.ts", 'import type { Device } from "../core/devices/device.ts";'],
    ["src/core/trainer.ts", 'import type { Panel } from "../extension/panel.ts";'],
    ["src/core/trainer.ts", 'export * from "../../webview/store.ts";'],
    ["src/core/trainer.ts", 'import * as vscode from "vscode";'],
    ["src/extension/extension.ts", 'import { train } from "../core/trainer.ts";'],
    ["webview/main.ts", 'import { train } from "../src/core/trainer.ts";'],
    ["webview/main.ts", 'import path from "node:path";'],
    ["webview/main.ts", 'import { Button } from "@vscode/webview-ui-toolkit";'],
    ["src/core/devices/open.ts", 'await import("@tensorflow/tfjs-core");'],
    ["src/core/devices/open.ts", "const gpu = await import(`webgpu`);"],
    ["src/core/methods/smt/smt.ts", 'import {\n  matmul,\n} from "../../devices/cpu/cpuDevice.ts";'],
    ["src/core/model/llama.ts", 'import "../devices/meta.ts";'],
    ["src/core/optim/adamw.ts", 'import { openReferenceDevice } from "../devices/reference.ts";'],
    ["src/core/devices/shapes.ts", 'import { projections } from "../model/config.ts";'],
    ["src/core/devices/cpu/cpuDevice.ts", 'import { full } from "../../methods/full.ts";'],
    ["src/core/cli.ts", 'import { expectClose } from "../../test/support/expectClose.ts";'],
    ["src/core/cli.ts", 'const tf = require("@tensorflow/tfjs-node-gpu");'],
  ];
  for (const [file, source] of forbidden) assert.equal(violations(file, source).length, 1, `${file}: ${source}`);
});

test("allowed imports and quoted code pass", () => {
  const allowed: [string, string][] = [
    ["src/protocol/runConfig.ts", 'import Type from "typebox";\nimport { parseDocument } from "yaml";\nimport Value from "typebox/value";'],
    ["src/core/devices/tensorflow/engine.ts", 'import { engineIn } from "../../../install/engineFolder.ts";'],
    ["src/core/methods/full.ts", 'import type { Device } from "../devices/device.ts";'],
    ["webview/controls.ts", 'import { provideVSCodeDesignSystem } from "@vscode/webview-ui-toolkit";'],
    ["webview/store.ts", 'import type { RunEvent } from "../src/protocol/events.ts";'],
    ["src/core/devices/tensorflow/device.ts", 'import * as tf from "@tensorflow/tfjs-core";'],
    ["src/extension/panel.ts", 'import * as vscode from "vscode";'],
    [
      "src/core/trainer.ts",
      '// import * as vscode from "vscode";\n/* import "../../webview/main.ts"; */\nconst url = "https://example.org"; // see import("webgpu")',
    ],
  ];
  for (const [file, source] of allowed) assert.deepEqual(violations(file, source), [], `${file}: ${source}`);
});
