/**
 * Packages the extension: `npm run package` makes a VSIX for this platform and one without native code; `-- --all` makes one for every platform, with addons
 * cross-built by zig; `-- --target linux-arm64` makes that one. They land in dist/vsix/. Plain JavaScript for Node ≥ 20.
 * The rules to keep: what goes in is named in .vscodeignore, an allow-list; a package holds the native code of its own platform or none: the CPU's addon, and
 * Dawn for graphics cards.
 */
import { spawn } from "node:child_process";
import { existsSync, realpathSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build, nodeVersionProblem } from "./build.mjs";
import { buildCrossAddon, crossTargets } from "./src/core/devices/cpu/native/cross.mjs";

const root = path.dirname(fileURLToPath(import.meta.url));
const dawn = path.join(root, "node_modules/webgpu");

/** What a VSIX is made of, before .vscodeignore has chosen from it. */
const sources = ["CHANGELOG.md", "LICENSE", "NOTICE", ".vscodeignore", "package.nls.json", "package.nls.zh-cn.json", "l10n", "media"];
const built = [
  "extension.cjs",
  "core.js",
  "probe.js",
  "analysis.js",
  "tfjs-backend-wasm-simd.wasm",
  "tfjs-backend-wasm.wasm",
  "package.json",
  "THIRD-PARTY-LICENSES.txt",
  "webview",
];
/** What of package.json is no business of VS Code's. */
const notShipped = [
  "scripts",
  "bin",
  "files",
  "dependencies",
  "devDependencies",
  "optionalDependencies",
  "peerDependencies",
  "peerDependenciesMeta",
  "private",
];

/**
 * Makes one VSIX from what is built.
 * @param {object} options
 * @param {string | null} options.target  VS Code's name of the platform; null: for all, without native code
 * @param {string | null} options.addon  the compiled addon of that platform
 * @param {string} [options.folder]  where the VSIX is put
 * @returns {Promise<string>} its path
 */
export async function packageVsix({ target, addon, folder = path.join(root, "dist/vsix") }) {
  if (!existsSync(path.join(root, "dist/extension.cjs"))) throw new Error("dist/extension.cjs is not there: run `npm run build` first.");
  const manifest = JSON.parse(await readFile(path.join(root, "package.json"), "utf8"));
  const vsix = path.join(folder, `${manifest.name}-${manifest.version}${target === null ? "" : `-${target}`}.vsix`);
  const stage = await mkdtemp(path.join(os.tmpdir(), "sparse-tuner-vsix-"));
  try {
    for (const name of sources) await copy(path.join(root, name), path.join(stage, name));
    for (const name of built) await copy(path.join(root, "dist", name), path.join(stage, "dist", name));
    for (const name of target === null ? [] : await dawnFiles(target)) await copy(path.join(dawn, name), path.join(stage, "dist/webgpu", name));
    if (addon !== null) await copy(addon, path.join(stage, "dist/native", target, "sparse_tuner_cpu.node"));
    for (const key of notShipped) delete manifest[key];
    await writeFile(path.join(stage, "package.json"), `${JSON.stringify(manifest, null, 2)}\n`);
    await writeFile(path.join(stage, "README.md"), withoutRelativeLinks(await readFile(path.join(root, "README.md"), "utf8")));
    await mkdir(folder, { recursive: true });
    // Who reads it meanwhile has a whole one.
    const fresh = `${vsix}.${process.pid}`;
    await vsce(stage, [...(target === null ? [] : ["--target", target]), "--out", fresh]);
    await rename(fresh, vsix);
    return vsix;
  } finally {
    await rm(stage, { recursive: true, force: true });
  }
}

async function copy(from, to) {
  if (existsSync(from)) await cp(from, to, { recursive: true });
}

/**
 * Files of the npm package webgpu that a platform's package carries: what loads Dawn, its licence, and one folder of binaries. None where there is no Dawn
 * for the platform; throws a sentence where the npm package is not installed.
 */
export async function dawnFiles(target) {
  if (!existsSync(dawn)) throw new Error("The npm package webgpu is not installed: run `npm ci --include=dev --include=optional` and package again.");
  // Apple's two processors share a file.
  const folder = target.startsWith("darwin") ? "dist/darwin-universal" : `dist/${target}`;
  if (!existsSync(path.join(dawn, folder))) return [];
  return ["index.js", "LICENSE.md", ...(await readdir(path.join(dawn, folder))).map((name) => `${folder}/${name}`)];
}

/** The README is shown where the repository's files are not: links to them become text, pictures of them go. */
export function withoutRelativeLinks(markdown) {
  const relative = "(?![a-z]+:|#)[^)]*";
  return markdown
    .replace(new RegExp(`^!\\[[^\\]]*\\]\\(${relative}\\)\\n?`, "gm"), "")
    .replace(new RegExp(`!\\[([^\\]]*)\\]\\(${relative}\\)`, "g"), "")
    .replace(new RegExp(`\\[([^\\]]*)\\]\\(${relative}\\)`, "g"), "$1");
}

function vsce(folder, options) {
  const program = path.join(root, "node_modules/@vscode/vsce/vsce");
  const fixed = ["package", "--no-dependencies", "--allow-missing-repository", "--no-rewrite-relative-links"];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [program, ...fixed, ...options], { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
    child.on("error", reject);
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`vsce ended with ${code}: ${said.trim()}`))));
  });
}

/** The addon that this machine's compiler has built, or null. */
export function localAddon() {
  const file = path.join(root, "dist/native", `${process.platform}-${process.arch}`, "sparse_tuner_cpu.node");
  return existsSync(file) ? file : null;
}

async function report(vsix, proof) {
  console.log(`${path.relative(root, vsix)}  ${((await stat(vsix)).size / 1e6).toFixed(2)} MB  ${proof}`);
}

async function main() {
  const { values } = parseArgs({ options: { all: { type: "boolean", default: false }, target: { type: "string", multiple: true, default: [] } } });
  const here = `${process.platform}-${process.arch}`;
  const targets = values.all ? Object.keys(crossTargets) : values.target;
  const unknown = targets.find((target) => !(target in crossTargets));
  if (unknown) throw new Error(`There is no target ${unknown}; there are ${Object.keys(crossTargets).join(", ")}.`);
  await build();
  for (const target of targets) {
    const proof = target === here ? "native code for glibc 2.28 or newer" : "native code cross-built and not run on this machine: unproven";
    await report(
      await packageVsix({ target, addon: await buildCrossAddon(target) }),
      target.startsWith("linux") || target !== here ? proof : "native code",
    );
  }
  if (targets.length === 0 && localAddon())
    await report(await packageVsix({ target: here, addon: localAddon() }), "native code by this machine's compiler");
  if (targets.length === 0 || values.all) await report(await packageVsix({ target: null, addon: null }), "every platform, without native code");
}

if (process.argv[1] && fileURLToPath(import.meta.url) === realpathSync(process.argv[1])) {
  try {
    const problem = nodeVersionProblem();
    if (problem) throw new Error(problem);
    await main();
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
  }
}
