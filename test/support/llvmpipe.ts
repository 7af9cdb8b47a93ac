/**
 * The software card that computes in f16: Mesa's llvmpipe behind the driver of llvmpipeDriver.c, which the machine's C compiler makes anew. Debian's Mesa is
 * installed as root with CI=true.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { installCommand, installPackages, mayInstall } from "./debianPackages.ts";

const packages = ["mesa-vulkan-drivers", "libvulkan1"];
const libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64"].map((folder) => `${folder}/libvulkan_lvp.so`);

/** Makes it this process's card; the folder it returns is the caller's to remove when the card is closed. Throws a sentence that says why there is none. */
export function prepareLlvmpipe(): string {
  if (process.platform !== "linux") throw new Error("llvmpipe is looked for on Linux only");
  if (!installed() && mayInstall()) installPackages(packages);
  const llvmpipe = installed();
  if (!llvmpipe) throw new Error(`there is no llvmpipe; run \`sudo ${installCommand(packages)}\``);
  const folder = mkdtempSync(path.join(os.tmpdir(), "sparse-tuner-llvmpipe-"));
  const library = path.join(folder, "driver.so");
  try {
    execFileSync(process.env.CC ?? "cc", ["-O1", "-shared", "-fPIC", "-o", library, path.join(import.meta.dirname, "llvmpipeDriver.c"), "-ldl"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
  } catch (error) {
    throw new Error(`its driver could not be compiled: ${(error as Error).message.split("\n")[0]}`);
  }
  const manifest = path.join(folder, "driver.json");
  writeFileSync(manifest, JSON.stringify({ file_format_version: "1.0.0", ICD: { library_path: library, api_version: "1.1.0" } }));
  Object.assign(process.env, { SPARSE_TUNER_LLVMPIPE: llvmpipe, VK_DRIVER_FILES: manifest });
  process.env.XDG_RUNTIME_DIR ??= folder;
  return folder;
}

function installed(): string | undefined {
  return libraries.find((library) => existsSync(library));
}
