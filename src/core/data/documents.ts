/**
 * Tokenised documents, back to back in two growing arrays: 5 bytes a token, however many documents there are.
 * It neither reads files nor makes batches. The rule to keep: a document is at least two tokens with at least one target; the trainer never
 * meets one that has nothing to learn from.
 */

/** What a token serves: plain text, a prompt (or a template's own text), or a response. */
export const tokenRoles = ["text", "prompt", "response"] as const;
export type TokenRole = (typeof tokenRoles)[number];

/** Marks of a token: bit 0 is set where the loss counts it as a target; the role's index stands in the bits above. */
export function markOf(role: TokenRole, loss: boolean): number {
  return tokenRoles.indexOf(role) * 2 + (loss ? 1 : 0);
}

/** One document: ids and, for each, a mark. */
export interface TokenDocument {
  ids: ArrayLike<number>;
  marks: ArrayLike<number>;
  /** Line (or row) of the file it came from, from 1. */
  line: number;
}

/** Targets of a document: marked tokens other than the first, which nothing predicts. */
export function countTargets(marks: ArrayLike<number>, length = marks.length): number {
  let targets = 0;
  for (let place = 1; place < length; place++) targets += marks[place] & 1;
  return targets;
}

export class Documents {
  #tokens = new Int32Array(1024);
  #marks = new Uint8Array(1024);
  #used = 0;
  #targets = 0;
  /** Start of each document, and the end of the last. */
  readonly #starts: number[] = [0];
  readonly #lines: number[] = [];

  static from(documents: Iterable<TokenDocument>): Documents {
    const all = new Documents();
    for (const document of documents) all.add(document);
    return all;
  }

  /** Appends a document; throws RangeError for one without a target. */
  add({ ids, marks, line }: TokenDocument): void {
    const targets = countTargets(marks);
    if (ids.length !== marks.length || targets === 0) throw new RangeError("a document needs as many marks as tokens, and a target");
    if (this.#used + ids.length > this.#tokens.length) this.#grow(this.#used + ids.length);
    this.#tokens.set(ids, this.#used);
    this.#marks.set(marks, this.#used);
    this.#used += ids.length;
    this.#targets += targets;
    this.#starts.push(this.#used);
    this.#lines.push(line);
  }

  #grow(needed: number): void {
    const capacity = Math.max(needed, Math.ceil(this.#tokens.length * 1.5));
    const tokens = new Int32Array(capacity);
    tokens.set(this.#tokens);
    this.#tokens = tokens;
    const marks = new Uint8Array(capacity);
    marks.set(this.#marks);
    this.#marks = marks;
  }

  /** Number of documents. */
  get count(): number {
    return this.#lines.length;
  }
  /** Tokens of all documents. */
  get tokenCount(): number {
    return this.#used;
  }
  /** Targets of all documents. */
  get targetCount(): number {
    return this.#targets;
  }
  /** Tokens of one document. */
  lengthOf(document: number): number {
    return this.#starts[document + 1] - this.#starts[document];
  }
  /** A view of its ids; valid until the next `add`. */
  tokensOf(document: number): Int32Array {
    return this.#tokens.subarray(this.#starts[document], this.#starts[document + 1]);
  }
  /** A view of its marks; valid until the next `add`. */
  marksOf(document: number): Uint8Array {
    return this.#marks.subarray(this.#starts[document], this.#starts[document + 1]);
  }
  lineOf(document: number): number {
    return this.#lines[document];
  }
}
