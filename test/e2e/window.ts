/**
 * One window of the web workbench, driven as a person drives it: palette, quick picks, views, notifications, editors. It knows VS Code's own page and
 * nothing of the extension. The rule to keep: wait for what is to be seen, never for a time.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Frame, Locator, Page } from "playwright-core";

const artifacts = path.resolve(import.meta.dirname, "../../.artifacts");
/** Of every wait that names none of its own. The machine may be busy. */
const patienceMs = 30_000;

/** Waits until `check` gives something else than false, null and undefined, and returns it. */
export async function until<Value>(
  what: string,
  check: () => Promise<Value> | Value,
  timeoutMs = patienceMs,
): Promise<Exclude<Value, false | null | undefined>> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value !== false && value !== null && value !== undefined) return value as Exclude<Value, false | null | undefined>;
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s in vain for: ${what}`);
    await delay(50);
  }
}

/** A line of the page's console, with where it came from. */
export interface ConsoleLine {
  type: string;
  text: string;
  source: string;
}

export class WorkbenchWindow {
  readonly page: Page;
  readonly console: ConsoleLine[] = [];
  /** Resolves with the code that extension tests ended with. */
  readonly testsEnded: Promise<number>;
  #url: string;
  #endTests: (code: number) => void = () => {};

  constructor(page: Page, url: string) {
    this.page = page;
    this.#url = url;
    this.testsEnded = new Promise((resolve) => (this.#endTests = resolve));
    page.setDefaultTimeout(patienceMs);
    page.on("console", (message) => this.console.push({ type: message.type(), text: message.text(), source: message.location().url }));
    page.on("pageerror", (error) => this.console.push({ type: "error", text: String(error), source: "page" }));
    // Leaving a page with open editors asks; nothing here is worth keeping.
    page.on("dialog", (dialog) => void dialog.accept().catch(() => {}));
  }

  async open(): Promise<void> {
    await this.page.exposeFunction("codeAutomationExit", (code: number) => this.#endTests(code));
    await this.page.goto(this.#url);
    await this.ready();
  }

  /** Waits until the workbench is drawn. */
  async ready(): Promise<void> {
    await this.page.locator(".monaco-workbench .part.statusbar").waitFor();
  }

  async reload(): Promise<void> {
    await this.page.reload();
    await this.ready();
  }

  get quickInput(): Locator {
    return this.page.locator(".quick-input-widget:visible");
  }

  get quickPickRows(): Locator {
    return this.quickInput.locator(".monaco-list-row");
  }

  /** Runs a command of the palette by its full title, e.g. "Sparse Tuner: New Run"; waits until its extension is registered. */
  async runCommand(title: string): Promise<void> {
    const input = this.quickInput.locator("input").first();
    // The whole label: within a longer one what was typed stands in an element of its own.
    const whole = new RegExp(`^${title.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}$`);
    const row = this.quickPickRows.filter({ has: this.page.locator(".label-name").filter({ hasText: whole }) }).first();
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      // An open palette does not take up commands that are registered later: it is closed and opened again.
      await this.page.keyboard.press("F1");
      const opened = await input.fill(`>${title}`, { timeout: 5000 }).then(
        () => true,
        () => false,
      );
      if (
        opened &&
        (await row.click({ timeout: 1500 }).then(
          () => true,
          () => false,
        ))
      )
        return;
      await this.page.keyboard.press("Escape");
    }
    throw new Error(`The palette has no command "${title}"`);
  }

  /** Titles that the palette offers for a text. */
  async commandsFor(text: string): Promise<string[]> {
    await this.page.keyboard.press("F1");
    await this.quickInput.locator("input").first().fill(`>${text}`);
    await this.quickPickRows.first().waitFor();
    const labels = await this.quickPickRows.locator(".label-name").allTextContents();
    await this.page.keyboard.press("Escape");
    return labels;
  }

  /** Runs a command and picks from what it asks; again where the question went with the focus, which a webview takes back late. */
  async runCommandAndPick(title: string, label: string | RegExp, { exact = false } = {}): Promise<void> {
    const row = this.quickPickRows.filter(exact ? { has: this.page.getByText(label, { exact }) } : { hasText: label }).first();
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      await this.runCommand(title);
      const picked = await row.click({ timeout: 4000 }).then(
        () => true,
        () => false,
      );
      if (picked) return;
      await this.page.keyboard.press("Escape");
    }
    throw new Error(`"${title}" does not offer ${label}`);
  }

  /** Chooses a colour theme as a person does. */
  async setTheme(label: string): Promise<void> {
    await this.runCommandAndPick("Preferences: Color Theme", label, { exact: true });
  }

  /** Waits until the editor part's state, which a reload restores, is in the browser's database and names the text. */
  async stateSaved(text: string): Promise<void> {
    await until(`${text} in the saved state of the window`, () => this.page.evaluate(savedStateHolds, text));
  }

  /** Picks the entry of a quick pick whose label holds the text. */
  async pick(label: string | RegExp): Promise<void> {
    await this.quickPickRows.filter({ hasText: label }).first().click();
  }

  /** Answers an input box, or confirms what a quick pick has found for the text. */
  async answer(text: string): Promise<void> {
    const input = this.quickInput.locator("input").first();
    await input.fill(text);
    await input.press("Enter");
  }

  /** Opens a file of the workspace in an editor, by its name. */
  async openFile(name: string): Promise<void> {
    const row = this.quickPickRows.filter({ hasText: name }).first();
    const deadline = performance.now() + patienceMs;
    while (performance.now() < deadline) {
      await this.page.keyboard.press("Control+P");
      // Whatever takes the focus meanwhile closes the box.
      const typed = this.quickInput.locator("input").first().fill(name, { timeout: 5000 });
      const found = await typed
        .then(() => row.click({ timeout: 5000 }))
        .then(
          () => true,
          () => false,
        );
      if (found) return this.tab(name).first().waitFor();
      await this.page.keyboard.press("Escape");
    }
    throw new Error(`The window finds no file ${name}`);
  }

  tab(title: string | RegExp): Locator {
    return this.page.locator(".part.editor .tab").filter({ hasText: title });
  }

  statusBarItem(text: string | RegExp): Locator {
    return this.page.locator(".part.statusbar .statusbar-item").filter({ hasText: text });
  }

  notification(text: string | RegExp): Locator {
    return this.page.locator(".notification-toast").filter({ hasText: text });
  }

  dialog(text: string | RegExp): Locator {
    return this.page.locator(".monaco-dialog-box").filter({ hasText: text });
  }

  /** Opens a view container by its title in the activity bar. */
  async openContainer(title: string): Promise<void> {
    const tab = this.page.locator(".activitybar").getByRole("tab", { name: title });
    if ((await tab.getAttribute("aria-selected")) !== "true") await tab.click();
  }

  /** The rows of a tree view of the open container. */
  treeRows(view: string): Locator {
    return this.page
      .locator(".part.sidebar .pane")
      .filter({ has: this.page.locator(".pane-header").filter({ hasText: view }) })
      .locator(".monaco-list-row");
  }

  /** The document of a shown webview whose <title> matches. */
  async frame(title: string | RegExp, timeoutMs = patienceMs): Promise<Frame> {
    return until(`a webview titled ${title}`, () => this.findFrame(title), timeoutMs);
  }

  async findFrame(title: string | RegExp): Promise<Frame | null> {
    for (const frame of this.page.frames()) {
      if (!frame.parentFrame()?.url().includes("/webview/browser/pre/")) continue;
      const found = await frame.title().catch(() => null);
      if (found !== null && (typeof title === "string" ? found === title : title.test(found))) return frame;
    }
    return null;
  }

  /** Reports of the content security policy that come from a webview's document, not from VS Code's own page. */
  policyViolations(): ConsoleLine[] {
    return this.console.filter(
      ({ text, source }) => /Content Security Policy/i.test(text) && /fake\.html|vscode-resource|vscode-cdn|webview/.test(source + text),
    );
  }

  /** Writes .artifacts/NAME.png, without what is caught half drawn. */
  async screenshot(name: string): Promise<string> {
    mkdirSync(artifacts, { recursive: true });
    const file = path.join(artifacts, `${name}.png`);
    await this.page.screenshot({ path: file, animations: "disabled" });
    return file;
  }
}

/** Runs in the page: whether what the workbench has saved of this workspace holds the text. */
async function savedStateHolds(text: string): Promise<boolean> {
  for (const { name } of await indexedDB.databases()) {
    if (!name?.startsWith("vscode-web-state-db") || name.includes("global")) continue;
    const held = await new Promise<boolean>((resolve) => {
      const opening = indexedDB.open(name);
      opening.onerror = () => resolve(false);
      opening.onsuccess = () => {
        const database = opening.result;
        const reading = database.transaction("ItemTable").objectStore("ItemTable").getAll();
        reading.onerror = () => resolve(false);
        reading.onsuccess = () => {
          database.close();
          resolve(JSON.stringify(reading.result).includes(text));
        };
      };
    });
    if (held) return true;
  }
  return false;
}
