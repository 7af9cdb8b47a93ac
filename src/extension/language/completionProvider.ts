/**
 * Completion in run files and comparisons: the keys that a mapping still lacks, the words and numbers a key takes, and files and folders where it names one. What is
 * proposed comes from the schema and the disk.
 * The rule to keep: only names of a folder's entries are read, never a file.
 */
import path from "node:path";
import * as vscode from "vscode";
import { yamlScalar } from "../files/yamlScalars.ts";
import { rangeOf } from "./diagnostics.ts";
import { type CursorPlace, cursorPlace } from "./fileCursor.ts";
import { type FileChoice, type FileSchema, fileChoiceOf, type KeyInfo } from "./fileSchema.ts";
import { defaultText, describeKey } from "./keyTexts.ts";

/** More entries than a person would look through. */
const mostEntries = 1000;

export class CompletionProvider implements vscode.CompletionItemProvider {
  readonly #schema: FileSchema;

  constructor(schema: FileSchema) {
    this.#schema = schema;
  }

  async provideCompletionItems(document: vscode.TextDocument, position: vscode.Position): Promise<vscode.CompletionItem[]> {
    const isMapping = (path: CursorPlace["path"], values: unknown) => this.#schema.keysOf(path, values) !== null;
    const place = cursorPlace(document.getText(), document.offsetAt(position), isMapping);
    if (!place) return [];
    const range = rangeOf(document, place);
    if (place.kind === "key") return keyItems(place, this.#schema.keysOf(place.path, place.values) ?? [], range);
    const key = this.#schema.keyAt(place.path, place.values);
    if (!key) return [];
    const files = fileChoiceOf(key);
    const words = wordsOf(key).map((word, order) => wordItem(word, key, place, range, order));
    return files ? [...words, ...(await pathItems(files, place, range, document.uri))] : words;
  }
}

/** In the schema's order. */
function keyItems(place: CursorPlace, keys: readonly KeyInfo[], range: vscode.Range): vscode.CompletionItem[] {
  return keys.flatMap((key, order) => {
    if (place.siblings.includes(key.name)) return [];
    const item = new vscode.CompletionItem(key.name, vscode.CompletionItemKind.Property);
    const section = key.forms.some(({ kind }) => kind === "section");
    const sections = key.forms.some((form) => form.kind === "list" && form.sections);
    item.range = range;
    item.sortText = String(order).padStart(3, "0");
    item.detail = defaultText(key);
    item.documentation = describeKey(key, { withDefault: false });
    if (place.colon) item.insertText = key.name;
    else if (section) item.insertText = new vscode.SnippetString(place.flow ? `${key.name}: { $0 }` : `${key.name}:\n\t$0`);
    else if (sections) item.insertText = new vscode.SnippetString(place.flow ? `${key.name}: [{ name: $0 }]` : `${key.name}:\n\t- name: $0`);
    else item.insertText = `${key.name}: `;
    if (!place.colon) item.command = { command: "editor.action.triggerSuggest", title: "" };
    return [item];
  });
}

/** What a key may be, where that can be listed; numbers only by their default. */
function wordsOf({ forms, defaultValue }: KeyInfo): string[] {
  const words = forms.flatMap((form) => {
    if (form.kind === "words") return form.words;
    return form.kind === "boolean" ? ["true", "false"] : form.kind === "null" ? ["null"] : [];
  });
  const byDefault = typeof defaultValue === "number" || Array.isArray(defaultValue) ? [JSON.stringify(defaultValue).replaceAll(",", ", ")] : [];
  return [...new Set([...byDefault, ...words])];
}

function wordItem(word: string, key: KeyInfo, place: CursorPlace, range: vscode.Range, order: number): vscode.CompletionItem {
  const item = new vscode.CompletionItem(word, vscode.CompletionItemKind.EnumMember);
  const isDefault = word === JSON.stringify(key.defaultValue)?.replace(/^"|"$/g, "").replaceAll(",", ", ");
  item.range = range;
  item.sortText = `0${String(order).padStart(3, "0")}`;
  item.filterText = place.quote + word;
  item.insertText = place.quote ? yamlScalar(word, { like: place.quote }) : word;
  item.preselect = isDefault;
  if (isDefault) item.detail = vscode.l10n.t("default");
  return item;
}

/** The entries of the folder that is written so far; relative ones count from the file. */
async function pathItems(choice: FileChoice, place: CursorPlace, range: vscode.Range, file: vscode.Uri): Promise<vscode.CompletionItem[]> {
  const written = /^.*[/\\]/s.exec(place.typed)?.[0] ?? "";
  const folder = path.isAbsolute(written) ? file.with({ path: vscode.Uri.file(written).path }) : vscode.Uri.joinPath(file, "..", written);
  const entries = await vscode.workspace.fs.readDirectory(folder).then(
    (found) => found,
    () => [],
  );
  const items: vscode.CompletionItem[] = [];
  for (const [name, type] of entries.sort(([a], [b]) => a.localeCompare(b)).slice(0, mostEntries)) {
    const isFolder = (type & vscode.FileType.Directory) !== 0;
    if (name.startsWith(".") || !(isFolder || choice.files.some((ending) => name.toLowerCase().endsWith(ending)))) continue;
    const text = `${written || "./"}${name}`;
    const item = new vscode.CompletionItem(name, isFolder ? vscode.CompletionItemKind.Folder : vscode.CompletionItemKind.File);
    item.range = range;
    item.sortText = `1${name}`;
    item.filterText = place.quote + (written ? text : place.typed.startsWith(".") ? text : name);
    item.insertText = yamlScalar(text, { flow: place.flow, like: place.quote });
    items.push(item);
  }
  return items;
}
