/**
 * What `device: auto` takes: a real graphics card through WebGPU, else one through an installed TensorFlow, else the cpu. Each is tried in a throw-away
 * process (probe.ts) before a run trusts it. What only plays a card, and TensorFlow on WebAssembly, are slower than the cpu device and never taken.
 * The rules to keep: what was passed over is told, with the reason; where no card can be there, no process is started to find that out.
 *
 * An answer holds for this process, a crash too: asking a broken driver again and again may take down more than a probe. The next process asks anew,
 * because drivers get mended, and a second is little before a run; so no file has to be believed that a restart or an update has made wrong.
 */
import { readdirSync } from "node:fs";
import { UserError } from "../../protocol/userError.ts";
import { type ProbeAnswer, type ProbedDevice, probeDevice, probeLimitMs } from "./probe.ts";
import { installedEngine } from "./tensorflow/engine.ts";

/** What a run file can ask for. */
export type DeviceName = "auto" | ComputingDevice;
/** What can be opened. */
export type ComputingDevice = "cpu" | ProbedDevice;

export interface Choice {
  name: ComputingDevice;
  /** What `auto` passed over for it and why, as a sentence; null where it took the first, or was not asked. */
  passedOver: string | null;
  /** Whether that was there: a card that cannot be used, not the lack of one. */
  surprising: boolean;
  /** What it answered when it was tried; null where it was not. */
  tried: ProbeAnswer | null;
}

/** Names what `auto` takes, without a look at the machine. */
export const autoVariable = "SPARSE_TUNER_AUTO_DEVICE";

/** There is nothing to take in its place: a machine under load is waited for. */
const namedLimitMs = 3 * probeLimitMs;

const answers = new Map<ProbedDevice, Promise<ProbeAnswer>>();

/** The device's answer in this process's time; `again` asks anew. */
export function probed(device: ProbedDevice, { again = false, limitMs = probeLimitMs } = {}): Promise<ProbeAnswer> {
  const known = again ? undefined : answers.get(device);
  const answer = known ?? probeDevice(device, { limitMs });
  answers.set(device, answer);
  return answer;
}

/** The device that a name stands for, whether it can be used or not. Throws UserError `device/unknown` when the environment names none. */
export async function chooseDevice(name: DeviceName): Promise<Choice> {
  if (name !== "auto") return namedDevice(name);
  const named = process.env[autoVariable];
  if (named) return namedDevice(knownDevice(named));
  const reasons: string[] = [];
  let surprising = false;
  for (const device of ["webgpu", "tensorflow"] as const) {
    const lack = whatLacks(device);
    const tried = lack === null ? await probed(device) : null;
    const reason = lack ?? reasonAgainst(tried as ProbeAnswer);
    if (reason === null) return { name: device, passedOver: sentence(device, reasons), surprising, tried };
    surprising ||= lack === null;
    reasons.push(`${device}: ${reason}`);
  }
  return { name: "cpu", passedOver: sentence("cpu", reasons), surprising, tried: null };
}

/** A device that somebody asked for. A graphics card is tried all the same: its driver may crash who opens it, and its name tells whose memory is meant. */
async function namedDevice(name: ComputingDevice): Promise<Choice> {
  const tried = name === "webgpu" ? await probed(name, { limitMs: namedLimitMs }) : null;
  return { name, passedOver: null, surprising: false, tried };
}

function sentence(name: ComputingDevice, reasons: readonly string[]): string | null {
  return reasons.length > 0 ? `device: auto takes ${name}. Not ${reasons.join("; not ")}.` : null;
}

function knownDevice(name: string): ComputingDevice {
  if (name === "cpu" || name === "webgpu" || name === "tensorflow") return name;
  throw new UserError("device/unknown", `${autoVariable} is ${JSON.stringify(name)}.`, "Set it to cpu, webgpu or tensorflow, or take it away.");
}

/** What a device would need that this machine has not; null where it is worth a try. */
function whatLacks(device: ProbedDevice): string | null {
  if (device === "tensorflow" && !installedEngine()?.forCard) return "@tensorflow/tfjs-node-gpu is not installed";
  if (device === "webgpu" && !mayHaveCard()) return "this machine shows no graphics card (no device of one in /dev)";
  return null;
}

/** Why a device that answered so is passed over; null where it is to be taken. */
export function reasonAgainst(answer: ProbeAnswer): string | null {
  if (!answer.works) return withoutStop(answer.reason);
  if (answer.software) return `it is no graphics card, the processor plays one (${answer.description})`;
  return answer.onCard ? null : `it computes on no graphics card (${answer.description})`;
}

function withoutStop(reason: string): string {
  return reason.replace(/\.$/, "");
}

/** On Linux every driver of a card needs a device file; elsewhere only the driver knows. */
function mayHaveCard(): boolean {
  if (process.platform !== "linux") return true;
  return ["/dev", "/dev/dri"].some((folder) => listed(folder).some((name) => /^(renderD\d+|nvidia\d+|dxg|nvmap|kgsl-3d0|mali\d*)$/.test(name)));
}

function listed(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
