/** What the data side hands to the model: one micro-batch, packed, shifted and masked. Plain arrays; no device is known here. */
export interface Batch {
  /** B and T; the arrays below have B·T entries, row-major. */
  batchSize: number;
  sequenceLength: number;
  /** Token ids the model reads. */
  inputs: Int32Array;
  /** The next token of the same document where the loss counts it, else −1. */
  targets: Int32Array;
  /** Position of each token within its own document. */
  positions: Int32Array;
  /** Index within its row of the first token of each token's document. Padding is a document of its own. */
  documentStart: Int32Array;
  /** Targets that count in the loss. */
  unmaskedTokens: number;
  /** Positions that are not padding; tokens per second count these. */
  tokens: number;
}
