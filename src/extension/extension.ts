/**
 * The extension's entry: builds the parts, ties them together, and attaches to runs that are alive. Each part is made once and disposed of with the window;
 * runs go on without it.
 * The rule to keep: activation reads the register of live runs and nothing else; folders, processes and models wait until somebody asks for them.
 */
import path from "node:path";
import * as vscode from "vscode";
import { runtimeFolder } from "./commands/installRuntime.ts";
import { engineVariables } from "./commands/installTensorflow.ts";
import { KnownRuns } from "./commands/knownRuns.ts";
import { commandHandlers, performAction, registerCommands } from "./commands/register.ts";
import { ResultDocuments } from "./commands/resultDocuments.ts";
import type { ShellParts } from "./commands/shellParts.ts";
import { Targets } from "./commands/targets.ts";
import { comparisonOutputs } from "./compare/compareCommands.ts";
import { registerCompareLanguage } from "./compare/compareLanguage.ts";
import { ComparePanels } from "./compare/comparePanels.ts";
import { ComparisonNotices } from "./compare/comparisonNotices.ts";
import { ComparisonStatus } from "./compare/comparisonStatus.ts";
import { Comparisons } from "./compare/comparisons.ts";
import { commandId } from "./contributions.ts";
import { registerTrainingPreview } from "./data/previewTrainingData.ts";
import { showFailure } from "./failures.ts";
import { BlockInspectors } from "./inspector/blockInspector.ts";
import { registerRunFileLanguage } from "./language/runFileLanguage.ts";
import { createLog } from "./log.ts";
import { Notifications } from "./notifications.ts";
import { TrainingPanels } from "./panel/trainingPanels.ts";
import { RunSessions } from "./runs/runSessions.ts";
import { installedRuntimes } from "./runtime/installRuntime.ts";
import { runtimePackageFor } from "./runtime/runtimePackages.ts";
import { ServiceClient } from "./service/serviceClient.ts";
import { type CoreProgram, coreProgram, findNode } from "./startCore.ts";
import { registerTensorFileEditor } from "./tensors/tensorFileEditor.ts";
import { followContext } from "./views/contextKeys.ts";
import { DevicesView } from "./views/devicesView.ts";
import { ModelsView } from "./views/modelsView.ts";
import { RunsView } from "./views/runsView.ts";
import { StatusBar } from "./views/statusBar.ts";

/** For tests inside the extension host, and for other extensions that want to follow runs. */
export interface SparseTunerApi {
  runs: RunSessions;
}

export function activate(context: vscode.ExtensionContext): SparseTunerApi {
  const parts = createParts(context);
  const { runs, known, panels, comparisons, log } = parts;
  const views = { runs: new RunsView(parts), models: new ModelsView(parts), devices: new DevicesView(parts) };
  const refresh = async () => {
    await known.refresh();
    await comparisons.folders({ anew: true });
    views.models.refresh();
    views.devices.refresh();
  };
  context.subscriptions.push(
    log,
    ...Object.values(views),
    registerCommands(commandHandlers(parts, refresh), parts),
    new StatusBar(runs),
    new Notifications(parts),
    new ComparisonStatus(comparisons),
    new ComparisonNotices(parts),
    followContext(known, runs),
    registerRunFileLanguage(),
    registerCompareLanguage(),
    registerTensorFileEditor(parts),
    registerTrainingPreview(parts),
    vscode.workspace.onDidChangeConfiguration((change) => change.affectsConfiguration("sparseTuner.keepRunning") && void runs.keepRunningChanged()),
    vscode.workspace.onDidGrantWorkspaceTrust(() => attach(parts)),
    vscode.workspace.onDidChangeWorkspaceFolders(() => attach(parts)),
    // Another window, or a script, may have started a run here.
    vscode.window.onDidChangeWindowState(({ focused }) => focused && attach(parts)),
    panels,
    parts.compare,
    comparisons,
    known,
    parts.documents,
    runs,
    parts.service,
  );
  // Not waited for: VS Code restores no panel before this has returned.
  void attach(parts);
  return { runs };
}

/** Runs do not need a goodbye: they belong to their folders. */
export function deactivate(): void {}

function createParts(context: vscode.ExtensionContext): ShellParts {
  const log = createLog();
  const program = () => findProgram(context);
  const service = new ServiceClient({ program, log: (line) => log.info(line) });
  const runs = new RunSessions({
    program,
    service,
    isTrusted: () => vscode.workspace.isTrusted,
    keepRunning: () => vscode.workspace.getConfiguration("sparseTuner").get("keepRunning", true),
    log: (line) => log.info(line),
    recordFrames: () => process.env.SPARSE_TUNER_RECORD_FRAMES === "1",
  });
  const known = new KnownRuns(runs, context.globalStorageUri);
  const inspectors = new BlockInspectors({ context, log });
  const perform: ShellParts["perform"] = (action, target) => performAction(parts, action, target);
  const panels = new TrainingPanels({
    context,
    runs,
    service,
    log,
    attach: () => attach(parts),
    perform,
    inspect: (session, block) => inspectors.open(session, block),
  });
  known.follow(panels);
  const lead = async (action: "chooseRuns" | "newComparison") =>
    void (await vscode.commands.executeCommand(commandId(action === "chooseRuns" ? "compareRuns" : "newComparison")));
  const comparisons = new Comparisons({
    liveFolders: () => known.liveComparisonFolders(),
    outputs: () => comparisonOutputs(known.roots),
    isTrusted: () => vscode.workspace.isTrusted,
  });
  const compare = new ComparePanels({ context, runs, comparisons, service, panels, program, log, perform, lead });
  const parts: ShellParts = {
    context,
    log,
    runs,
    service,
    panels,
    inspectors,
    compare,
    comparisons,
    known,
    targets: new Targets({ runs, known, panels }),
    documents: new ResultDocuments(),
    program,
    perform,
    fail: (failure, target) => showFailure(failure, target.runFolder ? runs.get(target.runFolder).view.state : null, target, perform),
  };
  return parts;
}

/** Node by the setting or as it is found, and the core that came with the extension. */
async function findProgram(context: vscode.ExtensionContext): Promise<CoreProgram> {
  const configured = vscode.workspace.getConfiguration("sparseTuner").get<string | null>("nodePath", null);
  const workspaceFolders = (vscode.workspace.workspaceFolders ?? []).map(({ uri }) => uri.fsPath);
  const installed = await installedRuntimes(runtimeFolder(context), runtimePackageFor());
  const found = await findNode({ configured: configured || null, workspaceFolders, installed });
  return coreProgram(found, path.join(context.extensionPath, "dist", "core.js"), engineVariables(context));
}

/** Attaches to what is alive here. In Restricted Mode nothing is attached to. */
async function attach({ known, runs, comparisons, log }: ShellParts): Promise<void> {
  if (!vscode.workspace.isTrusted) return;
  try {
    for (const runFolder of await known.liveRunFolders()) runs.get(runFolder);
    await runs.attachLive();
    await comparisons.attachLive();
  } catch (error) {
    log.error(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}
