/**
 * Packages of Debian that tests need: a browser, a software graphics card.
 * The rule to keep: only as root with CI=true is anything installed; a person is told the command.
 */
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";

export function installCommand(packages: readonly string[]): string {
  return `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
}

export function mayInstall(env: NodeJS.ProcessEnv = process.env): boolean {
  return env.CI === "true" && process.getuid?.() === 0 && existsSync("/usr/bin/apt-get");
}

/** Installs them, waiting for whoever else installs. Throws when that fails. */
export function installPackages(packages: readonly string[], env: NodeJS.ProcessEnv = process.env): void {
  const run = (...words: string[]) =>
    execFileSync("/usr/bin/apt-get", ["-o", "DPkg::Lock::Timeout=240", ...words], {
      env: { ...env, DEBIAN_FRONTEND: "noninteractive" },
      stdio: ["ignore", "ignore", "pipe"],
      timeout: 300_000,
    });
  run("update", "-q");
  run(...installCommand(packages).split(" ").slice(1));
}
