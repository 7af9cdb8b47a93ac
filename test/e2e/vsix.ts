/**
 * The packaged extension that all end-to-end tests share: packaged once for a state of dist/, found again by the next test file. It builds nothing; what
 * `npm run build` has left is what is tested. The rule to keep: tests install this package, never the sources.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import { localAddon, packageVsix } from "../../package.mjs";

const root = path.resolve(import.meta.dirname, "../..");
const keptMs = 3_600_000;
const inputs = ["package.json", "package.nls.json", "package.nls.zh-cn.json", "package.mjs", ".vscodeignore", "README.md", "l10n", "media", "dist"];

/** A VSIX for this platform, with its native code where a compiler has made it; or the one without native code for all platforms. */
export async function sharedVsix(kind: "native" | "portable" = "native"): Promise<string> {
  const addon = kind === "native" ? localAddon() : null;
  const target = addon === null ? null : `${process.platform}-${process.arch}`;
  const folder = path.join(root, ".artifacts/vsix", stateOfInputs());
  const { name, version } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
  const file = path.join(folder, `${name}-${version}${target === null ? "" : `-${target}`}.vsix`);
  if (existsSync(file)) return file;
  removeOld(path.dirname(folder));
  return packageVsix({ target, addon, folder });
}

/** Packages of earlier states, once no run of the tests can still use them. */
function removeOld(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const place = path.join(folder, name);
    if (Date.now() - statSync(place).mtimeMs > keptMs) rmSync(place, { recursive: true, force: true });
  }
}

function stateOfInputs(): string {
  const hash = createHash("sha256");
  const add = (file: string) => {
    if (!existsSync(file) || /[/\\]dist[/\\](vsix|cross|cli\.js)/.test(file)) return;
    if (statSync(file).isDirectory()) for (const name of readdirSync(file).sort()) add(path.join(file, name));
    else hash.update(path.relative(root, file)).update("\0").update(readFileSync(file)).update("\0");
  };
  for (const name of inputs) add(path.join(root, name));
  return hash.digest("hex").slice(0, 16);
}
