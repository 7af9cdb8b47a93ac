/** The safetensors reader against upstream's own cases, a malformed corpus, truncations, random files and an independent checker. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import fc from "fast-check";
import { openSafetensors, readHeader } from "../../../src/core/files/safetensors.ts";
import { UserError } from "../../../src/protocol/userError.ts";
import { sharedData } from "../../support/sharedData.ts";
import { packTensors, rawSafetensors, temporaryFolder } from "./smallModels.ts";

const fixtures = path.resolve(import.meta.dirname, "../../fixtures/safetensors");

/** The last part of the error's code, `ok` when the file is accepted; anything but a UserError that names the file fails the test. */
async function verdict(file: string): Promise<string> {
  try {
    await readHeader(file);
    return "ok";
  } catch (error) {
    assert.ok(error instanceof UserError, `${file}: ${(error as Error).stack}`);
    assert.ok(error.message.startsWith(file) && error.action.length > 10 && error.message.length < 600, error.message);
    assert.match(error.code, /^safetensors\//);
    return error.code.slice("safetensors/".length);
  }
}

test("the 16 byte strings of upstream's unit tests get upstream's verdicts", async () => {
  const cases: { file: string; expect: string }[] = JSON.parse(readFileSync(path.join(fixtures, "index.json"), "utf8"));
  assert.equal(cases.length, 16);
  for (const { file, expect } of cases) assert.equal(await verdict(path.join(fixtures, file)), expect.replace("error:", ""), file);
});

const f32 = (begin: number, end: number, shape: unknown = [(end - begin) / 4]) => ({ dtype: "F32", shape, data_offsets: [begin, end] });
const data = (bytes: number) => Buffer.alloc(bytes, 7);
const nested = (depth: number) => `{"x":${"[".repeat(depth)}${"]".repeat(depth)}}`;
const withLength = (length: bigint, rest = Buffer.from("{}")) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(length);
  return Buffer.concat([bytes, rest]);
};

/** Name, bytes, expected code. */
const corpus: [string, Buffer, string][] = [
  ["empty", Buffer.alloc(0), "HeaderTooSmall"],
  ["seven bytes", Buffer.alloc(7), "HeaderTooSmall"],
  ["header of no bytes", withLength(0n, Buffer.alloc(0)), "InvalidHeaderDeserialization"],
  ["header of no bytes, data behind", withLength(0n), "InvalidHeaderDeserialization"],
  ["header one byte past the end", withLength(3n), "InvalidHeaderLength"],
  ["header of 100 MB exactly, absent", withLength(100_000_000n), "InvalidHeaderLength"],
  ["header of 100 MB and one", withLength(100_000_001n), "HeaderTooLarge"],
  ["header of 2^53+1", withLength(9007199254740993n), "HeaderTooLarge"],
  ["header of 2^64-1", withLength(18446744073709551615n), "HeaderTooLarge"],
  ["hole before the first tensor", rawSafetensors({ a: f32(4, 8) }, data(8)), "InvalidOffset"],
  ["hole between", rawSafetensors({ a: f32(0, 4), b: f32(8, 12) }, data(12)), "InvalidOffset"],
  ["overlap", rawSafetensors({ a: f32(0, 8), b: f32(4, 12) }, data(12)), "InvalidOffset"],
  ["two tensors over the same bytes", rawSafetensors({ a: f32(0, 8), b: f32(0, 8) }, data(8)), "InvalidOffset"],
  ["reversed offsets", rawSafetensors({ a: f32(4, 0, [1]) }, data(4)), "InvalidOffset"],
  ["offset 2^53", rawSafetensors('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,9007199254740992]}}'), "InvalidOffset"],
  ["offset 2^53+1", rawSafetensors('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,9007199254740993]}}'), "InvalidOffset"],
  ["begin 2^64-1", rawSafetensors('{"a":{"dtype":"U8","shape":[0],"data_offsets":[18446744073709551615,0]}}'), "InvalidOffset"],
  ["offset 2^64", rawSafetensors('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,18446744073709551616]}}'), "InvalidHeaderDeserialization"],
  ["negative offset", rawSafetensors({ a: f32(-4, 0, [1]) }), "InvalidHeaderDeserialization"],
  ["negative zero", rawSafetensors('{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), "InvalidHeaderDeserialization"],
  ["fraction", rawSafetensors('{"a":{"dtype":"U8","shape":[1.0],"data_offsets":[0,1]}}', data(1)), "InvalidHeaderDeserialization"],
  ["exponent", rawSafetensors('{"a":{"dtype":"U8","shape":[1e0],"data_offsets":[0,1]}}', data(1)), "InvalidHeaderDeserialization"],
  ["shape as a string", rawSafetensors({ a: f32(0, 4, "1") }, data(4)), "InvalidHeaderDeserialization"],
  ["shape with a string", rawSafetensors({ a: f32(0, 4, ["1"]) }, data(4)), "InvalidHeaderDeserialization"],
  ["shape with null", rawSafetensors({ a: f32(0, 4, [null]) }, data(4)), "InvalidHeaderDeserialization"],
  ["no shape", rawSafetensors({ a: { dtype: "F32", data_offsets: [0, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["no dtype", rawSafetensors({ a: { shape: [1], data_offsets: [0, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["no offsets", rawSafetensors({ a: { dtype: "F32", shape: [1] } }, data(4)), "InvalidHeaderDeserialization"],
  ["three offsets", rawSafetensors({ a: { dtype: "F32", shape: [1], data_offsets: [0, 4, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["dtype F8", rawSafetensors({ a: { dtype: "F8", shape: [4], data_offsets: [0, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["dtype I4", rawSafetensors({ a: { dtype: "I4", shape: [4], data_offsets: [0, 2] } }, data(2)), "InvalidHeaderDeserialization"],
  ["dtype in small letters", rawSafetensors({ a: { dtype: "f32", shape: [1], data_offsets: [0, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["dtype toString", rawSafetensors({ a: { dtype: "toString", shape: [1], data_offsets: [0, 4] } }, data(4)), "InvalidHeaderDeserialization"],
  ["three elements of four bits", rawSafetensors({ a: { dtype: "F4", shape: [3], data_offsets: [0, 1] } }, data(1)), "MisalignedSlice"],
  ["one byte too few for the shape", rawSafetensors({ a: f32(0, 3, [1]) }, data(3)), "TensorInvalidInfo"],
  ["one byte too many for the shape", rawSafetensors({ a: f32(0, 5, [1]) }, data(5)), "TensorInvalidInfo"],
  ["scalar of eight bytes", rawSafetensors({ a: f32(0, 8, []) }, data(8)), "TensorInvalidInfo"],
  ["shape that overflows 2^53", rawSafetensors({ a: f32(0, 4, [2 ** 40, 2 ** 40]) }, data(4)), "ValidationOverflow"],
  ["bits that overflow 2^53", rawSafetensors({ a: f32(0, 4, [2 ** 49]) }, data(4)), "ValidationOverflow"],
  ["dimension 2^53+1", rawSafetensors('{"a":{"dtype":"U8","shape":[9007199254740993,0],"data_offsets":[0,0]}}'), "ValidationOverflow"],
  ["last byte missing", rawSafetensors({ a: f32(0, 8) }, data(7)), "MetadataIncompleteBuffer"],
  ["one byte too many", rawSafetensors({ a: f32(0, 8) }, data(9)), "MetadataIncompleteBuffer"],
  ["bytes without a tensor", rawSafetensors("{}", data(1)), "MetadataIncompleteBuffer"],
  ["zip archive appended", rawSafetensors({ a: f32(0, 4) }, Buffer.concat([data(4), Buffer.from("PK\x03\x04")])), "MetadataIncompleteBuffer"],
  [
    "tensor given twice",
    rawSafetensors(`{"a":${JSON.stringify(f32(0, 4))},"a":${JSON.stringify(f32(0, 4))}}`, data(4)),
    "InvalidHeaderDeserialization",
  ],
  [
    "tensor given twice, once escaped",
    rawSafetensors(`{"a":${JSON.stringify(f32(0, 4))},"\\u0061":${JSON.stringify(f32(0, 4))}}`, data(4)),
    "InvalidHeaderDeserialization",
  ],
  ["field given twice", rawSafetensors('{"a":{"dtype":"U8","shape":[2],"shape":[1],"data_offsets":[0,1]}}', data(1)), "InvalidHeaderDeserialization"],
  ["metadata key twice", rawSafetensors('{"__metadata__":{"a":"1","a":"2"}}'), "InvalidHeaderDeserialization"],
  ["tensor __proto__", rawSafetensors(`{"__proto__":${JSON.stringify(f32(0, 4))}}`, data(4)), "InvalidHeaderDeserialization"],
  ["field __proto__", rawSafetensors('{"a":{"__proto__":1,"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', data(1)), "InvalidHeaderDeserialization"],
  ["metadata __proto__", rawSafetensors('{"__metadata__":{"__proto__":"x"}}'), "InvalidHeaderDeserialization"],
  ["metadata with a number", rawSafetensors({ __metadata__: { a: 1 } }), "InvalidHeaderDeserialization"],
  ["metadata as a list", rawSafetensors({ __metadata__: [] }), "InvalidHeaderDeserialization"],
  ["metadata null", rawSafetensors({ __metadata__: null }), "InvalidHeaderDeserialization"],
  ["header a list", rawSafetensors("[]"), "InvalidHeaderDeserialization"],
  ["header a string", rawSafetensors('"a"'), "InvalidHeaderDeserialization"],
  ["header null", rawSafetensors("null"), "InvalidHeaderDeserialization"],
  ["tensor a number", rawSafetensors('{"a":1}'), "InvalidHeaderDeserialization"],
  ["tensor a list", rawSafetensors('{"a":[]}'), "InvalidHeaderDeserialization"],
  ["two JSON values", rawSafetensors("{}{}"), "InvalidHeaderDeserialization"],
  ["comma at the end", rawSafetensors('{"__metadata__":{},}'), "InvalidHeaderDeserialization"],
  ["comment", rawSafetensors("{}//x"), "InvalidHeaderDeserialization"],
  ["zero bytes as padding", rawSafetensors("{}\0\0"), "InvalidHeaderDeserialization"],
  ["byte order mark", rawSafetensors("\ufeff{}"), "InvalidHeaderDeserialization"],
  ["half a surrogate pair as a name", rawSafetensors(`{"\\ud800":${JSON.stringify(f32(0, 4))}}`, data(4)), "InvalidHeaderDeserialization"],
  ["65 levels", rawSafetensors(nested(64)), "InvalidHeaderDeserialization"],
  ["10000 levels", rawSafetensors(nested(10_000)), "InvalidHeaderDeserialization"],
  ["a million levels", rawSafetensors(nested(1_000_000)), "InvalidHeaderDeserialization"],
  ["invalid UTF-8 in a name", rawSafetensors(Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])), "InvalidHeader"],
  ["overlong UTF-8", rawSafetensors(Buffer.from([0x7b, 0x22, 0xc0, 0xaf, 0x22, 0x3a, 0x31, 0x7d])), "InvalidHeader"],
  ["UTF-16", rawSafetensors(Buffer.from("{}", "utf16le")), "InvalidHeaderDeserialization"],
  ["name of 100 kB", rawSafetensors({ ["x".repeat(100_000)]: f32(4, 8) }, data(8)), "InvalidOffset"],
  ["Git LFS pointer", Buffer.from("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1415337224\n"), "LfsPointer"],
  ["PyTorch zip", Buffer.concat([Buffer.from("PK\x03\x04\x00\x00\x08\x08"), data(100)]), "Pickle"],
  ["PyTorch zip whose length is small", Buffer.concat([Buffer.from("PK\x03\x04"), Buffer.alloc(100)]), "Pickle"],
  ["raw pickle", Buffer.concat([Buffer.from([0x80, 2, 0x63]), data(100)]), "Pickle"],
  ["GGUF", Buffer.concat([Buffer.from("GGUF\x03\0\0\0"), data(100)]), "Gguf"],
  ["web page", Buffer.from("<!DOCTYPE html><html><body>Not Found</body></html>"), "Html"],
  ["HDF5", Buffer.concat([Buffer.from("\x89HDF\r\n\x1a\n", "latin1"), data(100)]), "Hdf5"],
  ["NumPy", Buffer.concat([Buffer.from("\x93NUMPY\x01\0", "latin1"), data(100)]), "Numpy"],
  ["gzip", Buffer.concat([Buffer.from("\x1f\x8b\x08\0\0\0\0\0", "latin1"), data(100)]), "Archive"],
  ["a config.json", Buffer.from('{"model_type": "llama", "hidden_size": 32}'), "Json"],
];

const accepted: [string, Buffer][] = [
  ["no tensor", rawSafetensors("{}")],
  ["spaces, tabs, line ends around", rawSafetensors(" \t\r\n{} \r\n")],
  ["scalar", rawSafetensors({ a: f32(0, 4, []) }, data(4))],
  ["tensors in any order", rawSafetensors({ b: f32(4, 8), a: f32(0, 4) }, data(8))],
  ["empty tensors anywhere", rawSafetensors({ a: f32(4, 4, [0]), b: f32(0, 4), c: f32(0, 0, [3, 0]), d: f32(4, 4, [0, 2 ** 50]) }, data(4))],
  ["field nobody knows", rawSafetensors({ a: { ...f32(0, 4), note: ["x", { y: 1 }] } }, data(4))],
  ["two elements of four bits", rawSafetensors({ a: { dtype: "F4", shape: [2], data_offsets: [0, 1] } }, data(1))],
  ["names like properties of objects", rawSafetensors({ constructor: f32(0, 4), toString: f32(4, 8), hasOwnProperty: f32(8, 12) }, data(12))],
  ["names of digits", rawSafetensors({ 10: f32(0, 4), 9: f32(4, 8) }, data(8))],
  ["empty name", rawSafetensors({ "": f32(0, 4) }, data(4))],
  ["name with quote, backslash and emoji", rawSafetensors({ 'a"\\😀\n': f32(0, 4) }, data(4))],
  // Its first bytes are those of a pickle: 0x80 0x02 is the length 640.
  ["header of 640 bytes", rawSafetensors("{}".padEnd(640))],
];

test(`${corpus.length} malformed files are refused by name, ${accepted.length} odd but valid ones are not`, async (t) => {
  const folder = temporaryFolder(t);
  for (const [i, [name, bytes, expected]] of corpus.entries()) {
    const file = path.join(folder, `${i}.safetensors`);
    writeFileSync(file, bytes);
    const started = performance.now();
    assert.equal(await verdict(file), expected, name);
    assert.ok(performance.now() - started < 1000, `${name} took too long`);
  }
  for (const [i, [name, bytes]] of accepted.entries()) {
    const file = path.join(folder, `ok-${i}.safetensors`);
    writeFileSync(file, bytes);
    assert.equal(await verdict(file), "ok", name);
  }
});

test("what is no file is refused without waiting for it", { skip: process.platform === "win32" }, async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(path.join(folder, "folder.safetensors"));
  symlinkSync("loop", path.join(folder, "loop"));
  execFileSync("mkfifo", [path.join(folder, "pipe")]);
  assert.equal(await verdict(path.join(folder, "folder.safetensors")), "NotAFile");
  assert.equal(await verdict(path.join(folder, "pipe")), "NotAFile");
  assert.equal(await verdict(path.join(folder, "loop")), "CannotRead");
  assert.equal(await verdict(path.join(folder, "absent")), "NotFound");
});

test("a huge header length is refused before anything of that size is allocated", async (t) => {
  const file = path.join(temporaryFolder(t), "sparse.safetensors");
  // 2^37 bytes that no disk block holds, all of them zero: a header of no bytes with data behind it.
  writeFileSync(file, withLength(100_000_001n));
  truncateSync(file, 2 ** 37);
  const before = process.memoryUsage.rss();
  assert.equal(await verdict(file), "HeaderTooLarge");
  assert.ok(process.memoryUsage.rss() - before < 16 << 20);
});

test("a file cut or lengthened anywhere is refused", async (t) => {
  const folder = temporaryFolder(t);
  const tensors = Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`t${i}`, { dtype: "F32", shape: [i, 3], bytes: data(12 * i) }]));
  const whole = packTensors(tensors, { format: "pt" });
  const file = path.join(folder, "cut.safetensors");
  writeFileSync(file, whole);
  assert.equal(await verdict(file), "ok");
  const headerEnd = 8 + Number(whole.readBigUInt64LE());
  for (let length = 0; length < whole.length; length++) {
    writeFileSync(file, whole.subarray(0, length));
    const expected = length < 8 ? "HeaderTooSmall" : length < headerEnd ? "InvalidHeaderLength" : "MetadataIncompleteBuffer";
    assert.equal(await verdict(file), expected, `${length} of ${whole.length} bytes`);
  }
  writeFileSync(file, Buffer.concat([whole, Buffer.alloc(1)]));
  assert.equal(await verdict(file), "MetadataIncompleteBuffer");
});

test("a file that is cut after it was opened is noticed when it is read", async (t) => {
  const file = path.join(temporaryFolder(t), "model.safetensors");
  writeFileSync(file, packTensors({ a: { dtype: "F32", shape: [100], bytes: data(400) } }));
  const opened = await openSafetensors(file);
  assert.equal((await opened.readBytes("a", 396)).length, 4);
  truncateSync(file, 300);
  await assert.rejects(opened.readBytes("a"), { code: "safetensors/Truncated" });
  await assert.rejects(opened.readBytes("b"), { code: "safetensors/TensorNotFound" });
  await assert.rejects(opened.readBytes("a", 0, 401), RangeError);
  await opened.close();
});

/**
 * The rules once more, written from upstream's list for this test alone, over the header as an object: exact integers by BigInt, ranges by marking bytes
 * instead of sorting. Takes what the generator below makes: valid JSON without repeated keys.
 */
function independentlyValid(header: Record<string, { dtype: string; shape: bigint[]; data_offsets: bigint[] }>, dataBytes: number): boolean {
  const bits: Record<string, bigint> = { U8: 8n, BF16: 16n, F32: 32n, I64: 64n, F4: 4n };
  const owner = new Array<boolean>(dataBytes).fill(false);
  let covered = 0n;
  for (const { dtype, shape, data_offsets } of Object.values(header)) {
    const [begin, end] = data_offsets;
    if (bits[dtype] === undefined || [...shape, begin, end].some((n) => n < 0n || n >= 2n ** 53n)) return false;
    const size = shape.reduce((product, n) => product * n, bits[dtype]);
    if (size % 8n !== 0n || end - begin !== size / 8n || end > BigInt(dataBytes)) return false;
    for (let i = Number(begin); i < Number(end); i++) {
      if (owner[i]) return false;
      owner[i] = true;
    }
    covered += end - begin;
  }
  // No byte is owned twice, so that covering as many as there are leaves no hole. Empty ranges must still touch an edge between two tensors.
  const edges = new Set([0n, ...Object.values(header).flatMap(({ data_offsets: [begin, end] }) => (begin === end ? [] : [begin, end]))]);
  return covered === BigInt(dataBytes) && Object.values(header).every(({ data_offsets: [begin] }) => edges.has(begin));
}

test("the accept set equals an independent checker's", async (t) => {
  const file = path.join(temporaryFolder(t), "random.safetensors");
  const dtypes = { U8: 1, BF16: 2, F32: 4, I64: 8 } as const;
  const tensor = fc.record({
    dtype: fc.constantFrom<keyof typeof dtypes>("U8", "BF16", "F32", "I64"),
    shape: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 3 }),
  });
  const mutation = fc.record({
    kind: fc.constantFrom("none", "begin", "end", "dim", "dtype", "data", "swap", "move"),
    at: fc.nat(5),
    by: fc.constantFrom(-1n, 1n, 4n, 8n, -4n, 2n ** 53n, 2n ** 64n - 1n),
    dtype: fc.constantFrom("U8", "F32", "F4", "X", "I64"),
  });
  let acceptedCount = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(tensor, { maxLength: 6 }), fc.array(mutation, { maxLength: 2 }), async (tensors, mutations) => {
      const header: Parameters<typeof independentlyValid>[0] = {};
      let position = 0n;
      tensors.forEach(({ dtype, shape }, i) => {
        const end = position + BigInt(dtypes[dtype] * shape.reduce((product, n) => product * n, 1));
        header[`t${i}`] = { dtype, shape: shape.map(BigInt), data_offsets: [position, end] };
        position = end;
      });
      let dataBytes = Number(position);
      const entries = Object.values(header);
      for (const { kind, at, by, dtype } of mutations) {
        const entry = entries[at % Math.max(1, entries.length)];
        if (kind === "data") dataBytes = Math.max(0, dataBytes + (by > 0n ? 1 : -1));
        if (!entry) continue;
        if (kind === "begin") entry.data_offsets[0] += by;
        if (kind === "end") entry.data_offsets[1] += by;
        if (kind === "dim" && entry.shape.length > 0) entry.shape[at % entry.shape.length] += by;
        if (kind === "dtype") entry.dtype = dtype;
        if (kind === "swap") entry.data_offsets.reverse();
        if (kind === "move") entry.data_offsets = entry.data_offsets.map((n) => n + by);
      }
      const numbers = (list: bigint[]) => `[${list.join(",")}]`;
      const json = Object.entries(header).map(([name, entry]) => {
        return `"${name}":{"dtype":"${entry.dtype}","shape":${numbers(entry.shape)},"data_offsets":${numbers(entry.data_offsets)}}`;
      });
      writeFileSync(file, rawSafetensors(`{${json.join(",")}}`, data(dataBytes)));
      const valid = independentlyValid(header, dataBytes);
      const found = await verdict(file);
      assert.equal(found === "ok", valid, `${found}: ${json}`);
      if (valid) acceptedCount++;
    }),
    { numRuns: 3000, seed: 1 },
  );
  assert.ok(acceptedCount > 300 && acceptedCount < 2700, `${acceptedCount} of 3000 were valid: the test sees one side only`);
});

test("bytes flipped anywhere in a header give a refusal or a header, never another error", async (t) => {
  const file = path.join(temporaryFolder(t), "flipped.safetensors");
  const whole = packTensors(
    { "a.b": { dtype: "F32", shape: [2, 2], bytes: data(16) }, c: { dtype: "BF16", shape: [3], bytes: data(6) } },
    { k: "v" },
  );
  const headerEnd = 8 + Number(whole.readBigUInt64LE());
  for (let bit = 0; bit < headerEnd * 8; bit++) {
    const flipped = Buffer.from(whole);
    flipped[bit >> 3] ^= 1 << (bit & 7);
    writeFileSync(file, flipped);
    await verdict(file);
  }
});

test("JSON test suite as headers: what must not parse is refused, and nothing surprises", async (t) => {
  const suite = sharedData("malformed-json");
  if (!suite) return t.skip("not run: no shared data");
  const { readdirSync } = await import("node:fs");
  const names = readdirSync(path.join(suite, "test_parsing"));
  assert.equal(names.length, 318);
  const file = path.join(temporaryFolder(t), "json.safetensors");
  for (const name of names) {
    const text = readFileSync(path.join(suite, "test_parsing", name));
    for (const header of [text, Buffer.concat([Buffer.from('{"a":'), text, Buffer.from("}")])]) {
      writeFileSync(file, rawSafetensors(header));
      const found = await verdict(file);
      if (name.startsWith("n_")) assert.notEqual(found, "ok", name);
    }
  }
});

test("real foreign files are named", async (t) => {
  const [pointer, pickles] = [sharedData("lfs-pointer"), sharedData("torchtune-assets")];
  if (!pointer || !pickles) return t.skip("not run: no shared data");
  assert.equal(await verdict(path.join(pointer, "model.safetensors")), "LfsPointer");
  assert.equal(await verdict(path.join(pickles, "tiny_fair_checkpoint.pt")), "Pickle");
  assert.equal(await verdict(path.join(pickles, "tiny_state_dict_with_one_key.pt")), "Pickle");
});
