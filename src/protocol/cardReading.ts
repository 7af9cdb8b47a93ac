/**
 * The figures of a graphics card as its driver tells them, from the core to events and hosts. They are the card's, all processes together; what the ledger
 * counts is ours alone and stands in `memory` events.
 * The rule to keep: what the driver does not tell is null, never 0 and never an estimate.
 */
import Type, { type Static } from "typebox";

const count = Type.Integer({ minimum: 0, maximum: 2 ** 53 - 1 });
const countOrNull = Type.Union([count, Type.Null()]);

/** Who told it. unifiedMemory: the card computes in the machine's own memory, and the operating system's figures are all there are. */
export const cardSources = ["nvidia-smi", "amdgpu", "unifiedMemory"] as const;
export type CardSource = (typeof cardSources)[number];

export const cardFields = {
  name: Type.String({ maxLength: 200 }),
  /** Number of the card as its driver counts. */
  index: count,
  /** Cards that the driver knows. */
  cards: count,
  /** How this one was told from the others: it is alone, its driver names our process on it, its name is the device's, or by no more than a guess. */
  chosenBy: Type.Enum(["only", "process", "name", "guess"]),
  totalBytes: countOrNull,
  /** By all processes. */
  usedBytes: countOrNull,
  /** By this run's process. */
  ownBytes: countOrNull,
  /** Share of the time in which the card computed, of 1. */
  utilisation: Type.Union([Type.Number({ minimum: 0, maximum: 1 }), Type.Null()]),
  temperatureC: Type.Union([Type.Number(), Type.Null()]),
  source: Type.Enum([...cardSources]),
};

export const cardReadingSchema = Type.Object(cardFields);
export type CardReading = Static<typeof cardReadingSchema>;

/** What is known of the card now; without a reading `problem` says why. */
export const cardReportSchema = Type.Object({
  reading: Type.Union([cardReadingSchema, Type.Null()]),
  problem: Type.String({ maxLength: 1000 }),
});
export type CardReport = Static<typeof cardReportSchema>;
