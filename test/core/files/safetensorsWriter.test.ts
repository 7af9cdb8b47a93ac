/** The safetensors writer: read back what was written, equal input equal bytes, upstream's layout, all or nothing. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { openSafetensors } from "../../../src/core/files/safetensors.ts";
import { entryOf, safetensorsBytes, type TensorEntry, writeSafetensors } from "../../../src/core/files/safetensorsWriter.ts";
import { temporaryFolder } from "./smallModels.ts";

test("the bytes are those of upstream's writer: widest dtypes first, then names, header padded to 8", async (t) => {
  const file = path.join(temporaryFolder(t), "a.safetensors");
  const entries = [
    entryOf("b", "BF16", [2], () => Uint16Array.of(1, 2)),
    entryOf("z", "F32", [1], () => Float32Array.of(1)),
    entryOf("é", "F32", [], () => Float32Array.of(2)),
    entryOf("i", "I64", [0, 3], () => new BigInt64Array(0)),
    entryOf("a", "I32", [1], () => Int32Array.of(-1)),
  ];
  const written = await writeSafetensors(file, entries, { z: "1", format: "pt" });
  const bytes = readFileSync(file);
  const header =
    '{"__metadata__":{"format":"pt","z":"1"},"i":{"dtype":"I64","shape":[0,3],"data_offsets":[0,0]},"z":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' +
    '"é":{"dtype":"F32","shape":[],"data_offsets":[4,8]},"a":{"dtype":"I32","shape":[1],"data_offsets":[8,12]},"b":{"dtype":"BF16","shape":[2],"data_offsets":[12,16]}}';
  const length = Number(bytes.readBigUInt64LE());
  assert.equal(length % 8, 0);
  assert.equal(bytes.subarray(8, 8 + length).toString(), header + " ".repeat(length - Buffer.byteLength(header)));
  assert.equal(bytes.subarray(8 + length).toString("hex"), "0000803f00000040ffffffff01000200");
  assert.deepEqual([written.bytes, safetensorsBytes(entries, { z: "1", format: "pt" })], [bytes.length, bytes.length]);
});

test("whatever is written is read back, and order of entries and metadata does not matter", async (t) => {
  const folder = temporaryFolder(t);
  const tensor = fc.record({
    name: fc.string({ unit: "grapheme", maxLength: 8 }).filter((name) => name !== "__proto__" && name !== "__metadata__"),
    dtype: fc.constantFrom("U8" as const, "BF16" as const, "F32" as const, "I64" as const),
    shape: fc.array(fc.nat(3), { maxLength: 3 }),
    fill: fc.nat(255),
  });
  const width = { U8: 1, BF16: 2, F32: 4, I64: 8 };
  const tensors = fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 8 });
  const keys = fc.dictionary(
    fc.string({ maxLength: 5 }).filter((key) => key !== "__proto__"),
    fc.string({ maxLength: 5 }),
    { maxKeys: 3 },
  );
  await fc.assert(
    fc.asyncProperty(tensors, keys, async (list, metadata) => {
      const entries: TensorEntry[] = list.map(({ name, dtype, shape, fill }) => {
        const bytes = width[dtype] * shape.reduce((product, n) => product * n, 1);
        return entryOf(name, dtype, shape, () => Buffer.alloc(bytes, fill));
      });
      const [one, other] = [path.join(folder, "one"), path.join(folder, "other")];
      await writeSafetensors(one, entries, metadata);
      await writeSafetensors(other, [...entries].reverse(), Object.fromEntries(Object.entries(metadata).reverse()));
      assert.ok(readFileSync(one).equals(readFileSync(other)));
      const file = await openSafetensors(one);
      assert.deepEqual(file.header.metadata, new Map(Object.entries(metadata)));
      assert.equal(file.header.tensors.size, list.length);
      for (const { name, dtype, shape, fill } of list) {
        const info = file.info(name);
        assert.deepEqual([info.dtype, info.shape], [dtype, shape]);
        const bytes = await file.readBytes(name);
        assert.ok(bytes.length === info.end - info.begin && bytes.every((byte) => byte === fill));
      }
      await file.close();
    }),
    { numRuns: 150, seed: 1 },
  );
});

test("a source that gives too little, too much or fails leaves the old file and no other", async (t) => {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "a.safetensors");
  writeFileSync(file, "old");
  const sources: (() => Float32Array | Promise<Float32Array>)[] = [
    () => new Float32Array(1),
    () => new Float32Array(3),
    () => Promise.reject(new Error("lost")),
  ];
  for (const source of sources) await assert.rejects(writeSafetensors(file, [entryOf("a", "F32", [2], source)]));
  for (const names of [["a", "a"], ["__metadata__"], ["__proto__"]]) {
    await assert.rejects(
      writeSafetensors(
        file,
        names.map((name) => entryOf(name, "U8", [0], () => new Uint8Array())),
      ),
    );
  }
  assert.deepEqual([readdirSync(folder), readFileSync(file, "utf8")], [["a.safetensors"], "old"]);
});

test("tensors larger than a chunk are streamed", async (t) => {
  const file = path.join(temporaryFolder(t), "a.safetensors");
  const pieces = Array.from({ length: 20 }, (_, i) => new Uint8Array(1_000_003).fill(i));
  await writeSafetensors(file, [{ name: "a", dtype: "U8", shape: [20, 1_000_003], chunks: () => pieces }]);
  const opened = await openSafetensors(file);
  for (let i = 0; i < 20; i++) assert.ok(Buffer.from(await opened.readBytes("a", i * 1_000_003, (i + 1) * 1_000_003)).equals(pieces[i]));
  await opened.close();
});
