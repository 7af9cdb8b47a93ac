/** A key of a run file or comparison in words: what it is, what it takes, what it is by default. It decides nothing. */
import * as vscode from "vscode";
import type { KeyInfo, ValueForm } from "./fileSchema.ts";
import { keyDescriptions } from "./keyDescriptions.ts";

/** One sentence in the display language. */
export function descriptionOf(key: KeyInfo): string {
  const known = keyDescriptions();
  return key.names.map((name) => known[name]).find((text) => text !== undefined) ?? key.description;
}

/** What a key is and takes, for a hover and beside a completion. */
export function describeKey(key: KeyInfo, options: { withDefault: boolean }): vscode.MarkdownString {
  const takes = key.forms.map(formText).filter((words) => words !== "");
  const paragraphs = [
    `**${plain(key.path)}**`,
    plain(descriptionOf(key)),
    takes.length > 0 ? plain(vscode.l10n.t("Takes: {0}.", takes.join(vscode.l10n.t(", or ")))) : "",
    options.withDefault ? plain(defaultText(key)) : "",
  ];
  return new vscode.MarkdownString(paragraphs.filter((paragraph) => paragraph !== "").join("\n\n"));
}

/** Text as Markdown that shows just it. MarkdownString's own escaping makes every space unbreakable, and so every sentence one long line. */
function plain(text: string): string {
  return text.replace(/[\\`*_{}[\]()<>#+\-.!|~&]/g, "\\$&");
}

/** What a key is when it is left out. */
export function defaultText(key: KeyInfo): string {
  const { defaultValue, forms } = key;
  if (forms.some(({ kind }) => kind === "section")) return defaultValue === undefined ? vscode.l10n.t("It must be given.") : "";
  if (defaultValue === undefined) return key.name === "name" ? "" : vscode.l10n.t("It must be given.");
  return vscode.l10n.t("Default: {0}.", JSON.stringify(defaultValue).replace(/^"|"$/g, ""));
}

function formText(form: ValueForm): string {
  switch (form.kind) {
    case "words":
      return form.words.join(", ");
    case "number":
      return numberText(form);
    case "text":
      return vscode.l10n.t("text");
    case "list":
      return vscode.l10n.t("a list");
    case "boolean":
      return "true, false";
    case "null":
      return "null";
    case "section":
      return "";
  }
}

function numberText({ whole, from, to, above, below }: Extract<ValueForm, { kind: "number" }>): string {
  const bounds = [
    from !== undefined ? `≥ ${from}` : "",
    above !== undefined ? `> ${above}` : "",
    to !== undefined ? `≤ ${to}` : "",
    below !== undefined ? `< ${below}` : "",
  ].filter((bound) => bound !== "");
  const kind = whole ? vscode.l10n.t("a whole number") : vscode.l10n.t("a number");
  return [kind, bounds.join(", ")].filter((part) => part !== "").join(" ");
}
