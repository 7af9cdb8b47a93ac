/** bf16 by arithmetic is bf16 by bits, for f32 numbers of every exponent, ties, and what is no number. */
import { test } from "node:test";
import { ditherToBfloat16 as ditherByBits, ditherThreshold } from "../../../../src/core/devices/dither.ts";
import { roundToBfloat16 as byBits } from "../../../../src/core/devices/floatFormats.ts";
import { openEngine } from "../../../../src/core/devices/tensorflow/engine.ts";
import { ditherToBfloat16, roundToBfloat16 } from "../../../../src/core/devices/tensorflow/rounding.ts";
import { expectSameBits } from "../../../conformance/harness.ts";
import { integers } from "../../../support/randomTensors.ts";

/** Of every exponent and sign: exact ties up and down, one beside a tie, the least and the largest, and any. */
function everyKind(): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(256 * 64);
  const low = integers(1, words.length, 2 ** 23);
  const special = [0, 1, 0x7fff, 0x8000, 0x8001, 0x17fff, 0x18000, 0x18001, 0x7f7fff, 0x7f8000, 0x7ffffe, 0x7fffff];
  for (let exponent = 0; exponent < 256; exponent++)
    for (let i = 0; i < 64; i++) words[64 * exponent + i] = (exponent << 23) | (special[i % 32] ?? low[64 * exponent + i]) | (i < 32 ? 0 : 2 ** 31);
  return new Float32Array(words.buffer);
}

test("arithmetic rounds as bits do", async () => {
  const { engine } = await openEngine();
  const { tf } = engine;
  const values = everyKind();
  expectSameBits(
    "bf16",
    tf.tidy(() => roundToBfloat16(engine, tf.tensor1d(values)).dataSync()),
    Float32Array.from(values, byBits),
  );
});

test("arithmetic dithers as bits do, with thresholds that are the integers of dither.ts", async () => {
  const { engine } = await openEngine();
  const { tf } = engine;
  const values = everyKind();
  const [rows, columns] = [128, 128];
  // Rows of a strip.
  const first = 70_000;
  const thresholdAt = (at: number) => ditherThreshold(first + Math.floor(at / columns), at % columns);
  // Numbers whose lower bits stand at the border of their place, in every row and column: a wrong threshold shows.
  const words = Uint32Array.from({ length: rows * columns }, (_, at) => {
    const border = 2 ** 16 - thresholdAt(at) - (at % 2);
    return 0x3f800000 + border;
  });
  for (const numbers of [values, new Float32Array(words.buffer)])
    expectSameBits(
      "bf16",
      tf.tidy(() => ditherToBfloat16(tf, tf.tensor2d(numbers, [rows, columns]), first).dataSync()),
      numbers.map((x, at) => ditherByBits(x, thresholdAt(at))),
    );
});
