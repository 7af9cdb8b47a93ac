/**
 * Builds what the product runs from: the native CPU addon (where a C++ compiler is at hand), dist/cli.js, dist/core.js, dist/probe.js
 * and dist/analysis.js for plain Node ≥ 20, dist/extension.cjs for VS Code's extension host, and dist/webview/ for its webviews; one file a program.
 * Plain JavaScript, because it is the first thing a fresh clone runs, on whatever Node is there. It fetches nothing.
 * The rule to keep: a missing compiler is no failure; the command line then computes with the portable device and says so.
 */
import { existsSync, realpathSync } from "node:fs";
import { chmod, copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(fileURLToPath(import.meta.url));

/** One sentence on what to do when this Node is too old, else null. */
export function nodeVersionProblem(version = process.versions.node, minimum = 20) {
  if (Number(version.split(".")[0]) >= minimum) return null;
  return `Sparse Tuner needs Node ${minimum} or newer and this is ${version}: install a current Node from https://nodejs.org and run the same command again.`;
}

/** Compiles the addon unless asked not to; `reason` says why there is none. */
async function buildNative() {
  if (process.env.SPARSE_TUNER_NO_NATIVE === "1") return { reason: "SPARSE_TUNER_NO_NATIVE=1 is set" };
  const script = new URL("src/core/devices/cpu/native/build.mjs", import.meta.url);
  if (!existsSync(script)) return { reason: "its sources are not here" };
  const { buildAddon } = await import(script.href);
  return buildAddon({ log: (line) => console.error(line) });
}

/** Programs of plain Node: what people run, and the core that the extension starts. */
const nodeProgram = {
  platform: "node",
  target: "node20",
  format: "esm",
  // Libraries in CommonJS form call require(); an ES module has none of its own.
  // They also ask where they lie.
  banner: {
    js: 'import { createRequire as createBundleRequire } from "node:module";\nconst require = createBundleRequire(import.meta.url);\nconst __dirname = import.meta.dirname;',
  },
  // Optional engines are found at run time, where they are installed; node-fetch is of a part of tfjs-core that nothing here calls.
  external: ["webgpu", "*.node", "node-fetch"],
};
/** The oldest VS Code that is supported runs extensions on Node 20, as CommonJS. */
const extension = { platform: "node", target: "node20", format: "cjs", external: ["vscode"] };
const webview = { platform: "browser", target: "es2022", format: "esm", minify: true };

const bundles = [
  { entry: "src/core/cli.ts", outfile: "dist/cli.js", ...nodeProgram },
  { entry: "src/core/main.ts", outfile: "dist/core.js", ...nodeProgram },
  { entry: "src/core/devices/probeMain.ts", outfile: "dist/probe.js", ...nodeProgram },
  { entry: "src/core/blocks/analysisMain.ts", outfile: "dist/analysis.js", ...nodeProgram },
  { entry: "src/extension/extension.ts", outfile: "dist/extension.cjs", ...extension },
  ...["panel", "inspector", "tensors", "compare", "prune"].map((name) => ({
    entry: `webview/${name}/main.ts`,
    outfile: `dist/webview/${name}.js`,
    ...webview,
  })),
];

async function bundlePrograms() {
  const esbuild = await import("esbuild").catch(() => {
    throw new Error("esbuild is not installed: run `npm ci --include=dev --include=optional` and build again.");
  });
  await mkdir(path.join(root, "dist"), { recursive: true });
  const inputs = [];
  for (const program of bundles) inputs.push(...Object.keys(await bundle(esbuild, program)));
  await copyWasm();
  // The bundles are modules wherever dist/ is carried to.
  await writeFile(path.join(root, "dist/package.json"), '{ "type": "module" }\n');
  await chmod(path.join(root, "dist/cli.js"), 0o755);
  await writeFile(path.join(root, "dist/THIRD-PARTY-LICENSES.txt"), await licencesOf(inputs));
}

/** What the TensorFlow device computes with, beside the programs that look for it there. */
async function copyWasm() {
  for (const name of ["tfjs-backend-wasm-simd.wasm", "tfjs-backend-wasm.wasm"])
    await copyFile(path.join(root, "node_modules/@tensorflow/tfjs-backend-wasm/dist", name), path.join(root, "dist", name));
}

/** Writes one program as one file, and its style sheet beside it; returns what went into it. */
async function bundle(esbuild, { entry, ...options }) {
  const { metafile } = await esbuild.build({
    absWorkingDir: root,
    entryPoints: [entry],
    bundle: true,
    legalComments: "none",
    metafile: true,
    logLevel: "warning",
    ...options,
  });
  return metafile.inputs;
}

/** The licence texts of the packages that went into a bundle, which their licences ask to be passed on. */
async function licencesOf(inputs) {
  const packages = new Set(inputs.map((input) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input)?.[1]).filter(Boolean));
  const parts = [...packages].sort().map(async (name) => {
    const folder = path.join(root, "node_modules", name);
    const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    const text = file ? await readFile(path.join(folder, file), "utf8") : "Its package holds no licence text beyond this name.";
    return `${name} ${version} (${license})\n\n${text.trim()}\n`;
  });
  return (await Promise.all(parts)).join(`\n${"-".repeat(80)}\n\n`);
}

/** Builds everything; returns whether the addon is there. */
export async function build() {
  const native = await buildNative();
  await bundlePrograms();
  return native;
}

// realpath: a checkout behind a symbolic link has two names, and import.meta.url knows only the real one.
if (process.argv[1] && fileURLToPath(import.meta.url) === realpathSync(process.argv[1])) {
  const problem = nodeVersionProblem();
  if (problem) {
    console.error(problem);
    process.exit(1);
  }
  try {
    const native = await build();
    if (native.reason) console.error(`Built without the native addon (${native.reason}); the portable device computes instead, slower.`);
  } catch (error) {
    console.error(`Build failed: ${error.message}`);
    process.exit(1);
  }
}
