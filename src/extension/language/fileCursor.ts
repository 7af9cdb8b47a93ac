/**
 * What of a run file or comparison a cursor is at: a key, a value, or a place where one belongs. The text may be half written: a mark is put in at the cursor, first as a
 * key and then as a value, and looked up in what the parser, which forgives, makes of it. Plain text in, plain data out.
 * The rule to keep: where it is not sure it says nothing; a wrong proposal is worse than none.
 */
import { type Document, isMap, isScalar, isSeq, parseDocument, type Scalar } from "yaml";

/** A place where text may be completed, as offsets into the text. */
export interface CursorPlace {
  kind: "key" | "value";
  /** Of the mapping for a key, of the key for a value; a number is a list's index. */
  path: (string | number)[];
  /** What a completion replaces. */
  start: number;
  end: number;
  /** Written so far before the cursor, without its opening quote. */
  typed: string;
  /** The quote that opens what is written. */
  quote: string;
  /** Within `{ }` or `[ ]`. */
  flow: boolean;
  /** A key's colon is already there. */
  colon: boolean;
  /** Keys that the mapping has already. */
  siblings: string[];
  /** The file's values without the mark. */
  values: unknown;
}

/** A key or value that stands in the text. */
export interface NamedPlace {
  path: (string | number)[];
  start: number;
  end: number;
  values: unknown;
}

/** No file holds it by chance, and it is plain YAML in every place. */
const mark = "sparseTunerCursor0x5f3759df";
const largestText = 1 << 20;

/** What could be completed at an offset; null where nothing can. `isMapping` tells whether the items of a list are mappings, which have keys. */
export function cursorPlace(text: string, offset: number, isMapping: IsMapping = () => false): CursorPlace | null {
  if (text.length > largestText) return null;
  return keyPlace(text, offset, isMapping) ?? valuePlace(text, offset);
}

type IsMapping = (path: (string | number)[], values: unknown) => boolean;

/** The key or value that a pointer is over; null over anything else. */
export function namedPlace(text: string, offset: number): NamedPlace | null {
  if (text.length > largestText) return null;
  const document = parsed(text);
  if (!document) return null;
  const hit = find(document.contents, [], false, (node) => {
    const [start, end] = node.range ?? [0, 0];
    return offset >= start && offset < end;
  });
  if (!hit) return null;
  const [start, end] = hit.node.range ?? [0, 0];
  const path = hit.kind === "key" ? [...hit.path, String(hit.node.value)] : hit.path;
  return { path, start, end, values: valuesOf(document) };
}

interface Hit {
  kind: "key" | "value";
  node: Scalar;
  path: (string | number)[];
  flow: boolean;
  siblings: string[];
  /** Where the mapping around a key begins. */
  mapping: number;
}

/** A key begins a line, a list's item or an entry of a flow mapping. */
function keyPlace(text: string, offset: number, isMapping: IsMapping): CursorPlace | null {
  const line = text.slice(text.lastIndexOf("\n", offset - 1) + 1, offset);
  const [, before, typed] = /^(.*?)([\w.-]*)$/s.exec(line) ?? [];
  if (!/^\s*(-\s+)*$|[{,]\s*$/.test(before)) return null;
  const [rest] = /^[\w.-]*/.exec(text.slice(offset)) ?? [""];
  const end = offset + rest.length;
  const colon = /^[ \t]*:/.test(text.slice(end));
  const marked = `${text.slice(0, offset)}${mark}${rest}${colon ? "" : ": "}${text.slice(end)}`;
  const document = parsed(marked);
  const hit = document && find(document.contents, [], false, isMarked);
  if (!document || hit?.kind !== "key") return null;
  const values = valuesOf(document);
  // In `[a, b: ]` the item b is a mapping without braces, which nobody means.
  const isItem = hit.path.some((step) => typeof step === "number");
  if (isItem && ((hit.flow && marked[hit.mapping] !== "{") || !isMapping(hit.path, values))) return null;
  return { ...hit, kind: "key", start: offset - typed.length, end, typed, quote: "", colon, values };
}

function valuePlace(text: string, offset: number): CursorPlace | null {
  const document = parsed(text.slice(0, offset) + mark + text.slice(offset));
  const hit = document && find(document.contents, [], false, isMarked);
  if (!document || hit?.kind !== "value" || !hit.node.range || /^BLOCK/.test(hit.node.type ?? "")) return null;
  const [start, markedEnd] = hit.node.range;
  const quote = /^["']/.exec(text.slice(start, start + 1))?.[0] ?? "";
  const end = markedEnd - mark.length;
  if (text.slice(start, end).includes("\n")) return null;
  return { ...hit, kind: "value", start, end, typed: text.slice(start + quote.length, offset), quote, colon: false, values: valuesOf(document) };
}

function parsed(text: string): Document | null {
  try {
    return parseDocument(text, { prettyErrors: false, stringKeys: true, uniqueKeys: false, logLevel: "error" });
  } catch {
    return null;
  }
}

function valuesOf(document: Document): unknown {
  try {
    return document.toJS({ maxAliasCount: 100 });
  } catch {
    return null;
  }
}

function isMarked(node: Scalar): boolean {
  return typeof node.value === "string" && node.value.includes(mark);
}

function find(node: unknown, path: (string | number)[], flow: boolean, accept: (node: Scalar) => boolean): Hit | null {
  if (isScalar(node)) return path.length > 0 && accept(node) ? { kind: "value", node, path, flow, siblings: [], mapping: 0 } : null;
  if (isSeq(node)) {
    for (const [index, item] of node.items.entries()) {
      const hit = find(item, [...path, index], node.flow === true, accept);
      if (hit) return hit;
    }
    return null;
  }
  if (!isMap(node)) return null;
  for (const { key, value } of node.items) {
    if (!isScalar(key)) continue;
    const siblings = node.items.filter((pair) => pair.key !== key && isScalar(pair.key)).map((pair) => String((pair.key as Scalar).value));
    if (accept(key)) return { kind: "key", node: key, path, flow: node.flow === true, siblings, mapping: node.range?.[0] ?? 0 };
    const hit = find(value, [...path, String(key.value)], node.flow === true, accept);
    if (hit) return hit;
  }
  return null;
}
