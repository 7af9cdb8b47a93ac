/**
 * Doctor's findings of devices that stand on somebody else's driver, and of what `device: auto` takes. Each is tried in a process of its own, so that Doctor
 * lives to tell of a driver that crashes.
 */
import { UserError } from "../../protocol/userError.ts";
import { autoVariable, chooseDevice, probed } from "../devices/choose.ts";
import { type ProbedDevice, probeLimitMs } from "../devices/probe.ts";
import { installedEngine } from "../devices/tensorflow/engine.ts";
import { formatBytes } from "../terminal/format.ts";
import type { Finding } from "./doctor.ts";

const probe = `a small product in a process of its own, for ${probeLimitMs / 1000} s at most`;

/** A device that a run can ask for, looked at anew; `open` finds it in this process, where that is safe and tells more. */
export async function triedDevice(name: ProbedDevice, open: (name: ProbedDevice) => Promise<Finding>): Promise<Finding> {
  // WebAssembly has no driver to fear.
  if (name === "tensorflow" && installedEngine() === null) return open(name);
  const answer = await probed(name, { again: true });
  if (name === "tensorflow" && (answer.works || !answer.crashed)) return open(name);
  if (!answer.works) return { subject: name, usable: false, probe, result: answer.reason, fix: answer.action };
  const { description, software, largestBytes } = answer;
  const played = software ? ["the processor plays the card, slower than the cpu device"] : [];
  const result = [description, ...played, `tensors up to ${formatBytes(largestBytes)}`].join("; ");
  return { subject: name, usable: true, probe, result, fix: null };
}

/** What `device: auto` takes, and what was passed over for it. */
export async function autoDevice(): Promise<Finding> {
  const subject = "device: auto";
  const named = process.env[autoVariable];
  try {
    const { name, passedOver } = await chooseDevice("auto");
    const result = named ? `takes ${name}: ${autoVariable}=${named} is set` : (passedOver ?? `takes ${name}`);
    return { subject, usable: true, probe: named ? autoVariable : "what the devices answered", result, fix: null };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { subject, usable: false, probe: autoVariable, result: error.message, fix: error.action };
  }
}
