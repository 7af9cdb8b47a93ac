/** Restricted Mode: a folder that is not trusted may be looked at; nothing of it is started or attached to. */
import * as vscode from "vscode";
import { UserError } from "../../protocol/userError.ts";

/** Throws UserError `trust/restricted`, whose button leads to the workspace's trust. */
export function requireTrust(): void {
  if (vscode.workspace.isTrusted) return;
  throw new UserError(
    "trust/restricted",
    vscode.l10n.t("Restricted Mode: runs of this folder can be inspected, but not started, resumed or commanded."),
    vscode.l10n.t("Trust the workspace if you know where it comes from."),
  );
}
