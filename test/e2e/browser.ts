/**
 * Finds the Chrome or Chromium that shows the workbench: CHROME_PATH, the PATH, the usual places. As root with CI=true it is installed from Debian.
 * The rule to keep: nothing is installed on a person's machine; they are told the command.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { installCommand, installPackages, mayInstall } from "../support/debianPackages.ts";

const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"];
const places = [
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
  "/Applications/Chromium.app/Contents/MacOS/Chromium",
  "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
];
/** The browser, and letters for the Chinese interface. */
const debianPackages = ["chromium", "fonts-dejavu-core", "fonts-wqy-microhei"];

/** The flags of every launch: the workbench may reach 127.0.0.1 and nothing else. */
export const browserArguments = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-proxy-server",
  "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
];

/** Absolute path of the browser. Throws a sentence with the command to run when there is none. */
export function findBrowser(env: NodeJS.ProcessEnv = process.env): string {
  const given = env.CHROME_PATH;
  if (given) {
    if (existsSync(given)) return given;
    throw new Error(`CHROME_PATH names ${given}, which does not exist: correct it, or clear it to look on the PATH.`);
  }
  const found = search(env);
  if (found) return found;
  const install = installCommand(debianPackages);
  if (mayInstall(env)) {
    console.error(`Installing Chromium (about 100 MB to download): ${install}`);
    try {
      installPackages(debianPackages, env);
    } catch (error) {
      throw new Error(`Chromium could not be installed (${(error as Error).message.split("\n")[0]}): run \`apt-get update && ${install}\`.`);
    }
    const installed = search(env);
    if (installed) return installed;
  }
  const hint = process.platform === "darwin" ? "install Google Chrome" : `run \`sudo ${install}\` or install Google Chrome`;
  throw new Error(`The end-to-end tests need Chrome or Chromium and found none: ${hint}, or name one in CHROME_PATH.`);
}

function search(env: NodeJS.ProcessEnv): string | null {
  const onPath = (env.PATH ?? "").split(path.delimiter).flatMap((folder) => names.map((name) => path.join(folder, name)));
  return [...onPath, ...places].find((file) => path.isAbsolute(file) && existsSync(file)) ?? null;
}
