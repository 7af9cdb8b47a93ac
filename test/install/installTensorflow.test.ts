/**
 * The TensorFlow engine's installation from a registry and a storage host on 127.0.0.1, by npm and without one: what is in place afterwards, and that what was
 * in place before stays, with nothing beside it, when a download fails, hangs, has another hash, is cancelled, or what came does not compute.
 */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { type TestContext, test } from "node:test";
import { engineIn, userEngineFolder } from "../../src/install/engineFolder.ts";
import { engineLock, enginePackage, engineVersion, packagesOf } from "../../src/install/engineLock.ts";
import { type EngineProgress, type InstallEngineOptions, installTensorflow } from "../../src/install/installTensorflow.ts";
import { findNpm } from "../../src/install/npmProgram.ts";
import { temporaryFolder } from "../core/run/smallRuns.ts";
import { standInLock, standInRegistry, standInStorage } from "../support/standInEngine.ts";

const root = path.resolve(import.meta.dirname, "../..");
const npm = findNpm({ node: process.execPath });
const ways = ["npm", "no npm"] as const;
type Way = (typeof ways)[number];
const skipped = (way: Way) => way === "npm" && npm === null && "not run: no npm is on the PATH";

interface Hosts {
  registry: { registry: string };
  storage: { registry: string };
}

/** Options for an installation from these hosts; npm's cache and settings are the test's own. */
function optionsFor(t: TestContext, way: Way, { registry, storage }: Hosts, more: Partial<InstallEngineOptions> = {}): InstallEngineOptions {
  const home = temporaryFolder(t);
  const PATH = way === "npm" ? process.env.PATH : "";
  const env = {
    HOME: home,
    PATH,
    TFJS_NODE_CDN_STORAGE: `${storage.registry}/mirror`,
    npm_config_cache: path.join(home, "cache"),
    npm_config_loglevel: "notice",
  };
  return {
    folder: path.join(home, "tensorflow"),
    node: process.execPath,
    npm: findNpm({ node: process.execPath, env }),
    registry: registry.registry,
    proxy: { env: {} },
    signal: new AbortController().signal,
    lock: standInLock(),
    env,
    ...more,
  };
}

async function hosts(t: TestContext): Promise<Hosts & { registry: { asked: string[] }; storage: { asked: string[] } }> {
  return { registry: await standInRegistry(t), storage: await standInStorage(t) };
}

const left = (folder: string) => (existsSync(folder) ? readdirSync(folder).sort() : []);
const libraryOf = (folder: string) => readFileSync(path.join(engineIn(folder), "node_modules", enginePackage, "deps/lib/library"), "utf8");

test("the compiled lock pins what package.json names, each package with its hash, and no registry", () => {
  const manifest = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  assert.deepEqual(manifest.peerDependencies, { [enginePackage]: engineVersion });
  assert.deepEqual(manifest.peerDependenciesMeta, { [enginePackage]: { optional: true } });
  assert.equal(engineLock.packages[""].dependencies?.[enginePackage], engineVersion);
  const packages = packagesOf(engineLock);
  assert.ok(packages.length > 100);
  for (const { integrity, place } of packages) assert.match(integrity, /^sha512-[A-Za-z0-9+/]{86}==$/, place);
  assert.equal(packages.find(({ place }) => place.endsWith("tfjs-core"))?.version, manifest.dependencies["@tensorflow/tfjs-core"]);
  assert.doesNotMatch(JSON.stringify(engineLock), /https?:/);
  const locked = JSON.parse(readFileSync(path.join(root, "package-lock.json"), "utf8")).packages;
  assert.equal(locked[`node_modules/${enginePackage}`]?.optional ?? true, true);
});

for (const way of ways)
  test(`by ${way}: packages, library and binding come, are tried, and lie in place; a second one replaces it`, { skip: skipped(way) }, async (t) => {
    const { registry, storage } = await hosts(t);
    const seen: EngineProgress[] = [];
    const options = optionsFor(t, way, { registry, storage }, { onProgress: (progress) => seen.push(progress) });
    assert.equal(options.npm !== null, way === "npm");
    mkdirSync(path.join(options.folder, ".installing-old"), { recursive: true });
    utimesSync(path.join(options.folder, ".installing-old"), 0, 0);
    assert.deepEqual(await installTensorflow(options), { folder: engineIn(options.folder), version: "4.22.0", onCard: false });
    assert.deepEqual(left(options.folder), ["engine"]);
    assert.equal(libraryOf(options.folder), "library");
    const engine = createRequire(path.join(engineIn(options.folder), "package.json"))(enginePackage);
    assert.equal(engine.getBackend(), "tensorflow");
    const of = (phase: EngineProgress["phase"]) => seen.filter((progress) => progress.phase === phase);
    assert.deepEqual(of("packages")[0], { phase: "packages", done: 0, total: 2 });
    assert.equal(seen.at(-1)?.phase, "try");
    assert.deepEqual(storage.asked, ["/mirror/tensorflow/libtensorflow/libtensorflow-gpu.gz", "/mirror/tf-builds/pre-built-binary/binding"]);
    assert.ok(registry.asked.includes("/@tensorflow/tfjs-node-gpu/-/tfjs-node-gpu-4.22.0.tgz"));

    const better = await standInStorage(t, { library: "better", binding: "card" });
    const mirror = `${better.registry}/mirror/`;
    const again = await installTensorflow({ ...options, env: { ...options.env, TFJS_NODE_CDN_STORAGE: mirror } });
    assert.equal(again.onCard, true);
    assert.equal(libraryOf(options.folder), "better");
    assert.deepEqual(left(options.folder), ["engine"]);
  });

for (const way of ways)
  test(`by ${way}: what fails says why, and the installation before stays`, { skip: skipped(way) }, async (t) => {
    const good = await hosts(t);
    const options = optionsFor(t, way, good);
    await installTensorflow(options);
    const withStorage = (storage: { registry: string }) => ({
      ...options,
      env: { ...options.env, TFJS_NODE_CDN_STORAGE: `${storage.registry}/mirror` },
    });
    const unreachable = { registry: "http://127.0.0.1:1" };
    const missing = await standInStorage(t, { answer: (_, response) => Boolean(response.writeHead(404).end("<html>no</html>")) });
    const noBinding = await standInStorage(t, {
      answer: (url, response) => url.endsWith("binding") && Boolean(response.writeHead(404).end("no")),
    });
    const broken = await standInStorage(t, { library: "broken" });
    const lock = standInLock();
    lock.packages["node_modules/stand-in-place"].integrity = `sha512-${Buffer.alloc(64).toString("base64")}`;
    const cases: [string, InstallEngineOptions, RegExp, string][] = [
      ["nobody answers", withStorage(unreachable), /ECONNREFUSED/, "tensorflow/install-failed"],
      ["an error page", withStorage(missing), /incorrect header check/, "tensorflow/install-failed"],
      ["no binding", withStorage(noBinding), /response status 404/, "tensorflow/install-failed"],
      ["it does not load", withStorage(broken), /cannot be used: .*libcudnn\.so\.8: cannot open/, "tensorflow/install-failed"],
      [
        "wrong hash",
        { ...options, lock, env: { ...options.env, npm_config_cache: path.join(options.folder, "../fresh") } },
        /integrity|another hash/i,
        "",
      ],
    ];
    for (const [name, given, message, code] of cases) {
      const error = await installTensorflow(given).then(
        () => assert.fail(name),
        (error) => error,
      );
      assert.match(`${name}: ${error.message}`, message);
      if (code) assert.equal(error.code, code, name);
      assert.deepEqual(left(options.folder), ["engine"], name);
      assert.equal(libraryOf(options.folder), "library", name);
    }
  });

for (const way of ways)
  test(`by ${way}: cancelled while packages or the library come, it ends with its children and leaves nothing`, { skip: skipped(way) }, async (t) => {
    for (const host of ["registry", "storage"] as const) {
      const controller = new AbortController();
      let closed: Promise<unknown> = Promise.resolve();
      const hang = (url: string, response: import("node:http").ServerResponse) => {
        if (!/\.t?gz$/.test(url)) return false;
        closed = new Promise((resolve) => response.once("close", resolve));
        response.writeHead(200, { "content-length": 1000 });
        response.write("x", () => controller.abort());
        return true;
      };
      const registry = await standInRegistry(t, host === "registry" ? hang : undefined);
      const storage = await standInStorage(t, host === "storage" ? { answer: hang } : {});
      const options = optionsFor(t, way, { registry, storage }, { signal: controller.signal });
      await assert.rejects(installTensorflow(options), { name: "AbortError" }, host);
      await closed;
      assert.deepEqual(left(options.folder), [], host);
    }
  });

test("a storage host that sends nothing more is given up", async (t) => {
  const registry = await standInRegistry(t);
  const storage = await standInStorage(t, { answer: (_, response) => Boolean(response.writeHead(200).write("x")) });
  const options = optionsFor(t, "no npm", { registry, storage }, { idleMs: 300 });
  await assert.rejects(installTensorflow(options), { code: "tensorflow/hangs" });
  assert.deepEqual(left(options.folder), []);
});

test("without npm a registry must be named, and one that is none is refused", async (t) => {
  const { registry, storage } = await hosts(t);
  const options = optionsFor(t, "no npm", { registry, storage });
  await assert.rejects(installTensorflow({ ...options, registry: null }), { code: "tensorflow/no-registry" });
  await assert.rejects(installTensorflow({ ...options, registry: "ftp://127.0.0.1" }), { code: "package/bad-registry" });
  assert.deepEqual(left(options.folder), []);
});

test("an archive that leads out of its package writes nothing there", async (t) => {
  const { gzipSync } = await import("node:zlib");
  const { integrityOf, tar } = await import("../support/packedRuntime.ts");
  for (const name of ["package/../../evil", "/evil", "package/a\\..\\..\\evil", "package/c:evil"]) {
    const bytes = gzipSync(tar([{ name, text: "evil" }]));
    const registry = await standInRegistry(t, (url, response) => url.endsWith(".tgz") && Boolean(response.end(bytes)));
    const options = optionsFor(t, "no npm", { registry, storage: await standInStorage(t) });
    const lock = standInLock();
    for (const one of Object.values(lock.packages)) if (one.integrity) one.integrity = integrityOf(bytes);
    await assert.rejects(installTensorflow({ ...options, lock }), { code: "package/bad-archive", message: /leads out of the package/ });
    assert.deepEqual(left(options.folder), [], name);
  }
});

test("npm is found by the PATH alone, outside of workspaces, and run by the chosen Node", { skip: process.platform === "win32" }, (t) => {
  const folder = temporaryFolder(t);
  const script = path.join(folder, "lib", "npm-cli.js");
  const bin = path.join(folder, "bin");
  for (const made of [path.dirname(script), bin]) mkdirSync(made, { recursive: true });
  writeFileSync(script, "");
  const find = (PATH: string, workspaceFolders: string[] = []) => findNpm({ node: "/the/node", env: { PATH }, workspaceFolders });
  assert.equal(find(bin), null);
  assert.equal(find(""), null);
  symlinkSync(script, path.join(bin, "npm"));
  assert.deepEqual(find(`relative:${bin}`), { program: "/the/node", args: [script] });
  assert.equal(find(path.relative(process.cwd(), bin)), null);
  assert.equal(find(bin, [path.join(folder, "lib")]), null);
  const managed = path.join(folder, "managed");
  mkdirSync(managed);
  writeFileSync(path.join(managed, "npm"), "#!/bin/sh\n", { mode: 0o755 });
  assert.deepEqual(find(managed), { program: path.join(managed, "npm"), args: [] });
});

test("the user's folder lies where each system keeps such data", () => {
  const home = "/home/u";
  const of = (platform: string, env = {}) => userEngineFolder({ platform, env, home }).replaceAll("\\", "/");
  assert.equal(of("linux"), "/home/u/.local/share/sparse-tuner/tensorflow");
  assert.equal(of("linux", { XDG_DATA_HOME: "/data" }), "/data/sparse-tuner/tensorflow");
  assert.equal(of("linux", { XDG_DATA_HOME: "data" }), "/home/u/.local/share/sparse-tuner/tensorflow");
  assert.equal(of("darwin"), "/home/u/Library/Application Support/sparse-tuner/tensorflow");
  assert.equal(of("win32", { LOCALAPPDATA: "/l" }), "/l/sparse-tuner/tensorflow");
});
