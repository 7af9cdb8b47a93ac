/**
 * The names that package.json and the code share: commands, views, settings, context keys, activation events. Plain data without VS Code; texts are in
 * package.nls.json.
 * The rule to keep: package.json contributes what stands here, no more and no less; a test compares the two.
 */

/** Commands are `sparseTuner.<name>`. `icon` is a codicon; `enablement` a when-clause, null where a command can always be given. */
export const commands = {
  newRun: { icon: "add", enablement: null },
  start: { icon: "play", enablement: enabledBy("canStart", "start") },
  pause: { icon: "debug-pause", enablement: enabledBy("canPause", "pause") },
  resume: { icon: "debug-continue", enablement: enabledBy("canResume", "resume") },
  stop: { icon: "debug-stop", enablement: enabledBy("canStop", "stop") },
  kill: { icon: "error", enablement: enabledBy("canKill", "kill") },
  openTrainingPanel: { icon: "graph-line", enablement: null },
  inspectSubMatrix: { icon: "symbol-array", enablement: null },
  planMemory: { icon: "server", enablement: null },
  previewTrainingData: { icon: "preview", enablement: null },
  evaluate: { icon: "beaker", enablement: enabledBy("canUse", "use") },
  tryModel: { icon: "comment-discussion", enablement: enabledBy("canUse", "use") },
  mergeAndExport: { icon: "export", enablement: enabledBy("canUse", "use") },
  pruneModel: { icon: "filter", enablement: null },
  openPruningReport: { icon: "graph", enablement: null },
  compareRuns: { icon: "graph-scatter", enablement: null },
  newComparison: { icon: "new-file", enablement: null },
  startComparison: { icon: "run-all", enablement: null },
  resumeComparison: { icon: "debug-continue", enablement: null },
  stopComparison: { icon: "debug-stop", enablement: null },
  doctor: { icon: "pulse", enablement: null },
  installRuntime: { icon: "cloud-download", enablement: null },
  installTensorflow: { icon: "cloud-download", enablement: null },
  showLog: { icon: "output", enablement: null },
  runDemo: { icon: "rocket", enablement: null },
  duplicateRun: { icon: "copy", enablement: null },
  renameRun: { icon: "edit", enablement: enabledBy("canRemove", "remove") },
  deleteRun: { icon: "trash", enablement: enabledBy("canRemove", "remove") },
  removeLock: { icon: "unlock", enablement: enabledBy("canUnlock", "unlock") },
  revealRun: { icon: "folder-opened", enablement: null },
  refreshViews: { icon: "refresh", enablement: null },
  openRunFile: { icon: "go-to-file", enablement: null },
  copyReport: { icon: "clippy", enablement: null },
  lowerBatch: { icon: "arrow-down", enablement: null },
} as const satisfies Record<string, { icon: string; enablement: string | null }>;

export type CommandName = keyof typeof commands;
export const commandNames = Object.keys(commands) as CommandName[];

/** The id that VS Code knows a command by. */
export function commandId(name: CommandName): `sparseTuner.${CommandName}` {
  return `sparseTuner.${name}`;
}

/**
 * When a command can be given: the context key follows the run in front, and `viewItem` is only known in a menu of the Runs view, where it names the
 * run that was clicked and not the one in front.
 */
function enabledBy(key: ContextKey, ability: Ability): string {
  return `sparseTuner.${key} || viewItem =~ /\\b${ability}\\b/`;
}

/** What can be done to a run in its state; words of a tree item's `contextValue`. */
export const abilities = ["start", "pause", "resume", "stop", "kill", "use", "remove", "unlock"] as const;
export type Ability = (typeof abilities)[number];

/** `sparseTuner.<name>`, set while the extension runs. */
export const contextKeys = {
  canStart: "start",
  canPause: "pause",
  canResume: "resume",
  canStop: "stop",
  canKill: "kill",
  canUse: "use",
  canRemove: "remove",
  canUnlock: "unlock",
} as const satisfies Record<string, Ability>;
export type ContextKey = keyof typeof contextKeys;

/** Set once folders were looked through: until then an empty view is one that is still loading. */
export const scannedKey = "scanned";

/** The activity bar's container, and its views in their order. */
export const viewContainer = "sparseTuner";
export const views = ["sparseTuner.runs", "sparseTuner.models", "sparseTuner.devices"] as const;
export type ViewId = (typeof views)[number];

export const walkthrough = "sparseTuner.start";

/** Settings are `sparseTuner.<name>`. `machine`: a path, which a workspace must not set. */
export const settings = {
  nodePath: { scope: "machine", default: null },
  keepRunning: { scope: "window", default: true },
  notifications: { scope: "window", default: "all" },
  modelFolders: { scope: "machine", default: [] },
  // Empty: asked for when a runtime is installed, or TensorFlow without npm.
  registry: { scope: "machine", default: "" },
} as const satisfies Record<string, { scope: "machine" | "window"; default?: unknown }>;
export type SettingName = keyof typeof settings;
export const notificationLevels = ["all", "failures", "none"] as const;
export type NotificationLevel = (typeof notificationLevels)[number];

/** Settings whose value of an untrusted workspace does not count. */
export const restrictedSettings = ["nodePath", "modelFolders", "registry"] as const satisfies readonly SettingName[];

export const webviewTypes = ["sparseTuner.trainingPanel", "sparseTuner.compare"] as const;
export const customEditors = ["sparseTuner.tensorFile"] as const;

/** VS Code makes the events of commands, views and custom editors itself. */
export const activationEvents = ["onStartupFinished", ...webviewTypes.map((type) => `onWebviewPanel:${type}` as const)] as const;

/** The language of texts that were generated. */
export const resultLanguage = "sparse-tuner-text";

/** Names of run files, as they end. */
export const runFileEndings = [".sparse-tuner.yaml", ".sparse-tuner.yml"] as const;
