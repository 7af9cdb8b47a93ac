/** The service as a window uses it: processes come when they are needed and go when not, and whatever becomes of one, every promise ends. */

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { RunBlocks } from "../../src/core/blocks/runBlocks.ts";
import { ServiceClient, type ServiceOptions } from "../../src/extension/service/serviceClient.ts";
import { encodeFrame } from "../../src/protocol/frames.ts";
import type { PruningProgress } from "../../src/protocol/pruning.ts";
import type { Selection } from "../../src/protocol/selection.ts";
import { UserError } from "../../src/protocol/userError.ts";
import { session, temporaryFolder, writeRunFile } from "../core/run/smallRuns.ts";
import { storyFolder } from "../support/storyModel.ts";

const home = temporaryFolder({ after });
const main = path.resolve(import.meta.dirname, "../../src/core/main.ts");
const pids = path.join(home, "pids");
const runFile = path.join(home, "small", "run.yaml");
let folder: string;
let other: string;
let planRequest: { runFile: string; text: string };

before(async () => {
  writeFileSync(pids, "");
  ({ folder } = await session(writeRunFile(path.join(home, "small"))));
  const overrides = { method: { name: "smt", blocks: 10, blockSize: 32, warmup: { steps: 2 } } };
  other = (await session(writeRunFile(path.join(home, "other"), overrides))).folder;
  planRequest = { runFile, text: readFileSync(runFile, "utf8") };
});

type Test = { after(clean: () => unknown): void };

/** A client of the real service, each of whose processes writes down its id, folder and environment first. */
function newClient(t: Test, options: Partial<ServiceOptions> = {}): ServiceClient & { lines: string[] } {
  const told = `JSON.stringify({ pid: process.pid, cwd: process.cwd(), options: process.env.NODE_OPTIONS ?? null }) + "\\n"`;
  const core = program(
    `import { appendFileSync } from "node:fs"; appendFileSync(${JSON.stringify(pids)}, ${told}); await import(${JSON.stringify(main)});`,
  );
  const lines: string[] = [];
  const client = new ServiceClient({ program: async () => core, log: (line) => lines.push(line), ...options });
  t.after(() => client.dispose());
  return Object.assign(client, { lines });
}

let programs = 0;
function program(text: string): { node: string; core: string } {
  const core = path.join(home, `program-${++programs}.mjs`);
  writeFileSync(core, text);
  return { node: process.execPath, core };
}

interface Started {
  pid: number;
  cwd: string;
  options: string | null;
}
const started = (): Started[] =>
  readFileSync(pids, "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
const last = () => started().at(-1) as Started;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

async function until(holds: () => boolean, what: string): Promise<void> {
  for (const began = performance.now(); !holds(); await delay(10)) if (performance.now() - began > 30_000) assert.fail(`in vain: ${what}`);
}

const hasCode = (code: string) => (error: UserError) => error instanceof UserError && error.code === code && error.action !== "";
const prompt = { modelOrRun: storyFolder, prompt: "Once upon a time", temperature: 0, seed: 1 };

test("values, frames and texts come with the answers they belong to, and a process has neither our folder nor our options", async (t) => {
  process.env.NODE_OPTIONS = "--no-deprecation";
  t.after(() => delete process.env.NODE_OPTIONS);
  const client = newClient(t);
  const selection: Selection = JSON.parse(readFileSync(path.join(folder, "selection.json"), "utf8"));
  const blocks = await RunBlocks.open(folder);
  const { name, row, column } = selection.blocks[5];
  const place = { name, row, column };
  const readings = await Promise.all(
    (["weight", "delta", "gradient"] as const).map(
      async (part) => [await client.readBlock({ runFolder: folder, step: null, ...place, part }), part] as const,
    ),
  );
  for (const [reading, part] of readings) {
    const expected = await blocks.read(place, part, null);
    assert.ok(reading.available && "values" in expected);
    assert.deepEqual(reading.values, expected.values, part);
  }
  assert.deepEqual(await client.request("readCell", { runFolder: folder, step: null, ...place }), await blocks.cell(place, null));
  assert.deepEqual((await client.request("blockHistory", { runFolder: folder, ...place })).cells.length, 2);
  assert.deepEqual(await client.request("describeRun", { runFolder: folder }), await blocks.describe());

  const heatmaps = await Promise.all([folder, other, folder].map((runFolder) => client.heatmap({ runFolder, step: null })));
  for (const [i, runFolder] of [folder, other, folder].entries()) {
    const expected = await (await RunBlocks.open(runFolder)).frames(null);
    const { step, frames } = heatmaps[i];
    assert.deepEqual([step, frames.map(({ header, payload }) => Buffer.from(encodeFrame(header, payload)))], [12, expected.frames.map(Buffer.from)]);
  }
  const file = path.join(storyFolder, "model.safetensors");
  const tensor = await client.readTensor({ file, name: "model.norm.weight", window: { row: 0, column: 10, rows: 1, columns: 20 } });
  assert.deepEqual([tensor.rows, tensor.columns, tensor.values.length], [1, 20, 20]);
  const window = { row: 2, column: 3, rows: 4, columns: 5 };
  const analysed = await client.readBlock({ runFolder: folder, step: null, ...place, part: "weight", window, analyze: true });
  const whole = readings[0][0];
  assert.ok(analysed.available && analysed.analysis && whole.available);
  assert.deepEqual([analysed.rows, analysed.columns, analysed.blockRows], [4, 5, whole.rows]);
  assert.deepEqual([analysed.analysis.minimum, analysed.analysis.maximum], [Math.min(...whole.values), Math.max(...whole.values)]);
  assert.equal(analysed.analysis.singularValues.length, whole.rows);
  let text = "";
  const generated = await client.generate({ ...prompt, tokens: 12 }, (piece) => {
    text += piece;
  });
  assert.deepEqual([generated.ids.length, generated.text], [12, text]);
  const mine = started();
  assert.equal(mine.length, 2, "one process for what is quick, one for what is long");
  for (const { cwd, options } of mine) assert.deepEqual([cwd, options], [os.tmpdir(), null]);
});

const pruning = {
  model: storyFolder,
  method: "wanda",
  pattern: "2:4",
  grouping: null,
  permute: false,
  calibration: path.resolve(storyFolder, "../data/gsm8k-train.jsonl"),
  samples: 4,
  sequenceLength: 32,
} as const;

const onNotes = () => undefined;

test("a pruning tells of every matrix while it runs, and of all in its answer; another's reports do not reach it", async (t) => {
  const client = newClient(t);
  const told: [PruningProgress[], PruningProgress[]] = [[], []];
  const folders = ["pruned", "other-pruned"].map((name) => path.join(home, name));
  const reports = await Promise.all(
    folders.map((to, i) =>
      client.prune({ ...pruning, method: i === 0 ? "wanda" : "magnitude", to }, { onProgress: (said) => told[i].push(said), onNotes }),
    ),
  );
  for (const [i, report] of reports.entries()) {
    assert.deepEqual(
      new Map(told[i].flatMap(({ finished }) => finished).map((matrix) => [matrix.name, matrix])),
      new Map(report.matrices.map((matrix) => [matrix.name, matrix])),
    );
    assert.equal(report.zeros * 2, report.entries);
    assert.deepEqual(JSON.parse(readFileSync(path.join(folders[i], "pruning.json"), "utf8")), report);
    assert.ok(told[i].every(({ done }, at) => done >= (told[i][at - 1]?.done ?? 0) && done <= 1));
  }
  assert.notDeepEqual(
    reports[0].matrices.map(({ error }) => error),
    reports[1].matrices.map(({ error }) => error),
  );
});

test("a pruning that is given up rejects at once and leaves nothing; a folder that holds something is refused", async (t) => {
  const client = newClient(t);
  const controller = new AbortController();
  const to = path.join(home, "given-up");
  const given = client.prune(
    { ...pruning, method: "sparsegpt", samples: 64, to },
    { onProgress: () => controller.abort(), onNotes },
    { signal: controller.signal },
  );
  await assert.rejects(given, hasCode("service/cancelled"));
  // Its process answers the next one, so that it is not busy with what nobody waits for.
  await assert.rejects(client.prune({ ...pruning, to: storyFolder }, { onProgress: () => undefined, onNotes }), hasCode("export/not-empty"));
  client.dispose();
  await until(() => !isAlive(last().pid), "the end of the service");
  assert.equal(existsSync(to), false);
});

test("a pruning says what there is to know of it: rows that were left out", async (t) => {
  const client = newClient(t);
  const calibration = path.join(home, "bad-row.jsonl");
  writeFileSync(calibration, `{ no row\n${readFileSync(pruning.calibration, "utf8")}`);
  const notes: string[] = [];
  const listener = { onProgress: () => undefined, onNotes: (told: readonly string[]) => notes.push(...told) };
  await client.prune({ ...pruning, calibration, to: path.join(home, "noted") }, listener);
  assert.ok(
    notes.some((note) => /^1 of the rows of bad-row\.jsonl left out \(line 1: /.test(note)),
    `${notes}`,
  );
});

test("a service that is killed rejects what waits for it, and the next request has a new one", async (t) => {
  const client = newClient(t);
  await client.request("plan", planRequest);
  const { pid } = last();
  // It cannot answer any more, so that the requests are still waiting when it dies.
  process.kill(pid, "SIGSTOP");
  const waiting = [
    client.request("plan", planRequest),
    client.heatmap({ runFolder: folder, step: null }),
    client.readBlock({ runFolder: folder, step: null, name: "model.layers.0.mlp.up_proj", row: 0, column: 0, part: "weight" }),
  ];
  const rejections = waiting.map((promise) => assert.rejects(promise, hasCode("service/crashed")));
  process.kill(pid, "SIGKILL");
  await Promise.all(rejections);
  assert.equal((await client.request("plan", planRequest)).totalParameters, 656_000);
  assert.notEqual(last().pid, pid);

  process.kill(last().pid, "SIGKILL");
  await until(() => !isAlive(last().pid), "the end of the second");
  assert.equal((await client.heatmap({ runFolder: folder, step: null })).frames.length, 3, "killed while nobody waited");
});

test("programs that are no service end every request with a reason", async (t) => {
  const noise = program("process.stdin.resume(); setInterval(() => process.stdout.write('noise '.repeat(10)), 10);");
  const wrong =
    program(`const frame = (message) => { const text = Buffer.from(JSON.stringify(message)); const head = Buffer.alloc(16); head.write("SPTF");
    [1, text.length, 0].forEach((value, i) => head.writeUInt32LE(value, 4 + 4 * i)); process.stdout.write(Buffer.concat([head, text])); };
    let id = 0;
    process.stdin.on("data", () => frame({ jsonrpc: "2.0", id: id++, result: { peakBytes: "many" } }));`);
  const cases = [
    { core: noise, code: "service/crashed" },
    { core: program("process.exit(3);"), code: "service/crashed" },
    { core: program("throw new Error('broken');"), code: "service/crashed" },
    { core: { node: path.join(home, "no-node"), core: main }, code: "service/crashed" },
    { core: wrong, code: null },
  ];
  for (const [i, { core, code }] of cases.entries()) {
    const client = newClient(t, { program: async () => core });
    for (let again = 0; again < 2; again++)
      await assert.rejects(client.request("plan", planRequest), code ? hasCode(code) : /does not fit its schema/, `program ${i}`);
    client.dispose();
  }
});

test("without a Node the request fails with the reason, and is tried anew the next time", async (t) => {
  let asked = 0;
  const program = async () => {
    if (asked++ === 0) throw new UserError("node/not-found", "No Node.js was found.", "Install Node.js.");
    return { node: process.execPath, core: main };
  };
  const client = newClient(t, { program });
  await assert.rejects(client.request("plan", planRequest), hasCode("node/not-found"));
  assert.equal((await client.request("plan", planRequest)).exact, false);
  assert.equal(asked, 2);
});

test("a process that nobody asks anything ends, and another one answers later", async (t) => {
  const client = newClient(t, { idleMs: 50 });
  await client.request("plan", planRequest);
  const { pid } = last();
  await until(() => !isAlive(pid), "the end of an idle process");
  await client.request("plan", planRequest);
  assert.notEqual(last().pid, pid);
  assert.ok(!client.lines.some((line) => line.includes("The connection to the service ended")), client.lines.join("\n"));
});

test("while a model is evaluated plans are made", async (t) => {
  const client = newClient(t);
  await client.request("plan", planRequest);
  const data = path.resolve(storyFolder, "../data/gsm8k-train.jsonl");
  let evaluated = false;
  const controller = new AbortController();
  const evaluating = client.request("evaluate", { modelOrRun: storyFolder, data, rows: null }, { signal: controller.signal }).finally(() => {
    evaluated = true;
  });
  const ended = assert.rejects(evaluating, hasCode("service/cancelled"));
  for (let i = 0; i < 3; i++) assert.equal((await client.request("plan", planRequest)).fits, true);
  assert.ok(!evaluated, "the plans waited for the evaluation");
  controller.abort();
  await ended;
});

test("giving up a text rejects at once, and the text ends", async (t) => {
  const client = newClient(t);
  const controller = new AbortController();
  let pieces = 0;
  const onText = () => {
    if (++pieces === 5) controller.abort();
  };
  await assert.rejects(client.generate({ ...prompt, tokens: 480 }, onText, { signal: controller.signal }), hasCode("service/cancelled"));
  const then = pieces;
  assert.ok(then >= 5 && then < 470, `${then} pieces`);
  await assert.rejects(client.request("plan", planRequest, { signal: controller.signal }), hasCode("service/cancelled"));
  assert.equal((await client.generate({ ...prompt, tokens: 3 }, () => {})).ids.length, 3);
  assert.equal(pieces, then);
});

test("after dispose nothing is left: processes end, what waits is rejected, and so is what comes", async (t) => {
  const client = newClient(t);
  await client.request("plan", planRequest);
  const quick = last().pid;
  let first: () => void = () => {};
  const begun = new Promise<void>((resolve) => {
    first = resolve;
  });
  const ended = assert.rejects(
    client.generate({ ...prompt, tokens: 480 }, () => first()),
    (error: UserError) => ["service/ended", "service/cancelled"].includes(error.code),
  );
  await begun;
  const long = last().pid;
  client.dispose();
  await ended;
  await until(() => !isAlive(quick) && !isAlive(long), "the end of both processes");
  await assert.rejects(client.request("plan", planRequest), hasCode("service/ended"));
});
