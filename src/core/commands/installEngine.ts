/**
 * `sparse-tuner doctor --install tensorflow`: puts @tensorflow/tfjs-node-gpu into this user's data folder, where the TensorFlow device finds it. How that is
 * done is src/install's business; here is what a terminal is told, and Ctrl-C.
 */
import os from "node:os";
import { userEngineFolder } from "../../install/engineFolder.ts";
import { type EngineLock, enginePackage, engineVersion } from "../../install/engineLock.ts";
import { type EngineProgress, installTensorflow } from "../../install/installTensorflow.ts";
import { findNpm } from "../../install/npmProgram.ts";
import { formatBytes } from "../terminal/format.ts";
import { styleOf, type TerminalStyle } from "../terminal/style.ts";
import { listenForStop } from "./stopSignal.ts";

/** What `doctor --install tensorflow` was asked for. */
export interface InstallEngineCommand {
  /** Where packages are fetched from; null: npm's own, or the environment's npm_config_registry. */
  registry: string | null;
  /** Prints what npm and the package's script say. */
  verbose: boolean;
}

/** Installs it and says what it computes on. Exit code 0, or the signal's that stopped it. Throws UserError. */
export async function installEngine({ registry, verbose }: InstallEngineCommand, lock?: EngineLock): Promise<number> {
  const { platform, env } = process;
  const npm = findNpm({ node: process.execPath });
  const screen = new Line(process.stderr, styleOf(process.stderr));
  screen.say(`Installing ${enginePackage} ${engineVersion} ${npm ? "with npm" : "without npm, because none is on the PATH"}`);
  const giveUp = new AbortController();
  const stop = listenForStop(() => giveUp.abort());
  try {
    const { folder, onCard } = await installTensorflow({
      folder: userEngineFolder({ platform, env, home: os.homedir() }),
      node: process.execPath,
      npm,
      registry: registry ?? (npm ? null : (env.npm_config_registry ?? null)),
      proxy: {},
      signal: giveUp.signal,
      lock,
      onProgress: (progress) => screen.show(progress.phase, progressText(progress)),
      onLine: verbose ? (line) => screen.say(line) : undefined,
    });
    screen.end();
    process.stdout.write(`${enginePackage} ${engineVersion} lies in ${folder} and computes on the ${onCard ? "graphics card" : "processor"}.\n`);
    return 0;
  } catch (error) {
    screen.end();
    if (stop.exitCode === null) throw error;
    screen.say("Stopped. What was installed before is unchanged.");
    return stop.exitCode;
  } finally {
    stop.close();
  }
}

/** How far it is, e.g. `packages: 12 of 127`. */
export function progressText({ phase, done, total }: EngineProgress): string {
  if (phase === "packages") return `packages: ${done} of ${total}`;
  return phase === "library" ? `libtensorflow and its binding: ${formatBytes(done)}` : "trying it";
}

/** One line that is redrawn; where nobody watches, one line a phase. */
class Line {
  readonly #stream: NodeJS.WritableStream;
  readonly #interactive: boolean;
  #phase = "";
  #open = false;

  constructor(stream: NodeJS.WritableStream, { interactive }: TerminalStyle) {
    this.#stream = stream;
    this.#interactive = interactive;
  }

  show(phase: string, text: string): void {
    if (this.#interactive) this.#stream.write(`\r\x1b[2K${text}`);
    else if (phase !== this.#phase) this.#stream.write(`${text}\n`);
    this.#open = this.#interactive;
    this.#phase = phase;
  }

  say(text: string): void {
    this.end();
    this.#stream.write(`${text}\n`);
  }

  end(): void {
    if (this.#open) this.#stream.write("\n");
    this.#open = false;
  }
}
