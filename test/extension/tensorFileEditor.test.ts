/** The host's side of the tensor viewer: what it answers, what it refuses, what it ignores. The drawing is the e2e tests' business. */
import "./withVscode.ts";
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ToTensorFile } from "../../src/protocol/tensorFileProtocol.ts";
import { UserError } from "../../src/protocol/userError.ts";
import { Uri } from "./vscodeStandIn.ts";

const { TensorFileEditor } = await import("../../src/extension/tensors/tensorFileEditor.ts");
type Parts = ConstructorParameters<typeof TensorFileEditor>[0];

const header = { bytes: 16, headerBytes: 8, metadata: {}, tensors: [{ name: "w", dtype: "F32", shape: [2], bytes: 8 }] };

/** An editor on a file, spoken to as its webview would; `ask` resolves with its answer, or null when it gives none. */
function opened(uri: Uri, service: Partial<Parts["service"]>) {
  const warnings: string[] = [];
  const errors: string[] = [];
  const log = { warn: (line: string) => warnings.push(line), error: (line: string) => errors.push(line) };
  const parts = { context: { extensionUri: Uri.file("/ext") }, service, log } as unknown as Parts;
  let receive: (message: unknown) => void = () => undefined;
  let told: (message: ToTensorFile) => void = () => undefined;
  const webview = {
    cspSource: "csp",
    html: "",
    asWebviewUri: (file: Uri) => file,
    onDidReceiveMessage: (listener: typeof receive) => (receive = listener),
    postMessage: async (message: ToTensorFile) => told(message),
  };
  const editor = new TensorFileEditor(parts);
  const open = { document: editor.openCustomDocument(uri as never), panel: { webview } as never };
  editor.resolveCustomEditor(open.document, open.panel);
  const ask = (message: unknown) =>
    new Promise<ToTensorFile | null>((resolve) => {
      told = resolve;
      receive(message);
      // What is ignored is logged before `receive` returns.
      if (warnings.length > 0) resolve(null);
    });
  return { ask, warnings, errors, webview };
}

const file = Uri.file("/models/a b#1.safetensors");
const window = { row: 0, column: 0, rows: 1, columns: 2 };

test("a header is sent when the viewer is ready, values when it asks for a window", async () => {
  const asked: unknown[] = [];
  const values = new Float32Array([1, 2]);
  const { ask, webview } = opened(file, {
    request: (async (name: string, parameters: unknown) => {
      asked.push([name, parameters]);
      return header;
    }) as Parts["service"]["request"],
    readTensor: async (parameters) => {
      asked.push(parameters);
      return { rows: 1, columns: 2, values };
    },
  });
  assert.match(webview.html, /dist\/webview\/tensors\.js/);
  assert.deepEqual(await ask({ kind: "ready" }), { kind: "hydrate", strings: {}, file: file.fsPath, header });
  assert.deepEqual(await ask({ kind: "read", request: 3, name: "w", window }), { kind: "values", request: 3, rows: 1, columns: 2, values });
  assert.deepEqual(asked, [["describeTensors", { file: file.fsPath }], { file: file.fsPath, name: "w", window }]);
});

test("a file or a tensor that cannot be read is answered with the reason and the next action", async () => {
  const broken = new UserError("safetensors/InvalidHeader", "It is broken.", "Download it again.");
  const { ask, errors } = opened(file, { request: () => Promise.reject(broken), readTensor: () => Promise.reject(broken) });
  assert.deepEqual(await ask({ kind: "ready" }), {
    kind: "refused",
    strings: {},
    file: file.fsPath,
    message: "It is broken.",
    action: "Download it again.",
  });
  assert.deepEqual(await ask({ kind: "read", request: 1, name: "w", window }), {
    kind: "missing",
    request: 1,
    reason: "It is broken. Download it again.",
  });
  assert.deepEqual(errors, []);
  const bug = opened(file, { request: () => Promise.reject(new Error("oops")) });
  assert.equal((await bug.ask({ kind: "ready" }))?.kind, "refused");
  assert.match(bug.errors.join(), /oops/);
  const elsewhere = opened(new Uri("vscode-vfs", "/a.safetensors"), {
    request: () => Promise.reject(new Error("asked for a file that is not here")),
  });
  assert.match(JSON.stringify(await elsewhere.ask({ kind: "ready" })), /refused.*not a file of the machine/);
});

test("a window that no screen shows is not read, and what is no message is ignored", async () => {
  const { ask } = opened(file, { readTensor: () => Promise.reject(new Error("was read")) });
  const large = await ask({ kind: "read", request: 1, name: "w", window: { row: 0, column: 0, rows: 65536, columns: 65536 } });
  assert.deepEqual([large?.kind, JSON.stringify(large).includes("was read")], ["missing", false]);
  for (const message of [
    null,
    "ready",
    { kind: "constructor" },
    { kind: "read", request: -1, name: "w", window },
    { kind: "read", request: 1, name: "w", window, file: "/etc/passwd" },
    { kind: "ready", extra: 1 },
  ]) {
    const { ask: askAnother, warnings } = opened(file, {});
    assert.equal(await askAnother(message), null, JSON.stringify(message));
    assert.equal(warnings.length, 1);
  }
});
