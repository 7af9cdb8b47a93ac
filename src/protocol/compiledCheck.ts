/**
 * Checks of values that come many times a second, compiled once a schema: an interpreted check of a heatmap frame's header takes up to a millisecond.
 * What comes seldom is checked by `Value.Check`, which costs nothing beforehand.
 */
import type { TSchema } from "typebox";
import { Compile } from "typebox/compile";

const compiled = new WeakMap<TSchema, { Check(value: unknown): boolean }>();

/** Whether the value fits. The schema is one that lives as long as the program. */
export function fits(schema: TSchema, value: unknown): boolean {
  let check = compiled.get(schema);
  if (!check) {
    check = Compile(schema);
    compiled.set(schema, check);
  }
  return check.Check(value);
}
