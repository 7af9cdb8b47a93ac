/** What a person without a plain Node is asked before a start, what the doctor says of the Node in use, and which buttons lead to the installation. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { beforeEach, test } from "node:test";
import "./withVscode.ts";
import type { CoreProgram } from "../../src/extension/startCore.ts";
import { UserError } from "../../src/protocol/userError.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { commands, seen, window, workspace } from "./vscodeStandIn.ts";

const { installRuntimeCommand, offerRuntime } = await import("../../src/extension/commands/installRuntime.ts");
const { examine } = await import("../../src/extension/commands/doctor.ts");
const { failureActions, isCancelled } = await import("../../src/extension/failures.ts");

const electron: CoreProgram = { node: "/opt/editor", core: "/core.js", kind: "electron", passedOver: ["/usr/bin/node: it is version 18.1.0"] };
const notFound = new UserError("node/not-found", "No Node.js 20 or newer was found on the PATH.", "Install it.");

/** What the person presses; and what the command Install Runtime was given, and answers. */
let pressed: string | undefined;
let given: unknown[] = [];
let installed: unknown = null;

beforeEach(() => {
  seen.messages.length = 0;
  [pressed, given, installed] = [undefined, [], null];
  Object.assign(window, {
    showWarningMessage: async (...shown: unknown[]) => {
      seen.messages.push(shown.filter((part) => typeof part === "string"));
      return pressed;
    },
  });
  Object.assign(workspace, { fs: { createDirectory: async () => undefined } });
  commands.registerCommand("sparseTuner.installRuntime", (...arguments_) => {
    given.push(...arguments_);
    return installed;
  });
});

const partsWith = (program: CoreProgram | UserError) =>
  ({ program: async () => (program instanceof Error ? Promise.reject(program) : program) }) as unknown as Parameters<typeof offerRuntime>[0];

test("with a plain Node, and with one that is set and broken, nothing is asked", async () => {
  for (const kind of ["configured", "path", "server", "installed"] as const) await offerRuntime(partsWith({ ...electron, kind }));
  await offerRuntime(partsWith(new UserError("node/not-usable", "/x cannot run the core.", "Correct the setting.")));
  assert.deepEqual(seen.messages, []);
});

test("without one a start waits for the installation; who wants nothing starts nothing", async () => {
  await assert.rejects(offerRuntime(partsWith(electron)), isCancelled);
  assert.deepEqual(seen.messages, [["No Node.js 20 or newer was found on this machine.", "Install Runtime", "Choose a File…", "Train on the CPU"]]);
  pressed = "Install Runtime";
  await assert.rejects(offerRuntime(partsWith(electron)), isCancelled, "it was not installed");
  installed = "/storage/node";
  await offerRuntime(partsWith(electron));
  pressed = "Choose a File…";
  await offerRuntime(partsWith(notFound));
  assert.deepEqual(seen.messages.at(-1), ["No Node.js 20 or newer was found on this machine.", "Install Runtime", "Choose a File…"]);
  assert.deepEqual(given, ["download", "download", "chooseFile"]);
});

test("who trains with the editor is not asked again, unless it cannot train either", async () => {
  pressed = "Train on the CPU";
  await offerRuntime(partsWith(electron));
  await offerRuntime(partsWith(electron));
  assert.equal(seen.messages.length, 1);
  pressed = undefined;
  await assert.rejects(offerRuntime(partsWith(notFound)), isCancelled);
});

test("the doctor says which Node is used and why, what was passed over, and how to get one", async () => {
  const context = { globalStorageUri: {} } as never;
  const findings = [{ subject: "node", usable: true, probe: "", result: "v22.1.0", fix: null }];
  const service = { request: async () => ({ healthy: true, findings }) } as never;
  const of = async (program: CoreProgram) => (await examine({ ...partsWith(program), context, service })).findings[0];
  const editor = await of(electron);
  assert.match(
    editor.result,
    /^v22\.1\.0: \/opt\/editor \(the editor itself, for the cpu device only.*\); not used: \/usr\/bin\/node: it is version 18\.1\.0$/,
  );
  assert.match(editor.fix ?? "", /Install Runtime/);
  const own = await of({ ...electron, kind: "installed", passedOver: [] });
  assert.match(own.result, /installed by this extension, because/);
  assert.equal(own.fix, null);
  const none = (await examine({ ...partsWith(notFound), context, service })).findings[0];
  assert.deepEqual([none.usable, none.result], [false, notFound.message]);
  assert.deepEqual(failureActions({ code: "node/not-found", place: null }, null), ["installRuntime", "showLog", "copyReport"]);
});

test("a program that is chosen by hand is set, one that is no Node is not", async (t) => {
  const folder = temporaryFolder(t);
  const set: unknown[] = [];
  const before = workspace.getConfiguration;
  t.after(() => void Object.assign(workspace, { getConfiguration: before }));
  Object.assign(workspace, {
    getConfiguration: () => ({
      get: (_: string, fallback: unknown) => fallback,
      update: async (...asked: unknown[]) => set.push(asked[0], asked[1]),
    }),
  });
  let refreshed = 0;
  const service = { renew: async () => undefined };
  const parts = { ...partsWith(electron), service } as unknown as Parameters<typeof installRuntimeCommand>[0];
  const { installRuntime } = installRuntimeCommand(parts, async () => void refreshed++);
  const choose = (file: string) => {
    Object.assign(window, { showOpenDialog: async () => [{ fsPath: file }] });
    return installRuntime("chooseFile");
  };
  const text = path.join(folder, "text");
  writeFileSync(text, "no program");
  await assert.rejects(choose(text), { code: "node/not-usable" });
  assert.deepEqual([set, refreshed], [[], 0]);
  assert.equal(await choose(process.execPath), process.execPath);
  assert.deepEqual([set, refreshed], [["nodePath", process.execPath], 1]);
  assert.equal(await installRuntime({ runFolder: "/a run's button" }), null, "asks, and nothing is picked");
});
