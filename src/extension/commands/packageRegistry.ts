/**
 * Where packages are fetched from, by this window's settings: the registry's address, asked for once, and the proxy that leads there.
 * The rule to keep: Sparse Tuner names no registry of its own.
 */
import * as vscode from "vscode";
import type { ProxySettings } from "../../install/proxy.ts";

/** The registry that the settings name; empty when they name none. */
export function setRegistry(): string {
  return vscode.workspace.getConfiguration("sparseTuner").get("registry", "");
}

/** What an address looks like; a host of that name there can never be. */
const example = "https://registry.example.org/";

/** The registry's address; what is answered once stands in the settings. `what` is fetched from there. Undefined when nothing was answered. */
export async function askRegistry(title: string, what: string): Promise<string | undefined> {
  const whereFound = vscode.l10n.t(
    "Where npm is installed, `npm config get registry` prints an address; a company may have a mirror of its own; the public registry's stands in npm's documentation.",
  );
  const registry = await vscode.window.showInputBox({
    title,
    prompt: `${what} ${whereFound}`,
    placeHolder: vscode.l10n.t("For example {0}", example),
    ignoreFocusOut: true,
    validateInput: (text) => (/^https?:\/\/\S+$/.test(text.trim()) ? null : vscode.l10n.t("An address that begins with https://")),
  });
  if (registry) await vscode.workspace.getConfiguration("sparseTuner").update("registry", registry.trim(), vscode.ConfigurationTarget.Global);
  return registry?.trim();
}

/** The editor's own proxy settings. */
export function proxySettings(): ProxySettings {
  const http = vscode.workspace.getConfiguration("http");
  return {
    proxy: http.get("proxy", ""),
    off: http.get("proxySupport") === "off",
    noProxy: http.get<string[]>("noProxy", []),
    authorization: http.get<string | null>("proxyAuthorization", null),
    strictSSL: http.get("proxyStrictSSL", true),
  };
}
