/**
 * The bench of training as it runs on a card: beside a peer that is told of the card, with both peaks of memory, never both on the device at once, and
 * without a method that the device has no memory for. The peer is a script of the test's; the device is the cpu's.
 */
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { benchConfig } from "../../../src/core/bench/benchModels.ts";
import { type TrainingOptions, trainInTurn } from "../../../src/core/bench/trainingBench.ts";
import { bench } from "../../../src/core/commands/bench.ts";
import type { Device, Tensor } from "../../../src/core/devices/device.ts";
import { readModelConfig } from "../../../src/core/files/modelFolder.ts";
import { weightShapes } from "../../../src/core/model/config.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { fastDevice } from "../../support/devices.ts";
import { temporaryFolder } from "../run/smallRuns.ts";

const folder = path.resolve(import.meta.dirname, "../../../media/demo/model");
const scratch = temporaryFolder({ after });

/** Says what it was given, and that it is as fast as one token a second. */
const peerScript = path.join(scratch, "peer.mjs");
writeFileSync(
  peerScript,
  `import { appendFileSync } from "node:fs";
appendFileSync(${JSON.stringify(path.join(scratch, "given"))}, process.argv.slice(2).join(" ") + "\\n");
console.log(JSON.stringify({ peer: "test", tokensPerSecond: 1, losses: [7, 7], peakBytes: 4 << 20 }));`,
);
process.env.SPARSE_TUNER_PEER = peerScript;

/** What a bench of the bundled model says, and how many devices are open whenever it says something. */
function watched(open: () => Device): { options: TrainingOptions; said: { text: string; open: number }[] } {
  const said: { text: string; open: number }[] = [];
  let opened = 0;
  const openDevice = async () => {
    const device = open();
    const close = device.close.bind(device);
    opened++;
    device.close = () => {
      opened--;
      close();
    };
    return device;
  };
  const peer = { python: process.execPath, device: "cuda", threads: 2 } as const;
  const say = (text: string) => void said.push({ text, open: opened });
  return { said, options: { title: "tiny", openDevice, peak: null, batchSize: 1, sequenceLength: 8, rounds: 2, steps: 2, peer, say } };
}

test("a card's rows stand beside the peer on the same card, with both peaks and no limit", async () => {
  const { options, said } = watched(fastDevice);
  const [lora, sqft] = await trainInTurn(
    (["lora", "sqft"] as const).map((method) => ({ method, precision: "bf16", folder })),
    options,
  );
  const { name, limit, ratio, value, peerRatio, peakBytes, peerPeakBytes } = lora.row;
  assert.deepEqual([name, limit, ratio, peerPeakBytes], ["train lora bf16 tiny", null, null, 4 << 20]);
  assert.ok(value > 0 && lora.speeds.length === 2 && Math.abs((peerRatio ?? 0) - value) < 1e-9 * value);
  assert.ok(peakBytes > 1 << 20);
  assert.deepEqual([sqft.row.peerRatio, sqft.row.peerPeakBytes], [null, null], "the peer does not know it");
  const given = readFileSync(path.join(scratch, "given"), "utf8").trim().split("\n");
  assert.deepEqual(given, Array(2).fill(`${folder} --method lora --batch 1 --seq 8 --steps 2 --threads 2 --dtype bf16 --device cuda`));
  const beside = said.filter(({ text }) => text.startsWith("  test: 1 tokens/s"));
  assert.deepEqual(
    beside.map(({ open }) => open),
    [0, 0],
  );
});

test("a method that the device has no memory for is left out and named, and the others are measured", async () => {
  /** Has no room for gradients and moments of a whole model. */
  const smallCard = () => {
    const device = fastDevice();
    const allocate = device.allocate.bind(device);
    device.allocate = (...given): Tensor => {
      if (given[2] === "optimizer" && given[0][0] > 1000) throw new UserError("device/out-of-memory", "The card is full.", "Buy another.");
      return allocate(...given);
    };
    return device;
  };
  const { options, said } = watched(smallCard);
  const trained = await trainInTurn(
    (["full", "lora"] as const).map((method) => ({ method, precision: "bf16", folder })),
    { ...options, peer: null },
  );
  assert.deepEqual(
    trained.map(({ entry }) => entry.method),
    ["lora"],
  );
  assert.deepEqual(
    said.map(({ text, open }) => `${text.trim()} ${open}`),
    ["round 1 of 2: full bf16 0", "full bf16 is left out: The card is full. 0", "round 1 of 2: lora bf16 0", "round 2 of 2: lora bf16 0"],
  );
});

test("the models of the bench have the parameters they are named by", async () => {
  const parameters = async (name: "134M" | "1.2B") => {
    const { config } = await readModelConfig(benchConfig(name));
    return [...weightShapes(config).values()].reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);
  };
  assert.deepEqual([await parameters("134M"), await parameters("1.2B")], [134_105_856, 1_213_302_784]);
});

test("a method that is none is refused on a card too, before the card is opened", async () => {
  const asked = { peer: null, methods: "smt,lorra", device: "webgpu", model: "134M", json: false, verbose: false } as const;
  await assert.rejects(bench(asked), { code: "bench/unknown-method" });
});
