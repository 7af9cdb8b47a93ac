/**
 * Processes of a workbench as the operating system sees them: the extension hosts of a server, and whatever was started under a workbench's home folder,
 * cores included, which outlive the server by design. The rule to keep: only processes that carry the home folder of this very workbench are signalled.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";

export interface ProcessEntry {
  pid: number;
  parent: number;
  command: string;
}

/** All processes that can be seen; /proc where there is one, else ps. */
export function processes(): ProcessEntry[] {
  if (process.platform !== "linux") return fromPs(execFileSync("ps", ["-axww", "-o", "pid=,ppid=,command="], { encoding: "utf8" }));
  const entries: ProcessEntry[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = readProc(name, "stat");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // A dead one that nobody has reaped runs no more.
    if (stat && fields[0] !== "Z")
      entries.push({ pid: Number(name), parent: Number(fields[1]), command: readProc(name, "cmdline").replaceAll("\0", " ").trim() });
  }
  return entries;
}

function fromPs(text: string): ProcessEntry[] {
  return [...text.matchAll(/^\s*(\d+)\s+(\d+)\s+(.*)$/gm)].map(([, pid, parent, command]) => ({ pid: Number(pid), parent: Number(parent), command }));
}

function readProc(pid: string | number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch {
    return "";
  }
}

/** Extension hosts below a server, oldest first. */
export function extensionHosts(server: number): number[] {
  const all = processes();
  const below = new Set([server]);
  // Parents may stand after their children: as many rounds as the tree is deep.
  for (let size = 0; size !== below.size; ) {
    size = below.size;
    for (const { pid, parent } of all) if (below.has(parent)) below.add(pid);
  }
  return all
    .filter(({ pid, command }) => below.has(pid) && command.includes("--type=extensionHost"))
    .map(({ pid }) => pid)
    .sort((a, b) => a - b);
}

/** Processes whose environment or command line names the folder. */
export function processesOf(home: string): ProcessEntry[] {
  const names = (pid: number, command: string) => command.includes(home) || (process.platform === "linux" && readProc(pid, "environ").includes(home));
  return processes().filter(({ pid, command }) => pid !== process.pid && names(pid, command));
}

/** Kills what processesOf finds. */
export function killProcessesOf(home: string): void {
  for (const { pid } of processesOf(home)) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // gone already
    }
  }
}

/** Whether a process runs. */
export function isRunning(pid: number): boolean {
  return processes().some((entry) => entry.pid === pid);
}

/** Signals a process group; false when it is gone. */
export function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch {
    return false;
  }
}
