/**
 * Opens the packaged extension with a demo workspace in the web workbench and prints the address, until Ctrl-C. `--newest` takes the newest VS Code instead
 * of the oldest supported. Everything lies in a temporary folder, which goes at the end, with the runs in it. No test; code.mjs starts it.
 */
import { cp } from "node:fs/promises";
import path from "node:path";
import { build } from "../../build.mjs";
import { type Release, releases, vscodeServer } from "./server.ts";
import { sharedVsix } from "./vsix.ts";
import { Workbench } from "./workbench.ts";

async function main(): Promise<void> {
  const release: Release = process.argv.includes("--newest") ? "newest" : "floor";
  await build();
  const server = await vscodeServer(release);
  const demo = path.resolve(import.meta.dirname, "../../media/demo");
  const workspace = { name: "demo", fill: (folder: string) => cp(demo, folder, { recursive: true }) };
  const settings = { "workbench.colorTheme": "Default Dark Modern", "workbench.reduceMotion": "auto" };
  const workbench = new Workbench({ vsix: [await sharedVsix()], workspace, settings }, server);
  workbench.releaseSignals();
  const asked = new Promise<void>((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, () => resolve());
  });
  try {
    await Promise.race([workbench.start(), asked]);
    if (workbench.port) {
      console.log(`VS Code ${releases[release].vscode} with Sparse Tuner: ${workbench.url()}`);
      console.log(`Open it in a browser. Ctrl-C ends it, with its runs, and removes ${workbench.home}.`);
    }
    await asked;
  } finally {
    await workbench.close();
  }
  console.log("\nEnded.");
}

try {
  await main();
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
