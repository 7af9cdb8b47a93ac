/** What commands and views are made of, given by the extension's entry. Types only. */
import type * as vscode from "vscode";
import type { Failure, PanelAction } from "../../protocol/panelProtocol.ts";
import type { ComparePanels } from "../compare/comparePanels.ts";
import type { Comparisons } from "../compare/comparisons.ts";
import type { CommandName } from "../contributions.ts";
import type { BlockInspectors } from "../inspector/blockInspector.ts";
import type { Log } from "../log.ts";
import type { PanelTarget } from "../panel/panelParts.ts";
import type { TrainingPanels } from "../panel/trainingPanels.ts";
import type { RunSessions } from "../runs/runSessions.ts";
import type { ServiceClient } from "../service/serviceClient.ts";
import type { CoreProgram } from "../startCore.ts";
import type { KnownRuns } from "./knownRuns.ts";
import type { ResultDocuments } from "./resultDocuments.ts";
import type { Targets } from "./targets.ts";

export interface ShellParts {
  context: vscode.ExtensionContext;
  log: Log;
  runs: RunSessions;
  service: ServiceClient;
  panels: TrainingPanels;
  inspectors: BlockInspectors;
  compare: ComparePanels;
  /** Comparisons of this window. */
  comparisons: Comparisons;
  /** Runs and run files of this window. */
  known: KnownRuns;
  targets: Targets;
  documents: ResultDocuments;
  /** Node and core.js, looked for at each call. */
  program(): Promise<CoreProgram>;
  perform(action: PanelAction, target: PanelTarget): Promise<void>;
  /** Shows a failure with its buttons. */
  fail(failure: Failure, target: PanelTarget): Promise<void>;
}

/**
 * What a command does. Its argument comes from a menu, a button or another extension, and is looked at before it is believed; `all` are the rows that are
 * selected in a view, where the menu was theirs.
 */
export type Handler = (argument?: unknown, all?: unknown) => Promise<unknown>;
export type Handlers<Names extends CommandName> = Record<Names, Handler>;
