/**
 * The shape and dtype check of every op, one function each, so that a wrong call fails with the same sentence on every device.
 * Failures are bugs of the caller: plain errors, never UserError. Values (ids, positions, targets) are the devices' to check.
 * Each function returns the dimensions the op works with, in the letters of device.ts.
 */
import type { AdamWOptions, AttentionShape, DType, FileDType, MatmulOptions, Tensor } from "./device.ts";
import { sizeOf } from "./device.ts";

type Named = Record<string, Tensor | null>;

/** Elements of a row: the last dimension. A 1-D tensor is one row. */
export function columnsOf(tensor: Tensor): number {
  return tensor.shape.length === 0 ? 1 : tensor.shape[tensor.shape.length - 1];
}

/** Number of rows: the product of all dimensions but the last. */
export function rowsOf(tensor: Tensor): number {
  return tensor.shape.slice(0, -1).reduce((product, n) => product * n, 1);
}

export function describe(tensor: Tensor): string {
  return `${tensor.dtype} (${tensor.shape.join(", ")})`;
}

export function expect(holds: boolean, op: string, problem: () => string): void {
  if (!holds) throw new Error(`${op}: ${problem()}`);
}

export function expectDType(op: string, tensors: Named, dtypes: readonly DType[]): void {
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor) expect(dtypes.includes(tensor.dtype), op, () => `${name} is ${describe(tensor)}, it must be ${dtypes.join(" or ")}`);
  }
}

export const floats: readonly DType[] = ["f32", "bf16"];

export function expectShape(op: string, tensors: Named, rows: number, columns: number): void {
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor) {
      const fits = rowsOf(tensor) === rows && columnsOf(tensor) === columns;
      expect(fits, op, () => `${name} is ${describe(tensor)}, it must be (${rows}, ${columns})`);
    }
  }
}

/** Vectors may have any rank; their number of elements counts. */
export function expectSize(op: string, tensors: Named, size: number): void {
  for (const [name, tensor] of Object.entries(tensors)) {
    if (tensor) expect(sizeOf(tensor.shape) === size, op, () => `${name} is ${describe(tensor)}, it must have ${size} elements`);
  }
}

function expectDistinct(op: string, name: string, output: Tensor, inputs: Named): void {
  for (const [inputName, input] of Object.entries(inputs)) expect(output !== input, op, () => `${name} may not be ${inputName}`);
}

export function checkAllocate(shape: readonly number[], dtype: DType): void {
  expect(
    shape.every((n) => Number.isSafeInteger(n) && n >= 0) && Number.isSafeInteger(sizeOf(shape) * 4),
    "allocate",
    () => `(${shape.join(", ")}) is no shape`,
  );
  expect(["f32", "bf16", "i32"].includes(dtype), "allocate", () => `${dtype} is no dtype`);
}

/** Returns the first element, the number of elements and the shape of the view. */
export function checkRows(tensor: Tensor, first: number, count: number): { start: number; size: number; shape: number[] } {
  expect(tensor.shape.length > 0, "rows", () => "a scalar has no rows");
  const fits = Number.isSafeInteger(first) && Number.isSafeInteger(count) && first >= 0 && count >= 0 && first + count <= tensor.shape[0];
  expect(fits, "rows", () => `[${first}, ${first + count}) does not lie within ${describe(tensor)}`);
  const stride = sizeOf(tensor.shape.slice(1));
  return { start: first * stride, size: count * stride, shape: [count, ...tensor.shape.slice(1)] };
}

function expectRange(op: string, tensor: Tensor, offset: number, count: number): void {
  const fits = Number.isSafeInteger(offset) && Number.isSafeInteger(count) && offset >= 0 && count >= 0 && offset + count <= sizeOf(tensor.shape);
  expect(fits, op, () => `elements [${offset}, ${offset + count}) do not lie within ${describe(tensor)}`);
}

export function checkWrite(tensor: Tensor, data: Float32Array | Float64Array | Int32Array, offset: number): void {
  const fits = tensor.dtype === "i32" ? data instanceof Int32Array : !(data instanceof Int32Array);
  expect(fits, "write", () => `${data.constructor.name} does not go into ${describe(tensor)}`);
  expectRange("write", tensor, offset, data.length);
}

export const bytesPerStoredElement: Record<FileDType, number> = { F32: 4, F16: 2, BF16: 2 };

/** Returns the number of elements the bytes hold. */
export function checkLoad(tensor: Tensor, offset: number, bytes: Uint8Array, stored: FileDType): number {
  expectDType("load", { tensor }, floats);
  const width = bytesPerStoredElement[stored];
  expect(width !== undefined && bytes.length % width === 0, "load", () => `${bytes.length} bytes are no whole number of ${stored} elements`);
  expectRange("load", tensor, offset, bytes.length / width);
  return bytes.length / width;
}

export function checkRead(tensor: Tensor, offset: number, count: number): void {
  expectRange("read", tensor, offset, count);
}

export function checkFill(tensor: Tensor, value: number): void {
  expect(tensor.dtype !== "i32" || Number.isInteger(value), "fill", () => `${value} does not go into ${describe(tensor)}`);
}

export function checkCopy(out: Tensor, x: Tensor): void {
  expectDType("copy", { out, x }, floats);
  expectSize("copy", { out }, sizeOf(x.shape));
}

export function checkMatmul(out: Tensor, a: Tensor, b: Tensor, options: MatmulOptions = {}): { M: number; N: number; K: number } {
  expectDType("matmul", { out, a, b }, floats);
  const [M, K] = options.transposeA ? [columnsOf(a), rowsOf(a)] : [rowsOf(a), columnsOf(a)];
  const [kb, N] = options.transposeB ? [columnsOf(b), rowsOf(b)] : [rowsOf(b), columnsOf(b)];
  const forms = () => `a ${describe(a)}${options.transposeA ? "ᵀ" : ""} · b ${describe(b)}${options.transposeB ? "ᵀ" : ""}`;
  expect(K === kb, "matmul", () => `the inner dimensions of ${forms()} differ`);
  expect(rowsOf(out) === M && columnsOf(out) === N, "matmul", () => `out ${describe(out)} does not hold ${forms()}`);
  expectDistinct("matmul", "out", out, { a, b });
  return { M, N, K };
}

export function checkAddBias(out: Tensor, bias: Tensor): { N: number; C: number } {
  expectDType("addBias", { out, bias }, floats);
  expectSize("addBias", { bias }, columnsOf(out));
  return { N: rowsOf(out), C: columnsOf(out) };
}

export function checkBiasBackward(dBias: Tensor, dOut: Tensor): { N: number; C: number } {
  expectDType("biasBackward", { dBias }, ["f32"]);
  expectDType("biasBackward", { dOut }, floats);
  expectSize("biasBackward", { dBias }, columnsOf(dOut));
  return { N: rowsOf(dOut), C: columnsOf(dOut) };
}

export function checkEmbeddingForward(out: Tensor, table: Tensor, ids: Tensor): { N: number; C: number; V: number } {
  expectDType("embeddingForward", { out, table }, floats);
  expectDType("embeddingForward", { ids }, ["i32"]);
  const N = sizeOf(ids.shape);
  expectShape("embeddingForward", { out }, N, columnsOf(table));
  return { N, C: columnsOf(table), V: rowsOf(table) };
}

export function checkEmbeddingBackward(dTable: Tensor, dOut: Tensor, ids: Tensor): { N: number; C: number; V: number } {
  expectDType("embeddingBackward", { dTable }, ["f32"]);
  expectDType("embeddingBackward", { dOut }, floats);
  expectDType("embeddingBackward", { ids }, ["i32"]);
  const N = sizeOf(ids.shape);
  expectShape("embeddingBackward", { dOut }, N, columnsOf(dTable));
  return { N, C: columnsOf(dTable), V: rowsOf(dTable) };
}

/** A row is as long as the weight, so that (N, NH·HS) is N·NH rows when each head is normalised alone. */
function normalizedRows(op: string, x: Tensor, weight: Tensor): { R: number; C: number } {
  const C = sizeOf(weight.shape);
  expect(C > 0 && columnsOf(x) % C === 0, op, () => `the rows of x ${describe(x)} are no multiple of weight ${describe(weight)}`);
  return { R: sizeOf(x.shape) / C, C };
}

export function checkRmsNormForward(out: Tensor, rstd: Tensor, x: Tensor, weight: Tensor): { R: number; C: number } {
  expectDType("rmsNormForward", { out, x, weight }, floats);
  expectDType("rmsNormForward", { rstd }, ["f32"]);
  const { R, C } = normalizedRows("rmsNormForward", x, weight);
  expectSize("rmsNormForward", { out }, R * C);
  expectSize("rmsNormForward", { rstd }, R);
  return { R, C };
}

export function checkRmsNormBackward(
  dX: Tensor | null,
  dWeight: Tensor | null,
  dOut: Tensor,
  x: Tensor,
  weight: Tensor,
  rstd: Tensor,
  accumulate: boolean,
): { R: number; C: number } {
  expectDType("rmsNormBackward", { dX, dOut, x, weight }, floats);
  expectDType("rmsNormBackward", { dWeight, rstd }, ["f32"]);
  const { R, C } = normalizedRows("rmsNormBackward", x, weight);
  expectSize("rmsNormBackward", { dX, dOut }, R * C);
  expectSize("rmsNormBackward", { dWeight }, C);
  expectSize("rmsNormBackward", { rstd }, R);
  expect(!(accumulate && dX === dOut), "rmsNormBackward", () => "dX may not be dOut when it accumulates");
  return { R, C };
}

export function checkRope(x: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, headSize: number): { N: number; heads: number; P: number } {
  expectDType("rope", { x }, floats);
  expectDType("rope", { cos, sin }, ["f32"]);
  expectDType("rope", { positions }, ["i32"]);
  const even = Number.isInteger(headSize) && headSize > 0 && headSize % 2 === 0;
  expect(even && columnsOf(x) % headSize === 0, "rope", () => `x ${describe(x)} has no heads of an even size ${headSize}`);
  expectShape("rope", { cos, sin }, rowsOf(cos), headSize / 2);
  expectSize("rope", { positions }, rowsOf(x));
  return { N: rowsOf(x), heads: columnsOf(x) / headSize, P: rowsOf(cos) };
}

function checkAttentionShape(op: string, shape: AttentionShape): void {
  const { queryLength, keyLength, keyStride, numHeads, numKeyValueHeads } = shape;
  expect(
    Object.values(shape).every((n) => Number.isInteger(n) && n > 0),
    op,
    () => `${JSON.stringify(shape)} holds no positive integers`,
  );
  expect(
    queryLength <= keyLength && keyLength <= keyStride,
    op,
    () => `queryLength ${queryLength} ≤ keyLength ${keyLength} ≤ keyStride ${keyStride} does not hold`,
  );
  expect(numHeads % numKeyValueHeads === 0, op, () => `${numHeads} heads do not share ${numKeyValueHeads} key/value heads evenly`);
}

export function checkAttentionForward(
  out: Tensor,
  logSumExp: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  documentStart: Tensor,
  shape: AttentionShape,
): void {
  const op = "attentionForward";
  checkAttentionShape(op, shape);
  const { batchSize, queryLength, keyStride, numHeads, numKeyValueHeads, headSize } = shape;
  expectDType(op, { out, q, k, v }, floats);
  expectDType(op, { logSumExp }, ["f32"]);
  expectDType(op, { documentStart }, ["i32"]);
  expectShape(op, { out, q }, batchSize * queryLength, numHeads * headSize);
  expectShape(op, { k, v }, batchSize * keyStride, numKeyValueHeads * headSize);
  expectSize(op, { logSumExp }, batchSize * queryLength * numHeads);
  expectSize(op, { documentStart }, batchSize * queryLength);
}

export function checkAttentionBackward(
  dQ: Tensor,
  dK: Tensor,
  dV: Tensor,
  dOut: Tensor,
  q: Tensor,
  k: Tensor,
  v: Tensor,
  out: Tensor,
  logSumExp: Tensor,
  documentStart: Tensor,
  shape: AttentionShape,
): void {
  const op = "attentionBackward";
  checkAttentionShape(op, shape);
  const { batchSize, queryLength, keyLength, keyStride, numHeads, numKeyValueHeads, headSize } = shape;
  expect(
    queryLength === keyLength && keyLength === keyStride,
    op,
    () => `queryLength ${queryLength}, keyLength ${keyLength} and keyStride ${keyStride} must be equal`,
  );
  expectDType(op, { dQ, dK, dV, dOut, q, k, v, out }, floats);
  expectDType(op, { logSumExp }, ["f32"]);
  expectDType(op, { documentStart }, ["i32"]);
  expectShape(op, { dQ, dOut, q, out }, batchSize * queryLength, numHeads * headSize);
  expectShape(op, { dK, dV, k, v }, batchSize * keyLength, numKeyValueHeads * headSize);
  expectSize(op, { logSumExp }, batchSize * queryLength * numHeads);
  expectSize(op, { documentStart }, batchSize * queryLength);
  for (const [name, gradient] of Object.entries({ dQ, dK, dV })) expectDistinct(op, name, gradient, { dOut, q, k, v, out });
}

export function checkSwigluForward(out: Tensor, gate: Tensor, up: Tensor): void {
  expectDType("swigluForward", { out, gate, up }, floats);
  expectSize("swigluForward", { gate, up }, sizeOf(out.shape));
}

export function checkSwigluBackward(dGate: Tensor, dUp: Tensor, dOut: Tensor, gate: Tensor, up: Tensor): void {
  expectDType("swigluBackward", { dGate, dUp, dOut, gate, up }, floats);
  expectSize("swigluBackward", { dGate, dUp, gate, up }, sizeOf(dOut.shape));
  expectDistinct("swigluBackward", "dGate", dGate, { dUp, dOut, up });
  expectDistinct("swigluBackward", "dUp", dUp, { dOut, gate });
}

export function checkCrossEntropy(losses: Tensor, logits: Tensor, targets: Tensor, scale: number | null): { n: number; V: number } {
  expectDType("crossEntropy", { losses }, ["f32"]);
  expectDType("crossEntropy", { logits }, scale === null ? floats : ["f32"]);
  expectDType("crossEntropy", { targets }, ["i32"]);
  expectSize("crossEntropy", { losses, targets }, rowsOf(logits));
  return { n: rowsOf(logits), V: columnsOf(logits) };
}

export function checkAdamwStep(value: Tensor, gradient: Tensor, firstMoment: Tensor, secondMoment: Tensor, options: AdamWOptions): void {
  expectDType("adamwStep", { value, gradient, firstMoment, secondMoment }, ["f32"]);
  expectSize("adamwStep", { gradient, firstMoment, secondMoment }, sizeOf(value.shape));
  expect(Number.isInteger(options.step) && options.step >= 1, "adamwStep", () => `step ${options.step} is no number of an update`);
}

export function checkSumSquares(tensors: readonly Tensor[]): void {
  for (const tensor of tensors) expectDType("sumSquares", { tensor }, floats);
}
