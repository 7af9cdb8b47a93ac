/** The tar reader: names in all their forms, pieces of any length, sizes that lie, bytes that are no archive. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ArchiveError, extractFile } from "../../src/install/tarFile.ts";
import { tar, tarEntry } from "../support/packedRuntime.ts";

/** An archive in pieces; `read` counts those that were asked for. */
function inPieces(bytes: Buffer, pieceBytes: number) {
  const state = { read: 0, closed: false };
  async function* pieces(): AsyncGenerator<Buffer> {
    try {
      for (let at = 0; at < bytes.length; at += pieceBytes) {
        state.read++;
        yield bytes.subarray(at, at + pieceBytes);
      }
    } finally {
      state.closed = true;
    }
  }
  return { pieces: pieces(), state };
}

async function extract(bytes: Buffer, wanted = "package/bin/node", pieceBytes = 700): Promise<string> {
  const taken: Buffer[] = [];
  await extractFile(inPieces(bytes, pieceBytes).pieces, wanted, 1 << 20, async (piece) => void taken.push(Buffer.from(piece)));
  return Buffer.concat(taken).toString();
}

const pax = (records: Record<string, string>) =>
  Object.entries(records)
    .map(([key, value]) => {
      const body = ` ${key}=${value}\n`;
      let length = Buffer.byteLength(body) + 1;
      while (String(length).length + Buffer.byteLength(body) !== length) length++;
      return `${length}${body}`;
    })
    .join("");

test("any content comes out whole, whatever the pieces, and nothing after it is read", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ maxLength: 3000 }),
      fc.string({ maxLength: 2000 }),
      fc.integer({ min: 1, max: 2000 }),
      async (text, before, pieceBytes) => {
        const bytes = tar([
          { name: "package/a", text: before },
          { name: "package/bin/node", text },
          { name: "package/z", text: "x".repeat(5000) },
        ]);
        const { pieces, state } = inPieces(bytes, pieceBytes);
        const taken: Buffer[] = [];
        await extractFile(pieces, "package/bin/node", 1 << 20, async (piece) => void taken.push(Buffer.from(piece)));
        assert.equal(Buffer.concat(taken).toString(), Buffer.from(text).toString());
        assert.ok(state.closed);
        assert.ok(state.read * pieceBytes < bytes.length - 4000 + pieceBytes);
      },
    ),
    { numRuns: 50 },
  );
});

test("names: split by ustar, long by GNU and by pax; a size by pax and in binary", async () => {
  const long = `package/${"d".repeat(120)}/node`;
  assert.equal(await extract(tar([{ name: "bin/node", prefix: "package", text: "a" }])), "a");
  assert.equal(
    await extract(
      tar([
        { name: "././@LongLink", type: "L", text: `${long}\0` },
        { name: "cut", text: "b" },
      ]),
      long,
    ),
    "b",
  );
  assert.equal(
    await extract(
      tar([
        { name: "x", type: "x", text: pax({ mtime: "1.5", path: long, comment: "é=é" }) },
        { name: "cut", text: "c" },
      ]),
      long,
    ),
    "c",
  );
  assert.equal(
    await extract(
      tar([
        { name: "x", type: "g", text: pax({ comment: "x" }) },
        { name: "package/bin/node", text: "d" },
      ]),
    ),
    "d",
  );
  const sized = Buffer.concat([
    tarEntry({ name: "x", type: "x", text: pax({ size: "3" }) }),
    tarEntry({ name: "package/bin/node", size: 0 }),
    Buffer.from("abc".padEnd(512, "\0")),
  ]);
  assert.equal(await extract(sized), "abc");
  const binary = tarEntry({ name: "package/bin/node", text: "e" });
  binary.write("\x80\0\0\0\0\0\0\0\0\0\0\x01", 124, "latin1");
  binary.write("        ", 148);
  const sum = binary.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  binary.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  assert.equal(await extract(binary), "e");
});

test("a long name holds for one entry only", async () => {
  const named = tar([
    { name: "x", type: "L", text: "package/other" },
    { name: "package/bin/node", text: "no" },
    { name: "package/bin/node", text: "yes" },
  ]);
  assert.equal(await extract(named), "yes");
});

test("what is no archive, damaged, cut or has a name without end is refused", async () => {
  const good = tar([{ name: "package/bin/node", text: "text" }]);
  const damaged = Buffer.from(good);
  damaged[0] ^= 1;
  const refused: [Buffer, RegExp][] = [
    [Buffer.alloc(0), /holds no package/],
    [Buffer.alloc(1024), /holds no package/],
    [Buffer.from("x".repeat(2000)), /no tar archive/],
    [damaged, /no tar archive/],
    [good.subarray(0, 100), /ends too early/],
    [good.subarray(0, 514), /ends too early/],
    [tar([{ name: "x", type: "L", text: "y".repeat(70_000) }]), /name in it is too long/],
    [tar([{ name: "x", type: "x", text: "999 path=package/bin/node\n" }, { name: "y" }]), /no tar archive/],
    [tar([{ name: "x", type: "x", text: "no record" }, { name: "y" }]), /no tar archive/],
  ];
  for (const [bytes, message] of refused)
    await assert.rejects(extract(bytes), (error: Error) => error instanceof ArchiveError && message.test(error.message));
});
