/**
 * Documents into micro-batches: a seeded order each epoch, packed into rows of T tokens. It reads no files and knows no device.
 * The rule to keep: a batch is a function of (documents, options, its global index) alone, so that a resumed run needs one number; every document
 * stands in every epoch exactly once; nothing is predicted across two documents.
 */
import { Random } from "../random.ts";
import type { Batch } from "./batch.ts";
import type { Documents } from "./documents.ts";
import { RowSpace } from "./rowSpace.ts";

export interface RowOptions {
  /** B: rows of a batch. */
  batchSize: number;
  /** T: tokens of a row. Documents are no longer. */
  sequenceLength: number;
  /** Several documents in a row; otherwise each has its own. Default true. */
  packing?: boolean;
  /** Fills what is left of a row. */
  padTokenId: number;
}

export interface BatchSourceOptions extends RowOptions {
  seed: number;
  /** The batch with the most tokens of the first epoch changes places with the first, so that memory runs out at once or not at all. */
  longestFirst?: boolean;
}

/** Where a document stands in a batch. */
export interface Placement {
  document: number;
  row: number;
  start: number;
  length: number;
}

/** Epoch e is drawn from stream 0x65000000 + e of the seed, away from the streams of other uses. */
const firstStream = 0x65000000;

/** Documents of each row, in order. */
type Rows = number[][];

export class BatchSource {
  readonly documents: Documents;
  readonly #options: BatchSourceOptions;
  readonly #batchCounts: number[] = [];
  #plan: { epoch: number; rows: Rows } | null = null;
  #longest: number | null = null;

  /** Throws RangeError when there is no document or one is longer than a row. */
  constructor(documents: Documents, options: BatchSourceOptions) {
    checkFits(documents, options.sequenceLength);
    this.documents = documents;
    this.#options = options;
  }

  /** Micro-batches of an epoch; epochs are packed anew and may differ by a few. */
  batchesPerEpoch(epoch: number): number {
    this.#batchCounts[epoch] ??= Math.ceil(this.#rows(epoch).length / this.#options.batchSize);
    return this.#batchCounts[epoch];
  }

  /** Micro-batches of the first `epochs` epochs. */
  totalBatches(epochs: number): number {
    let total = 0;
    for (let epoch = 0; epoch < epochs; epoch++) total += this.batchesPerEpoch(epoch);
    return total;
  }

  /** Micro-batch `index` counted from the start of the run. */
  batch(index: number): Batch {
    return fillBatch(this.documents, this.#rowsOf(index), this.#options);
  }

  /** The documents of micro-batch `index` and where they stand in it. */
  placements(index: number): Placement[] {
    return placementsOf(this.documents, this.#rowsOf(index));
  }

  /** Index of the batch with the most tokens of the first epoch; 0 with `longestFirst`. */
  longest(): number {
    return this.#options.longestFirst ? 0 : this.#findLongest();
  }

  #findLongest(): number {
    if (this.#longest !== null) return this.#longest;
    const rows = this.#rows(0);
    const { batchSize } = this.#options;
    let longest = 0;
    let most = -1;
    for (let batch = 0; batch * batchSize < rows.length; batch++) {
      const documents = rows.slice(batch * batchSize, (batch + 1) * batchSize).flat();
      const tokens = documents.reduce((sum, document) => sum + this.documents.lengthOf(document), 0);
      if (tokens <= most) continue;
      most = tokens;
      longest = batch;
    }
    this.#longest = longest;
    return longest;
  }

  #rowsOf(index: number): Rows {
    let epoch = 0;
    let within = index;
    while (within >= this.batchesPerEpoch(epoch)) within -= this.batchesPerEpoch(epoch++);
    if (epoch === 0 && this.#options.longestFirst) {
      const longest = this.#findLongest();
      if (within === 0) within = longest;
      else if (within === longest) within = 0;
    }
    const { batchSize } = this.#options;
    return this.#rows(epoch).slice(within * batchSize, (within + 1) * batchSize);
  }

  #rows(epoch: number): Rows {
    if (this.#plan?.epoch !== epoch) this.#plan = { epoch, rows: this.#arrange(epoch) };
    return this.#plan.rows;
  }

  #arrange(epoch: number): Rows {
    const random = new Random(this.#options.seed, firstStream + epoch);
    const order = random.shuffle(Uint32Array.from({ length: this.documents.count }, (_, document) => document));
    // First-fit puts short documents into early rows; the second shuffle spreads them over the epoch.
    return random.shuffle(packRows(this.documents, order, this.#options));
  }
}

/** Batches over all documents in their order, each once, for evaluation. No documents give no batches. */
export function evaluationBatches(documents: Documents, options: RowOptions): Batch[] {
  if (documents.count === 0) return [];
  checkFits(documents, options.sequenceLength);
  const order = Uint32Array.from({ length: documents.count }, (_, document) => document);
  const rows = packRows(documents, order, options);
  return Array.from({ length: Math.ceil(rows.length / options.batchSize) }, (_, batch) =>
    fillBatch(documents, rows.slice(batch * options.batchSize, (batch + 1) * options.batchSize), options),
  );
}

/** The same documents batch by batch, each with where they stand, for scores of single documents. A batch is no larger than its rows need. */
export function* placedBatches(documents: Documents, options: RowOptions): Generator<{ batch: Batch; placements: Placement[] }> {
  checkFits(documents, options.sequenceLength);
  const order = Uint32Array.from({ length: documents.count }, (_, document) => document);
  const rows = packRows(documents, order, options);
  for (let first = 0; first < rows.length; first += options.batchSize) {
    const own = rows.slice(first, first + options.batchSize);
    const sequenceLength = Math.max(...own.map((row) => row.reduce((sum, document) => sum + documents.lengthOf(document), 0)));
    yield { batch: fillBatch(documents, own, { ...options, batchSize: own.length, sequenceLength }), placements: placementsOf(documents, own) };
  }
}

function placementsOf(documents: Documents, rows: Rows): Placement[] {
  return rows.flatMap((row, index) => {
    let end = 0;
    return row.map((document) => {
      const length = documents.lengthOf(document);
      end += length;
      return { document, row: index, start: end - length, length };
    });
  });
}

function checkFits(documents: Documents, sequenceLength: number): void {
  if (documents.count === 0) throw new RangeError("there are no documents to make batches of");
  for (let document = 0; document < documents.count; document++) {
    if (documents.lengthOf(document) > sequenceLength) throw new RangeError(`document ${document} is longer than a row of ${sequenceLength} tokens`);
  }
}

/** First fit: each document goes into the first row that has room for it. */
function packRows(documents: Documents, order: Uint32Array, { sequenceLength, packing = true }: RowOptions): Rows {
  if (!packing) return Array.from(order, (document) => [document]);
  const rows: Rows = [];
  const space = new RowSpace(order.length, sequenceLength);
  for (const document of order) {
    const row = space.take(documents.lengthOf(document));
    if (row === rows.length) rows.push([document]);
    else rows[row].push(document);
  }
  return rows;
}

function fillBatch(documents: Documents, rows: Rows, { batchSize, sequenceLength, padTokenId }: RowOptions): Batch {
  const size = batchSize * sequenceLength;
  const batch: Batch = {
    batchSize,
    sequenceLength,
    inputs: new Int32Array(size).fill(padTokenId),
    targets: new Int32Array(size).fill(-1),
    positions: new Int32Array(size),
    documentStart: new Int32Array(size),
    unmaskedTokens: 0,
    tokens: 0,
  };
  for (let row = 0; row < batchSize; row++) {
    const rowStart = row * sequenceLength;
    let start = 0;
    for (const document of rows[row] ?? []) {
      placeDocument(batch, rowStart, start, documents.tokensOf(document), documents.marksOf(document));
      start += documents.lengthOf(document);
    }
    placeRun(batch, rowStart, start, sequenceLength - start);
  }
  return batch;
}

function placeDocument(batch: Batch, rowStart: number, start: number, tokens: Int32Array, marks: Uint8Array): void {
  batch.inputs.set(tokens, rowStart + start);
  placeRun(batch, rowStart, start, tokens.length);
  for (let place = 1; place < tokens.length; place++) {
    if ((marks[place] & 1) === 0) continue;
    batch.targets[rowStart + start + place - 1] = tokens[place];
    batch.unmaskedTokens++;
  }
  batch.tokens += tokens.length;
}

/** Positions and document start of a run of tokens that see only each other; padding is such a run. */
function placeRun(batch: Batch, rowStart: number, start: number, length: number): void {
  for (let place = 0; place < length; place++) batch.positions[rowStart + start + place] = place;
  batch.documentStart.fill(start, rowStart + start, rowStart + start + length);
}
