/** A Compare Runs view as its host drives it: what it is told and when it is let go; names of runs side by side; the text of a new comparison. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { parse } from "yaml";
import type { RunCard } from "../../src/protocol/compareProtocol.ts";
import { checkRunFile } from "../../src/protocol/runConfig.ts";
import { Uri } from "./vscodeStandIn.ts";

const { ComparePanel } = await import("../../src/extension/compare/comparePanel.ts");
const { RunCards } = await import("../../src/extension/compare/runCards.ts");
const { comparisonText } = await import("../../src/extension/compare/newComparison.ts");
type Parts = ConstructorParameters<typeof ComparePanel>[2];
type Session = Parameters<InstanceType<typeof RunCards>["cards"]>[0][number];

const root = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-compare-panel-"));
after(() => rmSync(root, { recursive: true, force: true }));

/** A run that has done nothing, and whoever listens to it. */
function session(name: string) {
  const listeners = new Set<object>();
  const run = {
    runFolder: path.join(root, name),
    view: { name, state: "finished" },
    events: [],
    load: async () => undefined,
    listen(listener: object) {
      listeners.add(listener);
      return { dispose: () => listeners.delete(listener) };
    },
  };
  return { run: run as unknown as Session, listeners };
}

/** A view of one run, spoken to as its webview would. */
function opened() {
  const { run, listeners } = session("20261121-170000-a");
  const sent: { kind: string }[] = [];
  let closed = false;
  let receive: (message: unknown) => void = () => undefined;
  let disposed: () => void = () => undefined;
  const panel = {
    // As in VS Code, nothing can be asked of a closed one.
    get visible() {
      assert.ok(!closed, "the panel is closed");
      return true;
    },
    webview: {
      cspSource: "csp",
      asWebviewUri: (file: Uri) => file,
      onDidReceiveMessage: (listener: typeof receive) => (receive = listener),
      postMessage: async (message: { kind: string }) => {
        assert.ok(!closed, "the panel is closed");
        sent.push(message);
      },
    },
    onDidChangeViewState: () => undefined,
    onDidDispose: (listener: typeof disposed) => (disposed = listener),
  };
  const errors: unknown[] = [];
  const parts = {
    context: { extensionUri: Uri.file("/ext") },
    runs: { get: () => run },
    service: { request: async () => null },
    log: { warn: () => undefined, error: (error: unknown) => errors.push(error) },
  } as unknown as Parts;
  new ComparePanel(panel as unknown as ConstructorParameters<typeof ComparePanel>[0], { runFolders: [run.runFolder] }, parts);
  const close = () => {
    closed = true;
    disposed();
  };
  return { sent, errors, listeners, close, receive: (message: unknown) => receive(message) };
}

async function until(what: string, check: () => boolean): Promise<void> {
  for (let waited = 0; !check(); waited += 5) {
    assert.ok(waited < 20_000, `waited in vain for ${what}`);
    await delay(5);
  }
}

/** What a view with another panel, which was asked later, has been told by now, this one would have been told too. */
async function settled(): Promise<void> {
  const other = opened();
  other.receive({ kind: "ready" });
  await until("another view to be told", () => other.sent.length === 2);
  other.close();
}

test("a view is told that it is read, then what there is; and nobody listens for it once it is closed", async () => {
  const view = opened();
  view.receive({ kind: "ready" });
  await until("what there is", () => view.sent.length === 2);
  assert.deepEqual(
    view.sent.map(({ kind }) => kind),
    ["hydrate", "view"],
  );
  assert.equal(view.listeners.size, 1);
  view.close();
  assert.equal(view.listeners.size, 0);
});

test("ready twice in a row, it listens once", async () => {
  const view = opened();
  view.receive({ kind: "ready" });
  view.receive({ kind: "ready" });
  await settled();
  assert.equal(view.listeners.size, 1);
});

test("closed before it could be told anything, it is left alone", async () => {
  const view = opened();
  view.receive({ kind: "ready" });
  view.close();
  await settled();
  assert.deepEqual([view.sent, view.listeners.size, view.errors], [[], 0, []]);
});

test("runs of one run file are told apart by their whole names", async () => {
  const service = { request: async () => null } as unknown as ConstructorParameters<typeof RunCards>[0];
  const names = ["20261121-170000-a", "20261121-180000-a", "20261121-190000-b"];
  const cards: RunCard[] = await new RunCards(service).cards(names.map((name) => session(name).run));
  assert.deepEqual(
    cards.map(({ name }) => name),
    ["20261121-170000-a", "20261121-180000-a", "b"],
  );
});

test("a new comparison on a pruned model has the methods for such", () => {
  const methodsOf = (model: string) => {
    const { config } = checkRunFile(`model: ${model}\ndata: { train: a.jsonl }\nmethod: { name: smt }\n`, path.join(root, "a.sparse-tuner.yaml"));
    assert.ok(config);
    const { methods } = parse(comparisonText(config, path.join(root, "b.jsonl"), root, 1000)) as { methods: { name: string }[] };
    return methods.map(({ name }) => name);
  };
  mkdirSync(path.join(root, "pruned"));
  writeFileSync(path.join(root, "pruned", "pruning.json"), "{}");
  assert.deepEqual(methodsOf("dense"), ["smt", "lora", "dora", "full"]);
  assert.deepEqual(methodsOf("pruned"), ["lors", "spp", "sqft", "lora"]);
});
