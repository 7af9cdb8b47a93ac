/**
 * Install Runtime: asks whether Node is fetched or chosen by hand, shows how far it is, and says what runs the core from then on; and the offer of it before a
 * start on a machine that has no plain Node. How it is installed is runtime/installRuntime.ts' business.
 * The rule to keep: nothing is fetched that was not asked for in this window.
 */
import { open } from "node:fs/promises";
import path from "node:path";
import * as vscode from "vscode";
import type { PackageSource } from "../../install/verifiedPackage.ts";
import { UserError } from "../../protocol/userError.ts";
import { commandId } from "../contributions.ts";
import { type InstallProgress, installRuntime } from "../runtime/installRuntime.ts";
import { type RuntimePackage, runtimePackageFor } from "../runtime/runtimePackages.ts";
import { nodeProblem } from "../startCore.ts";
import { formatBytes } from "./format.ts";
import { askRegistry, proxySettings, setRegistry } from "./packageRegistry.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { foundText, missingRuntime, runtimeText } from "./whichRuntime.ts";

const choices = ["download", "chooseFile"] as const;
/** What the command may be given as its argument; without it, it asks. */
export type RuntimeChoice = (typeof choices)[number];

/** Where runtimes are kept: of the user, outside of every workspace. */
export function runtimeFolder(context: vscode.ExtensionContext): string {
  return path.join(context.globalStorageUri.fsPath, "runtime");
}

/** `refresh` reads the views anew. The command returns the program that was installed or chosen, null when nothing was. */
export function installRuntimeCommand(parts: ShellParts, refresh: () => Promise<void>): Handlers<"installRuntime"> {
  return {
    installRuntime: async (argument) => {
      const choice = choices.find((known) => known === argument) ?? (await ask(parts));
      if (!choice) return null;
      const node = choice === "download" ? await download(parts) : await chooseFile(parts);
      if (node === null) return null;
      await parts.service.renew();
      void refresh();
      void tell(parts, node);
      return node;
    },
  };
}

async function ask(parts: ShellParts): Promise<RuntimeChoice | null> {
  const pinned = runtimePackageFor();
  const used = await parts.program().then(runtimeText, (error: Error) => error.message);
  const fetched = pinned && {
    label: vscode.l10n.t("Download Node.js {0}", pinned.version),
    description: vscode.l10n.t("about 50 MB, once"),
    detail: vscode.l10n.t("From an npm package registry, checked by its hash"),
    choice: "download" as const,
  };
  const byHand = {
    label: vscode.l10n.t("Choose a File…"),
    description: "",
    detail: pinned
      ? vscode.l10n.t("The program of a Node.js 20 or newer, or the package {0} that you fetched yourself", `${pinned.name}-${pinned.version}.tgz`)
      : vscode.l10n.t("The program of a Node.js 20 or newer"),
    choice: "chooseFile" as const,
  };
  const options = { title: vscode.l10n.t("Install Runtime"), placeHolder: vscode.l10n.t("Used now: {0}", used), ignoreFocusOut: true };
  return (await vscode.window.showQuickPick(fetched ? [fetched, byHand] : [byHand], options))?.choice ?? null;
}

async function download(parts: ShellParts): Promise<string | null> {
  const prompt = vscode.l10n.t("Address of the npm package registry to fetch Node.js from. What it sends is checked by its hash.");
  const registry = setRegistry() || (await askRegistry(vscode.l10n.t("Install Runtime"), prompt));
  return registry ? fetchRuntime(parts, { kind: "registry", registry, proxy: proxySettings() }) : null;
}

/** Installs in a notification with Cancel. Null on a platform that no package is built for. */
async function fetchRuntime({ context, log }: ShellParts, source: PackageSource): Promise<string | null> {
  const pinned = runtimePackageFor();
  if (!pinned) return null;
  const title = vscode.l10n.t("Installing Node.js {0}", pinned.version);
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  return vscode.window.withProgress(options, async (progress, token) => {
    const controller = new AbortController();
    token.onCancellationRequested(() => controller.abort());
    let percent = -1;
    const onProgress = (now: InstallProgress) => {
      const reached = percentOf(now);
      if (reached === percent && now.phase !== "try") return;
      progress.report({ increment: reached - Math.max(0, percent), message: progressText(now) });
      percent = reached;
    };
    const node = await installRuntime({ folder: runtimeFolder(context), pinned, source, signal: controller.signal, onProgress });
    log.info(`Installed ${pinned.name} ${pinned.version}: ${node}`);
    return node;
  });
}

/** Of the whole; the download is most of it. */
function percentOf({ phase, doneBytes, totalBytes }: InstallProgress): number {
  const share = totalBytes ? Math.min(1, doneBytes / totalBytes) : 0;
  return phase === "download" ? Math.floor(80 * share) : phase === "unpack" ? 80 + Math.floor(18 * share) : 98;
}

function progressText({ phase, doneBytes, totalBytes }: InstallProgress): string {
  if (phase === "unpack") return vscode.l10n.t("unpacking");
  if (phase === "try") return vscode.l10n.t("trying it");
  return totalBytes ? vscode.l10n.t("{0} of {1}", formatBytes(doneBytes), formatBytes(totalBytes)) : formatBytes(doneBytes);
}

/** A packed file is installed; a program is used where it is, and named in the settings. */
async function chooseFile(parts: ShellParts): Promise<string | null> {
  const options = { title: vscode.l10n.t("Choose Node.js, or its Package"), openLabel: vscode.l10n.t("Use"), canSelectMany: false };
  const file = (await vscode.window.showOpenDialog(options))?.[0]?.fsPath;
  if (!file) return null;
  const pinned: RuntimePackage | null = runtimePackageFor();
  if (pinned && (await isPacked(file))) return fetchRuntime(parts, { kind: "file", file });
  const workspaceFolders = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
  const problem = await nodeProblem(file, workspaceFolders);
  if (problem !== null)
    throw new UserError(
      "node/not-usable",
      vscode.l10n.t("{0} cannot run the core: {1}.", file, problem),
      vscode.l10n.t("Choose the program of a Node.js 20 or newer."),
    );
  await vscode.workspace.getConfiguration("sparseTuner").update("nodePath", file, vscode.ConfigurationTarget.Global);
  return file;
}

/** By its first bytes: gzip's. What cannot be read is no Node either, which is said then. */
async function isPacked(file: string): Promise<boolean> {
  const handle = await open(file).catch(() => null);
  if (!handle) return false;
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(2), 0, 2, 0);
    return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
  } finally {
    await handle.close();
  }
}

async function tell(parts: ShellParts, node: string): Promise<void> {
  const used = await parts.program().catch(() => null);
  const text =
    used?.node === node || !used
      ? vscode.l10n.t("Runs that start from now on use {0}.", node)
      : vscode.l10n.t("{0} is ready, but {1} comes before it ({2}).", node, used.node, foundText(used.kind));
  await vscode.window.showInformationMessage(text);
}

/** Who chose the editor itself is not asked again in this window. */
let editorChosen = false;

/** Before a run starts: without a plain Node, offers to install one. Throws a CancellationError when the person wants nothing of it and no run. */
export async function offerRuntime(parts: ShellParts): Promise<void> {
  const missing = await missingRuntime(parts);
  if (!missing || (missing.editorCanTrain && editorChosen)) return;
  const fetch = runtimePackageFor() && vscode.l10n.t("Install Runtime");
  const byHand = vscode.l10n.t("Choose a File…");
  const editor = missing.editorCanTrain ? vscode.l10n.t("Train on the CPU") : null;
  const detail = missing.editorCanTrain
    ? vscode.l10n.t(
        "With a runtime of its own (about 50 MB, once) Sparse Tuner can use the graphics card. The editor itself trains on the processor only.",
      )
    : vscode.l10n.t("Sparse Tuner trains with a runtime of its own (about 50 MB, once), or with a Node.js that you choose.");
  const chosen = await vscode.window.showWarningMessage(
    vscode.l10n.t("No Node.js 20 or newer was found on this machine."),
    { modal: true, detail: [detail, missing.why].filter(Boolean).join("\n\n") },
    ...[fetch, byHand, editor].filter((button) => button !== null),
  );
  if (chosen === undefined) throw new vscode.CancellationError();
  if (chosen === editor) {
    editorChosen = true;
    return;
  }
  const choice: RuntimeChoice = chosen === byHand ? "chooseFile" : "download";
  // The command shows itself what went wrong; a run is not started over that.
  if (!(await vscode.commands.executeCommand(commandId("installRuntime"), choice))) throw new vscode.CancellationError();
}
