/**
 * Sets and removes keys of a YAML text by replacing as little of it as can be: a value in its place, a line, an entry of a flow mapping. Comments, order,
 * indentation, line endings and quotes stay. It knows no schema.
 * The rule to keep: each function makes one small change of a text that parses; who calls checks what the changed text means (aliases and tags can make
 * a change mean more than it says).
 */
import { type Document, isCollection, isMap, isNode, isScalar, isSeq, type Node, type Pair, parseDocument, type YAMLMap, type YAMLSeq } from "yaml";
import type { TextChange } from "./textPieces.ts";
import { type ScalarValue, yamlFlow, yamlScalar } from "./yamlScalars.ts";

export type YamlPath = readonly (string | number)[];
export type YamlValue = ScalarValue | readonly ScalarValue[];

/** A text and its tree, with the places of every token. */
export interface YamlText {
  text: string;
  document: Document;
}

type Collection = YAMLMap | YAMLSeq;
interface Token {
  type: string;
  offset: number;
  source: string;
}
/** What the parser keeps of an entry: its own tokens before the key or item, and between key and value. */
interface EntryTokens {
  start?: Token[];
  sep?: Token[];
}

export function parseYaml(text: string): YamlText {
  return { text, document: parseDocument(text, { keepSourceTokens: true, prettyErrors: false, stringKeys: true, logLevel: "error" }) };
}

/** The node at a path; undefined where the path ends before. */
export function nodeAt({ document }: YamlText, path: YamlPath): unknown {
  return path.reduce<unknown>((node, step) => {
    if (isMap(node)) return pairOf(node, String(step))?.value ?? undefined;
    return isSeq(node) ? node.items[Number(step)] : undefined;
  }, document.contents);
}

/** Sets the value of a key, which is put in after the last one where it is missing, with the mappings around it. Null where something else stands there. */
export function setKey(yaml: YamlText, path: readonly string[], value: YamlValue): TextChange[] | null {
  const { text, document } = yaml;
  let node: unknown = document.contents;
  if (node === null || (isScalar(node) && node.value === null)) return [appendLines(text, text.length, blockLines(path, value, "", yaml), yaml)];
  for (const [depth, key] of path.entries()) {
    if (!isMap(node)) return null;
    const pair = pairOf(node, key);
    const rest = path.slice(depth + 1);
    if (!pair) return [insertPair(yaml, node, path.slice(depth), value)];
    if (rest.length === 0) return replaceValue(yaml, node, pair, value);
    if (isNothing(pair.value)) return fillSection(yaml, node, pair, rest, value);
    node = pair.value;
  }
  return null;
}

/** Sets an item of a list that is there. */
export function setItem({ document: _, ...yaml }: YamlText, list: YAMLSeq, index: number, value: ScalarValue): TextChange[] {
  const item = list.items[index] as Node;
  const [start, end] = item.range as [number, number, number];
  return [{ offset: start, length: end - start, text: yamlScalar(value, { flow: list.flow === true, like: yaml.text.slice(start, end) }) }];
}

/** Puts an item behind another of a list that has one. */
export function insertItem(yaml: YamlText, list: YAMLSeq, index: number, value: ScalarValue): TextChange[] {
  const text = yamlScalar(value, { flow: list.flow === true });
  const { end } = extentOf(list, index - 1);
  if (list.flow) return [{ offset: end, length: 0, text: `, ${text}` }];
  return [appendLines(yaml.text, end, [`${" ".repeat(columnOf(yaml.text, extentOf(list, 0).start))}- ${text}`], yaml)];
}

/** Removes an entry: with its line, or out of its flow collection. A mapping that would be left with nothing, not even a comment, goes too. */
export function removeEntry(yaml: YamlText, path: YamlPath): TextChange[] {
  const parent = nodeAt(yaml, path.slice(0, -1));
  if (!isCollection(parent)) return [];
  const collection = parent as Collection;
  const index = isMap(collection) ? collection.items.findIndex((pair) => keyOf(pair) === path.at(-1)) : Number(path.at(-1));
  if (index < 0 || index >= collection.items.length) return [];
  if (isMap(collection) && collection.items.length === 1 && path.length > 1 && !commentsBeside(yaml, path))
    return removeEntry(yaml, path.slice(0, -1));
  return [collection.flow ? flowRemoval(yaml.text, collection, index) : lineRemoval(yaml.text, extentOf(collection, index))];
}

function pairOf(map: YAMLMap, key: string): Pair | undefined {
  return map.items.find((pair) => keyOf(pair) === key);
}

function keyOf(pair: Pair): unknown {
  return isScalar(pair.key) ? String(pair.key.value) : undefined;
}

/** A key without a value, or with a null that says so. */
function isNothing(node: unknown): boolean {
  return node === null || (isScalar(node) && node.value === null && !node.tag);
}

function replaceValue(yaml: YamlText, map: YAMLMap, pair: Pair, value: YamlValue): TextChange[] {
  const { text } = yaml;
  const { value: node } = pair;
  const flow = map.flow === true;
  const rendered = (like?: string) => (Array.isArray(value) ? yamlFlow(value) : yamlScalar(value as ScalarValue, { flow, like }));
  if (!isNode(node) || !node.range || node.range[0] === node.range[1]) return [{ ...afterColon(pair), text: `${colonText(pair)} ${rendered()}` }];
  const [start] = node.range;
  const end = contentEnd(node);
  if (isCollection(node) && !node.flow) {
    // The value begins below its key: it moves up to the key, and its lines go.
    return [{ ...afterColon(pair), text: ` ${rendered()}` }, lineRemoval(text, { start: extentOf(node as Collection, 0).start, end })];
  }
  const like = isScalar(node) ? text.slice(start, end) : undefined;
  return [{ offset: start, length: end - start, text: rendered(like) }];
}

/** The place right behind a key's colon; behind the key where there is none. */
function afterColon(pair: Pair): { offset: number; length: 0 } {
  const colon = colonOf(pair);
  return { offset: colon ? colon.offset + 1 : ((pair.key as Node).range?.[1] ?? 0), length: 0 };
}

function colonText(pair: Pair): string {
  return colonOf(pair) ? "" : ":";
}

function colonOf(pair: Pair): Token | undefined {
  return tokensOf(pair).sep?.find(({ type }) => type === "map-value-ind");
}

function tokensOf(entry: { srcToken?: unknown }): EntryTokens {
  return (entry.srcToken ?? {}) as EntryTokens;
}

/** Gives a key without a value the mapping that its first key is put into. */
function fillSection(yaml: YamlText, map: YAMLMap, pair: Pair, path: readonly string[], value: YamlValue): TextChange[] {
  const { text } = yaml;
  const node = pair.value;
  const written = isNode(node) && node.range && node.range[1] > node.range[0] ? node.range : null;
  if (map.flow) {
    const inner = `{ ${flowPair(path, value, quotesKeys(map, text))} }`;
    return written
      ? [{ offset: written[0], length: written[1] - written[0], text: inner }]
      : [{ ...afterColon(pair), text: `${colonText(pair)} ${inner}` }];
  }
  const { offset } = afterColon(pair);
  const indent = " ".repeat(columnOf(text, extentOf(map, 0).start) + indentUnit(yaml));
  const lines = appendLines(text, written ? written[1] : offset, blockLines(path, value, indent, yaml), yaml);
  // `section: null` becomes `section:`.
  return written ? [{ offset, length: written[1] - offset, text: "" }, lines] : [lines];
}

function insertPair(yaml: YamlText, map: YAMLMap, path: readonly string[], value: YamlValue): TextChange {
  const { text } = yaml;
  if (!map.flow) {
    const indent = " ".repeat(columnOf(text, extentOf(map, 0).start));
    return appendLines(text, extentOf(map, map.items.length - 1).end, blockLines(path, value, indent, yaml), yaml);
  }
  const pair = flowPair(path, value, quotesKeys(map, text));
  if (map.items.length > 0) return { offset: extentOf(map, map.items.length - 1).end, length: 0, text: `, ${pair}` };
  const offset = (map.range as [number, number, number])[0] + 1;
  return { offset, length: 0, text: text[offset] === "}" ? ` ${pair} ` : ` ${pair}` };
}

/** Whether a flow mapping is written as JSON, so that what is added must be, too. */
function quotesKeys(map: YAMLMap, text: string): boolean {
  return map.items.length > 0 && map.items.every(({ key }) => isNode(key) && key.range && text[key.range[0]] === '"');
}

function flowPair(path: readonly string[], value: YamlValue, quoted: boolean): string {
  const key = quoted ? JSON.stringify(path[0]) : yamlScalar(path[0], { flow: true });
  const like = quoted ? '"' : undefined;
  if (path.length > 1) return `${key}: { ${flowPair(path.slice(1), value, quoted)} }`;
  return `${key}: ${Array.isArray(value) ? yamlFlow(value, like) : yamlScalar(value as ScalarValue, { flow: true, like })}`;
}

/** `a:` and, below it and further in, `b: value`. */
function blockLines(path: readonly string[], value: YamlValue, indent: string, yaml: YamlText): string[] {
  const key = yamlScalar(path[0], {});
  if (path.length > 1) return [`${indent}${key}:`, ...blockLines(path.slice(1), value, indent + " ".repeat(indentUnit(yaml)), yaml)];
  return [`${indent}${key}: ${Array.isArray(value) ? yamlFlow(value) : yamlScalar(value as ScalarValue, {})}`];
}

/** Puts lines below the line that `offset` lies on (or below its comment), in the file's own line endings. */
function appendLines(text: string, offset: number, lines: string[], { text: whole }: YamlText): TextChange {
  const eol = whole.includes("\r\n") ? "\r\n" : "\n";
  const at = endsLine(text, offset) ? offset : nextLine(text, offset);
  const open = at === text.length && at > 0 && text[at - 1] !== "\n";
  return { offset: at, length: 0, text: open ? `${eol}${lines.join(eol)}` : `${lines.join(eol)}${eol}` };
}

/** Where an entry of a collection begins and where its value ends, without what only surrounds it. */
function extentOf(collection: Collection, index: number): { start: number; end: number } {
  const entry = collection.items[index];
  if (isMap(collection)) {
    const pair = entry as Pair;
    const key = pair.key as Node;
    const tokens = tokensOf(pair).start?.find(({ type }) => type === "explicit-key-ind" || type === "anchor" || type === "tag");
    return { start: tokens?.offset ?? key.range?.[0] ?? 0, end: pairEnd(pair) };
  }
  const item = entry as Node;
  const token = (collection.srcToken as { items?: EntryTokens[] } | undefined)?.items?.[index];
  const dash = token?.start?.find(({ type }) => type === "seq-item-ind");
  return { start: dash?.offset ?? item.range?.[0] ?? 0, end: contentEnd(item) };
}

function pairEnd(pair: Pair): number {
  const { value } = pair;
  if (isNode(value) && value.range && value.range[1] > value.range[0]) return contentEnd(value);
  return afterColon(pair).offset;
}

/** Where a node's own text ends; a block scalar's line break is not part of it, nor are comments behind a collection. */
function contentEnd(node: Node): number {
  const collection = node as Collection;
  if (isCollection(node) && !node.flow && node.items.length > 0) return extentOf(collection, collection.items.length - 1).end;
  const [, end] = node.range as [number, number, number];
  if (!isScalar(node) || !/^BLOCK/.test(node.type ?? "")) return end;
  const source = (node.srcToken as { source?: string } | undefined)?.source ?? "";
  return end - (/[\r\n]+$/.exec(source)?.[0].length ?? 0);
}

/** Whether anything that a person wrote would be left of a mapping without its only entry. */
function commentsBeside(yaml: YamlText, path: YamlPath): boolean {
  const outer = nodeAt(yaml, path.slice(0, -2)) as YAMLMap;
  const inner = nodeAt(yaml, path.slice(0, -1)) as YAMLMap;
  const header = pairOf(outer, String(path.at(-2)));
  if (!header) return true;
  const { start, end } = extentOf(inner, 0);
  const [, , behind] = inner.range as [number, number, number];
  const ownLineEnd = inner.flow ? end : Math.max(nextLine(yaml.text, end), end);
  return yaml.text.slice(afterColon(header).offset, start).includes("#") || yaml.text.slice(ownLineEnd, Math.max(behind, ownLineEnd)).includes("#");
}

/** The lines of an entry that has them for itself; else the entry alone. */
function lineRemoval(text: string, { start, end }: { start: number; end: number }): TextChange {
  const first = text.lastIndexOf("\n", start - 1) + 1;
  if (text.slice(first, start).trim() !== "") return { offset: start, length: end - start, text: "" };
  return { offset: first, length: nextLine(text, end) - first, text: "" };
}

/** An entry of a flow collection, with the comma that parted it from its neighbour. */
function flowRemoval(text: string, collection: Collection, index: number): TextChange {
  const { start, end } = extentOf(collection, index);
  const before = index > 0 ? extentOf(collection, index - 1).end : null;
  const after = index + 1 < collection.items.length ? extentOf(collection, index + 1).start : null;
  if (after !== null && !text.slice(end, after).includes("\n")) return { offset: start, length: after - start, text: "" };
  if (after === null && before !== null && !text.slice(before, start).includes("\n")) return { offset: before, length: end - before, text: "" };
  const comma = /^\s*,/.exec(text.slice(end))?.[0].length ?? 0;
  const first = text.lastIndexOf("\n", start - 1) + 1;
  const alone =
    text.slice(first, start).trim() === "" && /^[ \t]*(#.*)?\r?$/.test(text.slice(end + comma, nextLine(text, end + comma)).replace(/\n$/, ""));
  if (alone && first > 0) return { offset: first, length: nextLine(text, end + comma) - first, text: "" };
  return { offset: start, length: end + comma - start, text: "" };
}

function columnOf(text: string, offset: number): number {
  return offset - (text.lastIndexOf("\n", offset - 1) + 1);
}

/** Where the line below begins, or the text ends. */
function nextLine(text: string, offset: number): number {
  const at = text.indexOf("\n", offset);
  return at < 0 ? text.length : at + 1;
}

function endsLine(text: string, offset: number): boolean {
  return offset > 0 && text[offset - 1] === "\n";
}

/** How far the file's own nested mappings stand in; 2 where it has none. */
function indentUnit({ text, document }: YamlText): number {
  const root = document.contents;
  if (!isMap(root) || root.flow) return 2;
  for (const { value } of root.items) if (isMap(value) && !value.flow && value.items.length > 0) return columnOf(text, extentOf(value, 0).start) || 2;
  return 2;
}
