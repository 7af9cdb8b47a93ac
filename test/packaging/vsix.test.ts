/** What is in the packages: nothing but what an extension needs, everything that it needs, native code of one platform or none, and not much of ours. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { dawnFiles, localAddon, packageVsix, withoutRelativeLinks } from "../../package.mjs";
import { crossAddonIsFresh, crossAddonPath, crossTargets } from "../../src/core/devices/cpu/native/cross.mjs";
import { nativeFormat, nativeFormats } from "./nativeFormat.ts";
import { readZip, type ZipEntry } from "./zip.ts";

const root = path.resolve(import.meta.dirname, "../..");
const here = `${process.platform}-${process.arch}`;
const addonEntry = (platform: string) => `extension/dist/native/${platform}/sparse_tuner_cpu.node`;
/** Dawn's files in a platform's package: its libraries, and what comes with them. */
function dawnEntries(platform: string): { libraries: string[]; others: string[] } {
  const folder = `extension/dist/webgpu/dist/${platform.startsWith("darwin") ? "darwin-universal" : platform}`;
  const others = ["extension/dist/webgpu/index.js", "extension/dist/webgpu/LICENSE.md"];
  if (!platform.startsWith("win32")) return { libraries: [`${folder}/dawn.node`], others };
  const notices = ["dxcompiler-LICENSE.TXT", "dxcompiler-ThirdPartyNotices.txt"].map((name) => `${folder}/${name}`);
  return { libraries: ["d3dcompiler_47.dll", "dawn.node", "dxcompiler.dll"].map((name) => `${folder}/${name}`), others: [...others, ...notices] };
}

/** Everything that a package may hold. */
const allowed = [
  /^extension\.vsixmanifest$|^\[Content_Types\]\.xml$/,
  /^extension\/(package\.json|package\.nls(\.zh-cn)?\.json|readme\.md|changelog\.md|LICENSE\.txt|NOTICE)$/,
  /^extension\/l10n\/bundle\.l10n\.zh-cn\.json$/,
  /^extension\/dist\/(extension\.cjs|core\.js|probe\.js|analysis\.js|package\.json|THIRD-PARTY-LICENSES\.txt)$/,
  /^extension\/dist\/tfjs-backend-wasm(-simd)?\.wasm$/,
  /^extension\/dist\/webview\/(panel|inspector|tensors|compare|prune)\.(js|css)$/,
  /^extension\/dist\/native\/[a-z0-9]+-[a-z0-9]+\/sparse_tuner_cpu\.node$/,
  /^extension\/dist\/webgpu\/(index\.js|LICENSE\.md|dist\/[a-z0-9]+-[a-z0-9]+\/(dawn\.node|[\w-]+\.(dll|txt|TXT)))$/,
  /^extension\/media\/run\.schema\.json$/,
  /^extension\/media\/(icons|walkthrough)\/\w[\w-]*\.(svg|png|md)$/,
  /^extension\/media\/demo\/(demo\.sparse-tuner\.yaml|(model|data)\/[\w.-]+)$/,
];
/** What an installed extension cannot do without. */
const required = [
  ...["package.json", "package.nls.json", "package.nls.zh-cn.json", "l10n/bundle.l10n.zh-cn.json", "LICENSE.txt", "NOTICE", "readme.md"],
  ...["dist/extension.cjs", "dist/core.js", "dist/probe.js", "dist/analysis.js", "dist/package.json", "dist/THIRD-PARTY-LICENSES.txt"],
  ...["dist/tfjs-backend-wasm-simd.wasm", "dist/tfjs-backend-wasm.wasm"],
  ...["panel", "inspector", "tensors", "compare", "prune"].flatMap((name) => [`dist/webview/${name}.js`, `dist/webview/${name}.css`]),
  ...["demo.sparse-tuner.yaml", "model/model.safetensors", "model/config.json", "model/tokenizer.json", "data/gsm8k-train.jsonl"].map(
    (name) => `media/demo/${name}`,
  ),
].map((name) => `extension/${name}`);

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), "sparse-tuner-packages-"));
});
after(() => rm(folder, { recursive: true, force: true }));

/** The entries of a package, after what holds for every package has been checked. */
async function checkedPackage(target: string | null, addon: string | null): Promise<ZipEntry[]> {
  const entries = readZip(await packageVsix({ target, addon, folder }));
  const names = entries.map(({ name }) => name);
  assert.deepEqual(
    names.filter((name) => !allowed.some((pattern) => pattern.test(name))),
    [],
    "entries that nobody allowed",
  );
  assert.deepEqual(
    required.filter((name) => !names.includes(name)),
    [],
    "entries that are missing",
  );
  const dawn = target === null ? { libraries: [], others: [] } : dawnEntries(target);
  assert.deepEqual(
    names.filter((name) => /\.(node|dll|so|dylib|exe)$/.test(name)).sort(),
    [...(target === null || addon === null ? [] : [addonEntry(target)]), ...dawn.libraries].sort(),
  );
  assert.deepEqual(names.filter((name) => name.startsWith("extension/dist/webgpu/")).sort(), [...dawn.libraries, ...dawn.others].sort());
  const manifest = entry(entries, "extension.vsixmanifest").read().toString();
  assert.equal(/TargetPlatform="([^"]+)"/.exec(manifest)?.[1], target ?? undefined);
  if (target !== null && addon !== null) assert.equal(nativeFormat(entry(entries, addonEntry(target)).read()).platform, target);
  return entries;
}

function entry(entries: ZipEntry[], name: string): ZipEntry {
  const found = entries.find((candidate) => candidate.name === name);
  assert.ok(found, `${name} is not in the package`);
  return found;
}

/** Every text in a JSON value. */
function texts(value: unknown): string[] {
  if (typeof value === "string") return [value];
  return value !== null && typeof value === "object" ? Object.values(value).flatMap(texts) : [];
}

test("the package without native code is complete, and every file that its manifest names is in it", async () => {
  const entries = await checkedPackage(null, null);
  const manifest = JSON.parse(entry(entries, "extension/package.json").read().toString());
  for (const key of ["scripts", "dependencies", "devDependencies", "optionalDependencies", "files"]) assert.equal(manifest[key], undefined, key);
  const named = texts([manifest.main, manifest.icon, manifest.contributes]).filter((text) => /^(\.\/)?(media|dist|l10n)\/[\w./-]+$/.test(text));
  assert.ok(named.length >= 3, `only ${named}`);
  for (const file of named) entry(entries, path.posix.join("extension", file));
});

test("extension, webviews and core take less than 3 MB of the package", async () => {
  const entries = await checkedPackage(null, null);
  const programs = entries.filter(({ name }) => /^extension\/dist\//.test(name));
  const bytes = programs.reduce((sum, { compressedBytes }) => sum + compressedBytes, 0);
  assert.ok(bytes > 100_000 && bytes < 3e6, `${bytes} bytes`);
});

test("the package of this platform holds its native code", async (context) => {
  const addon = localAddon();
  if (addon === null) return context.skip("not run: no compiler has built the native addon here");
  await checkedPackage(here, addon);
});

for (const platform of Object.keys(crossTargets)) {
  test(`the cross-built addon for ${platform} is what it says`, async (context) => {
    if (!(await crossAddonIsFresh(platform)))
      return context.skip(`not run: the addon for ${platform} was not cross-built from these sources: npm run package -- --target ${platform}`);
    const bytes = readFileSync(crossAddonPath(platform));
    const format = nativeFormat(bytes);
    assert.equal(format.platform, platform);
    assert.ok(bytes.includes("napi_register_module_v1"));
    if (platform.startsWith("linux")) assert.ok(format.glibcMinor > 0 && format.glibcMinor <= 28, `glibc 2.${format.glibcMinor}`);
    if (platform === "darwin-arm64") assert.ok(format.signed);
    // Node's own functions, and no runtime library that a plain Windows lacks.
    if (platform.startsWith("win32"))
      assert.deepEqual(format.imports.map((name) => name.toUpperCase()).sort(), ["KERNEL32.DLL", "MSVCRT.DLL", "NODE.EXE"]);
    await checkedPackage(platform, crossAddonPath(platform));
  });
}

for (const platform of Object.keys(crossTargets)) {
  test(`Dawn for ${platform} is complete, and what it says`, async () => {
    const files = (await dawnFiles(platform)).map((name) => `extension/dist/webgpu/${name}`);
    const { libraries, others } = dawnEntries(platform);
    assert.deepEqual(files.sort(), [...libraries, ...others].sort());
    for (const library of libraries) {
      const formats = nativeFormats(readFileSync(path.join(root, "node_modules/webgpu", library.slice("extension/dist/webgpu/".length))));
      const format = formats.find((candidate) => candidate.platform === platform);
      assert.ok(format, `${library} is for ${formats.map((other) => other.platform)}`);
      // What the error says that a system needs.
      if (platform.startsWith("linux")) assert.ok(format.glibcMinor > 0 && format.glibcMinor <= 34, `glibc 2.${format.glibcMinor}`);
      if (platform === "darwin-arm64") assert.ok(format.signed);
    }
  });
}

test("the package for Windows holds Dawn with the compilers of its shaders", async () => {
  await checkedPackage("win32-x64", null);
});

test("a library is told by its bytes alone", () => {
  assert.throws(() => nativeFormat(Buffer.from("#!/usr/bin/env node\n".padEnd(100))), /no native library/);
  const addon = Object.keys(crossTargets).map(crossAddonPath).find(existsSync) ?? localAddon();
  if (addon === null) return;
  const bytes = Buffer.from(readFileSync(addon));
  if (bytes.readUInt32BE(0) !== 0x7f454c46) return;
  bytes.writeUInt16LE(183 + 62 - bytes.readUInt16LE(18), 18);
  assert.notEqual(nativeFormat(bytes).platform, nativeFormat(readFileSync(addon)).platform);
});

test("the packaged README has no link that leads nowhere", () => {
  const text = withoutRelativeLinks("![a](b.svg)\nsee [the map](ARCHITECTURE.md), [paper](https://example.org/x), [below](#below)");
  assert.equal(text, "see the map, [paper](https://example.org/x), [below](#below)");
  const packaged = withoutRelativeLinks(readFileSync(path.join(root, "README.md"), "utf8"));
  assert.doesNotMatch(packaged, /\]\((?!https?:|#)/);
});
