/** One linear map with an adapter, and how to run it: what the tests of LoRS, LoRA, DoRA, SPP and SQFT stand on. */
import type { Device, DType, Tensor } from "../../src/core/devices/device.ts";
import type { ReferenceDevice } from "../../src/core/devices/reference.ts";
import { attachToLinears } from "../../src/core/methods/adapters.ts";
import type { AdapterMethod, BatchPlace, Linear, TuningMethod } from "../../src/core/methods/method.ts";
import { type AdapterConfig, readableValues } from "../../src/protocol/runConfig.ts";
import { normals } from "./randomTensors.ts";

export type AdapterName = AdapterConfig["name"];
type ConfigOf<N extends AdapterName> = Extract<AdapterConfig, { name: N }>;

/** `method:` of a run file with its defaults. */
export function adapterConfig<N extends AdapterName>(name: N, given: Partial<ConfigOf<N>> = {}): ConfigOf<N> {
  return readableValues({ method: { name, ...given } }).method as ConfigOf<N>;
}

export function attachTo(device: Device, linears: Linear[], config: AdapterConfig, seed = 1): AdapterMethod {
  return attachToLinears(device, linears, config, seed);
}

/** In every group of four columns of a row the two smallest by size become 0. */
export function pruneTwoOfFour(values: Float32Array): Float32Array {
  const pruned = values.slice();
  for (let at = 0; at < pruned.length; at += 4) {
    const order = [0, 1, 2, 3].sort((i, j) => Math.abs(values[at + i]) - Math.abs(values[at + j]) || i - j);
    for (const i of order.slice(0, 2)) pruned[at + i] = 0;
  }
  return pruned;
}

export interface CaseShape {
  out: number;
  width: number;
  tokens: number;
  mask: "2:4" | "full";
  bias: boolean;
  dtype: DType;
}

export interface LinearCase extends CaseShape {
  device: Device;
  linear: Linear;
  /** (tokens, in), of the case's dtype. */
  x: Tensor;
  /** What the output is to be: loss = ½‖out − target‖². (tokens, out). */
  target: Float32Array;
}

export function linearCase(device: Device, given: Partial<CaseShape> = {}): LinearCase {
  const shape: CaseShape = { out: 12, width: 16, tokens: 20, mask: "2:4", bias: true, dtype: "f32", ...given };
  const { out, width, tokens, mask, bias, dtype } = shape;
  const tensor = (dimensions: number[], kind: DType, values: Float32Array) => {
    const made = device.allocate(dimensions, kind, "weights");
    device.write(made, values);
    return made;
  };
  const values = normals(1, out * width, 1 / Math.sqrt(width));
  const linear: Linear = {
    name: "model.layers.0.mlp.up_proj",
    layer: 0,
    projection: "up_proj",
    stage: 2,
    weight: tensor([out, width], dtype, mask === "2:4" ? pruneTwoOfFour(values) : values),
    bias: bias ? tensor([out], "f32", normals(2, out)) : null,
  };
  return { ...shape, device, linear, x: tensor([tokens, width], dtype, normals(3, tokens * width)), target: normals(4, tokens * out) };
}

/** Moves every trained value off its start, as if it had been trained a while. */
export async function unsettle(device: Device, method: AdapterMethod, size = 0.3): Promise<void> {
  for (const [i, { name, value }] of method.parameters.entries()) {
    const now = (await device.read(value)) as Float32Array;
    const noise = normals(20 + i, now.length, size);
    const isMagnitude = name.endsWith("magnitude_vector");
    device.write(
      value,
      now.map((x, j) => (isMagnitude ? x * (1 + Math.abs(noise[j])) : x + noise[j])),
    );
  }
  method.afterUpdate();
}

/** A training batch of its own; dropout and searched ranks are then alive. */
export const somePlace: BatchPlace = { step: 3, batch: 5 };

/** out = (0 or `residual`) + the map; forward only. The caller frees it. */
export function forwardOf({ device, linear, x, tokens, out }: LinearCase, method: TuningMethod, residual: Float32Array | null = null): Tensor {
  const y = device.allocate([tokens, out], residual ? "f32" : x.dtype, "activations");
  if (residual) device.write(y, residual);
  method.linearForward(y, linear, x, residual !== null, null);
  return y;
}

/** Loss of the map on the reference device, in float64. */
export function referenceLoss(c: LinearCase, method: AdapterMethod, residual: Float32Array | null = null): number {
  const device = c.device as ReferenceDevice;
  const y = forwardOf(c, method, residual);
  const loss = device.readExact(y).reduce((sum, value, i) => sum + 0.5 * (value - c.target[i]) ** 2, 0);
  device.free(y);
  return loss;
}

/** Forward and backward once: out, dX and the gradients that were added, by the last part of their names. */
export async function gradientsOf(c: LinearCase, method: AdapterMethod, residual: Float32Array | null = null) {
  const { device, linear, x, tokens, out, width } = c;
  for (const { gradient } of method.parameters) device.fill(gradient, 0);
  const y = device.allocate([tokens, out], residual ? "f32" : x.dtype, "activations");
  if (residual) device.write(y, residual);
  let kept: Tensor | null = null;
  method.linearForward(y, linear, x, residual !== null, (tensor) => {
    kept = tensor;
  });
  const exact = "readExact" in device ? (tensor: Tensor) => (device as ReferenceDevice).readExact(tensor) : null;
  const read = async (tensor: Tensor) => exact?.(tensor) ?? Float64Array.from(await device.read(tensor));
  const outValues = await read(y);
  const dOut = device.allocate([tokens, out], y.dtype, "activations");
  const difference = outValues.map((value, i) => value - c.target[i]);
  if (exact) (device as ReferenceDevice).writeExact(dOut, difference);
  else device.write(dOut, Float32Array.from(difference));
  const dX = device.allocate([tokens, width], "f32", "activations");
  const saved = method.saveInput(linear.stage, x);
  method.linearBackward(dX, linear, dOut, saved, false, kept);
  const result = { out: outValues, dOut: difference, dX: await read(dX), gradients: new Map<string, Float64Array>() };
  for (const { name, gradient } of method.parameters) result.gradients.set(name.slice(name.lastIndexOf(".") + 1), await read(gradient));
  for (const tensor of [y, dOut, dX]) device.free(tensor);
  if (kept) device.free(kept);
  return result;
}
