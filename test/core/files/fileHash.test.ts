/** Hashes of files, and when they are remembered. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import test from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import { hashFile, sha256OfFile } from "../../../src/core/files/fileHash.ts";
import { temporaryFolder } from "./smallModels.ts";

const sha = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

test("a hash is that of the bytes, over several chunks", async (t) => {
  const file = path.join(temporaryFolder(t), "a");
  for (const bytes of [0, 1, (4 << 20) - 1, 4 << 20, (9 << 20) + 5]) {
    const content = Buffer.alloc(bytes, bytes % 251);
    writeFileSync(file, content);
    assert.equal(await sha256OfFile(file), sha(content));
  }
});

test("a settled file is hashed once; any change is seen, even one that keeps size and modification time", async (t) => {
  const folder = temporaryFolder(t);
  const [file, cache] = [path.join(folder, "a"), path.join(folder, "cache")];
  writeFileSync(file, "one");
  // A whole number of seconds, so that it can be set again exactly.
  utimesSync(file, 1e9, 1e9);
  assert.equal(await hashFile(file, cache), sha(Buffer.from("one")));
  assert.ok(!existsSync(cache), "too young to be remembered");
  await wait(2100);
  await hashFile(file, cache);
  const [record] = readdirSync(path.join(cache, "hashes"));
  const recordFile = path.join(cache, "hashes", record);
  // The memory is used: a record that lies is believed.
  const lie = { ...JSON.parse(readFileSync(recordFile, "utf8")), sha256: "0".repeat(64) };
  writeFileSync(recordFile, JSON.stringify(lie));
  assert.equal(await hashFile(file, cache), "0".repeat(64));
  writeFileSync(file, "two");
  utimesSync(file, 1e9, 1e9);
  assert.equal(await hashFile(file, cache), sha(Buffer.from("two")));
  for (const text of ["", "{", '{"identity":1}', "null"]) {
    writeFileSync(recordFile, text);
    assert.equal(await hashFile(file, cache), sha(Buffer.from("two")));
  }
  assert.equal(await hashFile(file, path.join(file, "no-folder")), sha(Buffer.from("two")), "a cache that cannot be written is passed over");
});
