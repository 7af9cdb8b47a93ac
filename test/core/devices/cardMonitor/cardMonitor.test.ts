/** The monitor over a tool that works, hangs, dies, fails or is not there: what it tells, how often it tries, and that its process ends with it. */
import assert from "node:assert/strict";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, test } from "node:test";
import { cardFigures } from "../../../../src/core/commands/doctor.ts";
import { readAmdCards } from "../../../../src/core/devices/cardMonitor/amdSysfs.ts";
import { CardMonitor, hasCardToWatch, type MonitorTimes } from "../../../../src/core/devices/cardMonitor/cardMonitor.ts";
import { namedIn, readMachineCards, roomFor } from "../../../../src/core/devices/cardMonitor/machineCards.ts";
import { findNvidiaSmi, toolVariable } from "../../../../src/core/devices/cardMonitor/tool.ts";
import type { CardReport } from "../../../../src/protocol/cardReading.ts";
import { type FakeOptions, type FakeTool, fakeNvidiaSmi } from "../../../support/fakeNvidiaSmi.ts";
import { until } from "../../host/runningCore.ts";
import { temporaryFolder } from "../../run/smallRuns.ts";

const skip = process.platform === "win32" && "not run: a shell script stands for the tool";
const mib = 2 ** 20;
const nvidia = "webgpu: nvidia ada-lovelace";
type Test = { after(clean: () => unknown): void };

const [givenTool, givenPath] = [process.env[toolVariable], process.env.PATH];
afterEach(() => {
  process.env.PATH = givenPath;
  if (givenTool === undefined) delete process.env[toolVariable];
  else process.env[toolVariable] = givenTool;
});

/** A fake tool first on the PATH. */
function onPath(test: Test, output: string, options: FakeOptions = {}): FakeTool {
  const tool = fakeNvidiaSmi(temporaryFolder(test), output, options);
  process.env.PATH = `${path.dirname(tool.file)}${path.delimiter}${givenPath}`;
  return tool;
}

function watch(test: Test, times: Partial<MonitorTimes> = {}, device = nvidia): { monitor: CardMonitor; reports: CardReport[] } {
  const reports: CardReport[] = [];
  const quick = { askMs: 5000, silentMs: 5000, restartMs: 10, ...times };
  const monitor = new CardMonitor(device, (report) => reports.push(report), quick);
  test.after(() => monitor.stop());
  monitor.start();
  return { monitor, reports };
}

const usedOf = (reports: readonly CardReport[]) => reports.map(({ reading }) => reading && (reading.usedBytes ?? 0) / mib);
const last = (reports: readonly CardReport[]) => reports.at(-1)?.problem ?? "";

describe("nvidia-smi", { skip }, () => {
  test("streams one card with our share of it, and ends when it is stopped", async (t) => {
    const tool = onPath(t, "one-card");
    const { monitor, reports } = watch(t);
    await until(() => reports.length >= 4);
    assert.deepEqual(usedOf(reports).slice(0, 4), [1311, 6021, 5980, 1311]);
    assert.deepEqual(reports[1].reading, {
      name: "NVIDIA GeForce RTX 4090",
      index: 0,
      cards: 1,
      chosenBy: "only",
      totalBytes: 24564 * mib,
      usedBytes: 6021 * mib,
      ownBytes: 4710 * mib,
      utilisation: 0.93,
      temperatureC: 48,
      source: "nvidia-smi",
    });
    assert.ok(tool.alive());
    await monitor.stop();
    assert.ok(!tool.alive(), "the process has gone");
    const told = reports.length;
    assert.deepEqual(
      tool.starts().map((start) => start.split("=")[0]),
      ["--query-gpu", "-q -x", "--query-gpu"],
    );
    monitor.start();
    await until(() => reports.length > told);
    await monitor.stop();
    assert.ok(!tool.starts().includes("overlap"));
  });

  test("one that heeds no request is ended by force, and the next one waits for that", async (t) => {
    const tool = onPath(t, "one-card", { stream: "clings" });
    const { monitor, reports } = watch(t);
    await until(() => reports.length > 0);
    const streams = () => tool.starts().filter((start) => start.includes("--loop-ms")).length;
    void monitor.stop();
    monitor.start();
    await until(() => streams() === 2);
    await monitor.stop();
    assert.ok(!tool.starts().includes("overlap") && !tool.alive(), tool.starts().join());
  });

  test("of two equal cards the one with our process is told, and our share is asked for again without a second process", async (t) => {
    const tool = onPath(t, "two-cards");
    const { monitor, reports } = watch(t, { ownEveryMs: 100 });
    await until(() => tool.starts().length >= 7);
    await monitor.stop();
    assert.ok(reports.every(({ reading }) => reading?.index === 1 && reading.cards === 2 && reading.chosenBy === "process"));
    assert.equal(reports[0].reading?.ownBytes, 3000 * mib);
    assert.ok(!tool.starts().includes("overlap"), tool.starts().join());
    assert.ok(!tool.alive());
  });

  test("figures that are not available are null", async (t) => {
    onPath(t, "not-available");
    const { reports } = watch(t);
    await until(() => reports.length >= 1);
    const { totalBytes, usedBytes, ownBytes, utilisation } = reports[0].reading ?? assert.fail("no reading");
    assert.deepEqual([totalBytes, usedBytes, ownBytes, utilisation], [null, null, null, 0.04]);
  });

  test("one that dies is started again a few times, then left", async (t) => {
    const tool = onPath(t, "one-card", { stream: "dies" });
    const { reports } = watch(t);
    await until(() => last(reports).endsWith("not started again."));
    assert.deepEqual(usedOf(reports), [1311, null, 1311, null, 1311, null, 1311, null]);
    assert.equal(last(reports), "nvidia-smi ended with 9. It is not started again.");
    assert.equal(tool.starts().filter((start) => start.includes("--loop-ms")).length, 4);
    assert.ok(!tool.starts().includes("overlap") && !tool.alive());
  });

  test("one that hangs is ended and started again", async (t) => {
    const tool = onPath(t, "one-card", { stream: "hangs" });
    const { reports } = watch(t, { silentMs: 100 });
    await until(() => last(reports).endsWith("not started again."));
    assert.match(last(reports), /^nvidia-smi printed nothing that can be read for 0\.1 s\./);
    assert.equal(reports.length, 4);
    assert.ok(!tool.starts().includes("overlap") && !tool.alive());
  });

  test("one that never answers the first question is ended too", async (t) => {
    const tool = onPath(t, "one-card", { question: "hangs" });
    const { reports } = watch(t, { askMs: 100 });
    await until(() => reports.length > 0);
    assert.match(reports[0].problem, /^nvidia-smi did not answer within 0\.1 s\. It is started again\./);
    await until(() => last(reports).endsWith("not started again."));
    assert.ok(!tool.alive());
  });

  test("what the driver says when it fails is passed on", async (t) => {
    onPath(t, "driver-mismatch", { question: "fails" });
    const { reports } = watch(t);
    await until(() => reports.length > 0);
    assert.match(reports[0].problem, /^nvidia-smi ended with 18: Failed to initialize NVML: Driver\/library version mismatch\./);
    const { usable, result, fix } = await cardFigures();
    assert.ok(!usable && /version mismatch/.test(result) && /Run nvidia-smi/.test(fix ?? ""));
  });

  test("without the tool one sentence says so, and Doctor what to do", async (t) => {
    process.env[toolVariable] = path.join(temporaryFolder(t), "absent");
    assert.equal(findNvidiaSmi(), null);
    const { reports } = watch(t);
    await until(() => reports.length > 0);
    assert.deepEqual(reports, [{ reading: null, problem: "nvidia-smi was found neither on the PATH nor where drivers put it." }]);
    const { usable, probe, result, fix } = await cardFigures();
    assert.ok(!usable && probe.includes("absent") && /was found neither/.test(result) && /install its driver/.test(fix ?? ""));
  });

  test("Doctor lists every card", async (t) => {
    onPath(t, "two-cards");
    const { usable, result } = await cardFigures();
    assert.ok(usable);
    assert.match(result, /^NVIDIA H100 80GB HBM3: 63\.7 GiB used of 79\.6 GiB, 100 % busy, 71 °C \(nvidia-smi\); NVIDIA H100 80GB HBM3: 3\.05 GiB/);
  });

  test("a device's room is that of the card it is named after, else of the one with least", async (t) => {
    const room = async (device: string | null) => {
      const found = roomFor(await readMachineCards(), device);
      return "problem" in found ? found.problem : [found.freeBytes / mib, found.card.name, found.among];
    };
    onPath(t, "two-kinds");
    const [small, large] = [[6144 - 402, "NVIDIA T600"] as const, [24564 - 18, "NVIDIA RTX 4500, Ada Generation"] as const];
    assert.deepEqual(await room("webgpu: nvidia ada-lovelace NVIDIA RTX 4500, Ada Generation (tensor cores)"), [...large, 1]);
    assert.deepEqual(await room("webgpu: nvidia turing NVIDIA T600 (f32)"), [...small, 1]);
    for (const device of ["webgpu: nvidia turing", "tensorflow: tfjs-node-gpu 4.22.0 on the graphics card", null])
      assert.deepEqual(await room(device), [...small, 2], String(device));
    assert.equal(await room("webgpu: intel xe-2hpg"), "No driver's tool tells the memory of webgpu: intel xe-2hpg.");
    onPath(t, "two-cards");
    assert.deepEqual(await room("webgpu: nvidia hopper NVIDIA H100 80GB HBM3"), [81559 - 65211, "NVIDIA H100 80GB HBM3", 2]);
    onPath(t, "not-available");
    assert.equal(await room(null), "nvidia-smi does not tell the memory of NVIDIA GB10.");
    onPath(t, "driver-mismatch", { question: "fails" });
    assert.match(String(await room(nvidia)), /^nvidia-smi ended with 18: Failed to initialize NVML/);
    assert.match(String(await room("webgpu: intel xe-2hpg")), /^No driver's tool/);
  });

  test("of two names of which one begins the other, the longer is the card's", () => {
    const cards = [{ name: "NVIDIA T4" }, { name: "NVIDIA T400" }];
    assert.deepEqual(namedIn(cards, "webgpu: nvidia turing NVIDIA T400"), [cards[1]]);
    assert.deepEqual(namedIn(cards, "webgpu: nvidia turing NVIDIA T4"), [cards[0]]);
    assert.deepEqual(namedIn(cards, "webgpu: nvidia turing"), []);
  });

  test("a relative folder of the PATH, and a folder of that name, are no place for it", (t) => {
    const folder = temporaryFolder(t);
    mkdirSync(path.join(folder, "nvidia-smi"));
    const tool = fakeNvidiaSmi(path.join(folder, "b"), "one-card");
    const found = (...folders: string[]) => findNvidiaSmi({ PATH: folders.join(path.delimiter) });
    const usual = found();
    assert.equal(found(path.relative(process.cwd(), path.dirname(tool.file)), folder), usual);
    assert.equal(found(folder, path.dirname(tool.file)), tool.file);
  });
});

test("a CPU has no card to watch, and a card that nobody can read says so", async (t) => {
  delete process.env[toolVariable];
  const told: [string, boolean][] = [
    ["cpu: native kernels, 2 threads", false],
    ["webgpu: amd rdna-3", true],
    ["tensorflow: tfjs 4.22.0 on WebAssembly with SIMD, 1 thread; each weight takes 4 bytes", false],
    ["tensorflow: tfjs-node-gpu 4.22.0 on the processor; each weight takes 4 bytes", false],
    ["tensorflow: tfjs-node-gpu 4.22.0 on the graphics card; each weight takes 4 bytes", true],
  ];
  for (const [device, watched] of told) assert.equal(hasCardToWatch(device), watched, device);
  if (process.platform === "darwin") return;
  const { reports } = watch(t, {}, "webgpu: google swiftshader");
  await until(() => reports.length > 0);
  assert.deepEqual(reports, [{ reading: null, problem: "The figures of this device cannot be read: webgpu: google swiftshader." }]);
});

test("AMD cards by the driver's files, with our share by bus and client", { skip: process.platform === "win32" && "not run: links" }, async (t) => {
  const folder = temporaryFolder(t);
  const [drm, fdinfo, bus] = [path.join(folder, "drm"), path.join(folder, "fdinfo"), path.join(folder, "pci")];
  const put = (file: string, text: string) => {
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, `${text}\n`);
  };
  const card = (name: string, address: string, files: Record<string, string>) => {
    for (const [file, text] of Object.entries(files)) put(path.join(bus, address, file), text);
    mkdirSync(path.join(drm, name), { recursive: true });
    symlinkSync(path.join(bus, address), path.join(drm, name, "device"));
  };
  const amd = (more: Record<string, string>) => ({ vendor: "0x1002", device: "0x744c", mem_info_vram_total: "25753026560", ...more });
  card("card0", "0000:00:02.0", { vendor: "0x8086" });
  card("card1", "0000:03:00.0", amd({ mem_info_vram_used: "1048576", gpu_busy_percent: "37", "hwmon/hwmon4/temp1_input": "45500" }));
  card("card2", "0000:04:00.0", amd({ mem_info_vram_total: "536870912", mem_info_vram_used: "n/a", gpu_busy_percent: "" }));
  mkdirSync(path.join(drm, "card1-DP-1"));
  const client = (id: number, kib: number) => `drm-driver:\tamdgpu\ndrm-pdev:\t0000:04:00.0\ndrm-client-id:\t${id}\ndrm-memory-vram:\t${kib} KiB`;
  put(path.join(fdinfo, "3"), "pos:\t0");
  assert.deepEqual(
    (await readAmdCards({ drm, fdinfo })).map(({ index, chosenBy, ownBytes }) => [index, chosenBy, ownBytes]),
    [
      [1, "guess", null],
      [2, "guess", null],
    ],
  );
  for (const [name, text] of Object.entries({ 4: client(7, 100), 5: client(7, 100), 6: client(8, 11) })) put(path.join(fdinfo, name), text);
  const [own, other] = await readAmdCards({ drm, fdinfo });
  assert.deepEqual(own, {
    name: "AMD 0x744c",
    index: 2,
    cards: 2,
    chosenBy: "process",
    totalBytes: 536870912,
    usedBytes: null,
    ownBytes: 111 * 1024,
    utilisation: null,
    temperatureC: null,
    source: "amdgpu",
  });
  assert.deepEqual([other.index, other.usedBytes, other.utilisation, other.temperatureC], [1, 1048576, 0.37, 45.5]);
  assert.deepEqual(await readAmdCards({ drm: path.join(folder, "none"), fdinfo }), []);
});
