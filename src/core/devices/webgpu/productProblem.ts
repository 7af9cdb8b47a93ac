/** Whether a device multiplies rightly: products of small integers in bf16, which are exact in whatever order and unit they are summed. */
import type { Device } from "../device.ts";

/** Several tiles and a rest in each dimension; K that can be read 8 at once, and K that cannot. */
const sizes = [
  { M: 131, N: 136, K: 72 },
  { M: 33, N: 70, K: 37 },
];

/** What is wrong, or null. */
export async function productProblem(device: Device): Promise<string | null> {
  try {
    for (const size of sizes)
      for (const transposed of [false, true]) if (!(await rightProduct(device, size, transposed))) return "a product of integers came out wrong";
    return null;
  } catch (error) {
    return (error as Error).message;
  }
}

async function rightProduct(device: Device, { M, N, K }: { M: number; N: number; K: number }, transposed: boolean): Promise<boolean> {
  const entry = (i: number, j: number) => ((7 * i + 5 * j + i * j) % 17) - 8;
  const make = (rows: number, columns: number, value: (row: number, column: number) => number) => {
    const tensor = device.allocate([rows, columns], "bf16", "workspace");
    device.write(
      tensor,
      Float32Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns)),
    );
    return tensor;
  };
  const a = transposed ? make(K, M, (k, i) => entry(i, k)) : make(M, K, entry);
  const b = transposed ? make(N, K, (j, k) => entry(k, j)) : make(K, N, entry);
  const out = device.allocate([M, N], "f32", "workspace");
  try {
    device.matmul(out, a, b, { transposeA: transposed, transposeB: transposed });
    const product = await device.read(out);
    for (let i = 0; i < M; i++)
      for (let j = 0; j < N; j++) {
        let sum = 0;
        for (let k = 0; k < K; k++) sum += entry(i, k) * entry(k, j);
        if (product[i * N + j] !== sum) return false;
      }
    return true;
  } finally {
    for (const tensor of [a, b, out]) device.free(tensor);
  }
}
