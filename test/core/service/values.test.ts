/** Numbers for who looks at a block or a file: statistics against closed forms, every dtype against its definition, refusals by name. */

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { analyze } from "../../../src/core/blocks/analysis.ts";
import { Random } from "../../../src/core/random.ts";
import { describeTensors, readTensorWindow } from "../../../src/core/service/tensorFiles.ts";
import type { UserError } from "../../../src/protocol/userError.ts";
import { storyFolder } from "../../support/storyModel.ts";
import { temporaryFolder } from "../run/smallRuns.ts";
import { tensorOf } from "./runFiles.ts";

const folder = temporaryFolder({ after });

const close = (actual: number, expected: number, tolerance = 1e-6) =>
  assert.ok(Math.abs(actual - expected) <= tolerance * Math.max(1, Math.abs(expected)), `${actual} is not ${expected}`);

test("statistics and histogram count what they say, singular values are those of the matrix, the effective rank that of their entropy", () => {
  const diagonal = Float32Array.from({ length: 64 }, (_, i) => (i % 9 === 0 ? -(i / 9 + 1) : 0));
  const ofDiagonal = analyze(diagonal, 8, 8);
  assert.deepEqual([ofDiagonal.minimum, ofDiagonal.maximum, ofDiagonal.zeros, ofDiagonal.nonFinite], [-8, 0, 56, 0]);
  close(ofDiagonal.mean, -36 / 64);
  close(ofDiagonal.norm, Math.sqrt(204));
  close(ofDiagonal.standardDeviation, Math.sqrt(204 / 64 - (36 / 64) ** 2));
  for (const [i, value] of ofDiagonal.singularValues.entries()) close(value, 8 - i);
  const entropy = [1, 2, 3, 4, 5, 6, 7, 8].reduce((sum, value) => sum - (value / 36) * Math.log(value / 36), 0);
  close(ofDiagonal.effectiveRank, Math.exp(entropy));
  // Bins of 1/8 from −8: −8 in the first, −1 in the 56th, and the 56 zeros, the maximum, in the last.
  assert.deepEqual([ofDiagonal.histogram[0], ofDiagonal.histogram[56], ofDiagonal.histogram[63]], [1, 1, 56]);
  assert.equal(
    ofDiagonal.histogram.reduce((sum, count) => sum + count, 0),
    64,
  );

  const random = new Random(4);
  const [u, v] = [16, 40].map((length) => Float32Array.from({ length }, () => random.normal()));
  const outer = analyze(
    Float32Array.from({ length: 640 }, (_, i) => u[Math.floor(i / 40)] * v[i % 40]),
    16,
    40,
  );
  assert.equal(outer.singularValues.length, 16);
  close(outer.singularValues[0], outer.norm);
  close(outer.effectiveRank, 1, 1e-4);
  const identity = Float32Array.from({ length: 256 * 256 }, (_, i) => (i % 257 === 0 ? 3 : 0));
  close(analyze(identity, 256, 256).effectiveRank, 256);

  const zero = analyze(new Float32Array(12), 3, 4);
  assert.deepEqual([zero.effectiveRank, zero.zeros, zero.histogram[0], zero.standardDeviation], [0, 12, 12, 0]);
  const broken = analyze(Float32Array.of(1, Number.NaN, 3, Number.POSITIVE_INFINITY), 2, 2);
  assert.deepEqual([broken.nonFinite, broken.minimum, broken.maximum, broken.mean, broken.singularValues], [2, 1, 3, 2, []]);
  assert.deepEqual(analyze(Float32Array.of(Number.NaN), 1, 1).minimum, 0);
  const wide = analyze(new Float32Array(513 * 2).fill(1), 2, 513);
  assert.deepEqual([wide.singularValues, wide.effectiveRank, wide.norm], [[], 0, Math.sqrt(1026)]);
});

/** Writes a file of tensors given as dtype, shape and bytes. */
function writeFile(name: string, tensors: Record<string, [dtype: string, shape: number[], bytes: number[]]>): string {
  const header: Record<string, object> = { __metadata__: { made: "here" } };
  let at = 0;
  for (const [key, [dtype, shape, bytes]] of Object.entries(tensors)) {
    header[key] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const file = path.join(folder, name);
  writeFileSync(file, Buffer.concat([length, text, ...Object.values(tensors).map(([, , bytes]) => Buffer.from(bytes))]));
  return file;
}

test("every dtype that is shown has its values, others are refused by name", async () => {
  const file = writeFile("dtypes.safetensors", {
    f64: ["F64", [1], [0, 0, 0, 0, 0, 0, 0xf8, 0xbf]], // −1.5
    i64: ["I64", [2], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0, 0, 0, 0, 0]],
    u64: ["U64", [1], [0, 0, 0, 0, 1, 0, 0, 0]],
    f32: ["F32", [1], [0, 0, 0x20, 0xc0]], // −2.5
    u32: ["U32", [1], [0xff, 0xff, 0xff, 0xff]],
    i32: ["I32", [1], [0xfe, 0xff, 0xff, 0xff]],
    f16: ["F16", [2], [0, 0x3e, 1, 0]], // 1.5, the smallest subnormal
    bf16: ["BF16", [2], [0xc0, 0xbf, 0x80, 0x7f]], // −1.5, ∞
    u16: ["U16", [1], [1, 2]],
    i16: ["I16", [1], [0, 0x80]],
    u8: ["U8", [2], [0, 200]],
    i8: ["I8", [1], [0x80]],
    bool: ["BOOL", [2], [0, 1]],
    // E4M3: 1.0, the largest, the smallest subnormal, NaN, −0.5
    e4m3: ["F8_E4M3", [5], [0x38, 0x7e, 1, 0x7f, 0xb0]],
    // E5M2: 1.0, the largest, infinity, the smallest subnormal
    e5m2: ["F8_E5M2", [4], [0x3c, 0x7b, 0x7c, 1]],
    e8m0: ["F8_E8M0", [3], [127, 130, 255]],
    c64: ["C64", [1], [0, 0, 0, 0, 0, 0, 0, 0]],
    f4: ["F4", [2], [0]],
    scalar: ["U8", [], [9]],
  });
  const row = async (name: string, columns: number) => [...(await readTensorWindow({ file, name, window: { row: 0, column: 0, rows: 1, columns } }))];
  const expected: Record<string, number[]> = {
    f64: [-1.5],
    i64: [-1, 7],
    u64: [2 ** 32],
    f32: [-2.5],
    u32: [2 ** 32],
    i32: [-2],
    f16: [1.5, 2 ** -24],
    bf16: [-1.5, Number.POSITIVE_INFINITY],
    u16: [513],
    i16: [-32768],
    u8: [0, 200],
    i8: [-128],
    bool: [0, 1],
    e4m3: [1, 448, 2 ** -9, Number.NaN, -0.5],
    e5m2: [1, 57344, Number.POSITIVE_INFINITY, 2 ** -16],
    e8m0: [1, 8, Number.NaN],
    scalar: [9],
  };
  for (const [name, values] of Object.entries(expected)) assert.deepEqual(await row(name, values.length), values, name);
  const refused = (code: string, word: string) => (error: UserError) => error.code === code && error.message.includes(word);
  await assert.rejects(row("c64", 1), refused("tensors/unsupported-dtype", "C64"));
  await assert.rejects(row("f4", 1), refused("tensors/unsupported-dtype", "F4"));
  await assert.rejects(row("none", 1), refused("safetensors/TensorNotFound", "none"));
  await assert.rejects(row("u8", 3), refused("tensors/no-window", "1 × 2"));
  const { metadata, tensors, bytes } = await describeTensors(file);
  assert.deepEqual([metadata, tensors.length, tensors[1]], [{ made: "here" }, 19, { name: "i64", dtype: "I64", shape: [2], bytes: 16 }]);
  assert.ok(bytes > 100);
});

test("a window of a matrix is its own entries; more dimensions are rows; too many values at once are refused", async () => {
  const file = path.join(storyFolder, "model.safetensors");
  const name = "model.layers.1.mlp.down_proj.weight";
  const { shape, values } = tensorOf(file, name);
  const window = { row: 100, column: 370, rows: 28, columns: 14 };
  const read = await readTensorWindow({ file, name, window });
  assert.deepEqual(
    read,
    Float32Array.from({ length: 28 * 14 }, (_, i) => values[(100 + Math.floor(i / 14)) * shape[1] + 370 + (i % 14)]),
  );
  assert.deepEqual(await readTensorWindow({ file, name, window: { row: 0, column: 0, rows: shape[0], columns: shape[1] } }), values);
  const cube = writeFile("cube.safetensors", { x: ["U8", [2, 3, 4], Array.from({ length: 24 }, (_, i) => i)] });
  assert.deepEqual([...(await readTensorWindow({ file: cube, name: "x", window: { row: 4, column: 1, rows: 2, columns: 2 } }))], [17, 18, 21, 22]);
  const big = { row: 0, column: 0, rows: 2048, columns: 129 };
  await assert.rejects(readTensorWindow({ file, name: "lm_head.weight", window: big }), (error: UserError) => error.code === "tensors/no-window");
});
