/** Reads golden tensors and compares with them. */
import { openSafetensors } from "../../src/core/files/safetensors.ts";

async function readBytes(file: string, name: string, dtype: string): Promise<ArrayBuffer> {
  const opened = await openSafetensors(file);
  const info = opened.info(name);
  if (info.dtype !== dtype) throw new Error(`${file}: ${name} is ${info.dtype}, not ${dtype}`);
  const bytes = await opened.readBytes(name);
  await opened.close();
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
}

export async function readF32(file: string, name: string): Promise<Float32Array> {
  return new Float32Array(await readBytes(file, name, "F32"));
}

export async function readI32(file: string, name: string): Promise<Int32Array> {
  return new Int32Array(await readBytes(file, name, "I32"));
}

/** ‖a − b‖ / ‖b‖ in f64; NaN when either holds one, which no bound accepts. */
export function relativeL2(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) throw new Error(`lengths ${a.length} and ${b.length}`);
  let difference = 0;
  let size = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i] - b[i]) ** 2;
    size += b[i] ** 2;
  }
  return Math.sqrt(difference / size);
}
