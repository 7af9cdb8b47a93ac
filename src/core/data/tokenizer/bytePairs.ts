/**
 * Byte-pair encoding: a piece of text becomes characters (or bytes), and the pair with the lowest merge rank is joined until none is left.
 * It cuts no text into pieces and knows no special tokens. The rule to keep: ids equal the Rust library's, unknown characters included —
 * a character that is neither known nor replaceable disappears before merging, so that its neighbours may join.
 * Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016); the order of ties is by rank, then by place.
 */
import type { BytePairFile } from "./tokenizerFile.ts";

const cachedPieceLength = 48;
const cachedPieces = 65_536;
/** 2³¹: heap keys are rank·2³¹ + place, exact in a double. */
const placeRange = 2_147_483_648;

export class BytePairs {
  readonly #model: BytePairFile;
  readonly #byteLevel: boolean;
  readonly #merges: MergeTable;
  /** Ids of single characters; of bytes as byte-level characters, or as `<0x..>` for the fallback. −1: not in the vocabulary. */
  readonly #characterIds = new Map<string, number>();
  readonly #byteIds: Int32Array;
  readonly #unknownId: number;
  readonly #cache = new Map<string, Int32Array>();

  /** `byteLevel`: pieces are read as UTF-8 bytes, each written as one printable character (GPT-2's table). */
  constructor(model: BytePairFile, byteLevel: boolean) {
    this.#model = model;
    this.#byteLevel = byteLevel;
    this.#merges = new MergeTable(model.merges);
    for (const [token, id] of model.vocabulary) {
      if (token.length <= 2 && Array.from(token).length === 1) this.#characterIds.set(token, id);
    }
    const nameOfByte = byteLevel ? (byte: number) => byteCharacters[byte] : fallbackName;
    this.#byteIds = Int32Array.from({ length: 256 }, (_, byte) => model.vocabulary.get(nameOfByte(byte)) ?? -1);
    this.#unknownId = model.unknownToken === null ? -1 : (model.vocabulary.get(model.unknownToken) ?? -1);
  }

  /** Appends the ids of one piece. */
  encode(piece: string, out: number[]): void {
    const short = piece.length <= cachedPieceLength;
    const cached = short ? this.#cache.get(piece) : undefined;
    if (cached !== undefined) {
      for (const id of cached) out.push(id);
      return;
    }
    const ids = this.#encodePiece(piece);
    for (const id of ids) out.push(id);
    if (!short) return;
    if (this.#cache.size >= cachedPieces) this.#cache.clear();
    this.#cache.set(piece, ids);
  }

  #encodePiece(piece: string): Int32Array {
    if (this.#model.ignoreMerges) {
      const whole = this.#model.vocabulary.get(this.#byteLevel ? toByteCharacters(piece) : piece);
      if (whole !== undefined) return Int32Array.of(whole);
    }
    const symbols: number[] = [];
    if (this.#byteLevel) this.#readBytes(piece, symbols);
    else this.#readCharacters(piece, symbols);
    return this.#merges.join(Int32Array.from(symbols));
  }

  #readBytes(piece: string, symbols: number[]): void {
    let unknown = false;
    for (const byte of Buffer.from(piece, "utf8")) {
      const id = this.#byteIds[byte];
      if (id >= 0) {
        if (unknown) symbols.push(this.#unknownId);
        unknown = false;
        symbols.push(id);
      } else if (this.#unknownId >= 0) {
        if (unknown && !this.#model.fuseUnknown) symbols.push(this.#unknownId);
        unknown = true;
      }
    }
    if (unknown) symbols.push(this.#unknownId);
  }

  #readCharacters(piece: string, symbols: number[]): void {
    let unknown = false;
    for (const character of piece) {
      const id = this.#characterIds.get(character);
      if (id !== undefined) {
        if (unknown) symbols.push(this.#unknownId);
        unknown = false;
        symbols.push(id);
      } else if (!(this.#model.byteFallback && this.#readFallback(character, symbols)) && this.#unknownId >= 0) {
        if (unknown && !this.#model.fuseUnknown) symbols.push(this.#unknownId);
        unknown = true;
      }
    }
    if (unknown) symbols.push(this.#unknownId);
  }

  /** Writes the character as its bytes if the vocabulary has them all. */
  #readFallback(character: string, symbols: number[]): boolean {
    const bytes = Buffer.from(character, "utf8");
    if (bytes.some((byte) => this.#byteIds[byte] < 0)) return false;
    for (const byte of bytes) symbols.push(this.#byteIds[byte]);
    return true;
  }
}

/** Merge ranks by pair, in an open-addressing table: a Map of pair keys is several times slower. */
class MergeTable {
  readonly #merges: Int32Array;
  /** Rank + 1 at the slot of its pair; 0 is empty. */
  readonly #slots: Int32Array;
  readonly #mask: number;

  constructor(merges: Int32Array) {
    this.#merges = merges;
    const size = 2 ** Math.ceil(Math.log2(Math.max(16, (merges.length / 3) * 2)));
    this.#mask = size - 1;
    this.#slots = new Int32Array(size);
    for (let rank = 0; rank * 3 < merges.length; rank++) {
      // A pair listed twice keeps its last rank.
      this.#slots[this.#slot(merges[rank * 3], merges[rank * 3 + 1])] = rank + 1;
    }
  }

  #slot(left: number, right: number): number {
    let slot = (Math.imul(left, 0x9e3779b1) ^ Math.imul(right + 0x7f4a7c15, 0x85ebca6b)) >>> 0;
    slot = (slot ^ (slot >>> 15)) & this.#mask;
    for (;;) {
      const rank = this.#slots[slot] - 1;
      if (rank < 0 || (this.#merges[rank * 3] === left && this.#merges[rank * 3 + 1] === right)) return slot;
      slot = (slot + 1) & this.#mask;
    }
  }

  /** Rank of joining two ids, or −1. */
  #rank(left: number, right: number): number {
    return this.#slots[this.#slot(left, right)] - 1;
  }

  /** Joins symbols until no pair has a rank; the array is used up. */
  join(symbols: Int32Array): Int32Array {
    const length = symbols.length;
    if (length < 2) return symbols;
    const previous = Int32Array.from({ length }, (_, place) => place - 1);
    const next = Int32Array.from({ length }, (_, place) => (place + 1 < length ? place + 1 : -1));
    const heap = new KeyHeap();
    const offer = (place: number): void => {
      const rank = this.#rank(symbols[place], symbols[next[place]]);
      if (rank >= 0) heap.push(rank * placeRange + place);
    };
    for (let place = 0; place + 1 < length; place++) offer(place);
    while (heap.size > 0) {
      const key = heap.pop();
      const place = key % placeRange;
      const rank = (key - place) / placeRange;
      const right = next[place];
      // Entries of pairs that have changed since are stale; −1 marks a symbol that was joined to its left.
      if (symbols[place] < 0 || right < 0 || this.#rank(symbols[place], symbols[right]) !== rank) continue;
      symbols[place] = this.#merges[rank * 3 + 2];
      symbols[right] = -1;
      next[place] = next[right];
      if (next[right] >= 0) previous[next[right]] = place;
      if (previous[place] >= 0) offer(previous[place]);
      if (next[place] >= 0) offer(place);
    }
    return symbols.filter((id) => id >= 0);
  }
}

/** A binary heap of numbers, smallest first. */
class KeyHeap {
  readonly #keys: number[] = [];

  get size(): number {
    return this.#keys.length;
  }

  push(key: number): void {
    const keys = this.#keys;
    let index = keys.length;
    keys.push(key);
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (keys[parent] <= key) break;
      keys[index] = keys[parent];
      index = parent;
    }
    keys[index] = key;
  }

  pop(): number {
    const keys = this.#keys;
    const top = keys[0];
    const key = keys.pop() as number;
    const size = keys.length;
    if (size === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= size) break;
      if (child + 1 < size && keys[child + 1] < keys[child]) child++;
      if (keys[child] >= key) break;
      keys[index] = keys[child];
      index = child;
    }
    keys[index] = key;
    return top;
  }
}

/** GPT-2's table: printable Latin-1 bytes stand for themselves, the 68 others for U+0100 and on. */
export const byteCharacters: readonly string[] = (() => {
  const characters: string[] = [];
  let spare = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : spare++));
  }
  return characters;
})();

function toByteCharacters(text: string): string {
  let characters = "";
  for (const byte of Buffer.from(text, "utf8")) characters += byteCharacters[byte];
  return characters;
}

function fallbackName(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;
}
