/**
 * package.json against the tables of src/extension/contributions.ts, in both directions, and against what the extension registers when it is activated:
 * every command has a handler, every view a provider, every activation event is there.
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import "./withVscode.ts";
import {
  activationEvents,
  commandId,
  commandNames,
  commands,
  contextKeys,
  customEditors,
  notificationLevels,
  restrictedSettings,
  resultLanguage,
  scannedKey,
  settings,
  viewContainer,
  views,
  walkthrough,
  webviewTypes,
} from "../../src/extension/contributions.ts";
import { seen, state } from "./vscodeStandIn.ts";

const root = path.resolve(import.meta.dirname, "../..");
const read = (file: string) => JSON.parse(readFileSync(path.join(root, file), "utf8"));
const manifest = read("package.json");
const { contributes } = manifest;
const texts: Record<string, string> = read("package.nls.json");
const sorted = (values: Iterable<string>) => [...values].sort();

/** Every `when` and `enablement` of the manifest. */
function clauses(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    (key === "when" || key === "enablement") && typeof inner === "string" ? [inner] : clauses(inner),
  );
}

/** Every string of the manifest under one of the keys. */
function stringsAt(value: unknown, ...keys: string[]): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) => (keys.includes(key) && typeof inner === "string" ? [inner] : stringsAt(inner, ...keys)));
}

test("the commands of the manifest are those of the table, with title, category, icon and enablement", () => {
  assert.deepEqual(sorted(contributes.commands.map(({ command }: { command: string }) => command)), sorted(commandNames.map(commandId)));
  for (const name of commandNames) {
    const contributed = contributes.commands.find(({ command }: { command: string }) => command === commandId(name));
    assert.equal(contributed.title, `%command.${name}.title%`);
    assert.ok(texts[`command.${name}.title`], `command.${name}.title has a text`);
    assert.equal(contributed.category, "%category%");
    assert.equal(contributed.icon, `$(${commands[name].icon})`, name);
    assert.equal(contributed.enablement ?? null, commands[name].enablement, name);
  }
});

test("menus, welcome texts and walkthrough name only commands that exist", () => {
  const known = new Set<string>(commandNames.map(commandId));
  const named = [
    ...stringsAt(contributes.menus, "command"),
    ...Object.values(texts).flatMap((text) => [...text.matchAll(/\(command:([^)?]+)/g)].map((match) => match[1])),
    ...[...JSON.stringify(contributes.walkthroughs).matchAll(/onCommand:([^"]+)/g)].map((match) => match[1]),
  ];
  assert.ok(named.length > 30);
  assert.deepEqual(
    named.filter((command) => !known.has(command) && !command.startsWith("workbench.")),
    [],
  );
});

test("views, container, custom editors and walkthrough are those of the table, and their pictures exist", () => {
  assert.deepEqual(
    contributes.viewsContainers.activitybar.map(({ id }: { id: string }) => id),
    [viewContainer],
  );
  assert.deepEqual(
    contributes.views[viewContainer].map(({ id }: { id: string }) => id),
    [...views],
  );
  assert.deepEqual(
    contributes.customEditors.map(({ viewType }: { viewType: string }) => viewType),
    [...customEditors],
  );
  assert.deepEqual(
    contributes.walkthroughs.map(({ id }: { id: string }) => id),
    [walkthrough],
  );
  const pictures = stringsAt({ contributes, icon: manifest.icon }, "icon", "svg").filter((file) => file.includes("/"));
  assert.ok(pictures.length >= 6);
  for (const file of pictures) assert.ok(existsSync(path.join(root, file)), file);
  assert.equal(contributes.walkthroughs[0].steps.at(-1).completionEvents[0], `onCommand:${commandId("runDemo")}`);
});

test("settings are those of the table, paths with machine scope and without effect in Restricted Mode", () => {
  const properties = contributes.configuration.properties;
  assert.deepEqual(sorted(Object.keys(properties)), sorted(Object.keys(settings).map((name) => `sparseTuner.${name}`)));
  for (const [name, setting] of Object.entries(settings)) {
    const contributed = properties[`sparseTuner.${name}`];
    assert.equal(contributed.scope, setting.scope, name);
    assert.deepEqual(contributed.default, setting.default, name);
    assert.equal(contributed.markdownDescription, `%setting.${name}.description%`);
  }
  assert.deepEqual(properties["sparseTuner.notifications"].enum, [...notificationLevels]);
  assert.deepEqual(
    manifest.capabilities.untrustedWorkspaces.restrictedConfigurations,
    restrictedSettings.map((name) => `sparseTuner.${name}`),
  );
  for (const name of Object.keys(settings))
    if (/path|folder/i.test(name)) assert.equal(settings[name as keyof typeof settings].scope, "machine", name);
});

test("each context key that a clause asks is set by the extension, and each one that is set is asked", () => {
  const asked = clauses(contributes).flatMap((clause) => [...clause.matchAll(/\bsparseTuner\.(\w+)/g)].map((match) => match[1]));
  const others = new Set<string>([...views, ...webviewTypes].map((id) => id.slice("sparseTuner.".length)));
  assert.deepEqual(sorted(new Set(asked.filter((key) => !others.has(key)))), sorted([...Object.keys(contextKeys), scannedKey]));
});

test("activation events are those of the table, one for each restored panel", () => {
  assert.deepEqual(
    contributes.languages.map(({ id }: { id: string }) => id),
    [resultLanguage],
  );
  assert.ok(contributes.configurationDefaults[`[${resultLanguage}]`]);
  assert.deepEqual(manifest.activationEvents, [...activationEvents]);
  assert.equal(manifest.main, "./dist/extension.cjs");
  assert.deepEqual(manifest.extensionKind, ["workspace"]);
  assert.equal(manifest.capabilities.untrustedWorkspaces.supported, "limited");
  assert.equal(manifest.capabilities.virtualWorkspaces.supported, false);
});

test("watcher and search leave run folders out", () => {
  assert.equal(contributes.configurationDefaults["files.watcherExclude"]["**/.sparse-tuner/**"], true);
  assert.equal(contributes.configurationDefaults["search.exclude"]["**/.sparse-tuner"], true);
});

const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-activate-"));
const context = {
  subscriptions: [] as { dispose(): void }[],
  extensionPath: root,
  extensionUri: { scheme: "file", path: root, fsPath: root },
  globalStorageUri: { scheme: "file", path: path.join(folder, "storage"), fsPath: path.join(folder, "storage") },
  workspaceState: { get: (_: string, fallback: unknown) => fallback, update: async () => undefined },
  extension: { packageJSON: manifest },
};
let activationMs = Number.POSITIVE_INFINITY;

before(async () => {
  // No live run of this machine may count here.
  process.env.XDG_STATE_HOME = path.join(folder, "state");
  writeFileSync(path.join(folder, "a.sparse-tuner.yaml"), "model: ./model\n");
  state.folders = [folder];
  const { activate } = await import("../../src/extension/extension.ts");
  const started = process.cpuUsage();
  await activate(context as never);
  const { user, system } = process.cpuUsage(started);
  activationMs = (user + system) / 1000;
});

after(() => {
  for (const one of context.subscriptions.reverse()) one.dispose();
  rmSync(folder, { recursive: true, force: true });
});

test("activation registers a handler for every command, and none that is not contributed but for a view's own", () => {
  const contributed = [...seen.commands.keys()].filter((id) => !id.startsWith("_sparseTuner."));
  assert.deepEqual(sorted(contributed), sorted(commandNames.map(commandId)));
});

test("activation gives every view, custom editor and restored panel its provider", () => {
  assert.deepEqual(sorted(seen.treeViews), sorted(views));
  assert.deepEqual(sorted(seen.customEditors), sorted(customEditors));
  for (const type of webviewTypes) assert.ok(seen.serializers.has(type), type);
  assert.deepEqual(sorted([...seen.serializers].filter((type) => !webviewTypes.includes(type as never))), []);
});

test("activation sets every context key, and offers what is not known yet", () => {
  assert.deepEqual(sorted(seen.context.keys()), sorted([...Object.keys(contextKeys), scannedKey].map((key) => `sparseTuner.${key}`)));
  assert.equal(seen.context.get("sparseTuner.canStart"), true);
  assert.equal(seen.context.get("sparseTuner.canResume"), true, "no folder was looked through yet");
  assert.equal(seen.context.get("sparseTuner.canPause"), false, "the register knows every live run");
});

test("activation computes next to nothing, and looks through no folder", () => {
  // On an idle machine 4 ms; what is generous here still catches a folder that is walked or a process that is waited for.
  assert.ok(activationMs < 100, `${activationMs} ms`);
  assert.equal(seen.context.get("sparseTuner.canRemove"), true, "runs at rest are unknown, and offered");
});

test("in Restricted Mode starting says why and offers the workspace's trust", async () => {
  state.trusted = false;
  try {
    for (const name of ["start", "resume", "pause", "stop", "kill", "runDemo"] as const) {
      seen.messages.length = 0;
      await seen.commands.get(commandId(name))?.({ runFolder: path.join(folder, "run") });
      assert.equal(seen.messages.length, 1, name);
      assert.match(seen.messages[0][0], /^Restricted Mode: .*\(trust\/restricted\)$/);
      assert.deepEqual(seen.messages[0].slice(1), ["Manage Workspace Trust"]);
    }
  } finally {
    state.trusted = true;
  }
});
