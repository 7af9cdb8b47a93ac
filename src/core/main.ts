/**
 * The core as a process of its own, which a host starts, watches and commands over a socket: `core.js RUN_FOLDER [--resume] [--nonce N]`.
 * The same session as on the command line, without a terminal: what happens stands in the run folder. `--create RUN.yaml` checks a run file, makes its
 * run folder, prints {"runFolder"} or {"failed"} as JSON and ends. `--serve` answers a host on standard input and output about everything that is no live
 * run (service/serve.ts).
 * `--create-comparison COMPARE.yaml` and `--compare FOLDER` do the same for a comparison (compare/), which has no socket: it is watched by its files.
 * The rule to keep: it belongs to the run folder, not to who started it; no signal of a terminal and no lost host ends it.
 */
import { randomUUID } from "node:crypto";
import path from "node:path";
import { parseArgs } from "node:util";
import { parseRunFile, stringifyRunConfig } from "../protocol/runConfig.ts";
import { runNameOf } from "../protocol/runName.ts";
import { UserError } from "../protocol/userError.ts";
import { readEvents } from "./files/eventLog.ts";
import { createRunFolder, requireRunFolder, runFiles } from "./files/runFolder.ts";
import { readText } from "./files/textFile.ts";
import { CoreHost } from "./host/coreHost.ts";
import { checkRun } from "./prepare.ts";
import { runSession } from "./session.ts";

const options = {
  create: { type: "boolean", default: false },
  "create-comparison": { type: "boolean", default: false },
  compare: { type: "boolean", default: false },
  serve: { type: "boolean", default: false },
  resume: { type: "boolean", default: false },
  "accept-changes": { type: "boolean", default: false },
  nonce: { type: "string" },
  "stop-when-alone": { type: "string" },
  "record-frames": { type: "boolean", default: false },
} as const;

/** Runs the process; resolves to its exit code. */
export async function main(args: string[]): Promise<number> {
  const { values, positionals } = parseArgs({ args, options, allowPositionals: true });
  if (values.serve) return (await import("./service/serve.ts")).serve();
  if (positionals.length !== 1) throw badUsage("Exactly one run folder is needed, or with --create one run file.");
  if (values.create) return create(positionals[0]);
  if (values["create-comparison"]) return (await import("./compare/coreComparison.ts")).createFromFile(positionals[0]);
  if (values.compare) return (await import("./compare/coreComparison.ts")).workOnComparison(path.resolve(positionals[0]));
  const nonce = values.nonce ?? randomUUID();
  if (!/^[0-9A-Za-z-]{8,64}$/.test(nonce)) throw badUsage("--nonce must be 8 to 64 letters, digits or dashes.");
  const alone = values["stop-when-alone"];
  if (alone !== undefined && !/^\d{1,9}$/.test(alone)) throw badUsage("--stop-when-alone must be milliseconds.");
  const host = { nonce, stopWhenAloneMs: alone === undefined ? null : Number(alone), recordFrames: values["record-frames"] };
  return work(path.resolve(positionals[0]), host, values.resume ? { acceptChanges: values["accept-changes"] } : null);
}

function badUsage(message: string): UserError {
  return new UserError("core/usage", message, "The extension starts this program; people use sparse-tuner.");
}

/** Everything that a run file can be refused for is found here, while who asked is still listening. */
async function create(runFile: string): Promise<number> {
  const config = parseRunFile(await readText(runFile), runFile);
  const { base } = await checkRun(config);
  await base.close();
  const runFolder = await createRunFolder(config.output, runNameOf(runFile), stringifyRunConfig(config));
  process.stdout.write(`${JSON.stringify({ runFolder })}\n`);
  return 0;
}

type HostOptions = Omit<ConstructorParameters<typeof CoreHost>[0], "runFolder">;

async function work(runFolder: string, hostOptions: HostOptions, resume: { acceptChanges: boolean } | null): Promise<number> {
  await requireRunFolder(runFolder);
  await requireOpenEnd(runFolder, resume !== null);
  const host = new CoreHost({ runFolder, ...hostOptions });
  stopOnSignals(host);
  try {
    const file = path.join(runFolder, runFiles.config);
    const checked = await checkRun(parseRunFile(await readText(file), file), runFolder);
    const outcome = await runSession(checked, runFolder, { ...host.sessionOptions(), resume });
    await host.end({ outcome });
    return 0;
  } catch (error) {
    await host.end({ outcome: "failed", error: described(error) });
    throw error;
  }
}

/** A run is begun once, and resumed until it is done. */
async function requireOpenEnd(runFolder: string, resume: boolean): Promise<void> {
  const events = await readEvents(runFolder);
  if (events.some(({ kind }) => kind === "done")) throw new UserError("run/finished", `${runFolder} is finished.`, "Start a new run.");
  if (!resume && events.length > 0) throw new UserError("run/begun", `${runFolder} has been begun already.`, "Resume it.");
}

/** SIGTERM asks for a stop as a host would, a second one ends the process; the terminal of who started it is not this process's. */
function stopOnSignals(host: CoreHost): void {
  process.on("SIGHUP", () => {});
  for (const signal of ["SIGTERM", "SIGINT"] as const)
    process.on(signal, () => {
      if (host.steering.stopRequested()) process.exit(signal === "SIGTERM" ? 143 : 130);
      host.steering.command("stop", randomUUID(), signal);
    });
}

function described(error: unknown): { code: string; message: string; action: string } {
  if (error instanceof UserError) return { code: error.code, message: error.message, action: error.action };
  return { code: "internal", message: error instanceof Error ? error.message : String(error), action: "Look into log.txt of the run folder." };
}

const args = process.argv.slice(2);
try {
  process.exitCode = await main(args);
} catch (error) {
  // A host that is still waiting for this process to begin reads the last line; people read the trace above it.
  if (!(error instanceof UserError) && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  (args.some((word) => word.startsWith("--create")) ? process.stdout : process.stderr).write(`${JSON.stringify({ failed: described(error) })}\n`);
  process.exitCode = error instanceof UserError && error.badInput ? 2 : 1;
}
