/** Run files and comparisons in the real editor's language services: errors, fixes, completion, hover, and the commands above the first line. */
import assert from "node:assert/strict";
import * as vscode from "vscode";
import { type Checks, picture, shown, until } from "./checks.ts";

const wrong = `model: ./model
data: { train: rows.jsonl }
method:
  name: smt
  ratoi: 0.05
train:
  steps: many
  batchSize: 0
`;

const comparison = `model: ./model
data: { train: rows.jsonl, eval: rows.jsonl }
methods:
  - name: smt
    blokSize: 16
  - { name: lora, rank: none }
train: { seed: 3 }
keepCheckpoints: some
`;

function problemsOf(uri: vscode.Uri): vscode.Diagnostic[] {
  return vscode.languages.getDiagnostics(uri).filter(({ source }) => source === "Sparse Tuner");
}

async function replaceAll(editor: vscode.TextEditor, text: string): Promise<void> {
  const { document } = editor;
  const whole = new vscode.Range(document.positionAt(0), document.positionAt(document.getText().length));
  assert.ok(await editor.edit((edit) => edit.replace(whole, text)));
}

/** The position of `|` in a text, and the text without it. */
function cursorIn(text: string): { text: string; position: (document: vscode.TextDocument) => vscode.Position } {
  const offset = text.indexOf("|");
  return { text: text.replace("|", ""), position: (document) => document.positionAt(offset) };
}

/** Labels that are proposed where `|` stands. */
async function completed(text: string, file = "completion.sparse-tuner.yaml"): Promise<string[]> {
  const cursor = cursorIn(text);
  const editor = await shown(file, cursor.text);
  const { uri } = editor.document;
  const list = await vscode.commands.executeCommand<vscode.CompletionList>(
    "vscode.executeCompletionItemProvider",
    uri,
    cursor.position(editor.document),
  );
  return list.items
    .filter(({ kind }) => kind !== vscode.CompletionItemKind.Text)
    .map(({ label }) => (typeof label === "string" ? label : label.label));
}

export const languageChecks: Checks = {
  "all errors of a run file are shown at once, each on its line": async () => {
    const editor = await shown("wrong.sparse-tuner.yaml", wrong);
    const { uri } = editor.document;
    const problems = await until("three errors", () => problemsOf(uri).length === 3 && problemsOf(uri));
    const byLine = problems.map(({ range, message, severity }) => ({ line: range.start.line + 1, key: message.split(" ")[0], severity }));
    assert.deepEqual(
      byLine.sort((a, b) => a.line - b.line),
      [
        { line: 5, key: "method.ratoi", severity: vscode.DiagnosticSeverity.Error },
        { line: 7, key: "train.steps", severity: vscode.DiagnosticSeverity.Error },
        { line: 8, key: "train.batchSize", severity: vscode.DiagnosticSeverity.Error },
      ],
    );
    assert.equal(editor.document.getText(problems.find(({ range }) => range.start.line === 4)?.range), "ratoi");
    await vscode.commands.executeCommand("workbench.actions.view.problems");
    await picture("host-errors");
    await vscode.commands.executeCommand("workbench.action.closePanel");
  },

  "an error goes when it is corrected, and comes when one is made": async () => {
    const editor = await shown("follows.sparse-tuner.yaml", wrong);
    const { uri } = editor.document;
    await until("three errors", () => problemsOf(uri).length === 3);
    await replaceAll(editor, wrong.replace("ratoi", "ratio").replace("many", "3").replace("batchSize: 0", "batchSize: 1"));
    await until("no error", () => problemsOf(uri).length === 0);
    await replaceAll(editor, "model: [");
    const [problem] = await until("the syntax error", () => problemsOf(uri).length > 0 && problemsOf(uri));
    assert.match(problem.message, /is not valid YAML/);
  },

  "the quick fix of a misspelt key removes its error and nothing else": async () => {
    const editor = await shown("fix.sparse-tuner.yaml", wrong);
    const { uri } = editor.document;
    const problems = await until("three errors", () => problemsOf(uri).length === 3 && problemsOf(uri));
    const { range } = problems.find(({ message }) => message.includes("ratoi")) as vscode.Diagnostic;
    const actions = await vscode.commands.executeCommand<vscode.CodeAction[]>("vscode.executeCodeActionProvider", uri, range);
    const fix = actions.find(({ title }) => title === "Change to ratio");
    assert.ok(fix?.edit, actions.map(({ title }) => title).join(", "));
    assert.ok(await vscode.workspace.applyEdit(fix.edit));
    assert.equal(editor.document.getText(), wrong.replace("ratoi", "ratio"));
    await until("two errors", () => problemsOf(uri).length === 2);
  },

  "completion proposes the keys that are missing, and none that is there": async () => {
    const labels = await completed("model: ./model\ndata: { train: rows.jsonl }\nmethod:\n  name: smt\n  |\n");
    for (const key of ["ratio", "blocks", "blockSize", "targets", "warmup"]) assert.ok(labels.includes(key), `${key} among ${labels}`);
    assert.ok(!labels.includes("name") && !labels.includes("model"), labels.join(", "));
    const top = await completed("model: ./model\n|\n");
    assert.ok(top.includes("data") && top.includes("train") && !top.includes("model"), top.join(", "));
    const editor = vscode.window.activeTextEditor as vscode.TextEditor;
    editor.selection = new vscode.Selection(1, 0, 1, 0);
    await vscode.commands.executeCommand("editor.action.triggerSuggest");
    await picture("host-completion");
    await vscode.commands.executeCommand("hideSuggestWidget");
  },

  "completion proposes words, and files beside the run file": async () => {
    const words = await completed("model: ./model\ntrain: { precision: | }\n");
    assert.ok(words.includes("f32") && words.includes("bf16"), words.join(", "));
    const files = await completed("model: ./model\ndata:\n  train: data/|\n");
    assert.ok(files.includes("gsm8k-train.jsonl") && !files.includes("LICENSE.md"), files.join(", "));
    const folders = await completed("model: ./|\n");
    assert.ok(folders.includes("model") && folders.includes("data"), folders.join(", "));
  },

  "a hover says what a key is, what it takes and its default": async () => {
    const editor = await shown("hover.sparse-tuner.yaml", "model: ./model\ntrain:\n  precision: bf16\n");
    const at = new vscode.Position(2, 4);
    const hovers = await vscode.commands.executeCommand<vscode.Hover[]>("vscode.executeHoverProvider", editor.document.uri, at);
    const text = hovers.flatMap(({ contents }) => contents.map((content) => (content as vscode.MarkdownString).value)).join("\n");
    for (const part of ["Storage of frozen weights", "f32, bf16", "Default:"]) assert.ok(text.replaceAll("\\", "").includes(part), text);
    editor.selection = new vscode.Selection(at, at);
    await vscode.commands.executeCommand("editor.action.showHover");
    await picture("host-hover");
  },

  "above the first line stand Plan memory, Start and Open panel, for this file": async () => {
    const editor = await shown("lens.sparse-tuner.yaml", "model: ./model\n");
    const { uri } = editor.document;
    const lenses = await vscode.commands.executeCommand<vscode.CodeLens[]>("vscode.executeCodeLensProvider", uri);
    assert.deepEqual(
      lenses.map(({ command }) => command?.title),
      ["Plan memory", "Start", "Open panel"],
    );
    for (const { range, command } of lenses) {
      assert.equal(range.start.line, 0);
      assert.equal(String(command?.arguments?.[0]), uri.toString());
    }
    const known = await vscode.commands.getCommands(true);
    for (const { command } of lenses) assert.ok(known.includes(command?.command ?? ""), command?.command);
  },

  "all errors of a comparison are shown at once, each on its line, and a quick fix removes one": async () => {
    const editor = await shown("wrong.sparse-tuner-compare.yaml", comparison);
    const { uri } = editor.document;
    const problems = await until("four errors", () => problemsOf(uri).length === 4 && problemsOf(uri));
    assert.deepEqual(
      problems.map(({ range, message }) => [range.start.line + 1, message.split(" ")[0]]),
      [
        [5, "methods[0].blokSize"],
        [6, "methods[1].rank"],
        [7, "train.seed"],
        [8, "keepCheckpoints"],
      ],
    );
    await picture("host-compare-errors");
    const actions = await vscode.commands.executeCommand<vscode.CodeAction[]>("vscode.executeCodeActionProvider", uri, problems[0].range);
    const fix = actions.find(({ title }) => title === "Change to blockSize");
    assert.ok(fix?.edit && (await vscode.workspace.applyEdit(fix.edit)), actions.map(({ title }) => title).join(", "));
    assert.equal(editor.document.getText(), comparison.replace("blokSize", "blockSize"));
    await until("three errors", () => problemsOf(uri).length === 3);
  },

  "completion in a comparison knows the method of each entry, the task and the files beside it": async () => {
    const file = "completion.sparse-tuner-compare.yaml";
    const entry = await completed("methods:\n  - name: full\n  - name: lors\n    |\n", file);
    for (const key of ["label", "rank", "gradient", "init"]) assert.ok(entry.includes(key), `${key} among ${entry}`);
    assert.ok(!entry.includes("name") && !entry.includes("sparse") && !entry.includes("blockSize"), entry.join(", "));
    const top = await completed("model: ./model\n|\n", file);
    assert.ok(
      ["methods", "budgets", "learningRates", "seeds", "task", "criterion"].every((key) => top.includes(key)),
      top.join(", "),
    );
    const tasks = await completed("task:\n  name: |\n", file);
    assert.ok(tasks.includes("boolq") && tasks.includes("gsm8k"), tasks.join(", "));
    const files = await completed("data:\n  eval: data/|\n", file);
    assert.ok(files.includes("gsm8k-test.jsonl"), files.join(", "));
    await shown(file, "methods:\n  - name: full\n  - name: lors\n    \n");
    const editor = vscode.window.activeTextEditor as vscode.TextEditor;
    editor.selection = new vscode.Selection(3, 4, 3, 4);
    await vscode.commands.executeCommand("editor.action.triggerSuggest");
    await picture("host-compare-completion");
    await vscode.commands.executeCommand("hideSuggestWidget");
  },

  "a hover in a comparison says what a key of an entry's method is; above the first line stands Start comparison": async () => {
    const editor = await shown("hover.sparse-tuner-compare.yaml", "methods:\n  - { name: lors, alpha: 16 }\ntrain: { steps: 3 }\n");
    const { uri } = editor.document;
    const hovered = async (line: number, column: number) => {
      const hovers = await vscode.commands.executeCommand<vscode.Hover[]>("vscode.executeHoverProvider", uri, new vscode.Position(line, column));
      const texts = hovers.flatMap(({ contents }) => contents.map((content) => (content as vscode.MarkdownString).value));
      return texts.join("\n").replaceAll("\\", "");
    };
    assert.match(await hovered(1, 19), /methods\.alpha.*alpha \/ √rank times.*Default: 16/s);
    assert.match(await hovered(2, 2), /without learningRate and seed/);
    const lenses = await vscode.commands.executeCommand<vscode.CodeLens[]>("vscode.executeCodeLensProvider", uri);
    assert.deepEqual(
      lenses.map(({ command, range }) => [command?.title, command?.command, range.start.line]),
      [
        ["Start comparison", "sparseTuner.startComparison", 0],
        ["Open comparisons", "sparseTuner.compareRuns", 0],
      ],
    );
    assert.equal(String(lenses[0].command?.arguments?.[0]), uri.toString());
  },

  "a file of another name is left alone": async () => {
    const editor = await shown("other.yaml", wrong);
    const lenses = await vscode.commands.executeCommand<vscode.CodeLens[]>("vscode.executeCodeLensProvider", editor.document.uri);
    assert.deepEqual(
      lenses.filter(({ command }) => command?.command.startsWith("sparseTuner.")),
      [],
    );
    assert.deepEqual(problemsOf(editor.document.uri), []);
  },
};
