/**
 * What is done with a run that is there: its model is tried and exported, its folder renamed. Questions are answered in the window, as a person does; those
 * that VS Code asks in a dialog are windows.test.ts', since it shows none while tests run in its host. The run is the one that commandChecks.ts trained.
 */
import assert from "node:assert/strict";
import { cpSync, existsSync, readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { answered, type Checks, picture, shown, until, workspaceFile } from "./checks.ts";
import { runFolder, sessionOf } from "./commandChecks.ts";

const endless = `model: ./model
data: { train: data/gsm8k-train.jsonl }
method: { name: smt, blocks: 8, blockSize: 16, warmup: { steps: 1 } }
train: { steps: 100000, batchSize: 1, sequenceLength: 128 }
`;

/** The codes of the failures that were shown in this window, oldest first. */
async function shownFailures(): Promise<string> {
  return (await vscode.commands.executeCommand<string>("sparseTuner.copyReport", { runFolder })) ?? "";
}

export const runChecks: Checks = {
  "Try Model shows the base's and the run's text, and returns them": async () => {
    const ask = { prompt: "Once upon a time", tokens: 12, temperature: 0, seed: 1 };
    const texts = await answered<{ before: string; after: string }>(
      "sparseTuner.tryModel",
      { runFolder },
      { kind: "type", question: "Prompt to continue", text: ask.prompt },
      { kind: "type", question: "New tokens at most", text: String(ask.tokens) },
      { kind: "pick", label: "Greedy" },
    );
    for (const [column, text] of [
      ["Before", texts.before],
      ["After", texts.after],
    ]) {
      assert.ok(text.startsWith(ask.prompt) && text.length > ask.prompt.length + 10, text);
      // The editor fetches a document's text when it hears of the change.
      const holds = (document: vscode.TextDocument) => path.basename(document.uri.path).startsWith(column) && document.getText() === text;
      await until(`the document ${column}: ${text}`, () => vscode.workspace.textDocuments.some(holds));
    }
    // Who drives the window asks the command line for the same, when this run is gone.
    const report = process.env.SPARSE_TUNER_TEST_REPORT ?? "";
    const trained = path.join(report, "tried-run");
    cpSync(runFolder, trained, { recursive: true });
    writeFileSync(path.join(report, "tried.json"), JSON.stringify({ ...ask, ...texts, model: workspaceFile("model").fsPath, trained }));
  },

  "Merge and Export writes the whole model into a folder that it proposes": async () => {
    const folder = await answered<string>(
      "sparseTuner.mergeAndExport",
      { runFolder },
      { kind: "pick", label: "Merged model" },
      { kind: "pick", label: "32 bits (F32)" },
      { kind: "pick", label: "started-merged" },
    );
    assert.equal(folder, workspaceFile("started-merged").fsPath);
    const files = readdirSync(folder);
    assert.ok(
      ["config.json", "model.safetensors", "tokenizer.json"].every((file) => files.includes(file)),
      files.join(),
    );
  },

  "Merge and Export writes trained blocks as a PEFT adapter of the rank that is asked for": async () => {
    const folder = await answered<string>(
      "sparseTuner.mergeAndExport",
      { runFolder },
      { kind: "pick", label: "PEFT adapter" },
      { kind: "type", question: "Rank of the matrices", text: "2" },
      { kind: "pick", label: "started-peft" },
    );
    const config = JSON.parse(Buffer.from(await vscode.workspace.fs.readFile(vscode.Uri.file(path.join(folder, "adapter_config.json")))).toString());
    assert.equal(config.r, 2);
  },

  "Rename Run moves the folder, and the window follows": async () => {
    await answered(
      "sparseTuner.renameRun",
      { runFolder },
      { kind: "type", question: "New name of the run's folder", text: "20260101-000000-改名 2" },
    );
    const renamed = path.join(path.dirname(runFolder), "20260101-000000-改名 2");
    assert.ok(!existsSync(runFolder) && existsSync(path.join(renamed, "run.yaml")));
    assert.equal((await sessionOf(renamed)).view.state, "finished");
  },

  "a run that a process works on is neither renamed nor deleted": async () => {
    const { document } = await shown("endless.sparse-tuner.yaml", endless);
    const live = (await vscode.commands.executeCommand<string>("sparseTuner.start", document.uri)) ?? "";
    const session = await sessionOf(live);
    await until("the run to train", () => session.view.state === "running" && session.view.step > 0);
    for (const name of ["renameRun", "deleteRun"]) {
      await vscode.commands.executeCommand("notifications.clearAll");
      const before = (await shownFailures()).split("(run/live)").length;
      // Not waited for: with a question, which nobody answers here, it would not end.
      void vscode.commands.executeCommand(`sparseTuner.${name}`, { runFolder: live });
      await until(`${name} to be refused`, async () => (await shownFailures()).split("(run/live)").length === before + 1);
      assert.ok(existsSync(path.join(live, "run.yaml")), name);
    }
    await picture("host-live-not-deleted");
    await vscode.commands.executeCommand("sparseTuner.stop", { runFolder: live });
    await until("the run to stop", () => session.view.state === "stopped");
  },
};
