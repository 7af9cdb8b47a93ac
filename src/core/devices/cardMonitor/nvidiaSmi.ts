/**
 * What nvidia-smi is asked for and how its lines are read. Text in, figures out; it starts nothing.
 * The rules to keep: a line that is not whole is no line; a figure that is not one (`[N/A]`, `[Not Supported]`, words) is null; the name comes last, because
 * it alone may hold a comma.
 */

/** One card as a line tells it. */
export interface SmiCard {
  index: number;
  uuid: string;
  totalBytes: number | null;
  usedBytes: number | null;
  utilisation: number | null;
  temperatureC: number | null;
  name: string;
}

/** A process that computes on a card. */
export interface SmiProcess {
  uuid: string;
  pid: number;
  usedBytes: number | null;
}

const format = "--format=csv,noheader,nounits";
const fields = ["index", "uuid", "memory.total", "memory.used", "utilization.gpu", "temperature.gpu", "name"];
/** All cards, once. */
export const cardArguments: readonly string[] = [`--query-gpu=${fields.join(",")}`, format];
/** All cards, every second, until it is ended. */
export const streamArguments: readonly string[] = [...cardArguments, "--loop-ms=1000"];
/** The processes that compute on all cards, once. */
export const processArguments: readonly string[] = ["--query-compute-apps=gpu_uuid,pid,used_gpu_memory", format];

const mib = 2 ** 20;
const maxNameLength = 200;

/** A card, or null when the line is none. */
export function parseCardLine(line: string): SmiCard | null {
  const [index, uuid, total, used, utilisation, temperature, ...name] = split(line);
  if (!/^\d{1,4}$/.test(index) || name.length === 0 || name[0] === "") return null;
  const [totalBytes, usedBytes] = [bytes(total), bytes(used)];
  if (totalBytes !== null && usedBytes !== null && usedBytes > totalBytes) return null;
  return {
    index: Number(index),
    uuid,
    totalBytes,
    usedBytes,
    utilisation: within(figure(utilisation), 0, 100, (percent) => percent / 100),
    temperatureC: within(figure(temperature), -100, 200),
    name: name.join(", ").slice(0, maxNameLength),
  };
}

/** A process on a card, or null when the line is none. */
export function parseProcessLine(line: string): SmiProcess | null {
  const [uuid, pid, used] = split(line);
  return used === undefined || !/^\d{1,10}$/.test(pid) ? null : { uuid, pid: Number(pid), usedBytes: bytes(used) };
}

/** Fields stand apart by a comma and a blank; a comma within a figure has none after it. */
function split(line: string): string[] {
  const separator = /,\s/.test(line) ? /,\s+/ : ",";
  return line
    .trim()
    .split(separator)
    .map((field) => field.trim());
}

function bytes(field: string | undefined): number | null {
  return within(figure(field), 0, 2 ** 30, (value) => Math.round(value * mib));
}

function within(value: number | null, low: number, high: number, scaled = (of: number) => of): number | null {
  return value === null || value < low || value > high ? null : scaled(value);
}

/** `81559`, `81559 MiB`, `12,5`, `1 024,00`, `1,024.5`; anything else is no figure. */
function figure(field: string | undefined): number | null {
  const text = (field ?? "").replace(/\s*(MiB|%|C)$/, "").replace(/[\s'’\u00a0\u202f]/g, "");
  if (!/^-?\d[\d.,]*$/.test(text)) return null;
  const point = Math.max(text.lastIndexOf("."), text.lastIndexOf(","));
  const whole = point < 0 ? text : text.slice(0, point).replace(/[.,]/g, "");
  return Number(point < 0 ? whole : `${whole}.${text.slice(point + 1)}`);
}
