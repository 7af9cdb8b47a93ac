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

/** A process on a card, whatever it does there. */
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
/** All that is known of all cards, as XML, once: what computes through Vulkan counts as graphics, and `--query-compute-apps` leaves graphics out. */
export const processArguments: readonly string[] = ["-q", "-x"];

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

/** The processes of all cards that the XML tells of; empty where it tells none. */
export function parseProcesses(xml: string): SmiProcess[] {
  return xml
    .split(/<gpu[\s>]/)
    .slice(1)
    .flatMap((gpu) => {
      const uuid = element(gpu, "uuid");
      const records = gpu.split("<process_info>").slice(1);
      return uuid === null ? [] : records.map((record) => processOf(uuid, record)).filter((found) => found !== null);
    });
}

/** The figures come before and after the name, which may hold anything. */
function processOf(uuid: string, record: string): SmiProcess | null {
  const pid = element(record, "pid") ?? "";
  const used = record.slice(Math.max(0, record.lastIndexOf("<used_memory>")));
  return /^\d{1,10}$/.test(pid) ? { uuid, pid: Number(pid), usedBytes: bytes(element(used, "used_memory") ?? undefined) } : null;
}

/** The text of the first element of that name. */
function element(xml: string, name: string): string | null {
  return new RegExp(`<${name}>([^<>]{1,200})</${name}>`).exec(xml)?.[1].trim() ?? null;
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
