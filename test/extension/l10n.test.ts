/**
 * Every text that people see can be read in Chinese: each key of the manifest stands in both package.nls files, each text given to `t` in the bundle, none
 * is stale, and no literal reaches the screen around them. The scan itself is judged by examples of every form it has to catch.
 */
// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the examples are sources.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { translatedTexts, untranslatedTexts } from "./localisedText.ts";

const root = path.resolve(import.meta.dirname, "../..");
const read = (file: string): unknown => JSON.parse(readFileSync(path.join(root, file), "utf8"));
const texts = (file: string) => read(file) as Record<string, string>;
const placeholders = (text: string) => [...text.matchAll(/\{\d+\}/g)].map(String).sort();
const links = (text: string) => [...text.matchAll(/\((?:command|https):[^)]*\)/g)].map(String);

/** Sources whose texts are shown: repository paths with their content. */
function sources(): [string, string][] {
  return ["src/extension", "webview"].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file): [string, string] => [path.posix.join(folder, ...file.split(path.sep)), readFileSync(path.join(root, folder, file), "utf8")]),
  );
}

/** Where `t` is the translation; a plain Node module has none and says what the core says, in English. */
const canTranslate = (source: string) => /from "vscode"|from "\.{1,2}\/(?:\.\.\/)*strings\.ts"/.test(source);
const isWebview = (file: string) => file.startsWith("webview/");

/** The Chinese texts by their English ones. */
const chinese = () => new Map(Object.entries(texts("l10n/bundle.l10n.zh-cn.json")));

const manifest = readFileSync(path.join(root, "package.json"), "utf8");

test("the manifest's keys stand in both package.nls files, and none of theirs is stale", () => {
  const keys = [...new Set([...manifest.matchAll(/"%([\w.]+)%"/g)].map((match) => match[1]))].sort();
  assert.ok(keys.length > 40);
  for (const file of ["package.nls.json", "package.nls.zh-cn.json"]) assert.deepEqual(Object.keys(texts(file)).sort(), keys, file);
});

test("the manifest contributes no text of its own", () => {
  const literal: string[] = [];
  const names = new Set(["title", "name", "description", "markdownDescription", "contents", "displayName", "altText", "contextualTitle", "category"]);
  const visit = (value: unknown): void => {
    if (typeof value !== "object" || value === null) return;
    for (const [key, inner] of Object.entries(value)) {
      if (names.has(key) && typeof inner === "string" && !/^%[\w.]+%$/.test(inner)) literal.push(`${key}: ${inner}`);
      if (/EnumDescriptions$|^enumDescriptions$/.test(key)) literal.push(...(inner as string[]).filter((text) => !/^%[\w.]+%$/.test(text)));
      visit(inner);
    }
  };
  const { contributes, capabilities } = JSON.parse(manifest);
  visit({ contributes, capabilities });
  assert.deepEqual(literal, ["title: Sparse Tuner"], "the product's name is the same in every language");
});

test("Chinese texts of the manifest keep their links, and are Chinese", () => {
  const [english, translated] = [texts("package.nls.json"), texts("package.nls.zh-cn.json")];
  for (const [key, text] of Object.entries(english)) {
    assert.deepEqual(links(translated[key]), links(text), key);
    assert.ok(/\p{Script=Han}/u.test(translated[key]) || ["Sparse Tuner", "Safetensors"].includes(text), `${key}: ${translated[key]}`);
  }
});

test("each text given to t is a literal, and has a Chinese text", () => {
  const known = chinese();
  const wrong: string[] = [];
  let count = 0;
  for (const [file, source] of sources()) {
    if (!canTranslate(source)) continue;
    for (const { text, line } of translatedTexts(source)) {
      count++;
      if (text === null) wrong.push(`${file}:${line}: the first argument of t is no literal`);
      else if (!known.has(text)) wrong.push(`${file}:${line}: not translated: ${text}`);
    }
  }
  assert.deepEqual(wrong, []);
  assert.ok(count > 100, `only ${count} texts were found`);
});

test("no Chinese text is stale, and each keeps the placeholders of the English one", () => {
  const used = new Set(sources().flatMap(([, source]) => (canTranslate(source) ? translatedTexts(source).map(({ text }) => text) : [])));
  for (const [english, text] of chinese()) {
    assert.ok(used.has(english), `nothing shows “${english}” any more`);
    assert.deepEqual(placeholders(text), placeholders(english), english);
  }
});

test("the bundle is sorted, so that a text is found and stands in it once", () => {
  const keys = Object.keys(texts("l10n/bundle.l10n.zh-cn.json"));
  assert.deepEqual(keys, keys.toSorted());
});

test("no literal is shown untranslated", () => {
  const found: string[] = [];
  for (const [file, source] of sources()) {
    if (!isWebview(file) && !canTranslate(source)) continue;
    found.push(...untranslatedTexts(source).map(({ text, line }) => `${file}:${line}: ${text}`));
  }
  assert.deepEqual(found, []);
});

test("the scan catches every form of showing a text", () => {
  const caught = [
    'vscode.window.showErrorMessage("It failed.");',
    "vscode.window.showInformationMessage(`Exported to ${folder}.`);",
    'vscode.window.showWarningMessage(vscode.l10n.t("Really?"), { modal: true }, "Yes, delete");',
    'vscode.window.showQuickPick([{ label: "All rows" }]);',
    'vscode.window.showInputBox({ prompt: "New name", title: t("x") });',
    'pick.placeholder = "Choose a run";',
    'const options = { placeHolder: "Choose a run" };',
    'pick.title = isNew ? "New run" : t("Old run");',
    "item.description = `${step} of ${total}`;",
    'item.tooltip = ["Loss", loss].join(" ");',
    'item.label = loss ?? "no loss";',
    'item.detail = (known && "known") || other;',
    'super(new vscode.TreeItem("Doctor"));',
    'vscode.window.withProgress({ title: "Planning" }, work);',
    'progress.report({ message: vscode.l10n.t("x"), detail: "half done" });',
    "statusBar.text = `$(loading~spin) ${count} runs`;",
    'throw new UserError("a/b", "The run is gone.", vscode.l10n.t("Look."));',
    'throw new UserError("a/b", vscode.l10n.t("Gone."), "Look into the log.");',
    'vscode.window.createWebviewPanel("sparseTuner.x", "Inspector", column);',
    'new vscode.CodeLens(range, { title: "Start", command });',
    'new vscode.CodeAction("Change to smt", kind);',
    'new vscode.Diagnostic(range, "Unknown key");',
    'node.textContent = "No data";',
    "node.textContent = `loss ${loss}`;",
    'node.append("No data");',
    'node.replaceChildren(icon, "No data");',
    'node.setAttribute("aria-label", "Heatmap of blocks");',
    'node.ariaLabel = "Heatmap";',
    'input.placeholder = "Filter";',
    'image.alt = "Share";',
    'element("button", { class: "quiet" }, "Reset");',
    'element("button", { "aria-label": "Reset the zoom" });',
    'element("p", {}, done ? "Done" : t("Not done"));',
    'createButton("Reset", "quiet", press);',
    'setText(node, "No data");',
    'context.fillText("step", x, y);',
    "document.createTextNode(`No data`);",
    'const part = { label: `${nested ? "inner text" : ""}` };',
  ];
  for (const example of caught) assert.equal(untranslatedTexts(example).length, 1, example);
});

test("the scan lets pass what nobody reads, and what was translated", () => {
  const passed = [
    'vscode.window.showErrorMessage(vscode.l10n.t("It failed."));',
    'const item = { label: `$(file) ${name}`, description: vscode.l10n.t("{0} rows", 3) };',
    'item.label = state === "finished" ? t("finished") : name;',
    'item.description = parts.join(" · ");',
    'const shown = { title: names["first"], label: path.basename("file.txt") };',
    'node.append(icon, t("No data"), element("td", { class: "number" }));',
    'element("button", { class: "quiet", "aria-label": t("Reset") }, t("Reset"));',
    'node.setAttribute("role", "grid");',
    'throw new UserError("run/not-live", vscode.l10n.t("x"), vscode.l10n.t("y"));',
    'throw new Error("a bug");',
    '// pick.title = "in a comment";\n/* label: "in another" */ const pattern = /label: "x"/;',
    'log.info("for the log");',
    'const message = { kind: "problem", message: text };',
    "statusBar.text = `$(loading~spin) ${text}`;",
  ];
  for (const example of passed) assert.deepEqual(untranslatedTexts(example), [], example);
});

test("the scan finds the texts that are given to t, and those that cannot be translated", () => {
  assert.deepEqual(
    translatedTexts('const a = t("One \\"{0}\\"", 1) + vscode.l10n.t("Two"); other.t("Three"); export function t(text: string) {}').map(
      ({ text }) => text,
    ),
    ['One "{0}"', "Two"],
  );
  const refused = ["t(name)", "t(`Loss`)", 't("a" + "b")', 'vscode.l10n.t(done ? "a" : "b")'];
  for (const example of refused) assert.deepEqual(translatedTexts(example), [{ text: null, line: 1 }], example);
  assert.equal(translatedTexts('`${t("in a template")}`')[0].text, "in a template");
});
