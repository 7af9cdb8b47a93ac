/**
 * A language pack that holds nothing, as the VS Code server finds one: with it the workbench runs in that display language, so that the extension's own
 * translations are shown, while the workbench's texts stay English.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";

/** Puts the pack and its registration into a server's data folder. */
export function languagePack(dataFolder: string, language: string): void {
  const folder = path.join(dataFolder, "languages", language);
  mkdirSync(folder, { recursive: true });
  const translations = path.join(folder, "main.i18n.json");
  writeFileSync(translations, JSON.stringify({ version: "1.0.0", contents: {} }));
  const pack = {
    hash: "0123456789abcdef0123456789abcdef",
    extensions: [{ extensionIdentifier: { id: `sparse-tuner-tests.${language}` }, version: "1.0.0" }],
    translations: { vscode: translations },
    label: language,
  };
  writeFileSync(path.join(dataFolder, "languagepacks.json"), JSON.stringify({ [language]: pack }));
}
