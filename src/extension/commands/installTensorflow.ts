/**
 * Install TensorFlow GPU Engine: says what it takes and asks, shows how far it is, and what the device computes on from then on. How it is installed is
 * src/install's business.
 * The rule to keep: nothing is fetched that was not asked for in this window, nor for another Node than the one that will load it.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import * as vscode from "vscode";
import { engineFolderVariable, engineIn } from "../../install/engineFolder.ts";
import { enginePackage, engineVersion } from "../../install/engineLock.ts";
import { type EngineProgress, type InstalledEngine, installTensorflow } from "../../install/installTensorflow.ts";
import { findNpm } from "../../install/npmProgram.ts";
import { UserError } from "../../protocol/userError.ts";
import { formatBytes } from "./format.ts";
import { askRegistry, proxySettings, setRegistry } from "./packageRegistry.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";

/** Where it is kept: of the user, outside of every workspace. */
export function engineFolder(context: vscode.ExtensionContext): string {
  return path.join(context.globalStorageUri.fsPath, "tensorflow");
}

/** What a core is to be started with so that it finds the installed engine; nothing where there is none, or the environment names another. */
export function engineVariables(context: vscode.ExtensionContext): Record<string, string> {
  const folder = engineIn(engineFolder(context));
  return process.env[engineFolderVariable] || !existsSync(folder) ? {} : { [engineFolderVariable]: folder };
}

/** `refresh` reads the views anew; tests give another `install`. The command returns what was installed, null when nothing was. */
export function installTensorflowCommand(
  parts: ShellParts,
  refresh: () => Promise<void>,
  install: typeof installTensorflow = installTensorflow,
): Handlers<"installTensorflow"> {
  return {
    installTensorflow: async () => {
      const node = await plainNode(parts);
      const workspaceFolders = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
      const npm = findNpm({ node, workspaceFolders });
      if (!(await agreed(npm !== null))) return null;
      const title = vscode.l10n.t("Install TensorFlow GPU Engine");
      const prompt = vscode.l10n.t("Address of the npm package registry to fetch TensorFlow for Node.js from. Packages are checked by their hashes.");
      const registry = setRegistry() || (npm ? null : await askRegistry(title, prompt));
      if (registry === undefined) return null;
      // A library that a process of ours has loaded cannot be replaced everywhere.
      await parts.service.renew();
      const installed = await inNotification(parts, install, { node, npm, registry });
      await parts.service.renew();
      void refresh();
      void vscode.window.showInformationMessage(doneText(installed));
      return installed;
    },
  };
}

/** The binding is fetched for the Node that will load it; the editor's own is none that it can be fetched for. */
async function plainNode({ program }: ShellParts): Promise<string> {
  const { node, kind } = await program();
  if (kind !== "electron") return node;
  throw new UserError(
    "node/not-found",
    vscode.l10n.t("TensorFlow's engine needs a Node.js 20 or newer; on this machine there is only the editor itself."),
    vscode.l10n.t("Give the command Install Runtime first."),
  );
}

async function agreed(withNpm: boolean): Promise<boolean> {
  const detail = [
    vscode.l10n.t("About 0.5 GB is fetched, and 2 GB are written into this extension's storage."),
    withNpm
      ? vscode.l10n.t("The packages come by your npm and are checked by their hashes.")
      : vscode.l10n.t("No npm was found: the packages are fetched without it and checked by their hashes."),
    vscode.l10n.t("libtensorflow comes by the package's own install script, which checks no hash."),
    vscode.l10n.t("It uses a graphics card with CUDA 11.2 and cuDNN 8.1 on Linux and Windows, else the processor. A weight takes 4 bytes."),
    vscode.l10n.t("This download has not been proved on any machine yet."),
  ];
  const install = vscode.l10n.t("Install");
  const question = vscode.l10n.t("Install {0} {1}?", enginePackage, engineVersion);
  return (await vscode.window.showInformationMessage(question, { modal: true, detail: detail.join("\n\n") }, install)) === install;
}

type Source = Pick<Parameters<typeof installTensorflow>[0], "node" | "npm" | "registry">;

/** Installs in a notification with Cancel; what npm and the package's script say goes to the log. */
async function inNotification({ context, log }: ShellParts, install: typeof installTensorflow, source: Source): Promise<InstalledEngine> {
  const title = vscode.l10n.t("Installing TensorFlow {0}", engineVersion);
  const options = { location: vscode.ProgressLocation.Notification, title, cancellable: true };
  return vscode.window.withProgress(options, async (progress, token) => {
    const controller = new AbortController();
    token.onCancellationRequested(() => controller.abort());
    const installed = await install({
      ...source,
      folder: engineFolder(context),
      proxy: proxySettings(),
      signal: controller.signal,
      onProgress: (now) => progress.report({ message: progressText(now) }),
      onLine: (line) => log.info(`install: ${line}`),
    });
    log.info(`Installed ${enginePackage} ${installed.version}: ${installed.folder}`);
    return installed;
  });
}

function progressText({ phase, done, total }: EngineProgress): string {
  if (phase === "packages") return vscode.l10n.t("packages: {0} of {1}", done, total ?? 0);
  return phase === "library" ? vscode.l10n.t("libtensorflow: {0}", formatBytes(done)) : vscode.l10n.t("trying it");
}

function doneText({ version, onCard }: InstalledEngine): string {
  return onCard
    ? vscode.l10n.t("TensorFlow {0} is ready and computes on the graphics card.", version)
    : vscode.l10n.t("TensorFlow {0} is ready and computes on the processor: it found no graphics card that it can use.", version);
}
