/** bf16 by arithmetic is bf16 by bits, for f32 numbers of every exponent, ties, and what is no number. */
import { test } from "node:test";
import { roundToBfloat16 as byBits } from "../../../../src/core/devices/floatFormats.ts";
import { openEngine } from "../../../../src/core/devices/tensorflow/engine.ts";
import { roundToBfloat16 } from "../../../../src/core/devices/tensorflow/rounding.ts";
import { expectSameBits } from "../../../conformance/harness.ts";
import { integers } from "../../../support/randomTensors.ts";

test("arithmetic rounds as bits do", async () => {
  const { engine } = await openEngine();
  const { tf } = engine;
  const words = new Uint32Array(256 * 64);
  const low = integers(1, words.length, 2 ** 23);
  // Of every exponent and sign: exact ties up and down, one beside a tie, the least and the largest, and any.
  const special = [0, 1, 0x7fff, 0x8000, 0x8001, 0x17fff, 0x18000, 0x18001, 0x7f7fff, 0x7f8000, 0x7fffff];
  for (let exponent = 0; exponent < 256; exponent++)
    for (let i = 0; i < 64; i++) words[64 * exponent + i] = (exponent << 23) | (special[i % 32] ?? low[64 * exponent + i]) | (i < 32 ? 0 : 2 ** 31);
  const values = new Float32Array(words.buffer);
  expectSameBits(
    "bf16",
    tf.tidy(() => roundToBfloat16(engine, tf.tensor1d(values)).dataSync()),
    Float32Array.from(values, byBits),
  );
});
