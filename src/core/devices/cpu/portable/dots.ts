/**
 * One vector against a run of vectors, four at a time: four sums without a common chain of additions, and one pass over the common vector.
 * Vectors of a run lie back to back. Sums are float64; each is in the order of its elements, whatever group it falls into.
 */

/** out[j] = scale · (x at `at`) · (vector j of `vectors` from `from`), j < count. */
export function dots(
  out: Float64Array,
  x: Float32Array,
  at: number,
  vectors: Float32Array,
  from: number,
  count: number,
  size: number,
  scale: number,
): void {
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    let s0 = 0;
    let s1 = 0;
    let s2 = 0;
    let s3 = 0;
    const v0 = from + j * size;
    const v1 = v0 + size;
    const v2 = v1 + size;
    const v3 = v2 + size;
    for (let d = 0; d < size; d++) {
      const value = x[at + d];
      s0 += value * vectors[v0 + d];
      s1 += value * vectors[v1 + d];
      s2 += value * vectors[v2 + d];
      s3 += value * vectors[v3 + d];
    }
    out[j] = s0 * scale;
    out[j + 1] = s1 * scale;
    out[j + 2] = s2 * scale;
    out[j + 3] = s3 * scale;
  }
  for (; j < count; j++) {
    let sum = 0;
    for (let d = 0; d < size; d++) sum += x[at + d] * vectors[from + j * size + d];
    out[j] = sum * scale;
  }
}

/** sums at `at` += Σ over j < count of factors[j] · (vector j of `vectors` from `from`). */
export function addScaled(
  sums: Float64Array,
  at: number,
  factors: Float64Array,
  vectors: Float32Array,
  from: number,
  count: number,
  size: number,
): void {
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const f0 = factors[j];
    const f1 = factors[j + 1];
    const f2 = factors[j + 2];
    const f3 = factors[j + 3];
    const v0 = from + j * size;
    const v1 = v0 + size;
    const v2 = v1 + size;
    const v3 = v2 + size;
    for (let d = 0; d < size; d++) sums[at + d] += f0 * vectors[v0 + d] + f1 * vectors[v1 + d] + f2 * vectors[v2 + d] + f3 * vectors[v3 + d];
  }
  for (; j < count; j++) {
    const factor = factors[j];
    for (let d = 0; d < size; d++) sums[at + d] += factor * vectors[from + j * size + d];
  }
}
