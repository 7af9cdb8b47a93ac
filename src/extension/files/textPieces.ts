/**
 * Collects replacements that are made one after another into one set of replacements of the first text: what an editor applies as a single, undoable
 * edit. It knows nothing of what the text means.
 * The rule to keep: text that no replacement touched is never part of a change.
 */

/** Replaces `length` characters at `offset` by `text`. */
export interface TextChange {
  offset: number;
  length: number;
  text: string;
}

/** A part of the present text: still the original's, or put in. */
type Piece = { from: number; to: number } | { text: string };

const lengthOf = (piece: Piece) => ("text" in piece ? piece.text.length : piece.to - piece.from);
const part = (piece: Piece, start: number, end: number): Piece =>
  "text" in piece ? { text: piece.text.slice(start, end) } : { from: piece.from + start, to: piece.from + end };

export class TextPieces {
  readonly #original: string;
  #pieces: Piece[];
  #text: string;

  constructor(original: string) {
    this.#original = original;
    this.#text = original;
    this.#pieces = [{ from: 0, to: original.length }];
  }

  /** The text as it is now. */
  get text(): string {
    return this.#text;
  }

  /** Makes changes whose offsets count in the present {@link text}; they must not overlap. */
  apply(changes: readonly TextChange[]): void {
    for (const change of [...changes].sort((a, b) => b.offset - a.offset)) this.#replace(change);
    this.#text = this.#pieces.map((piece) => ("text" in piece ? piece.text : this.#original.slice(piece.from, piece.to))).join("");
  }

  #replace({ offset, length, text }: TextChange): void {
    const kept: Piece[] = [];
    let at = 0;
    let placed = false;
    const place = () => {
      if (!placed && text) kept.push({ text });
      placed = true;
    };
    for (const piece of this.#pieces) {
      const end = at + lengthOf(piece);
      if (offset > at) kept.push(part(piece, 0, Math.min(offset, end) - at));
      if (offset <= end) {
        place();
        if (offset + length < end) kept.push(part(piece, Math.max(offset + length, at) - at, end - at));
      }
      at = end;
    }
    place();
    this.#pieces = kept.filter((piece) => lengthOf(piece) > 0);
  }

  /** The changes that turn the original into the present text, in order, none overlapping. */
  changes(): TextChange[] {
    const changes: TextChange[] = [];
    let at = 0;
    let inserted = "";
    for (const piece of [...this.#pieces, { from: this.#original.length, to: this.#original.length }]) {
      if ("text" in piece) {
        inserted += piece.text;
        continue;
      }
      if (inserted || piece.from > at) changes.push({ offset: at, length: piece.from - at, text: inserted });
      [at, inserted] = [piece.to, ""];
    }
    return changes.map((change) => this.#trimmed(change)).filter(({ length, text }) => length > 0 || text !== "");
  }

  /** Without what is the same before and after; characters of two units and line breaks stay whole, since editors cannot edit inside them. */
  #trimmed({ offset, length, text }: TextChange): TextChange {
    const old = this.#original.slice(offset, offset + length);
    let head = 0;
    while (head < old.length && head < text.length && old[head] === text[head]) head++;
    if (head > 0 && /[\r\ud800-\udbff]/.test(old[head - 1])) head--;
    let tail = 0;
    while (tail < old.length - head && tail < text.length - head && old.at(-1 - tail) === text.at(-1 - tail)) tail++;
    if (tail > 0 && /[\n\udc00-\udfff]/.test(old.at(-tail) as string)) tail--;
    return { offset: offset + head, length: length - head - tail, text: text.slice(head, text.length - tail) };
  }
}

/** The text after changes whose offsets count in `text`. */
export function applyChanges(text: string, changes: readonly TextChange[]): string {
  const pieces = new TextPieces(text);
  pieces.apply(changes);
  return pieces.text;
}
