/**
 * The real VS Code for tests: starts the VS Code server on a free port of 127.0.0.1 with a home folder of its own, installs a packaged extension into it and
 * opens windows of its web workbench in Chromium. What a window can do is in window.ts. Two of these at once, or left-overs of a killed one, do not meet.
 * The rule to keep: everything that was started under the home folder is ended by close(), also when the test process dies; nothing of the user's is touched.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { cp } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Browser, type BrowserContext, chromium } from "playwright-core";
import { browserArguments, findBrowser } from "./browser.ts";
import { languagePack } from "./languagePack.ts";
import { recordMessages } from "./panelReading.ts";
import { extensionHosts, killProcessesOf, signalGroup } from "./processes.ts";
import { type Release, type Server, vscodeServer } from "./server.ts";
import { WorkbenchWindow } from "./window.ts";

export const themes = {
  dark: "Default Dark Modern",
  light: "Default Light Modern",
  "hc-black": "Default High Contrast",
  "hc-light": "Default High Contrast Light",
};
export type Theme = keyof typeof themes;

export interface WorkbenchOptions {
  /** Packaged extensions to install. */
  vsix?: string[];
  release?: Release;
  /** The opened folder's name below the home folder, and what fills it. Null: an empty window. */
  workspace?: { copyOf?: string; name?: string; fill?: (folder: string) => void | Promise<void> } | null;
  settings?: Record<string, unknown>;
  /** The core runs on the Node of the extension host, whatever is on the PATH. */
  coreOnServersNode?: boolean;
  env?: Record<string, string>;
  /** False: Restricted Mode. */
  trusted?: boolean;
  theme?: Theme;
  language?: "zh-cn";
  viewport?: { width: number; height: number };
  /** Cores keep every heatmap frame they make, and panels what they are sent; see panelReading.ts. */
  recordFrames?: boolean;
  /** Lets the page know of an extension under development and of tests to run in its host. */
  development?: { extension: string; tests: string };
}

/** A quiet workbench: no welcome, no hints, no look-ups, nothing that moves. */
const quietSettings = {
  "workbench.startupEditor": "none",
  "workbench.enableExperiments": false,
  "workbench.tips.enabled": false,
  "workbench.reduceMotion": "on",
  "workbench.secondarySideBar.defaultVisibility": "hidden",
  "workbench.welcomePage.walkthroughs.openOnInstall": false,
  "telemetry.telemetryLevel": "off",
  "extensions.autoUpdate": false,
  "extensions.autoCheckUpdates": false,
  "extensions.ignoreRecommendations": true,
  "chat.disableAIFeatures": true,
  "chat.commandCenter.enabled": false,
  "git.enabled": false,
  "window.autoDetectColorScheme": false,
};

/** What must not reach the server from a test runner, npm or an outer VS Code. */
const notInherited = /^(VSCODE_|ELECTRON_|NODE_|npm_|INIT_CWD$|XDG_|(https?|all|no)_proxy$)/i;
const startMs = 60_000;

/** A running server with its browser. */
export class Workbench {
  readonly home: string;
  /** Absolute path of the opened folder; null for an empty window. */
  readonly workspace: string | null;
  readonly windows: WorkbenchWindow[] = [];
  readonly env: NodeJS.ProcessEnv;
  port = 0;
  #options: WorkbenchOptions;
  #server: Server;
  #process: ChildProcess | null = null;
  #browser: Browser | null = null;
  #context: BrowserContext | null = null;
  #onExit = () => this.#killNow();
  // An exit by signal would not run the exit listeners.
  #onSignal = () => process.exit(130);

  constructor(options: WorkbenchOptions, server: Server) {
    this.#options = options;
    this.#server = server;
    // Short, since sockets lie in it; macOS's own temporary folder is not.
    const base = process.platform === "darwin" ? "/tmp" : os.tmpdir();
    this.home = realpathSync(mkdtempSync(path.join(base, "wb-")));
    this.workspace = options.workspace === null ? null : path.join(this.home, options.workspace?.name ?? "workspace");
    this.env = this.#environment();
    process.once("exit", this.#onExit);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, this.#onSignal);
  }

  /** Leaves signals to the caller, who then calls close(). */
  releaseSignals(): void {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, this.#onSignal);
  }

  /** The Node that runs the server and the extension hosts. */
  get node(): string {
    return this.#server.node;
  }

  get serverPid(): number {
    return this.#process?.pid ?? 0;
  }

  /** Where a window's workspace state, settings and logs lie. */
  get dataFolder(): string {
    return path.join(this.home, "server/data");
  }

  /** Global storage of the extension in this workbench. */
  globalStorage(extension: string): string {
    return path.join(this.dataFolder, "User/globalStorage", extension);
  }

  #environment(): NodeJS.ProcessEnv {
    const inherited = Object.fromEntries(Object.entries(process.env).filter(([name]) => !notInherited.test(name)));
    const folders = (process.env.PATH ?? "").split(path.delimiter).filter((folder) => !folder.includes("node_modules"));
    return {
      ...inherited,
      HOME: path.join(this.home, "home"),
      // Unix sockets have short names.
      TMPDIR: path.join(this.home, "t"),
      XDG_STATE_HOME: path.join(this.home, "state"),
      PATH: [path.dirname(this.#server.node), ...folders].join(path.delimiter),
      // No marketplace is asked for anything.
      EXTENSIONS_GALLERY: "{}",
      ...(this.#options.recordFrames ? { SPARSE_TUNER_RECORD_FRAMES: "1" } : {}),
      ...this.#options.env,
    };
  }

  async start(): Promise<void> {
    for (const folder of ["home", "t", "state", "extensions", "server/data/User", "server/data/Machine"])
      mkdirSync(path.join(this.home, folder), { recursive: true, mode: 0o700 });
    this.#writeSettings();
    if (this.workspace) await this.#fillWorkspace(this.workspace);
    if (this.#options.language) languagePack(this.dataFolder, this.#options.language);
    for (const vsix of this.#options.vsix ?? []) await finished(this.#spawn(["--install-extension", path.resolve(vsix), "--force"]));
    const { trusted = true, language, development } = this.#options;
    this.#process = this.#spawn([
      ...["--host", "127.0.0.1", "--port", "0", "--without-connection-token", "--telemetry-level", "off"],
      ...["--disable-getting-started-override", "--disable-update-check"],
      ...(trusted ? ["--disable-workspace-trust"] : []),
      ...(language ? ["--locale", language] : []),
      // Newer workbenches heed the extension under development only so.
      ...(development ? ["--enable-smoke-test-driver"] : []),
    ]);
    this.port = await listeningPort(this.#process);
  }

  #writeSettings(): void {
    const { theme = "dark", settings, coreOnServersNode } = this.#options;
    const node = coreOnServersNode ? { "sparseTuner.nodePath": this.#server.node } : {};
    const all = { ...quietSettings, ...node, "workbench.colorTheme": themes[theme], "security.workspace.trust.startupPrompt": "never", ...settings };
    // Settings of machine scope count only where the server looks for those of its machine.
    for (const scope of ["User", "Machine"]) writeFileSync(path.join(this.dataFolder, scope, "settings.json"), JSON.stringify(all, null, 2));
  }

  async #fillWorkspace(folder: string): Promise<void> {
    const { copyOf, fill } = this.#options.workspace ?? {};
    mkdirSync(folder, { recursive: true });
    if (copyOf) await cp(copyOf, folder, { recursive: true });
    await fill?.(folder);
  }

  #spawn(options: string[]): ChildProcess {
    const folders = ["--server-data-dir", path.join(this.home, "server"), "--extensions-dir", path.join(this.home, "extensions")];
    return spawn(this.#server.node, [path.join(this.#server.root, "out/server-main.js"), ...folders, "--accept-server-license-terms", ...options], {
      cwd: this.home,
      env: this.env,
      // A process group of its own, which can be ended as one.
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** The address of a window on the workspace, on another folder or workspace file, or on none. */
  url(folder: string | null = this.workspace): string {
    const kind = folder?.endsWith(".code-workspace") ? "workspace" : "folder";
    const query = new URLSearchParams(folder === null ? { ew: "true" } : { [kind]: folder });
    const { development } = this.#options;
    if (development) {
      const remote = (file: string) => `vscode-remote://127.0.0.1:${this.port}${file}`;
      const pairs = [
        ["extensionDevelopmentPath", remote(development.extension)],
        ["extensionTestsPath", remote(development.tests)],
      ];
      query.set("payload", JSON.stringify(pairs));
    }
    return `http://127.0.0.1:${this.port}/?${query}`;
  }

  /** Opens a window and waits until its workbench is there. */
  async openWindow(folder: string | null = this.workspace): Promise<WorkbenchWindow> {
    const viewport = this.#options.viewport ?? { width: 1400, height: 900 };
    this.#browser ??= await chromium.launch({
      executablePath: findBrowser(),
      args: browserArguments,
      handleSIGINT: false,
      handleSIGTERM: false,
      handleSIGHUP: false,
    });
    this.#context ??= await this.#browser.newContext({ viewport, reducedMotion: "reduce", permissions: ["clipboard-read", "clipboard-write"] });
    if (this.#options.recordFrames && this.windows.length === 0) await recordMessages(this.#context);
    const window = new WorkbenchWindow(await this.#context.newPage(), this.url(folder));
    this.windows.push(window);
    await window.open();
    return window;
  }

  /** Process ids of the extension hosts, one a window, oldest first. */
  extensionHosts(): number[] {
    return extensionHosts(this.serverPid);
  }

  /** What the extension hosts and the extension's log channels wrote. */
  logs = (): string => {
    const base = path.join(this.dataFolder, "logs");
    if (!existsSync(base)) return "";
    const ours = /exthost[^/]*[/]([^/]*exthost\.log|sparse-tuner.*\.log)$/;
    const files = readdirSync(base, { recursive: true })
      .map(String)
      .filter((file) => ours.test(file.replaceAll(path.sep, "/")));
    return files.map((file) => `== ${file}\n${readFileSync(path.join(base, file), "utf8")}`).join("\n");
  };

  /** Closes the windows, ends the server and everything started under it, and removes the home folder. */
  async close(): Promise<void> {
    await this.#browser?.close().catch(() => {});
    const group = this.serverPid;
    for (const signal of ["SIGTERM", "SIGKILL"] as const) {
      if (!group || !signalGroup(group, signal)) break;
      for (let waited = 0; waited < 3000 && signalGroup(group, 0); waited += 50) await delay(50);
    }
    killProcessesOf(this.home);
    process.off("exit", this.#onExit);
    this.releaseSignals();
    rmSync(this.home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }

  #killNow(): void {
    if (this.serverPid) signalGroup(this.serverPid, "SIGKILL");
    killProcessesOf(this.home);
    rmSync(this.home, { recursive: true, force: true, maxRetries: 5 });
  }
}

export type OpenWorkbench = Workbench & { window: WorkbenchWindow };

/** Starts a workbench and opens its first window. */
export async function startWorkbench(options: WorkbenchOptions): Promise<OpenWorkbench> {
  findBrowser();
  const server = await vscodeServer(options.release ?? "floor");
  const workbench = new Workbench(options, server);
  try {
    await workbench.start();
    const window = await workbench.openWindow();
    return Object.assign(workbench, { window });
  } catch (error) {
    const logs = workbench.logs();
    await workbench.close();
    throw new Error(`${(error as Error).message}\n${logs}`, { cause: error });
  }
}

function listeningPort(server: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let said = "";
    const fail = (how: string) => reject(new Error(`The VS Code server ${how}:\n${said}`));
    const timer = setTimeout(() => fail(`did not listen within ${startMs / 1000} s`), startMs);
    const read = (chunk: Buffer) => {
      said += chunk;
      const found = /Extension host agent listening on (\d+)/.exec(said);
      if (!found) return;
      clearTimeout(timer);
      resolve(Number(found[1]));
    };
    server.stdout?.on("data", read);
    server.stderr?.on("data", read);
    server.once("exit", (code) => {
      clearTimeout(timer);
      fail(`ended with ${code}`);
    });
  });
}

function finished(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream?.on("data", (chunk) => (said += chunk));
    child.once("error", reject);
    child.once("close", (code) => (code === 0 ? resolve() : reject(new Error(`The VS Code server ended with ${code}:\n${said}`))));
  });
}
