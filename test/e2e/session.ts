/**
 * One workbench for the tests of a file: opened before the first, closed after the last. A test that fails leaves a picture and the logs.
 * The rule to keep: tests of a file follow each other in one window, as a person's actions do; a file needs nothing of another file.
 */
import { after, before, type TestContext } from "node:test";
import { localAddon } from "../../package.mjs";
import { sharedVsix } from "./vsix.ts";
import { type OpenWorkbench, startWorkbench, type WorkbenchOptions } from "./workbench.ts";

/** Turns what is done in the workbench into a test's body. */
export type InWorkbench = (body: (workbench: OpenWorkbench) => Promise<void>) => (context: TestContext) => Promise<void>;

export interface SessionOptions extends Omit<WorkbenchOptions, "vsix"> {
  vsix?: "native" | "portable";
  /** It trains for so long that the portable kernels would take many minutes. */
  longRun?: boolean;
}

/** Opens a workbench with the packaged extension for the tests of this file. */
export function workbenchSession(options: SessionOptions = {}): InWorkbench {
  let workbench: OpenWorkbench | null = null;
  const tooSlow = options.longRun && localAddon() === null;
  before(
    async () => {
      const { vsix, longRun: _, ...others } = options;
      if (tooSlow) return;
      workbench = await startWorkbench({ ...others, vsix: [await sharedVsix(vsix)] });
    },
    // The first run of all installs the VS Code server.
    { timeout: 600_000 },
  );
  after(() => workbench?.close());
  return (body) => async (context) => {
    if (tooSlow) return context.skip("not run: without native kernels this run takes too long");
    if (!workbench) throw new Error("The workbench did not open.");
    try {
      await body(workbench);
    } catch (error) {
      throw new Error(await told(workbench, context.name, error as Error));
    }
  };
}

/** What helps to understand a failure on a machine that one does not see. */
async function told({ window, logs }: OpenWorkbench, name: string, { stack, message }: Error): Promise<string> {
  const picture = await window.screenshot(`failed-${name.replaceAll(/[^\w]+/g, "-").slice(0, 60)}`).catch(() => "none");
  const lines = window.console
    .filter(({ type, text }) => type === "error" && !/Failed to load resource|ServiceWorker|A bad HTTP/.test(text))
    .slice(-10);
  const shown = lines.map(({ text, source }) => `  ${text.slice(0, 300)} (${source})`).join("\n");
  return `${stack ?? message}\nPicture: ${picture}\nConsole:\n${shown}\nLogs:\n${logs().slice(-5000)}`;
}
