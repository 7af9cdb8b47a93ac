/**
 * Runs every check of the repository: build, lint and format, types, and all tests under test/. Each counts as a test; the last line is
 * `N passed, N failed`, and the exit code is 1 when anything failed. With words as arguments only the test files whose path holds one of them run.
 * Plain JavaScript for Node ≥ 20, because it is what finds the Node 24 that runs the TypeScript of the tests.
 * The rules to keep: what could not run here is printed as a line `not run: …`, never passed over; and a test file that fails, then passes alone, is
 * printed as `unsteady: …`. Only CI gives that second try, because its machines are shared and many tests watch several processes race.
 */
import { spawn, spawnSync } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { run } from "node:test";
import { fileURLToPath } from "node:url";
import { developmentNode } from "./developmentNode.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const filters = process.argv.slice(2);
const counts = { passed: 0, failed: 0 };
const notRun = new Set();
const unsteady = [];
let failures = [];
/** Of each test file how many of its tests passed and failed, so that a second try counts in place of the first. */
const countsOf = new Map();

function report(ok, name, milliseconds, detail = "") {
  counts[ok ? "passed" : "failed"]++;
  console.log(`${ok ? "ok  " : "FAIL"} ${name}${milliseconds >= 500 ? ` (${(milliseconds / 1000).toFixed(1)} s)` : ""}`);
  if (ok) return;
  failures.push(name);
  if (detail) console.log(detail.trimEnd().replace(/^/gm, "     "));
}

/** Runs one tool to its end and counts it as one test. */
async function tool(name, script, args) {
  const started = performance.now();
  const child = spawn(process.execPath, [path.join(root, script), ...args], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const code = await new Promise((resolve) => child.on("close", resolve).on("error", () => resolve(-1)));
  report(code === 0, name, performance.now() - started, output);
  if (code === 0 && /without the native addon/.test(output)) notRun.add(`not run: tests of the native addon: ${output.trim()}`);
}

/** Where a failing assertion stands and what it said, without the runner's own frames. */
function describe(error) {
  const cause = error?.cause ?? error;
  const text = typeof cause === "string" ? cause : (cause?.stack ?? String(cause?.message ?? cause));
  return text.replace(/^ +at .*(node:internal|node:async_hooks).*\n?/gm, "");
}

function count(test, outcome) {
  const file = path.resolve(root, test.file ?? test.name);
  const own = countsOf.get(file) ?? { passed: 0, failed: 0 };
  own[outcome]++;
  countsOf.set(file, own);
}

/** Runs test files, so many at a time, and prints every test as it ends. */
async function tests(files, concurrency) {
  const stream = run({ files, concurrency, timeout: 900_000, cwd: root });
  const isFile = (name) => files.includes(path.resolve(root, name));
  stream.on("test:pass", (test) => {
    if (test.details.type === "suite") return;
    const name = `${path.relative(root, test.file ?? "")}: ${test.name}`;
    if (test.skip !== undefined) notRun.add(`not run: ${name}${typeof test.skip === "string" ? `: ${test.skip.replace(/^not run: /, "")}` : ""}`);
    else if (isFile(test.name)) report(false, path.relative(root, path.resolve(root, test.name)), 0, "The file holds no test.");
    else {
      count(test, "passed");
      report(true, name, test.details.duration_ms);
    }
  });
  stream.on("test:fail", (test) => {
    const known = test.details.error?.failureType === "subtestsFailed";
    if (test.details.type === "suite" || (known && isFile(test.name))) return;
    count(test, "failed");
    report(false, `${path.relative(root, test.file ?? "")}: ${test.name}`, test.details.duration_ms, describe(test.details.error));
  });
  const collect = ({ message }) => {
    for (const line of message.split("\n")) if (/^\s*(# )?not run: /.test(line)) notRun.add(line.trim().replace(/^# /, ""));
  };
  stream.on("test:stdout", collect);
  stream.on("test:diagnostic", collect);
  // A crash of a test file explains itself on its standard error.
  stream.on("test:stderr", ({ message }) => process.stderr.write(message));
  for await (const _ of stream);
}

/** Runs what failed once more, alone, and counts that instead. A few files: where many fail, nothing is unsteady. */
async function secondTry() {
  const again = [...countsOf].filter(([file, { failed }]) => failed > 0 && file.endsWith(".test.ts")).map(([file]) => file);
  if (again.length > 3) return;
  for (const file of again) {
    const first = countsOf.get(file);
    const prefix = `${path.relative(root, file)}: `;
    const before = failures.filter((name) => name.startsWith(prefix));
    failures = failures.filter((name) => !name.startsWith(prefix));
    counts.passed -= first.passed;
    counts.failed -= first.failed;
    countsOf.delete(file);
    console.log(`again: ${path.relative(root, file)}`);
    await tests([file], 1);
    unsteady.push(...before.filter((name) => !failures.includes(name)).map((name) => `unsteady: ${name}: failed, then passed alone`));
  }
}

async function main() {
  // What a test computes must not depend on the cards of this machine; tests that are about choosing take it away.
  process.env.SPARSE_TUNER_AUTO_DEVICE ??= "cpu";
  // Hundreds of processes start from the sources: what one has compiled, types taken out, the next one finds.
  process.env.NODE_COMPILE_CACHE ??= path.join(root, "node_modules", ".cache", "compile");
  const started = performance.now();
  const files = readdirSync(path.join(root, "test"), { recursive: true })
    .filter((file) => file.endsWith(".test.ts"))
    .map((file) => path.join(root, "test", file))
    .filter((file) => filters.length === 0 || filters.some((word) => path.relative(root, file).includes(word)))
    .sort();
  if (filters.length === 0) {
    await tool("build", "build.mjs", []);
    await tool("lint and format", "node_modules/@biomejs/biome/bin/biome", ["check", "--error-on-warnings", "--colors=off", "."]);
    // Code of Node, code of the webviews, and tests that hold code of both.
    for (const project of [".", "webview", "test/tsconfig.browser.json"])
      await tool(`types of ${project}`, "node_modules/typescript/bin/tsc", ["--noEmit", "--pretty", "false", "-p", project]);
  }
  if (files.length === 0) report(false, "test files", 0, `No file under test/ matches ${filters.join(", ") || "*.test.ts"}.`);
  // The end-to-end tests drive a whole VS Code and a browser: one at a time, when nothing else runs.
  const isEndToEnd = (file) => path.relative(root, file).startsWith(path.join("test", "e2e"));
  const [endToEnd, others] = [files.filter(isEndToEnd), files.filter((file) => !isEndToEnd(file))];
  if (others.length > 0) await tests(others, 2);
  if (endToEnd.length > 0) await tests(endToEnd, 1);
  if (process.env.CI) await secondTry();

  if (notRun.size > 0) console.log(`\n${[...notRun].sort().join("\n")}`);
  if (unsteady.length > 0) console.log(`\n${unsteady.join("\n")}`);
  if (failures.length > 0) console.log(`\nFailed:\n${failures.map((name) => `  ${name}`).join("\n")}`);
  console.log(`\n${((performance.now() - started) / 1000).toFixed(0)} s on Node ${process.versions.node}`);
  console.log(`${counts.passed} passed, ${counts.failed} failed`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}

let node = null;
try {
  node = developmentNode();
} catch (error) {
  console.error(error.message);
  console.log("0 passed, 1 failed");
  process.exitCode = 1;
}
if (node === process.execPath) await main();
else if (node) process.exitCode = spawnSync(node, process.argv.slice(1), { stdio: "inherit" }).status ?? 1;
