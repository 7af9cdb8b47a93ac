/**
 * Doctor: what of this machine is used and what is not, as a text to read and copy. The findings are the core's own; which Node runs it is found out here.
 * The rule to keep: each "not usable" says what was looked at, what came back, and one thing to do.
 */
import * as vscode from "vscode";
import type { ServiceResults } from "../../protocol/serviceProtocol.ts";
import { commandId } from "../contributions.ts";
import { toFailure } from "../failures.ts";
import { type Finding, inLanguage } from "./findingTexts.ts";
import type { Handlers, ShellParts } from "./shellParts.ts";
import { missingRuntime, runtimeFix, runtimeText } from "./whichRuntime.ts";

export function doctorCommand(parts: ShellParts): Handlers<"doctor"> {
  return {
    doctor: async () => {
      const options = { location: vscode.ProgressLocation.Window, title: vscode.l10n.t("Looking at this machine") };
      const { healthy, findings } = await vscode.window.withProgress(options, () => examine(parts));
      const title = vscode.l10n.t("Doctor");
      await parts.documents.show(parts.documents.set(`${title}.md`, doctorText(healthy, findings)));
      void offerFix(parts);
      return { healthy, findings };
    },
  };
}

/** All findings; without a usable Node only why there is none, because everything else needs it. */
export async function examine({ program, service, context }: Pick<ShellParts, "program" | "service" | "context">): Promise<ServiceResults["doctor"]> {
  const probe = vscode.l10n.t("the setting sparseTuner.nodePath, the PATH, an installed runtime, and the editor's own Node");
  const subject = "node";
  try {
    const used = await program();
    const folder = vscode.workspace.workspaceFolders?.find(({ uri }) => uri.scheme === "file")?.uri ?? context.globalStorageUri;
    await vscode.workspace.fs.createDirectory(folder);
    const { healthy, findings } = await service.request("doctor", { folder: folder.fsPath });
    const result = runtimeText(used);
    // The core names its version; which Node it is, and why, only this side knows.
    const own = findings.find((finding) => finding.subject === subject);
    const fix = used.kind === "electron" ? runtimeFix() : (own?.fix ?? null);
    const runtime = { usable: true, ...own, fix, subject, probe, result: own ? `${own.result}: ${result}` : result };
    return { healthy, findings: [runtime, ...findings.filter((finding) => finding !== own)] };
  } catch (error) {
    const { message, action } = toFailure(error);
    return { healthy: false, findings: [{ subject, usable: false, probe, result: message, fix: action }] };
  }
}

/** The one fix that a button can do. */
async function offerFix(parts: ShellParts): Promise<void> {
  if (!(await missingRuntime(parts))) return;
  const install = vscode.l10n.t("Install Runtime");
  const chosen = await vscode.window.showInformationMessage(vscode.l10n.t("No Node.js 20 or newer was found on this machine."), install);
  if (chosen) await vscode.commands.executeCommand(commandId("installRuntime"));
}

export function doctorText(healthy: boolean, findings: readonly Finding[]): string {
  const head = healthy ? vscode.l10n.t("A run can start on this machine.") : vscode.l10n.t("A run cannot start on this machine yet.");
  return `${[`# ${vscode.l10n.t("Doctor")}`, head, ...findings.map(inLanguage).map(findingText)].join("\n\n")}\n`;
}

function findingText({ subject, usable, probe, result, fix }: Finding): string {
  const state = usable ? vscode.l10n.t("ok") : vscode.l10n.t("not usable");
  const lines = [`## ${subject}: ${state}`, "", result];
  if (!usable) lines.push("", vscode.l10n.t("- Probed: {0}", probe));
  if (fix) lines.push(...(usable ? [""] : []), vscode.l10n.t("- Fix: {0}", fix));
  return lines.join("\n");
}
