/**
 * Rotary position tables: cos and sin of position · frequency, with the frequency changes of `linear` and `llama3` scaling.
 * Computed in float64 and rounded once. Source: RoFormer (arXiv 2104.09864); Llama 3.1's rope_scaling.
 */
import type { Device, Tensor } from "../devices/device.ts";
import type { ModelConfig } from "./config.ts";

export interface RopeTables {
  /** (positions, HS/2) f32 each. */
  cos: Tensor;
  sin: Tensor;
}

/** Angle per position of each of the HS/2 rotated pairs. */
export function ropeFrequencies(config: ModelConfig): Float64Array {
  const half = config.headSize / 2;
  return Float64Array.from({ length: half }, (_, i) => scaled(config.ropeTheta ** (-i / half), config));
}

function scaled(frequency: number, { ropeScaling: scaling }: ModelConfig): number {
  if (scaling.type === "default") return frequency;
  if (scaling.type === "linear") return frequency / scaling.factor;
  const wavelength = (2 * Math.PI) / frequency;
  const longest = scaling.originalMaxPositions / scaling.lowFrequencyFactor;
  const shortest = scaling.originalMaxPositions / scaling.highFrequencyFactor;
  if (wavelength < shortest) return frequency;
  if (wavelength > longest) return frequency / scaling.factor;
  // Between the two the paper blends linearly in (original length / wavelength).
  const blend = (scaling.originalMaxPositions / wavelength - scaling.lowFrequencyFactor) / (scaling.highFrequencyFactor - scaling.lowFrequencyFactor);
  return (1 - blend) * (frequency / scaling.factor) + blend * frequency;
}

/** Tables for positions 0 … positions − 1. */
export function ropeTables(device: Device, config: ModelConfig, positions: number): RopeTables {
  const frequencies = ropeFrequencies(config);
  const half = frequencies.length;
  const cos = new Float32Array(positions * half);
  const sin = new Float32Array(positions * half);
  for (let p = 0; p < positions; p++)
    for (let i = 0; i < half; i++) {
      cos[p * half + i] = Math.cos(p * frequencies[i]);
      sin[p * half + i] = Math.sin(p * frequencies[i]);
    }
  const tables = { cos: device.allocate([positions, half], "f32", "workspace"), sin: device.allocate([positions, half], "f32", "workspace") };
  device.write(tables.cos, cos);
  device.write(tables.sin, sin);
  return tables;
}
