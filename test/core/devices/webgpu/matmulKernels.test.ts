/**
 * Which kernel a product takes, the tiles among which a timing chooses, and the kernel for matrix units: every variant compiled by Dawn without a card, and what
 * surrounds the units computed on a software card with emulated ones. The units themselves need a card that has them.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { DType } from "../../../../src/core/devices/device.ts";
import type { Commands } from "../../../../src/core/devices/webgpu/commands.ts";
import { type Gpu, openGpu } from "../../../../src/core/devices/webgpu/gpu.ts";
import {
  allShapes,
  type MatrixShape,
  type MatrixUnit,
  matrixShapes,
  subgroupFragments,
} from "../../../../src/core/devices/webgpu/kernels/matrixProduct.wgsl.ts";
import { type TileShape, tileShapes } from "../../../../src/core/devices/webgpu/kernels/tiledProduct.wgsl.ts";
import { describeUnits, MatmulKernels, matmulKernel, type ProductUnits, productUnits } from "../../../../src/core/devices/webgpu/matmulKernels.ts";
import type { Scales } from "../../../../src/core/devices/webgpu/scales.ts";
import { TileTuner } from "../../../../src/core/devices/webgpu/tileTuner.ts";
import { WebgpuDevice } from "../../../../src/core/devices/webgpu/webgpuDevice.ts";
import { emulatedFragments } from "../../../support/emulatedFragments.ts";
import { prepareGraphicsCard } from "../../../support/graphicsCard.ts";
import { chosenCases, failuresOf, methodCases, productBits } from "./products.ts";

const { gpu, skip } = await openCard();

async function openCard(): Promise<{ gpu: Gpu | null; skip: string | false }> {
  try {
    prepareGraphicsCard();
    return { gpu: await openGpu(), skip: false };
  } catch (error) {
    return { gpu: null, skip: `not run: ${error instanceof Error ? error.message : error}` };
  }
}

const features = (...names: string[]) => new Set(names) as unknown as GPUSupportedFeatures;
const limits = { maxComputeInvocationsPerWorkgroup: 1024, maxComputeWorkgroupStorageSize: 49152 } as GPUSupportedLimits;
const subgroupMatrix = "chromium-experimental-subgroup-matrix";
/** As an NVIDIA card tells it. */
const info = {
  subgroupMinSize: 32,
  subgroupMaxSize: 32,
  subgroupMatrixConfigs: [
    { componentType: "f16", resultComponentType: "f16", M: 16, N: 16, K: 32 },
    { componentType: "f16", resultComponentType: "f32", M: 16, N: 8, K: 16 },
    { componentType: "f16", resultComponentType: "f32", M: 16, N: 16, K: 16 },
    { componentType: "i8", resultComponentType: "i32", M: 16, N: 16, K: 32 },
  ],
} as unknown as GPUAdapterInfo;

test("the kernel follows from what the card offers and from the operands", () => {
  const [none, half, all] = [features(), features("shader-f16"), features("shader-f16", "subgroups", subgroupMatrix)].map((set) =>
    productUnits({ features: set, limits }, info),
  );
  const kinds = (units: typeof none) => [true, false].map((bf16) => matmulKernel(units, bf16).kind);
  assert.deepEqual([none, half, all].map(kinds), [
    ["f32", "f32"],
    ["f16", "f32"],
    ["matrix", "f32"],
  ]);
  assert.deepEqual([none, half, all].map(describeUnits), ["f32", "f16", "f16 tensor cores 16×16×16"]);
  assert.equal(all.matrix?.shapes.length, allShapes.length);
  const smallCard = { ...limits, maxComputeWorkgroupStorageSize: 16384 };
  const offered = (changed: object, its: GPUSupportedLimits = limits) =>
    productUnits({ features: features("shader-f16", subgroupMatrix), limits: its }, { ...info, ...changed }).matrix?.shapes.length ?? 0;
  assert.equal(offered({}, smallCard), 1);
  assert.equal(offered({ subgroupMinSize: 16 }), 0, "which invocations make a subgroup is not known");
  assert.equal(offered({ subgroupMatrixConfigs: undefined }), 0);
});

/** What is tried and what is left when tiles fail as `problem` says, by kernel and tile. */
async function proved(offered: ProductUnits, problem: (kernel: string, tile: string) => string | null) {
  const kernels = new MatmulKernels(offered, {} as Scales, { canTime: false } as Commands);
  const tried: string[] = [];
  await kernels.prove(async (dtype, forms) => {
    const { kind, shapes } = matmulKernel(kernels.units, dtype === "bf16");
    const tile = shapes.map(({ rows, columns }) => `${rows}×${columns}`).join();
    tried.push(`${kind} ${tile} ${forms}`);
    return problem(kind, tile);
  });
  return { tried, units: kernels.units, description: kernels.description };
}

test("every tile is tried alone when a card is opened; those that fail are left, and units that have none", async () => {
  const all = productUnits({ features: features("shader-f16", "subgroups", subgroupMatrix), limits }, info);
  const f32 = ["f32 128×64 one", "f32 128×128 one"];
  const sound = await proved(all, () => null);
  assert.deepEqual(sound.tried, ["matrix 64×64 all", "matrix 128×64 one", "matrix 128×128 one", ...f32]);
  assert.deepEqual(sound.units, all);
  const large = await proved(all, (kernel, tile) => (kernel === "matrix" && tile === "128×128" ? "no registers" : null));
  assert.deepEqual(large.units, { ...all, matrix: { ...all.matrix, shapes: allShapes.slice(0, 2) } });
  assert.equal(large.description, "f16 tensor cores 16×16×16; f16 tensor cores 16×16×16 in 128×128 left: no registers");
  const none = await proved(all, (kernel, tile) => (kernel === "f32" && tile === "128×64" ? null : "wrong"));
  assert.deepEqual(none.tried.slice(3), ["f16 64×64 all", "f16 128×64 one", "f16 128×128 one", ...f32]);
  assert.deepEqual(none.units, { f16: false, matrix: null, tiles: tileShapes.slice(0, 2) });
  assert.match(none.description, /^f32; f16 tensor cores 16×16×16 in 64×64 left: wrong; .*; f32 in 128×128 left: wrong$/);
  assert.deepEqual((await proved(productUnits({ features: features(), limits }, info), () => null)).tried, []);
});

test("tiles are timed in turn, once a class of sizes, and the fastest stays", () => {
  const tuner = new TileTuner(true);
  const size = { rows: 512, N: 2048, K: 2048 };
  const choose = (of = size) => tuner.choose("NT", tileShapes, of);
  const timings = tileShapes.flatMap(() => tileShapes.map(() => choose()));
  assert.deepEqual(
    timings.map(({ shape }) => shape),
    tileShapes.flatMap(() => tileShapes),
  );
  assert.equal(choose().timed, undefined, "all are on their way");
  for (const { shape, timed } of timings) timed?.(shape === tileShapes[1] ? 10 : 20);
  assert.deepEqual([choose().shape, choose({ ...size, rows: 300 }).shape], [tileShapes[1], tileShapes[1]]);
  assert.ok(choose({ ...size, rows: 4096 }).timed, "another class");
  assert.deepEqual(choose({ rows: 64, N: 64, K: 64 }), { shape: tileShapes[0], timed: undefined });
  const blind = new TileTuner(false);
  const likely = (rows: number) => blind.choose("NT", tileShapes, { rows, N: 4096, K: 4096 }).shape;
  assert.deepEqual([likely(128), likely(4096)], [tileShapes[0], tileShapes[2]]);
});

const dtypes: [out: DType, a: DType, b: DType][] = [
  ["f32", "bf16", "bf16"],
  ["bf16", "bf16", "bf16"],
  ["f32", "f32", "bf16"],
  ["bf16", "bf16", "f32"],
];
const orders = [false, true].flatMap((transposeA) => [false, true].map((transposeB) => ({ transposeA, transposeB })));

test("every variant of the kernel for matrix units compiles", { skip }, async () => {
  const complaints: string[] = [];
  let modules = 0;
  for (const unit of [unitOf(16, 16, 16), unitOf(16, 8, 16), unitOf(8, 8, 8)])
    for (const shape of matrixShapes(unit, limits)) {
      const told = await compiled(unit, shape);
      modules += told.modules;
      complaints.push(...told.complaints);
    }
  assert.ok(modules >= 9 * dtypes.length * orders.length * 2, `${modules} modules`);
  assert.deepEqual(complaints, []);
});

const noRoom = ({ message }: { message: string }) => /workgroup storage|previous error/.test(message);

/** What Dawn says of a tile's kernels for operands of all orders and dtypes, read 8 at once or one by one. */
async function compiled(unit: MatrixUnit, shape: MatrixShape): Promise<{ modules: number; complaints: string[] }> {
  const empty = await openGpu({ dawn: ["backend=null"] });
  const complaints: string[] = [];
  const infos: Promise<void>[] = [];
  const create = empty.device.createShaderModule.bind(empty.device);
  empty.device.createShaderModule = (descriptor) => {
    const module = create(descriptor);
    const told = module.getCompilationInfo();
    infos.push(
      told.then(({ messages }) => void complaints.push(...messages.map(({ lineNum, message }) => `${descriptor.label}: ${lineNum}: ${message}`))),
    );
    return module;
  };
  // What has no room on the null backend, which has the least there may be, is compiled all the same and not made a pipeline.
  empty.device.addEventListener("uncapturederror", (event) => {
    event.preventDefault(); // or Dawn prints it
    if (!noRoom(event.error)) complaints.push(event.error.message);
  });
  const card = new WebgpuDevice({ ...empty, units: { ...empty.units, matrix: { unit, shapes: [shape], fragments: subgroupFragments(unit) } } });
  const [M, N] = [72, 80];
  for (const [outType, aType, bType] of dtypes)
    for (const { transposeA, transposeB } of orders)
      for (const accumulate of [false, true]) {
        const K = accumulate ? 37 : 64;
        const a = card.allocate(transposeA ? [K, M] : [M, K], aType, "workspace");
        const b = card.allocate(transposeB ? [N, K] : [K, N], bType, "workspace");
        const out = card.allocate([M, N], outType, "workspace");
        card.matmul(out, a, b, { transposeA, transposeB, accumulate });
        for (const tensor of [a, b, out]) card.free(tensor);
      }
  for (const [, dOutType, slicesType] of dtypes)
    for (const columnCount of [16, 9]) {
      const [dBlocks, dOut, slices] = [
        card.allocate([2 * 24 * columnCount], "f32", "workspace"),
        card.allocate([64, M], dOutType, "workspace"),
        card.allocate([64, 16 + columnCount], slicesType, "workspace"),
      ];
      const blocks = [0, 1].flatMap((i) => [24 * i, 24, 16 * i, columnCount, 24 * columnCount * i, 16 * i]);
      card.blockGradients(dBlocks, dOut, slices, Int32Array.from(blocks));
      for (const tensor of [dBlocks, dOut, slices]) card.free(tensor);
    }
  await Promise.all(infos);
  await card.read(card.allocate([1], "f32", "workspace")).catch((error: Error) => noRoom(error) || complaints.push(error.message));
  card.close();
  return { modules: infos.length, complaints };
}

after(() => gpu?.close());

function unitOf(M: number, N: number, K: number, lanes = 32): MatrixUnit {
  return { M, N, K, lanes };
}

test("what surrounds the matrix units is right: conformance with emulated ones", { skip }, async () => {
  const unit = unitOf(16, 8, 16, 16);
  const matrix = { unit, shapes: [{ rows: 32, columns: 32, own: { rows: 16, columns: 16 } }], fragments: emulatedFragments(unit, "f32") };
  const card = gpu as Gpu;
  const device = new WebgpuDevice({ ...card, units: { ...card.units, matrix } });
  const cases = chosenCases(37);
  assert.ok(cases.length > 7, `${cases.length} cases`);
  cases.push(...methodCases(1));
  assert.deepEqual(await failuresOf(device, cases), []);
});

test("every tile gives the same bits in f32", { skip }, async () => {
  const card = gpu as Gpu;
  const withTile = (tile: TileShape) => new WebgpuDevice({ ...card, units: { f16: false, tiles: [tile], matrix: null } });
  const [bits, ...others] = await Promise.all(tileShapes.map((tile) => productBits(withTile(tile), "f32")));
  for (const other of others) assert.deepEqual(other, bits);
});
