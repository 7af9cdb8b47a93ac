/**
 * Tries a device in a throw-away process: it opens it, computes something small and says what it found, while this process only waits. A driver that crashes,
 * hangs or computes wrong is an answer like any other. Which device is taken because of it is chosen in choose.ts.
 * The rules to keep: nothing waits longer than the time limit, not even for a process that cannot be killed; only an answer followed by a clean end counts.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** Devices that stand on somebody else's driver. */
export type ProbedDevice = "webgpu" | "tensorflow";

export type ProbeAnswer =
  | {
      works: true;
      /** The device's own. */
      description: string;
      /** The processor plays a graphics card. */
      software: boolean;
      /** It computes on a graphics card, real or played. */
      onCard: boolean;
      /** Bytes of the largest tensor. */
      largestBytes: number;
    }
  | {
      works: false;
      /** Of the UserError that it ended with; `device/unusable` where it was none. */
      code: string;
      reason: string;
      action: string;
      /** The process that tried it crashed or hung, as one that used it would. */
      crashed: boolean;
    };

/** What the probing process puts before its answer: drivers print what they like. */
export const answerMark = "probed: ";

/** Code of a device that fails in its driver or computes wrong. */
export const unusable = "device/unusable";

/** A card that sleeps wakes within seconds, on a busy machine within more; who needs still longer is not to be waited for at every start. */
export const probeLimitMs = 20_000;

/** The probing program: beside the bundle, or in source form. */
function probeProgram(): string {
  const bundled = fileURLToPath(new URL("./probe.js", import.meta.url));
  return existsSync(bundled) ? bundled : fileURLToPath(new URL("./probeMain.ts", import.meta.url));
}

/** Tries it; never throws. */
export function probeDevice(device: ProbedDevice, { program = probeProgram(), limitMs = probeLimitMs } = {}): Promise<ProbeAnswer> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [program, device], { stdio: ["ignore", "pipe", "pipe"], windowsHide: true });
    const said = { out: "", err: "" };
    child.stdout.setEncoding("utf8").on("data", (text: string) => (said.out = (said.out + text).slice(-outputKept)));
    child.stderr.setEncoding("utf8").on("data", (text: string) => (said.err = (said.err + text).slice(-outputKept)));
    const kill = () => child.kill("SIGKILL");
    const settle = (answer: ProbeAnswer) => {
      clearTimeout(limit);
      process.off("exit", kill);
      resolve(answer);
    };
    const limit = setTimeout(() => {
      kill();
      // Who hangs inside the kernel does not even die: nothing of it is waited for.
      child.unref();
      child.stdout.destroy();
      child.stderr.destroy();
      settle(failed(`it did not answer within ${limitMs / 1000} s`, { crashed: true }));
    }, limitMs);
    process.once("exit", kill);
    child.on("error", (error) => settle(failed(`no process could be started to try it (${error.message})`)));
    child.on("close", (code, signal) =>
      settle(code === 0 ? readAnswer(said.out) : failed(`${endedBy(code, signal)}${lastLine(said.err)}`, { crashed: true })),
    );
  });
}

const outputKept = 20_000;

function failed(reason: string, { crashed = false } = {}): ProbeAnswer {
  return { works: false, code: unusable, reason, action: "Update or reinstall the graphics card's driver, or use device: cpu.", crashed };
}

function endedBy(code: number | null, signal: NodeJS.Signals | null): string {
  return `the process that tried it crashed with ${signal ?? `exit code ${code}`}`;
}

function lastLine(text: string): string {
  const line = text.split("\n").findLast((each) => each.trim() !== "");
  return line ? `: ${line.trim().slice(0, 200)}` : "";
}

function readAnswer(output: string): ProbeAnswer {
  const line = output.split("\n").find((each) => each.startsWith(answerMark));
  if (line === undefined) return failed("the process that tried it ended without an answer", { crashed: true });
  try {
    return JSON.parse(line.slice(answerMark.length)) as ProbeAnswer;
  } catch {
    return failed("the process that tried it gave an answer that cannot be read");
  }
}
