/** Whether a device multiplies rightly: products of small integers, which are exact in whatever dtype, order and unit they are summed. */
import type { Device, DType } from "../device.ts";

/** Several tiles of any shape and a rest in each dimension; K that can be read 8 at once, and K that cannot. */
const products = [
  { M: 131, N: 136, K: 72, transposed: false },
  { M: 131, N: 136, K: 72, transposed: true },
  { M: 33, N: 70, K: 37, transposed: false },
  { M: 33, N: 70, K: 37, transposed: true },
];

/** What is wrong with products of operands of that dtype, in all forms or in one, or null. Each form is a kernel, which a driver may take a second to compile. */
export async function productProblem(device: Device, dtype: DType, forms: "all" | "one"): Promise<string | null> {
  try {
    for (const product of forms === "all" ? products : products.slice(0, 1))
      if (!(await rightProduct(device, dtype, product))) return "a product of integers came out wrong";
    return null;
  } catch (error) {
    return (error as Error).message.split("\n")[0]; // a compiler's, followed by all it was given
  }
}

async function rightProduct(device: Device, dtype: DType, { M, N, K, transposed }: (typeof products)[number]): Promise<boolean> {
  const entry = (i: number, j: number) => ((7 * i + 5 * j + i * j) % 17) - 8;
  const make = (rows: number, columns: number, value: (row: number, column: number) => number) => {
    const tensor = device.allocate([rows, columns], dtype, "workspace");
    device.write(
      tensor,
      Float32Array.from({ length: rows * columns }, (_, i) => value(Math.floor(i / columns), i % columns)),
    );
    return tensor;
  };
  const a = transposed ? make(K, M, (k, i) => entry(i, k)) : make(M, K, entry);
  const b = transposed ? make(N, K, (j, k) => entry(k, j)) : make(K, N, entry);
  const out = device.allocate([M, N], "f32", "workspace");
  device.fill(out, 0.5); // or what is not written may be the product before
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
