/** A pruning as a window holds it: what its view is told while it runs, and what it has become; reports of folders that come from anywhere. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import type { PruneRequest } from "../../src/extension/prune/pruningJob.ts";
import type { PruneView } from "../../src/protocol/prunePanelProtocol.ts";
import type { PruningProgress, PruningReport } from "../../src/protocol/pruning.ts";
import { UserError } from "../../src/protocol/userError.ts";
import { state, Uri } from "./vscodeStandIn.ts";

const { PruningJob, reportSubject } = await import("../../src/extension/prune/pruningJob.ts");
const { PrunePanel } = await import("../../src/extension/prune/prunePanel.ts");
const { patternName } = await import("../../src/extension/prune/pruneNames.ts");
const { toFailure } = await import("../../src/extension/failures.ts");
type PanelParts = ConstructorParameters<typeof PrunePanel>[1];

const request: PruneRequest = {
  model: "/models/tiny",
  method: "wanda",
  pattern: "2:4",
  grouping: null,
  permute: false,
  calibration: "/data/text.jsonl",
  samples: 8,
  sequenceLength: null,
  to: "/models/tiny-wanda-2of4",
};
const matrix = { name: "model.layers.0.self_attn.q_proj", layer: 0, projection: "q_proj", zeros: 8, entries: 16, error: 0.25 };
const report: PruningReport = {
  method: "wanda",
  pattern: "2:4",
  base: "tiny",
  baseSha256: "0".repeat(64),
  calibration: { file: "text.jsonl", samples: 8, tokens: 4096, seed: 0 },
  matrices: [matrix],
  zeros: 8,
  entries: 16,
};
const progress: PruningProgress = { stage: "pruning", layer: 0, layers: 2, done: 0.5, remainingMs: 10, finished: [matrix] };

type Listener = Parameters<ConstructorParameters<typeof PruningJob>[2]["service"]["prune"]>[1];

/** A job whose service the test plays. */
function begun() {
  let resolve: (report: PruningReport) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const answer = new Promise<PruningReport>((settle, fail) => {
    [resolve, reject] = [settle, fail];
  });
  const given = { resolve: (value: PruningReport) => resolve(value), reject: (error: unknown) => reject(error) };
  let listener: Listener | null = null;
  let signal: AbortSignal | undefined;
  const service = {
    prune: (_: unknown, told: Listener, options: { signal?: AbortSignal } = {}) => {
      listener = told;
      signal = options.signal;
      options.signal?.addEventListener("abort", () => given.reject(new UserError("service/cancelled", "It was cancelled.", "Start it again.")));
      return answer;
    },
  };
  const job = new PruningJob(request, "tiny", { service, explain: toFailure });
  return {
    job,
    given,
    tell: (said: PruningProgress) => listener?.onProgress(said),
    note: (notes: readonly string[]) => listener?.onNotes(notes),
    signal: () => signal,
  };
}

test("a job tells what was finished, and holds everything for a view that comes later", async () => {
  const { job, given, tell } = begun();
  const told: PruningProgress[] = [];
  const ended: PruneView[] = [];
  job.listen({ onProgress: (said) => told.push(said), onNotes: () => undefined, onEnded: (view) => ended.push(view) });
  assert.deepEqual([job.view.state, job.view.folder, job.view.calibration?.file], ["running", request.to, "text.jsonl"]);
  tell(progress);
  assert.deepEqual(told, [progress]);
  assert.deepEqual(job.view.matrices, [matrix]);
  assert.deepEqual(job.view.progress, { stage: "pruning", layer: 0, layers: 2, done: 0.5, remainingMs: 10 });
  given.resolve(report);
  const view = await job.ended;
  assert.deepEqual([view.state, view.total, view.calibration?.tokens], ["done", { zeros: 8, entries: 16 }, 4096]);
  assert.deepEqual(ended, [view]);
});

test("what there is to know of a pruning reaches its view, at once and later, and is still there when it has ended", async () => {
  const { job, given, note } = begun();
  const view = opened(job);
  view.receive({ kind: "ready" });
  await settled();
  note(["3 of the rows of text.jsonl left out (line 2: no text)."]);
  assert.deepEqual(view.sent.at(-1), { kind: "notes", notes: ["3 of the rows of text.jsonl left out (line 2: no text)."] });
  given.resolve({ ...report, permuted: true });
  const ended = await job.ended;
  assert.deepEqual([ended.notes.length, ended.permuted, ended.grouping], [1, true, null]);
  note(["too late"]);
  assert.equal(job.view.notes.length, 1);
});

test("cancelled, it stays cancelled, whatever the service still says", async () => {
  const { job, tell, signal } = begun();
  job.cancel();
  const view = await job.ended;
  assert.equal(signal()?.aborted, true);
  assert.deepEqual([view.state, view.failure], ["cancelled", null]);
  tell(progress);
  assert.deepEqual(job.view, view);
});

test("a refusal is kept with its code, sentence and next action", async () => {
  const { job, given } = begun();
  given.reject(new UserError("prune/too-little-text", "There are 3 tokens.", "Give more text."));
  const { state, failure } = await job.ended;
  assert.deepEqual(
    [state, failure?.code, failure?.message, failure?.action],
    ["failed", "prune/too-little-text", "There are 3 tokens.", "Give more text."],
  );
});

/** A panel of a subject, spoken to as its webview would. */
function opened(subject: ConstructorParameters<typeof PrunePanel>[0]) {
  const sent: unknown[] = [];
  const warnings: string[] = [];
  const performed: string[] = [];
  const failures: unknown[] = [];
  const parts = {
    context: { extensionUri: Uri.file("/ext") },
    log: { warn: (line: string) => warnings.push(line), error: () => undefined },
    perform: async (action: string) => void performed.push(action),
    fail: (error: unknown) => failures.push(error),
  } as unknown as PanelParts;
  let receive: (message: unknown) => void = () => undefined;
  let viewState: () => void = () => undefined;
  let disposed: () => void = () => undefined;
  let [closed, visible] = [false, true];
  const webviewPanel = {
    // As in VS Code, nothing can be asked of a closed one.
    get visible() {
      assert.ok(!closed, "the panel is closed");
      return visible;
    },
    webview: {
      cspSource: "csp",
      html: "",
      asWebviewUri: (file: Uri) => file,
      onDidReceiveMessage: (listener: typeof receive) => (receive = listener),
      postMessage: async (message: unknown) => {
        assert.ok(!closed, "the panel is closed");
        sent.push(message);
      },
    },
    onDidChangeViewState: (listener: typeof viewState) => (viewState = listener),
    onDidDispose: (listener: typeof disposed) => (disposed = listener),
    reveal: () => undefined,
  };
  state.panel = webviewPanel;
  const panel = new PrunePanel(subject, parts);
  return {
    panel,
    sent,
    warnings,
    performed,
    failures,
    receive: (message: unknown) => receive(message),
    html: () => webviewPanel.webview.html,
    hide() {
      visible = false;
      viewState();
    },
    close() {
      closed = true;
      disposed();
    },
    show() {
      visible = true;
      viewState();
    },
  };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a view is told everything when it is ready and changes from then on, and nothing while it is hidden", async () => {
  const { job, given, tell } = begun();
  const view = opened(job);
  assert.match(view.html(), /dist\/webview\/prune\.js/);
  tell(progress);
  assert.deepEqual(view.sent, [], "it has not said that it is ready");
  view.receive({ kind: "ready" });
  await settled();
  assert.deepEqual(view.sent, [{ kind: "hydrate", strings: {}, view: job.view }]);
  tell({ ...progress, finished: [] });
  assert.equal(view.sent.length, 2);
  view.hide();
  tell({ ...progress, done: 0.75, finished: [] });
  assert.equal(view.sent.length, 2, "a hidden view costs nothing");
  view.show();
  view.receive({ kind: "ready" });
  await settled();
  assert.deepEqual(view.sent.at(-1), { kind: "hydrate", strings: {}, view: job.view });
  given.resolve(report);
  await job.ended;
  assert.deepEqual(view.sent.at(-1), { kind: "ended", view: job.view });
});

test("a view that says twice that it is ready is told everything once from then on", async () => {
  const { job, tell } = begun();
  const view = opened(job);
  view.receive({ kind: "ready" });
  view.receive({ kind: "ready" });
  await settled();
  const before = view.sent.length;
  tell(progress);
  assert.equal(view.sent.length, before + 1);
});

test("a view that is closed before it could be told anything is left alone", async () => {
  const { job, tell } = begun();
  const view = opened(job);
  view.receive({ kind: "ready" });
  view.close();
  await settled();
  tell(progress);
  assert.deepEqual([view.sent, view.failures], [[], []]);
});

test("Cancel ends the job, other buttons are passed on, and what is no message is ignored", async () => {
  const { job } = begun();
  const view = opened(job);
  view.receive({ kind: "action", action: "startRun" });
  await settled();
  assert.deepEqual(view.performed, ["startRun"]);
  for (const message of [null, "ready", { kind: "constructor" }, { kind: "action", action: "delete" }, { kind: "ready", extra: 1 }])
    view.receive(message);
  assert.equal(view.warnings.length, 5);
  view.receive({ kind: "save", name: "../x.csv", content: "", encoding: "text" });
  assert.equal(view.warnings.length, 6);
  view.receive({ kind: "action", action: "cancel" });
  assert.equal((await job.ended).state, "cancelled");
});

test("the report of an earlier pruning is shown by the same view", async () => {
  const view = opened(reportSubject(report, "/models/tiny-wanda-2of4"));
  view.receive({ kind: "ready" });
  await settled();
  const [{ view: shown }] = view.sent as { view: PruneView }[];
  assert.deepEqual([shown.state, shown.matrices.length, shown.total], ["report", 1, { zeros: 8, entries: 16 }]);
});

test("patterns are named so that every file system takes them", () => {
  assert.deepEqual(["2:4", "4:8", "0.5", "0.625"].map(patternName), ["2of4", "4of8", "50", "62.5"]);
});
