/** What a person without npm is told when the registry's address is asked for: its form, where one is found, and no registry of ours. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { afterEach, test } from "node:test";
import "./withVscode.ts";
import { window, workspace } from "./vscodeStandIn.ts";

const { askRegistry } = await import("../../src/extension/commands/packageRegistry.ts");

interface Asked {
  title: string;
  prompt: string;
  placeHolder: string;
  validateInput(text: string): string | null;
}

const before = { showInputBox: window.showInputBox, getConfiguration: workspace.getConfiguration };
afterEach(() => {
  Object.assign(window, { showInputBox: before.showInputBox });
  Object.assign(workspace, { getConfiguration: before.getConfiguration });
});

/** Asks a person who answers so; what was shown, and what the settings then hold. */
async function ask(answer: string | undefined) {
  let asked: Asked | null = null;
  const set: unknown[] = [];
  Object.assign(window, {
    showInputBox: async (options: Asked) => {
      asked = options;
      return answer;
    },
  });
  Object.assign(workspace, { getConfiguration: () => ({ update: async (...given: unknown[]) => void set.push(given.slice(0, 2)) }) });
  const registry = await askRegistry("Install Runtime", "Address of the registry.");
  return { asked: asked as unknown as Asked, set, registry };
}

/** Hosts that a text names. */
const hosts = (text: string) => [...text.matchAll(/https?:\/\/([\w.-]+)/g)].map(([, host]) => host);

test("the box shows an address's form and says where one is found; what is answered is kept", async () => {
  const { asked, set, registry } = await ask("  http://127.0.0.1:4873/npm \n");
  assert.match(asked.placeHolder, /https:\/\/registry\.example\.org\/$/);
  assert.match(asked.prompt, /^Address of the registry\. Where npm is installed, `npm config get registry`.*mirror.*npm's documentation\.$/);
  assert.equal(registry, "http://127.0.0.1:4873/npm");
  assert.deepEqual(set, [["registry", "http://127.0.0.1:4873/npm"]]);
  assert.equal(asked.validateInput("https://registry.example.org/"), null);
  for (const wrong of ["", "registry.example.org", "ftp://registry.example.org", "https://"]) assert.ok(asked.validateInput(wrong), wrong);
  assert.deepEqual(await ask(undefined).then(({ set: kept, registry: none }) => [kept, none]), [[], undefined]);
});

test("the setting's description says the same in both languages, and names no registry", async () => {
  const { asked } = await ask(undefined);
  for (const name of ["package.nls.json", "package.nls.zh-cn.json"]) {
    const texts = JSON.parse(readFileSync(path.resolve(import.meta.dirname, "../..", name), "utf8")) as Record<string, string>;
    const description = texts["setting.registry.description"];
    assert.ok(description.includes("`https://registry.example.org/`") && description.includes("`npm config get registry`"), name);
    assert.deepEqual(new Set(hosts(`${asked.prompt} ${asked.placeHolder} ${description}`)), new Set(["registry.example.org"]));
  }
});
