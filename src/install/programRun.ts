/**
 * Runs a program to its end with all that it starts, and keeps the end of what it says. It knows nothing of what it runs. Plain Node, no shell.
 * The rule to keep: who gives up waits until the program and its children have gone, so that nothing writes behind its back.
 */
import { spawn, spawnSync } from "node:child_process";

export interface ProgramRun {
  program: string;
  args: readonly string[];
  cwd: string;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
  /** Each line that it says. */
  onLine?(line: string): void;
}

export interface ProgramEnd {
  /** Null when a signal ended it, or it could not be started. */
  code: number | null;
  /** The last lines of both its outputs. */
  lines: string[];
}

const keptLines = 400;
const longestLine = 2000;

/** How the program ended. Throws the signal's reason when it was given up. */
export async function runProgram({ program, args, cwd, env, signal, onLine }: ProgramRun): Promise<ProgramEnd> {
  signal.throwIfAborted();
  const lines: string[] = [];
  const take = (line: string) => {
    const shown = line.trimEnd().slice(0, longestLine);
    if (shown === "") return;
    lines.push(shown);
    if (lines.length > keptLines) lines.shift();
    onLine?.(shown);
  };
  // A group of its own, so that what it starts can be ended with it.
  const group = process.platform !== "win32";
  const child = spawn(program, args, { cwd, env, detached: group, stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
  const kill = () => {
    if (child.pid === undefined) return;
    if (group) endGroup(child.pid);
    else spawnSync("taskkill", ["/PID", String(child.pid), "/T", "/F"], { windowsHide: true });
  };
  signal.addEventListener("abort", kill, { once: true });
  const rest = [child.stdout, child.stderr].map((stream) => byLine(stream, take));
  const code = await new Promise<number | null>((resolve) => {
    child.once("error", (error) => {
      take(error.message);
      resolve(null);
    });
    child.once("close", resolve);
  });
  signal.removeEventListener("abort", kill);
  for (const flush of rest) flush();
  signal.throwIfAborted();
  return { code, lines };
}

function endGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** Hands on whole lines; what it returns hands on the last one, which has no end. */
function byLine(stream: NodeJS.ReadableStream, take: (line: string) => void): () => void {
  let rest = "";
  stream.setEncoding("utf8").on("data", (text: string) => {
    const parts = (rest + text).split(/\r?\n|\r/);
    rest = (parts.pop() as string).slice(0, longestLine);
    for (const part of parts) take(part);
  });
  return () => take(rest);
}
