/** The bench of products on a card: which rows it gives, that it refuses wrong products, and that a size too slow to wait for is left out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { benchCardProducts, describeProduct, type ProductRow, type ProductSize } from "../../../src/core/bench/cardProducts.ts";
import type { Device } from "../../../src/core/devices/device.ts";
import { fastDevice } from "../../support/devices.ts";

const small: ProductSize = { M: 24, K: 40, N: 32 };

async function rowsOf(device: Device, sizes: readonly ProductSize[]): Promise<{ rows: ProductRow[]; left: string[] }> {
  const rows: ProductRow[] = [];
  const left: string[] = [];
  await benchCardProducts(
    device,
    sizes,
    (text) => left.push(text),
    (row) => rows.push(row),
    1,
  );
  return { rows, left };
}

test("every precision and order is measured, and the memory given back", async () => {
  const device = fastDevice();
  const before = device.ledger.liveBytes;
  const { rows, left } = await rowsOf(device, [small]);
  assert.deepEqual(
    rows.map(({ precision, form }) => `${precision} ${form}`),
    ["bf16", "f32"].flatMap((precision) => ["x·Wᵀ", "dy·W", "dyᵀ·x"].map((form) => `${precision} ${form}`)),
  );
  for (const { M, K, N, milliseconds, teraflopsPerSecond } of rows)
    assert.ok(Math.abs((teraflopsPerSecond * milliseconds) / ((2 * M * K * N) / 1e9) - 1) < 1e-6);
  assert.deepEqual(left, []);
  assert.equal(device.ledger.liveBytes, before);
  device.close();
  const row: ProductRow = { ...small, precision: "bf16", form: "dy·W", teraflopsPerSecond: 123.46, milliseconds: 0.5 };
  assert.equal(describeProduct(row).replace(/ +/g, " "), "matmul bf16 24x40x32 dy·W 123.5 TFLOP/s 0.500 ms");
});

test("what would last too long is left out and named", async () => {
  const device = fastDevice();
  const { rows, left } = await rowsOf(device, [small, { M: 1 << 20, K: 1 << 14, N: 1 << 18 }]);
  assert.equal(rows.length, 6);
  assert.match(left[0], /^1048576x16384x262144 in bf16 is left out: one product would last \d+ s\.$/);
  assert.equal(left.length, 2);
  device.close();
});

/** The device, but for what `matmul` does instead. */
function withMatmul(device: Device, matmul: Device["matmul"]): Device {
  const changed: Device = Object.create(device, { matmul: { value: matmul }, ledger: { value: device.ledger } });
  for (const name of ["allocate", "free", "write", "read", "fill", "turn"] as const)
    Object.defineProperty(changed, name, { value: device[name].bind(device) });
  return changed;
}

test("a wrong product is refused", async () => {
  const device = fastDevice();
  await assert.rejects(
    rowsOf(
      withMatmul(device, (out) => device.fill(out, 0)),
      [small],
    ),
    /the product's entry \(0, 0\) is 0/,
  );
  device.close();
});

test("so is one that comes out wrong only after the first, when a card has chosen its tile", async () => {
  const device = fastDevice();
  let calls = 0;
  const later = withMatmul(device, (out, a, b, options) => {
    if (calls++ < 20) device.matmul(out, a, b, options);
  });
  await assert.rejects(rowsOf(later, [small]), /the product's entry \(0, 0\) is 1\.0/);
  device.close();
});
