/**
 * The tensors of a file as a list that is filtered and sorted, and their figures as text. Plain data; it draws nothing.
 * The rule to keep: names are data: they are compared and shown, never read as anything else.
 */
import type { ServiceResults } from "../../src/protocol/serviceProtocol.ts";

export type TensorEntry = ServiceResults["describeTensors"]["tensors"][number];
export const sortKeys = ["name", "dtype", "shape", "bytes"] as const;
export type SortKey = (typeof sortKeys)[number];

/** `key` null is the file's own order. */
export interface Order {
  key: SortKey | null;
  descending: boolean;
}

/** A click on a column: ascending, descending, then the file's order again. */
export function nextOrder(order: Order, key: SortKey): Order {
  if (order.key !== key) return { key, descending: false };
  return order.descending ? { key: null, descending: false } : { key, descending: true };
}

/** Tensors whose name or dtype holds every word of the filter, in the order asked for; equal ones keep the file's order. */
export function arranged(tensors: readonly TensorEntry[], filter: string, { key, descending }: Order): TensorEntry[] {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = tensors.filter(({ name, dtype }) => words.every((word) => name.toLowerCase().includes(word) || dtype.toLowerCase() === word));
  if (key === null) return kept;
  const sign = descending ? -1 : 1;
  return kept.sort((a, b) => sign * comparisons[key](a, b));
}

/** Digits in names count as numbers, so that layer 10 comes after layer 9. */
const byText = new Intl.Collator("en", { numeric: true });
const comparisons: Record<SortKey, (a: TensorEntry, b: TensorEntry) => number> = {
  name: (a, b) => byText.compare(a.name, b.name),
  dtype: (a, b) => byText.compare(a.dtype, b.dtype),
  shape: (a, b) => entriesOf(a.shape) - entriesOf(b.shape),
  bytes: (a, b) => a.bytes - b.bytes,
};

export function entriesOf(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

export function shapeText(shape: readonly number[]): string {
  return shape.length === 0 ? "[]" : shape.join(" × ");
}

/** In units of 1024, with three digits. */
export function bytesText(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  for (; value >= 1023.5 && unit < units.length - 1; unit++) value /= 1024;
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}
