/**
 * Run Demo: copies the bundled model, data and run file into the extension's storage and starts the run. Nothing is fetched.
 * The rule to keep: what a person changed in their copy of the run file stays; model and data are the bundled ones.
 */
import { constants, copyFile, mkdir, readdir, rename, stat } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import { startRunFile } from "./runControl.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { requireTrust } from "./trust.ts";

const runFile = "demo.sparse-tuner.yaml";

export function demoCommand(parts: ShellParts): Handlers<"runDemo"> {
  return {
    runDemo: async () => {
      requireTrust();
      const { context } = parts;
      const folder = path.join(context.globalStorageUri.fsPath, "demo");
      await copyMissing(path.join(context.extensionPath, "media", "demo"), folder);
      return startRunFile(parts, vscode.Uri.file(path.join(folder, runFile)));
    },
  };
}

/** Copies a folder's files unless a file of that size is there: a demo that is running reads them. The run file is only copied once. */
async function copyMissing(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [path.join(from, entry.name), path.join(to, entry.name)];
    if (entry.isDirectory()) await copyMissing(source, target);
    else if (!(await isCopied(source, target))) await copyWhole(source, target);
  }
}

async function isCopied(source: string, target: string): Promise<boolean> {
  const there = await stat(target).catch(() => null);
  if (!there) return false;
  return path.basename(target) === runFile || there.size === (await stat(source)).size;
}

/** A copy that was cut off must not be taken for the file. */
async function copyWhole(source: string, target: string): Promise<void> {
  const part = `${target}.part-${process.pid}`;
  await copyFile(source, part, constants.COPYFILE_FICLONE);
  await rename(part, target);
}
