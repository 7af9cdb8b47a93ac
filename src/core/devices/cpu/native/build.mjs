/**
 * Compiles the CPU addon with the C++ compiler at hand, without node-gyp: nothing is fetched. Plain JavaScript for Node ≥ 20.
 * Files that hold kernels of one instruction set get that set's flags and nobody else does; isa.cc decides at run time which may be used.
 * The rule to keep: a missing compiler or a failed compilation is an answer, { reason }, never an exception.
 */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
export const root = path.resolve(here, "../../../../..");
const headers = path.join(root, "node_modules/node-api-headers/include");

const common = ["-std=c++17", "-O3", "-DNDEBUG", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unused-function"];
/** Kernels round as the hardware multiplies and adds, and use no errno and no floating-point traps; NaN and infinity keep their meaning. */
const kernels = ["-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"];

/** Kernel files by architecture, with what each may use. */
const instructionSets = {
  x64: {
    "kernelsPortable.cc": [],
    "kernelsAvx2.cc": ["-mavx2", "-mfma"],
    "kernelsAvx512.cc": ["-mavx2", "-mfma", "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"],
  },
  arm64: { "kernelsPortable.cc": [], "kernelsNeon.cc": [] },
};

/** Runs a program to its end; rejects with what it said as `output`. */
export function run(command, args, env = process.env) {
  return new Promise((resolve, reject) => {
    execFile(command, args, { env, maxBuffer: 64 << 20 }, (error, stdout, stderr) =>
      error ? reject(Object.assign(error, { output: stderr || stdout })) : resolve(stdout),
    );
  });
}

/** The first compiler that answers, with its version, or null. */
async function findCompiler() {
  for (const compiler of process.env.CXX ? [process.env.CXX] : ["c++", "g++", "clang++"]) {
    try {
      return { compiler, version: (await run(compiler, ["--version"])).split("\n")[0] };
    } catch {
      // Not there, or not working: the next one.
    }
  }
  return null;
}

/** The C++ files of this architecture with their flags, the slowest to compile first. */
export async function sourcesFor(arch) {
  const sets = instructionSets[arch] ?? { "kernelsPortable.cc": [] };
  const files = (await readdir(here)).filter((file) => file.endsWith(".cc") && (!file.startsWith("kernels") || file in sets)).sort();
  const sources = files.map((file) => ({ file, flags: file in sets ? [...common, ...kernels, ...sets[file]] : common }));
  return sources.sort((a, b) => b.flags.length - a.flags.length);
}

/** Changes whenever another addon would come out. */
export async function hashOf(version, sources, link) {
  const hash = createHash("sha256").update(JSON.stringify([version, sources, link]));
  for (const file of (await readdir(here)).sort()) if (/\.(cc|h)$/.test(file)) hash.update(file).update(await readFile(path.join(here, file)));
  return hash.digest("hex");
}

function linkFlags() {
  if (process.platform === "darwin") return ["-shared", "-undefined", "dynamic_lookup"];
  // The runtime goes into the addon: it then runs where another version of it, or none, is installed.
  return ["-shared", "-static-libstdc++", "-static-libgcc", "-pthread"];
}

/** Compiles all files, two at a time; returns the object files. `compiler` is a program with what precedes the flags. */
export async function compileSources(compiler, sources, folder, env) {
  const queue = [...sources];
  const objects = sources.map(({ file }) => path.join(folder, file.replace(/\.cc$/, ".o")));
  const worker = async () => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      const object = path.join(folder, next.file.replace(/\.cc$/, ".o"));
      const [program, ...before] = compiler;
      await run(program, [...before, ...next.flags, "-I", headers, "-c", path.join(here, next.file), "-o", object], env);
    }
  };
  await Promise.all([worker(), worker()]);
  return objects;
}

async function compile(compiler, sources, folder, output) {
  const objects = await compileSources([compiler], sources, folder);
  const flags = linkFlags();
  try {
    await run(compiler, [...objects, ...flags, "-o", output]);
  } catch (error) {
    if (!flags.includes("-static-libstdc++")) throw error;
    await run(compiler, [...objects, ...flags.filter((flag) => !flag.startsWith("-static")), "-o", output]);
  }
}

/** Builds the addon into dist/native/<platform>-<arch>/ unless the same sources were built before. */
export async function buildAddon({ log = () => {} } = {}) {
  if (process.platform === "win32") return { reason: "on Windows the addon is not built from source" };
  const found = await findCompiler();
  if (!found) return { reason: "no C++ compiler was found; install one (g++ or clang++) or name it in CXX" };
  const sources = await sourcesFor(process.arch);
  const hash = await hashOf(found.version, sources, linkFlags());
  const folder = path.join(root, "dist/native", `${process.platform}-${process.arch}`);
  const addon = path.join(folder, "sparse_tuner_cpu.node");
  const stamp = path.join(folder, "sparse_tuner_cpu.stamp");
  const built = await readFile(stamp, "utf8").catch(() => "");
  if (built === hash && (await readFile(addon).catch(() => null))) return { path: addon };
  log(`Compiling the CPU kernels with ${found.version} …`);
  const objects = await mkdtemp(path.join(tmpdir(), "sparse-tuner-build-"));
  try {
    await mkdir(folder, { recursive: true });
    const fresh = `${addon}.${process.pid}`;
    await compile(found.compiler, sources, objects, fresh);
    // A running process keeps the file it has mapped.
    await rename(fresh, addon);
    await writeFile(stamp, hash);
    return { path: addon };
  } catch (error) {
    const lines = String(error.output ?? error.message).split("\n");
    return { reason: `the C++ compiler failed: ${lines.find((line) => /error/i.test(line)) ?? lines[0]}` };
  } finally {
    await rm(objects, { recursive: true, force: true });
  }
}
