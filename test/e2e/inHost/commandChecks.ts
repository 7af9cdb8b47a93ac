/** Commands in the real extension host: all are there, and what they return, open and write is what they say. One short run is trained. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { commandId, commandNames, customEditors } from "../../../src/extension/contributions.ts";
import type { SparseTunerApi } from "../../../src/extension/extension.ts";
import type { ServiceResults } from "../../../src/protocol/serviceProtocol.ts";
import { type Checks, picture, shown, until, workspaceFile } from "./checks.ts";

const extensionId = "sparse-tuner.sparse-tuner";
const tiny = `# Two steps.
model: ./model
data: { train: data/gsm8k-train.jsonl }
method: { name: smt, blocks: 8, blockSize: 16, warmup: { steps: 1 } }
train: { steps: 2, batchSize: 1, sequenceLength: 256 }
`;

async function api(): Promise<SparseTunerApi> {
  const extension = vscode.extensions.getExtension<SparseTunerApi>(extensionId);
  assert.ok(extension, "the packaged extension is installed");
  return extension.activate();
}

/** Titles of the open tabs. */
function tabs(): string[] {
  return vscode.window.tabGroups.all.flatMap((group) => group.tabs.map(({ label }) => label));
}

/** The run that these checks train; the checks after them go on with it. */
export let runFolder = "";

export async function sessionOf(folder: string) {
  return (await api()).runs.get(folder);
}

export const commandChecks: Checks = {
  "the packaged extension runs beside these checks and offers every command of its own": async () => {
    const { runs } = await api();
    assert.deepEqual(runs.all(), []);
    const known = await vscode.commands.getCommands(true);
    for (const name of commandNames) assert.ok(known.includes(commandId(name)), name);
  },

  "its folders are left out of watching and search": async () => {
    const files = vscode.workspace.getConfiguration("files").get<Record<string, boolean>>("watcherExclude");
    const search = vscode.workspace.getConfiguration("search").get<Record<string, boolean>>("exclude");
    assert.equal(files?.["**/.sparse-tuner/**"], true);
    assert.equal(search?.["**/.sparse-tuner"], true);
  },

  "Plan Memory plans the text in the editor, unsaved as it is, and shows what it returns": async () => {
    const editor = await shown("planned.sparse-tuner.yaml", tiny);
    const { uri } = editor.document;
    const plan = () => vscode.commands.executeCommand<ServiceResults["plan"]>("sparseTuner.planMemory", uri);
    const first = await plan();
    const text = (
      await until("the plan's document", () => vscode.workspace.textDocuments.find(({ uri: { scheme } }) => scheme === "sparse-tuner"))
    ).getText();
    for (const bytes of [first.peakBytes, first.fullFineTuning.peakBytes]) assert.ok(text.includes(String(bytes)), text);
    await picture("host-plan");
    const at = editor.document.positionAt(tiny.indexOf("batchSize: 1") + "batchSize: ".length);
    const change = new vscode.WorkspaceEdit();
    change.insert(uri, at, "9");
    assert.ok(await vscode.workspace.applyEdit(change));
    assert.ok((await plan()).peakBytes > first.peakBytes);
    assert.equal(readFileSync(uri.fsPath, "utf8"), tiny);
  },

  "Open Training Panel opens one panel a run file": async () => {
    const { document } = await shown("opened.sparse-tuner.yaml", tiny);
    for (let i = 0; i < 2; i++) await vscode.commands.executeCommand("sparseTuner.openTrainingPanel", document.uri);
    await until("the panel's tab", () => tabs().includes("opened"));
    assert.equal(tabs().filter((title) => title === "opened").length, 1);
    // With a panel in front, a command without an argument is about it.
    await vscode.commands.executeCommand("sparseTuner.openRunFile");
    await until("its run file", () => vscode.window.activeTextEditor?.document.uri.toString() === document.uri.toString());
  },

  "Duplicate Run writes a copy under a free name, twice": async () => {
    const { document } = await shown("twice.sparse-tuner.yaml", tiny);
    for (const copy of ["twice-copy.sparse-tuner.yaml", "twice-copy-2.sparse-tuner.yaml"]) {
      await vscode.commands.executeCommand("sparseTuner.duplicateRun", document.uri);
      assert.equal(readFileSync(workspaceFile(copy).fsPath, "utf8"), tiny);
    }
  },

  "Start saves the run file, trains, and the run is known": async () => {
    const editor = await shown("started.sparse-tuner.yaml", tiny);
    const { document } = editor;
    await editor.edit((edit) => edit.insert(new vscode.Position(0, 0), "# Not saved yet.\n"));
    runFolder = (await vscode.commands.executeCommand<string>("sparseTuner.start", document.uri)) ?? "";
    assert.ok(existsSync(path.join(runFolder, "run.yaml")), runFolder);
    assert.ok(!document.isDirty && readFileSync(document.uri.fsPath, "utf8").startsWith("# Not saved yet."));
    const session = await sessionOf(runFolder);
    await until("the run to finish", () => session.view.state === "finished", 120_000);
    assert.equal(session.view.step, 2);
    const sequences = session.events.map(({ sequence }) => sequence);
    assert.deepEqual(
      sequences,
      sequences.map((_, i) => sequences[0] + i),
    );
    assert.equal(readFileSync(workspaceFile(".sparse-tuner/.gitignore").fsPath, "utf8").trim(), "*");
  },

  "a run folder is as good an argument as a run file, and its run.yaml opens": async () => {
    await vscode.commands.executeCommand("sparseTuner.openRunFile", vscode.Uri.file(runFolder));
    await until("run.yaml", () => vscode.window.activeTextEditor?.document.uri.fsPath === path.join(runFolder, "run.yaml"));
    const target = { runFolder };
    await vscode.commands.executeCommand("sparseTuner.copyReport", target);
    const report = await vscode.env.clipboard.readText();
    assert.ok(report.includes(vscode.version), report);
  },

  "a tensor file of the run opens in its viewer": async () => {
    const checkpoint = vscode.Uri.file(path.join(runFolder, "checkpoints/step-2/smt.safetensors"));
    assert.ok(existsSync(checkpoint.fsPath), checkpoint.fsPath);
    await vscode.commands.executeCommand("vscode.openWith", checkpoint, customEditors[0]);
    const isOurs = ({ input }: vscode.Tab) => input instanceof vscode.TabInputCustom && input.viewType === customEditors[0];
    await until("the viewer", () => vscode.window.tabGroups.all.some(({ tabs: open }) => open.some(isOurs)));
  },

  "arguments that name nothing do no harm": async () => {
    const uri = workspaceFile("nowhere.sparse-tuner.yaml");
    for (const name of ["start", "planMemory", "duplicateRun", "lowerBatch", "previewTrainingData"] as const)
      assert.equal((await vscode.commands.executeCommand(commandId(name), uri)) ?? null, null, name);
    assert.ok(!existsSync(uri.fsPath));
    await picture("host-no-such-file");
    const target = { runFile: uri };
    await vscode.commands.executeCommand("notifications.clearAll");
    await vscode.commands.executeCommand("sparseTuner.planMemory", target);
    await picture("host-no-such-file-named");
  },
};
