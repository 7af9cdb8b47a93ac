/**
 * Ops against results of PyTorch 2.7.1 in f32, written with at most 1e-6 of rounding: a second opinion on the formulas themselves.
 * The figures (golden-operators, Apache-2.0) are not part of the repository.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import type { Device, Tensor } from "../../src/core/devices/device.ts";
import { openReferenceDevice } from "../../src/core/devices/reference.ts";
import { expectClose } from "../support/expectClose.ts";
import { sharedData } from "../support/sharedData.ts";
import { openDevices } from "./devices.ts";

const folder = sharedData("golden-operators");
const devices: { label: string; device: Device }[] = [{ label: "reference", device: openReferenceDevice() }, ...(await openDevices()).devices];
after(() => {
  for (const { device } of devices) device.close();
});

interface Goldens {
  atol: number;
  rms_norm: { input: number[]; weight: number[]; epsilon: number; output: number[] };
  rope: { query: number[]; key: number[]; head_dim: number; position: number; theta: number; output_query: number[]; output_key: number[] };
  softmax: { input: number[]; output: number[] };
  attention: {
    query: number[];
    keys: number[];
    values: number[];
    sequence_length: number;
    query_heads: number;
    key_value_heads: number;
    head_dim: number;
    output: number[];
  };
  silu_multiply: { gate: number[]; up: number[]; output: number[] };
}

test("ops equal PyTorch's", { skip: folder === null && "not run: no shared data" }, async () => {
  const goldens: Goldens = JSON.parse(readFileSync(path.join(folder as string, "operators.json"), "utf8"));
  assert.equal(goldens.atol, 1e-6);
  for (const { label, device: d } of devices) {
    const of = (values: number[], ...shape: number[]): Tensor => {
      const tensor = d.allocate(shape, "f32", "workspace");
      d.write(tensor, Float32Array.from(values));
      return tensor;
    };
    const integer = (value: number): Tensor => {
      const tensor = d.allocate([1], "i32", "workspace");
      d.write(tensor, Int32Array.of(value));
      return tensor;
    };
    const close = async (name: string, tensor: Tensor, expected: number[]) =>
      expectClose(`${label}: ${name}`, (await d.read(tensor)) as Float32Array, expected, (i) => 1e-6 * Math.max(1, Math.abs(expected[i])));

    const norm = goldens.rms_norm;
    const normalized = of([0, 0, 0, 0], 1, 4);
    d.rmsNormForward(normalized, of([0], 1), of(norm.input, 1, 4), of(norm.weight, 4), norm.epsilon);
    await close("rmsNormForward", normalized, norm.output);

    const { head_dim: size, theta, position, query, key, output_query, output_key } = goldens.rope;
    const angles = Array.from({ length: size / 2 }, (_, i) => position * theta ** ((-2 * i) / size));
    for (const [input, output] of [
      [query, output_query],
      [key, output_key],
    ]) {
      const x = of(input, 1, input.length);
      d.rope(x, of(angles.map(Math.cos), 1, size / 2), of(angles.map(Math.sin), 1, size / 2), integer(0), size, false);
      await close("rope", x, output);
    }

    const { input, output } = goldens.softmax;
    const logits = of(input, 1, 4);
    d.crossEntropy(of([0], 1), logits, integer(3), 1);
    await close(
      "crossEntropy's softmax",
      logits,
      output.map((p, i) => p - (i === 3 ? 1 : 0)),
    );

    const a = goldens.attention;
    const out = of(new Array(8).fill(0), 1, 8);
    const shape = {
      batchSize: 1,
      queryLength: 1,
      keyLength: a.sequence_length,
      keyStride: a.sequence_length,
      numHeads: a.query_heads,
      numKeyValueHeads: a.key_value_heads,
      headSize: a.head_dim,
    };
    d.attentionForward(out, of([0, 0], 1, 2), of(a.query, 1, 8), of(a.keys, 3, 4), of(a.values, 3, 4), integer(0), shape);
    await close("attentionForward", out, a.output);

    const silu = goldens.silu_multiply;
    const product = of([0, 0, 0, 0], 1, 4);
    d.swigluForward(product, of(silu.gate, 1, 4), of(silu.up, 1, 4));
    await close("swigluForward", product, silu.output);
  }
});
