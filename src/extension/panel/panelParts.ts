/** What the training panels are made of, given by the extension's entry. Types only. */
import type * as vscode from "vscode";
import type { BlockPlace } from "../../protocol/coreProtocol.ts";
import type { PanelAction } from "../../protocol/panelProtocol.ts";
import type { RunSession } from "../runs/runSession.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import type { ServiceClient } from "../service/serviceClient.ts";

/** What a panel shows: a started run, or a run file that is still a draft. */
export interface PanelTarget {
  runFolder: string | null;
  runFile: vscode.Uri | null;
}

export interface PanelParts {
  context: vscode.ExtensionContext;
  runs: RunSessions;
  service: ServiceClient;
  log: vscode.LogOutputChannel;
  /** Attaches to the runs that live in this window. */
  attach(): Promise<void>;
  /** Does what a button of the panel says; the same as the command of the palette. */
  perform(action: PanelAction, target: PanelTarget): Promise<void>;
  inspect(session: RunSession, block: BlockPlace): Promise<void>;
}
