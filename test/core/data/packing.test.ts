/** Invariants of packed batches over random documents: nothing lost, nothing doubled, nothing seen across documents, targets shifted by one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Batch } from "../../../src/core/data/batch.ts";
import { Documents, markOf } from "../../../src/core/data/documents.ts";
import { BatchSource, evaluationBatches } from "../../../src/core/data/packing.ts";
import { RowSpace } from "../../../src/core/data/rowSpace.ts";

const pad = 7;

/** Documents whose tokens are all different, so that every one can be traced; some targets masked, never all. */
const documentsArbitrary = (longest: number) =>
  fc.array(fc.record({ length: fc.integer({ min: 2, max: longest }), masked: fc.nat() }), { minLength: 1, maxLength: 40 }).map((specs) => {
    let next = 100;
    return Documents.from(
      specs.map(({ length, masked }, line) => {
        const ids = Array.from({ length }, () => next++);
        const marks = ids.map((_, place) =>
          place === length - 1 || (masked >> (place % 16)) % 2 === 0 ? markOf("response", true) : markOf("prompt", false),
        );
        return { ids, marks, line };
      }),
    );
  });

const optionsArbitrary = fc.record({ batchSize: fc.integer({ min: 1, max: 5 }), packing: fc.boolean(), seed: fc.nat(), longestFirst: fc.boolean() });

/** Token → the document it belongs to and its place there. */
function places(documents: Documents): Map<number, { document: number; place: number }> {
  const found = new Map<number, { document: number; place: number }>();
  for (let document = 0; document < documents.count; document++) {
    for (const [place, id] of documents.tokensOf(document).entries()) found.set(id, { document, place });
  }
  return found;
}

/** Checks one batch against the documents and adds the tokens it holds to `seen`. */
function checkBatch(batch: Batch, documents: Documents, seen: number[]): void {
  const place = places(documents);
  const { batchSize, sequenceLength, inputs, targets, positions, documentStart } = batch;
  assert.equal(inputs.length, batchSize * sequenceLength);
  let unmasked = 0;
  for (let index = 0; index < inputs.length; index++) {
    const within = index % sequenceLength;
    // A token sees from its document's start to itself: the position says how far that is.
    assert.equal(positions[index], within - documentStart[index]);
    const own = place.get(inputs[index]);
    if (own === undefined) {
      assert.equal(inputs[index], pad);
      assert.equal(targets[index], -1);
      const before = documentStart[index] - 1;
      assert.ok(before < 0 || inputs[index - within + before] !== pad, "padding is a document of its own");
      continue;
    }
    seen.push(inputs[index]);
    assert.equal(positions[index], own.place);
    const next = documents.tokensOf(own.document)[own.place + 1];
    const counted = next !== undefined && documents.marksOf(own.document)[own.place + 1] % 2 === 1;
    assert.equal(targets[index], counted ? next : -1);
    if (counted) unmasked++;
  }
  assert.equal(batch.unmaskedTokens, unmasked);
  assert.ok(unmasked > 0, "a batch without targets would divide by zero");
}

test("every token once an epoch, nothing across documents, targets shifted by one", () => {
  fc.assert(
    fc.property(documentsArbitrary(32), optionsArbitrary, (documents, options) => {
      const source = new BatchSource(documents, { ...options, sequenceLength: 32, padTokenId: pad });
      const all = [...places(documents).keys()].sort((a, b) => a - b);
      let index = 0;
      for (let epoch = 0; epoch < 3; epoch++) {
        const seen: number[] = [];
        let tokens = 0;
        let targets = 0;
        for (const end = index + source.batchesPerEpoch(epoch); index < end; index++) {
          const batch = source.batch(index);
          checkBatch(batch, documents, seen);
          tokens += batch.tokens;
          targets += batch.unmaskedTokens;
        }
        assert.deepEqual(
          seen.sort((a, b) => a - b),
          all,
        );
        assert.equal(tokens, documents.tokenCount);
        assert.equal(targets, documents.targetCount);
      }
      assert.equal(index, source.totalBatches(3));
    }),
    { numRuns: 150 },
  );
});

test("a batch depends on its index alone, whatever was asked before", () => {
  fc.assert(
    fc.property(documentsArbitrary(24), optionsArbitrary, fc.array(fc.nat(30), { minLength: 1, maxLength: 6 }), (documents, options, indices) => {
      const open = () => new BatchSource(documents, { ...options, sequenceLength: 24, padTokenId: pad });
      const used = open();
      for (const index of indices) {
        assert.deepEqual(used.batch(index), open().batch(index));
        const batch = used.batch(index);
        for (const { document, row, start, length } of used.placements(index)) {
          const at = row * 24 + start;
          assert.deepEqual(batch.inputs.slice(at, at + length), documents.tokensOf(document).slice());
        }
      }
    }),
    { numRuns: 60 },
  );
});

test("the order is the seed's and changes from epoch to epoch", () => {
  const documents = Documents.from(Array.from({ length: 64 }, (_, line) => ({ ids: [line, line + 1], marks: [1, 1], line })));
  const inputs = (seed: number, epoch: number) => {
    const source = new BatchSource(documents, { batchSize: 4, sequenceLength: 16, padTokenId: pad, seed });
    return Array.from(source.batch(source.totalBatches(epoch)).inputs).join();
  };
  assert.equal(inputs(1, 0), inputs(1, 0));
  assert.notEqual(inputs(1, 0), inputs(2, 0));
  assert.notEqual(inputs(1, 0), inputs(1, 1));
});

test("longestFirst puts the fullest batch of the first epoch first", () => {
  const documents = Documents.from(
    Array.from({ length: 40 }, (_, line) => ({
      ids: new Int32Array(2 + ((line * 7) % 15)),
      marks: new Uint8Array(2 + ((line * 7) % 15)).fill(1),
      line,
    })),
  );
  const options = { batchSize: 2, sequenceLength: 16, packing: false, padTokenId: pad, seed: 3 };
  const plain = new BatchSource(documents, options);
  const longest = new BatchSource(documents, { ...options, longestFirst: true });
  const tokens = Array.from({ length: plain.batchesPerEpoch(0) }, (_, index) => plain.batch(index).tokens);
  assert.equal(tokens[plain.longest()], Math.max(...tokens));
  assert.notEqual(plain.longest(), 0);
  assert.equal(longest.longest(), 0);
  assert.deepEqual(longest.batch(0), plain.batch(plain.longest()));
  assert.deepEqual(longest.batch(plain.longest()), plain.batch(0));
});

test("packing wastes little: short documents fill their rows", () => {
  const documents = Documents.from(
    Array.from({ length: 1000 }, (_, line) => ({ ids: new Int32Array(5 + (line % 40)), marks: new Uint8Array(5 + (line % 40)).fill(1), line })),
  );
  const source = new BatchSource(documents, { batchSize: 1, sequenceLength: 128, padTokenId: pad, seed: 1 });
  assert.ok(documents.tokenCount / (source.batchesPerEpoch(0) * 128) > 0.98);
});

test("evaluation batches: every document once, in order", () => {
  fc.assert(
    fc.property(documentsArbitrary(16), fc.integer({ min: 1, max: 4 }), fc.boolean(), (documents, batchSize, packing) => {
      const seen: number[] = [];
      for (const batch of evaluationBatches(documents, { batchSize, sequenceLength: 16, packing, padTokenId: pad }))
        checkBatch(batch, documents, seen);
      assert.deepEqual(
        seen.toSorted((a, b) => a - b),
        [...places(documents).keys()].sort((a, b) => a - b),
      );
      if (!packing)
        assert.deepEqual(
          seen,
          seen.toSorted((a, b) => a - b),
        );
    }),
    { numRuns: 60 },
  );
  assert.deepEqual(evaluationBatches(new Documents(), { batchSize: 1, sequenceLength: 4, padTokenId: 0 }), []);
});

test("documents without a target, too long, or none at all are refused", () => {
  const options = { batchSize: 1, sequenceLength: 4, padTokenId: 0, seed: 1 };
  assert.throws(() => Documents.from([{ ids: [1, 2], marks: [1, 0], line: 1 }]), /a target/);
  assert.throws(() => Documents.from([{ ids: [1], marks: [1], line: 1 }]), /a target/);
  assert.throws(() => new BatchSource(new Documents(), options), /no documents/);
  assert.throws(() => new BatchSource(Documents.from([{ ids: [1, 2, 3, 4, 5], marks: [1, 1, 1, 1, 1], line: 1 }]), options), /longer than a row/);
});

test("first fit equals the plain search for the first row with room", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 20 }), { maxLength: 60 }), (lengths) => {
      const space = new RowSpace(lengths.length, 20);
      const room = lengths.map(() => 20);
      for (const length of lengths) {
        const first = room.findIndex((left) => left >= length);
        room[first] -= length;
        assert.equal(space.take(length), first);
      }
    }),
  );
});
