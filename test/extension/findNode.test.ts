/** Which Node runs a core when the setting and the PATH have none, and how often it is looked for. */
import assert from "node:assert/strict";
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { coreProgram, findNode, programEnvironment } from "../../src/extension/startCore.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";

const skip = process.platform === "win32" && "not run: scripts stand for programs";

/** A program that answers as it is told, and counts how often. */
function fakeNode(folder: string, answer: string): { node: string; asked: () => number } {
  mkdirSync(folder, { recursive: true });
  const node = path.join(folder, "node");
  const count = `${node}.asked`;
  writeFileSync(count, "");
  writeFileSync(node, `#!/bin/sh\nprintf x >> '${count}'\n${answer}\n`);
  chmodSync(node, 0o755);
  return { node, asked: () => readFileSync(count, "utf8").length };
}

const good = "printf 'node 22.1.0'";

test("the order: setting, PATH, the server's own Node, Electron in the role of Node", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const configured = fakeNode(path.join(folder, "configured"), good).node;
  const onPath = fakeNode(path.join(folder, "path"), good).node;
  const server = fakeNode(path.join(folder, "server"), good).node;
  // Answers as Node does only when it is told to be one, as Electron.
  const electron = fakeNode(path.join(folder, "electron"), `[ "$ELECTRON_RUN_AS_NODE" = 1 ] && ${good}`).node;
  const search = (setting: string | null, PATH: string, program: string, isElectron: boolean) =>
    findNode({ configured: setting, workspaceFolders: [], env: { PATH }, host: { program, electron: isElectron } });
  assert.deepEqual(await search(configured, path.dirname(onPath), server, false), { node: configured, kind: "configured" });
  assert.deepEqual(await search(null, path.dirname(onPath), electron, true), { node: onPath, kind: "path" });
  assert.deepEqual(await search(null, "", server, false), { node: server, kind: "server" });
  assert.deepEqual(await search(null, "", electron, true), { node: electron, kind: "electron" });
  await assert.rejects(search(null, "", electron, false), { code: "node/not-found", message: /does not answer as Node/ });
});

test("a server whose own Node lies in the workspace or is too old does not lend it", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const inside = fakeNode(path.join(folder, "workspace/bin"), good).node;
  const old = fakeNode(path.join(folder, "old"), "printf 'node 18.1.0'").node;
  const search = (program: string) =>
    findNode({ configured: null, workspaceFolders: [path.join(folder, "workspace")], env: { PATH: "" }, host: { program, electron: false } });
  await assert.rejects(search(inside), { code: "node/not-found", message: /in the workspace/ });
  await assert.rejects(search(old), { code: "node/not-found", message: /version 18/ });
});

test("only Electron gets Electron's variable, whatever this process's own is", { skip }, () => {
  const before = process.env.ELECTRON_RUN_AS_NODE;
  process.env.ELECTRON_RUN_AS_NODE = "1";
  try {
    for (const kind of ["configured", "path", "server"] as const)
      assert.equal(programEnvironment(coreProgram({ node: "/n", kind }, "/c")).ELECTRON_RUN_AS_NODE, undefined);
    assert.equal(programEnvironment(coreProgram({ node: "/n", kind: "electron" }, "/c")).ELECTRON_RUN_AS_NODE, "1");
  } finally {
    if (before === undefined) delete process.env.ELECTRON_RUN_AS_NODE;
    else process.env.ELECTRON_RUN_AS_NODE = before;
  }
});

test("it is probed once, also by many at a time, and again when it has gone; a failure is not remembered", { skip }, async (t) => {
  const folder = temporaryFolder(t);
  const first = fakeNode(path.join(folder, "first"), good);
  const second = fakeNode(path.join(folder, "second"), good);
  const env = { PATH: [first, second].map(({ node }) => path.dirname(node)).join(path.delimiter) };
  const host = { program: path.join(folder, "nothing"), electron: false };
  const search = () => findNode({ configured: null, workspaceFolders: [], env, host });
  const found = await Promise.all([search(), search(), search()]);
  assert.deepEqual(found, Array(3).fill({ node: first.node, kind: "path" }));
  await search();
  assert.equal(first.asked(), 1);
  rmSync(first.node);
  assert.deepEqual(await Promise.all([search(), search(), search()]), Array(3).fill({ node: second.node, kind: "path" }));
  assert.equal(second.asked(), 1);
  rmSync(second.node);
  await assert.rejects(search(), { code: "node/not-found" });
  fakeNode(path.join(folder, "second"), good);
  assert.deepEqual(await search(), { node: second.node, kind: "path" });
});
