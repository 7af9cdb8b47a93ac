/**
 * The run's notices as the list shows them: newest first, those of the same code and words as one with a count. Plain data; it draws nothing.
 * The rule to keep: counts are of all notices, also of those that are too many to be listed.
 */
import type { Notice } from "./store.ts";

export interface NoticeGroup {
  kind: Notice["kind"];
  code: string;
  message: string;
  /** How often it was said, and of the newest time. */
  count: number;
  timeMs: number;
  sequence: number;
  /** Steps it belongs to, oldest and newest; null where it belongs to none. */
  steps: { first: number; last: number } | null;
}

/** Groups of equal words, the one that was last said first. */
export function noticeGroups(notices: readonly Notice[]): NoticeGroup[] {
  const groups = new Map<string, NoticeGroup>();
  for (const { kind, code, message, timeMs, sequence, step } of notices) {
    const key = JSON.stringify([kind, code, message]);
    const known = groups.get(key);
    // Taken out and put in again: a map keeps the order in which keys came.
    groups.delete(key);
    const first = known?.steps?.first ?? step;
    const steps = step === null || first === null ? (known?.steps ?? null) : { first, last: step };
    groups.set(key, { kind, code, message, count: (known?.count ?? 0) + 1, timeMs, sequence, steps });
  }
  return [...groups.values()].reverse();
}
