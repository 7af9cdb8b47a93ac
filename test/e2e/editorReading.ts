/**
 * Reads and types text in editors of the window, as a person sees it: the lines that are drawn, not the file. Files must be short enough to be drawn whole.
 */
import type { Locator } from "playwright-core";
import type { WorkbenchWindow } from "./window.ts";

/** The editor that shows a document; `name` is the end of its address. */
export function editorOf({ page }: WorkbenchWindow, name: string): Locator {
  return page.locator(`.part.editor .monaco-editor[data-uri*="${encodeURIComponent(name)}"]`).first();
}

/** The lines of an editor from its first to its last that is drawn. A line that is wrapped counts as several. */
export async function editorLines(window: WorkbenchWindow, name: string): Promise<string[]> {
  const lines = await editorOf(window, name)
    .locator(".view-lines > .view-line")
    .evaluateAll((elements) =>
      elements.map((line) => ({ top: Number.parseFloat((line as HTMLElement).style.top), text: (line.textContent ?? "").replaceAll("\u00a0", " ") })),
    );
  return lines.sort((a, b) => a.top - b.top).map(({ text }) => text);
}

/** The text of an editor, each line with its end. */
export async function editorText(window: WorkbenchWindow, name: string): Promise<string> {
  return (await editorLines(window, name)).join("\n");
}

/** Puts the cursor into an editor. */
export async function focusEditor(window: WorkbenchWindow, name: string): Promise<void> {
  // Over its lines there may be lenses and hovers, so that a click would not always reach them.
  await editorOf(window, name).locator("textarea.inputarea, .native-edit-context").first().focus();
}

/** Opens a file of the workspace by a double click in the explorer. Folders above it must be open there. */
export async function openFromExplorer(window: WorkbenchWindow, name: string): Promise<void> {
  await window.openContainer("Explorer");
  const entry = window.page.locator(".explorer-folders-view .monaco-list-row").filter({ has: window.page.getByText(name, { exact: true }) });
  await entry.first().dblclick({ timeout: 60_000 });
  await window.tab(name).first().waitFor({ timeout: 60_000 });
}
