/**
 * The driver's tool as a process: where it lies, asked once, or streaming lines until it is ended.
 * The rules to keep: it is found on absolute folders of the PATH only, never where the run lies; no shell; every process has an end, by itself, by the time
 * limit or by us; what it prints is bounded before it is read.
 */
import { execFile, spawn } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import type { Socket } from "node:net";
import path from "node:path";

/** Names the tool that is used in place of nvidia-smi, whatever the device: for tests. */
export const toolVariable = "SPARSE_TUNER_CARD_MONITOR";

const maxLineLength = 4096;
const maxOutputBytes = 1 << 20;
/** Between the request to end and the end by force. */
const graceMs = 1000;
/** Where drivers put it when the PATH does not say. */
const usualFolders = process.platform === "win32" ? [] : ["/usr/bin", "/usr/local/bin", "/usr/lib/wsl/lib", "/run/current-system/sw/bin"];

/** The tool's absolute path; null when there is none. Throws nothing. */
export function findNvidiaSmi(env: NodeJS.ProcessEnv = process.env): string | null {
  const given = env[toolVariable];
  if (given) return isProgram(given) ? given : null;
  const name = process.platform === "win32" ? "nvidia-smi.exe" : "nvidia-smi";
  const folders = (env.PATH ?? env.Path ?? "").split(path.delimiter);
  const windows = env.SystemRoot ? [path.join(env.SystemRoot, "System32")] : [];
  return (
    [...folders, ...windows, ...usualFolders]
      .filter((folder) => path.isAbsolute(folder))
      .map((folder) => path.join(folder, name))
      .find(isProgram) ?? null
  );
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return path.isAbsolute(file) && statSync(file).isFile();
  } catch {
    return false;
  }
}

/** Figures without thousands separators and decimal commas, where the tool heeds that. */
function environment(): NodeJS.ProcessEnv {
  return { ...process.env, LC_ALL: "C", LANG: "C" };
}

/** What a tool printed, line by line, or why it printed nothing of use. */
export type Answer = { lines: string[] } | { problem: string };

/** Runs the tool to its end, or until the signal. */
export function ask(tool: string, args: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<Answer> {
  const options = { timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: maxOutputBytes, windowsHide: true, env: environment(), signal } as const;
  return new Promise((resolve) => {
    execFile(tool, args, options, (error, stdout, stderr) => {
      if (!error) return resolve({ lines: stdout.split(/\r?\n/).filter((line) => line.trim() !== "") });
      const said = firstLine(stderr) || firstLine(stdout);
      const because = error.killed
        ? `did not answer within ${timeoutMs / 1000} s`
        : `ended with ${error.code ?? error.signal}${said ? `: ${said}` : ""}`;
      resolve({ problem: `${path.basename(tool)} ${because}.` });
    });
  });
}

function firstLine(text: string): string {
  const line = text.split(/\r?\n/).find((candidate) => candidate.trim() !== "") ?? "";
  return line.trim().replace(/\.$/, "").slice(0, 300);
}

/** A tool that goes on printing. */
export interface LineStream {
  /** Resolves when its process has gone: why, as the rest of a sentence. */
  readonly ended: Promise<string>;
  /** Ends it, by force where it does not heed. */
  stop(because: string): void;
}

/** Starts the tool; `onLine` gets every whole line. */
export function streamLines(tool: string, args: readonly string[], onLine: (line: string) => void): LineStream {
  const child = spawn(tool, args, { stdio: ["ignore", "pipe", "ignore"], windowsHide: true, env: environment() });
  // The run's process ends when the run does, whatever a driver's tool is waiting for.
  child.unref();
  (child.stdout as Socket).unref();
  let reason: string | null = null;
  let rest = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split(/\r?\n/);
    rest = (lines.pop() ?? "").slice(-maxLineLength);
    for (const line of lines) if (line.trim() !== "" && line.length <= maxLineLength) onLine(line);
  });
  let force: NodeJS.Timeout | undefined;
  const ended = new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(`could not be started: ${error.message}`));
    child.on("exit", (code, signal) => resolve(reason ?? `ended with ${code ?? signal}`));
  }).finally(() => {
    clearTimeout(force);
    child.stdout.destroy();
  });
  const stop = (because: string) => {
    if (reason !== null) return;
    reason = because;
    child.kill("SIGTERM");
    force = setTimeout(() => child.kill("SIGKILL"), graceMs).unref();
  };
  return { ended, stop };
}
