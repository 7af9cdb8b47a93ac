/**
 * `sparse-tuner doctor`, and the service's: what of this machine is used and what is not. Every line that says "not usable" gives what was probed, what came back,
 * and one thing to do. It changes nothing and opens no network connection; --install does, and is installEngine.ts' business.
 */
import { execFile } from "node:child_process";
import { accessSync, constants, statfsSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import type { CardReading } from "../../protocol/cardReading.ts";
import { UserError } from "../../protocol/userError.ts";
import { readMachineCards } from "../devices/cardMonitor/machineCards.ts";
import { toolVariable } from "../devices/cardMonitor/tool.ts";
import { type DeviceName, openDevice } from "../devices/open.ts";
import { formatBytes } from "../terminal/format.ts";
import { autoDevice, triedDevice } from "./doctorDevices.ts";
import { installEngine } from "./installEngine.ts";
import type { DoctorOptions } from "./options.ts";

/** One probe. `fix` is null where nothing needs mending. */
export interface Finding {
  subject: string;
  usable: boolean;
  /** What was looked at. */
  probe: string;
  /** What came back. */
  result: string;
  fix: string | null;
}

const minimumNode = 20;
/** Less than this beside a run folder and a checkpoint of even a small model may fail. */
const lowDiskBytes = 2 ** 30;

/** Looks at everything; `folder` is where runs would be written. Healthy when a run could start. */
export async function examine(folder: string): Promise<{ healthy: boolean; findings: Finding[] }> {
  const findings = [
    node(),
    ...(await cpuDevices()),
    processor(),
    memory(),
    disk(folder),
    await triedDevice("webgpu", device),
    await cardFigures(),
    await triedDevice("tensorflow", device),
    await autoDevice(),
  ];
  const essential = ["node", "cpu device", "disk"];
  return { healthy: findings.every(({ subject, usable }) => usable || !essential.includes(subject)), findings };
}

/** Prints the findings, or installs what they name. Exit code 0 when a run could start, else 1. */
export async function doctor({ json, install = null, registry = null, verbose }: DoctorOptions): Promise<number> {
  if (install !== null) return installEngine({ registry, verbose });
  const { healthy, findings } = await examine(process.cwd());
  process.stdout.write(json ? `${JSON.stringify({ healthy, findings })}\n` : `${findings.flatMap(describe).join("\n")}\n`);
  return healthy ? 0 : 1;
}

/** A finding as lines of text. */
export function describe({ subject, usable, probe, result, fix }: Finding): string[] {
  const head = `${usable ? "ok          " : "not usable  "}${subject.padEnd(13)} ${result}`;
  const indent = " ".repeat(26);
  return [head, ...(usable ? [] : [`${indent}probed: ${probe}`]), ...(fix ? [`${indent}fix: ${fix}`] : [])];
}

function node(): Finding {
  const { node: version } = process.versions;
  const usable = Number(version.split(".")[0]) >= minimumNode;
  const fix = usable ? null : `Install Node ${minimumNode} or newer.`;
  return { subject: "node", usable, probe: "process.versions.node", result: `Node ${version} on ${process.platform} ${process.arch}`, fix };
}

/** The device a run would use, and the native kernels where they are not it. */
async function cpuDevices(): Promise<Finding[]> {
  try {
    const { device, reasons } = await openDevice("cpu", "auto");
    const used: Finding = { subject: "cpu device", usable: true, probe: "opening the device", result: device.description, fix: null };
    device.close();
    if (reasons.length === 0) return [used];
    const result = reasons.join("; ");
    const fix = await nativeFix();
    return [used, { subject: "native cpu", usable: false, probe: "loading the addon", result, fix }];
  } catch (error) {
    const fix = error instanceof UserError ? error.action : "Run the command again with --verbose and report it.";
    return [{ subject: "cpu device", usable: false, probe: "opening the device", result: (error as Error).message, fix }];
  }
}

async function nativeFix(): Promise<string> {
  if (process.env.SPARSE_TUNER_NO_NATIVE === "1") return "Unset SPARSE_TUNER_NO_NATIVE.";
  if (await hasCompiler()) return "Run `npm run build` and read what it says.";
  return "Install a C++ compiler (c++) and run `npm run build`, for many times the speed.";
}

function hasCompiler(): Promise<boolean> {
  return new Promise((resolve) => execFile(process.env.CXX ?? "c++", ["--version"], (error) => resolve(error === null)));
}

function processor(): Finding {
  const result = `${os.availableParallelism()} threads, ${os.cpus()[0]?.model.trim() || "unknown processor"}`;
  return { subject: "processor", usable: true, probe: "os.availableParallelism", result, fix: null };
}

function memory(): Finding {
  // Zero or a number beyond the machine's memory means that no container limits it.
  const limit = process.constrainedMemory();
  const total = limit > 0 && limit < os.totalmem() ? limit : os.totalmem();
  const result = `${formatBytes(Math.min(os.freemem(), total))} free of ${formatBytes(total)}${total < os.totalmem() ? " (a limit set for this process)" : ""}`;
  return { subject: "memory", usable: true, probe: "os.freemem, process.constrainedMemory", result, fix: null };
}

/** Whether run folders can be written under `folder`. */
export function disk(folder: string): Finding {
  const probe = `writing to ${folder}`;
  try {
    accessSync(folder, constants.W_OK);
  } catch (error) {
    return {
      subject: "disk",
      usable: false,
      probe,
      result: (error as Error).message,
      fix: "Run it in a folder you may write to, or set `output` in the run file.",
    };
  }
  const { bavail, bsize } = statfsSync(folder);
  const freeBytes = bavail * bsize;
  const fix = freeBytes < lowDiskBytes ? "Free some space, or set `output` in the run file to another disk: checkpoints need room." : null;
  return { subject: "disk", usable: true, probe, result: `${formatBytes(freeBytes)} free for ${path.resolve(folder)}`, fix };
}

/** What the drivers of graphics cards tell, which the training panel shows beside the ledger. */
export async function cardFigures(): Promise<Finding> {
  const subject = "card figures";
  const probe = process.env[toolVariable]
    ? `${toolVariable}: ${process.env[toolVariable]}`
    : `nvidia-smi on the PATH${process.platform === "linux" ? ", /sys/class/drm" : ""}`;
  const found = await readMachineCards();
  if ("problem" in found) return { subject, usable: false, probe, result: found.problem, fix: found.fix };
  const result = found.cards.map(cardText).join("; ");
  return { subject, usable: true, probe, result, fix: null };
}

function cardText({ name, totalBytes, usedBytes, utilisation, temperatureC, source }: CardReading): string {
  const bytes = (value: number | null) => (value === null ? "?" : formatBytes(value));
  const figures = [
    totalBytes === null && usedBytes === null ? "memory not told by its driver" : `${bytes(usedBytes)} used of ${bytes(totalBytes)}`,
    ...(utilisation === null ? [] : [`${Math.round(utilisation * 100)} % busy`]),
    ...(temperatureC === null ? [] : [`${Math.round(temperatureC)} °C`]),
  ];
  return `${name}: ${figures.join(", ")} (${source})`;
}

/** Its last sentence stands until docs/manual-checks.md names a machine on which it was done. */
const tensorflowFix =
  "For TensorFlow's own kernels, and for a card with CUDA 11.2, give the command Install TensorFlow GPU Engine, or `sparse-tuner doctor --install tensorflow`. Its download has not been proved on any machine yet.";

/** A device that a run can ask for, with the engine it found and those it did not. */
async function device(name: Exclude<DeviceName, "auto" | "cpu">): Promise<Finding> {
  const subject = name;
  const probe = "opening the device";
  try {
    const { device, reasons } = await openDevice(name, "auto");
    const result = [device.description, ...reasons].join("; ");
    device.close();
    return { subject, usable: true, probe, result, fix: name === "tensorflow" && reasons.length > 0 ? tensorflowFix : null };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { subject, usable: false, probe, result: error.message, fix: error.action };
  }
}
