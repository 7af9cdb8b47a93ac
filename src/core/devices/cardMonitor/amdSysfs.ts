/**
 * AMD cards as Linux tells of them: files of the amdgpu driver under /sys/class/drm, and this process's own share in /proc/self/fdinfo. It starts nothing.
 * The rule to keep: a file that is not there, or holds no number, is a figure that is not known.
 */
import { readdir, readFile, readlink } from "node:fs/promises";
import path from "node:path";
import type { CardReading } from "../../../protocol/cardReading.ts";

const vendor = "0x1002";

export interface AmdPlaces {
  drm: string;
  fdinfo: string;
}

const usualPlaces: AmdPlaces = { drm: "/sys/class/drm", fdinfo: "/proc/self/fdinfo" };

/** Every AMD card with memory of its own, the one that this process uses most first, then the largest. */
export async function readAmdCards({ drm, fdinfo }: AmdPlaces = usualPlaces): Promise<CardReading[]> {
  const names = (await readdir(drm).catch(() => [])).filter((name) => /^card\d+$/.test(name));
  const own = names.length > 0 ? await ownBytesByBus(fdinfo) : new Map<string, number>();
  const found = await Promise.all(names.map((name) => readCard(path.join(drm, name, "device"), name, own)));
  const cards = found.filter((card) => card !== null);
  const chosenBy = (card: CardReading) => (cards.length === 1 ? "only" : card.ownBytes ? "process" : "guess");
  return cards
    .sort((a, b) => (b.ownBytes ?? 0) - (a.ownBytes ?? 0) || (b.totalBytes ?? 0) - (a.totalBytes ?? 0))
    .map((card) => ({ ...card, cards: cards.length, chosenBy: chosenBy(card) }));
}

async function readCard(device: string, name: string, own: Map<string, number>): Promise<CardReading | null> {
  if ((await text(path.join(device, "vendor"))) !== vendor) return null;
  const totalBytes = await integer(path.join(device, "mem_info_vram_total"));
  if (totalBytes === null) return null;
  const busy = await integer(path.join(device, "gpu_busy_percent"));
  const bus = path.basename(await readlink(device).catch(() => ""));
  const product = (await text(path.join(device, "product_name"))) || `AMD ${await text(path.join(device, "device"))}`;
  return {
    name: product.slice(0, 200),
    index: Number(name.slice("card".length)),
    cards: 1,
    chosenBy: "only",
    totalBytes,
    usedBytes: await integer(path.join(device, "mem_info_vram_used")),
    ownBytes: own.get(bus) ?? null,
    utilisation: busy === null || busy > 100 ? null : busy / 100,
    temperatureC: await temperature(path.join(device, "hwmon")),
    source: "amdgpu",
  };
}

async function temperature(hwmon: string): Promise<number | null> {
  for (const name of (await readdir(hwmon).catch(() => [])).sort()) {
    const thousandths = await integer(path.join(hwmon, name, "temp1_input"));
    if (thousandths !== null) return thousandths / 1000;
  }
  return null;
}

/** Video memory that this process holds, by the card's place on the bus. Several open files may belong to one client of the driver. */
async function ownBytesByBus(fdinfo: string): Promise<Map<string, number>> {
  const clients = new Map<string, { bus: string; bytes: number }>();
  for (const name of await readdir(fdinfo).catch(() => [])) {
    const lines = new Map(
      (await text(path.join(fdinfo, name))).split("\n").map((line) => [line.split(":")[0], line.split(":").slice(1).join(":").trim()]),
    );
    const [bus, client] = [lines.get("drm-pdev"), lines.get("drm-client-id")];
    const memory = /^(\d+)\s*(KiB|MiB)?$/.exec(lines.get("drm-memory-vram") ?? "");
    if (!bus || !client || !memory) continue;
    const unit = memory[2] === "MiB" ? 2 ** 20 : memory[2] === "KiB" ? 2 ** 10 : 1;
    clients.set(`${bus} ${client}`, { bus, bytes: Number(memory[1]) * unit });
  }
  const byBus = new Map<string, number>();
  for (const { bus, bytes } of clients.values()) byBus.set(bus, (byBus.get(bus) ?? 0) + bytes);
  return byBus;
}

async function text(file: string): Promise<string> {
  return (await readFile(file, "utf8").catch(() => "")).trim();
}

async function integer(file: string): Promise<number | null> {
  const read = await text(file);
  return /^\d{1,15}$/.test(read) ? Number(read) : null;
}
