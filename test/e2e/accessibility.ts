/** What axe finds in a webview, and which theme a webview is in. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import type { Frame } from "playwright-core";
import type { Theme } from "./workbench.ts";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** The class that VS Code gives a webview's body. */
export const bodyClass: Record<Theme, string> = {
  dark: "vscode-dark",
  light: "vscode-light",
  "hc-black": "vscode-high-contrast",
  "hc-light": "vscode-high-contrast-light",
};

interface Finding {
  id: string;
  impact: string;
  nodes: { html: string; failureSummary: string }[];
}

/** Findings that keep somebody from using it. */
export async function seriousFindings(frame: Frame): Promise<string[]> {
  await frame.evaluate(axe);
  // A webview is transparent: its text stands on the editor's background, which axe does not see.
  await frame.evaluate(() => {
    document.documentElement.style.background = "var(--vscode-editor-background)";
  });
  const violations = await frame.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: Finding[] }> } };
    return (await axe.run()).violations;
  });
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  return serious.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html.slice(0, 200)}\n${failureSummary}`));
}
