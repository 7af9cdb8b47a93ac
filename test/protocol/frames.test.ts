/** Frames: what is written is read back however the stream is cut; nothing else is ever taken for a frame. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { encodeFrame, FrameDecoder, FrameError } from "../../src/protocol/frames.ts";

const limits = { headerBytes: 4096, payloadBytes: 4096 };
const frame = fc.record({
  header: fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.integer(), fc.boolean())),
  payload: fc.uint8Array({ maxLength: 300 }),
});

function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

test("frames come out as they went in, wherever the stream is cut", () => {
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 6 }), fc.array(fc.nat(200), { maxLength: 30 }), (frames, cuts) => {
      const bytes = join(frames.map(({ header, payload }) => encodeFrame(header, payload)));
      const decoder = new FrameDecoder(limits);
      const read = [];
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        read.push(...decoder.push(bytes.subarray(at, at + cut)));
        at += cut;
      }
      assert.deepEqual(
        read.map(({ header, payload }) => ({ header: JSON.stringify(header), payload })),
        frames.map(({ header, payload }) => ({ header: JSON.stringify(header), payload })),
      );
    }),
    { numRuns: 300 },
  );
});

test("typed arrays can be laid over a payload, also of a view into a larger buffer", () => {
  const values = new Float32Array([9, 1.5, -2, 9]).subarray(1, 3);
  const bytes = encodeFrame({ odd: "x" }, values);
  const [{ payload }] = new FrameDecoder(limits).push(bytes);
  assert.deepEqual(new Float32Array(payload.buffer), new Float32Array([1.5, -2]));
});

test("a changed prefix, header or size is refused, never misread", () => {
  const good = encodeFrame({ a: 1 }, new Uint8Array(3));
  const changed = (at: number, value: number) => good.map((byte, i) => (i === at ? value : byte));
  for (const [bytes, reason] of [
    [changed(0, 0), /no frame/],
    [changed(4, 9), /version 9/],
    [changed(10, 1), /too large/],
    [changed(14, 1), /too large/],
    [changed(16, 0xff), /not JSON/],
    [encodeFrame([]), /no object/],
  ] as const)
    assert.throws(
      () => new FrameDecoder(limits).push(bytes),
      (error: Error) => error instanceof FrameError && reason.test(error.message),
    );
  assert.deepEqual(new FrameDecoder(limits).push(good.subarray(0, good.length - 1)), [], "half a frame is none");
});

test("random bytes are refused with a FrameError and nothing else", () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 16, maxLength: 200 }), (bytes) => {
      assert.throws(() => new FrameDecoder(limits).push(bytes), FrameError);
    }),
    { numRuns: 500 },
  );
});
