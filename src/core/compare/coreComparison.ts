/**
 * A comparison as a process of its own, for hosts: nothing on a terminal, everything in its folder. `core.js --create-comparison FILE` checks and makes the
 * folder and prints {"comparisonFolder"}; `core.js --compare FOLDER` works on it.
 * The rule to keep: a stop is asked for by a file in the folder or by SIGTERM, and answered at the next step boundary; no lost host ends it.
 */
import { parseCompareFile } from "../../protocol/compareConfig.ts";
import { log } from "../files/runFolder.ts";
import { readText } from "../files/textFile.ts";
import { checkComparison, comparisonNameOf, createComparison, openComparison, runComparison } from "./comparison.ts";

/** Everything that a comparison can be refused for is found here, while who asked is still listening. */
export async function createFromFile(file: string): Promise<number> {
  const checked = await checkComparison(parseCompareFile(await readText(file), file));
  process.stdout.write(`${JSON.stringify({ comparisonFolder: await createComparison(checked, comparisonNameOf(file)) })}\n`);
  return 0;
}

/** Works on the comparison of a folder to its end or until it is stopped. */
export async function workOnComparison(folder: string): Promise<number> {
  let stopped = false;
  process.on("SIGHUP", () => {});
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      if (stopped) process.exit(signal === "SIGTERM" ? 143 : 130);
      stopped = true;
    });
  await runComparison(folder, await openComparison(folder), {
    onLine() {},
    onRun: ({ run }) => void log(folder, `begins with ${run}`),
    onEvent() {},
    onScoring() {},
    onWaiting: (reason) => void log(folder, reason),
    stopRequested: () => stopped,
  });
  return 0;
}
