/**
 * Events on their way to a panel that is shown: of a long run there are tens of thousands, nearly all of numbers alone, which as objects take VS Code longer to
 * pass on than the panel takes for all the rest. They go as tables of bytes. It knows no kind of event.
 * The rule to keep: what is unpacked is what was packed, to the bit and in its order.
 */
import type { RunEvent } from "./events.ts";

export interface PackedEvents {
  tables: EventTable[];
  /** Those that hold more than numbers. */
  others: RunEvent[];
}

/** Events of one kind that hold the same numbers. */
export interface EventTable {
  kind: RunEvent["kind"];
  /** Where in an event each column's number stands: its name, or the name of an object and the name in there. */
  fields: Path[];
  /** f64, row by row, in the byte order of all machines that VS Code runs on. */
  payload: Uint8Array;
}

type Path = [name: string] | [object: string, name: string];

/** Of a run's history, in which sequence numbers grow. */
export function packEvents(events: readonly RunEvent[]): PackedEvents {
  const others: RunEvent[] = [];
  const tables = new Map<string, { kind: RunEvent["kind"]; fields: Path[]; numbers: number[] }>();
  for (const event of events) {
    const found = numbersOf(event);
    if (!found) {
      others.push(event);
      continue;
    }
    const key = JSON.stringify([event.kind, found.fields]);
    const table = tables.get(key) ?? { kind: event.kind, fields: found.fields, numbers: [] };
    tables.set(key, table);
    table.numbers.push(...found.numbers);
  }
  return {
    tables: [...tables.values()].map(({ numbers, ...table }) => ({ ...table, payload: new Uint8Array(Float64Array.from(numbers).buffer) })),
    others,
  };
}

export function unpackEvents({ tables, others }: PackedEvents): RunEvent[] {
  return [...others, ...tables.flatMap(eventsOf)].sort((one, other) => one.sequence - other.sequence);
}

/** Null where the event holds anything else. */
function numbersOf({ kind: _kind, ...body }: RunEvent): { fields: Path[]; numbers: number[] } | null {
  const fields: Path[] = [];
  const numbers: number[] = [];
  for (const [name, value] of Object.entries(body) as [string, unknown][]) {
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    const entries = isObject ? Object.entries(value as object).map(([inner, each]) => [[name, inner], each] as const) : [[[name], value] as const];
    if (entries.length === 0) return null;
    for (const [path, number] of entries) {
      if (typeof number !== "number") return null;
      fields.push(path as Path);
      numbers.push(number);
    }
  }
  return { fields, numbers };
}

function eventsOf({ kind, fields, payload }: EventTable): RunEvent[] {
  const numbers = new Float64Array(payload.slice().buffer); // a view of a message's bytes may begin anywhere
  return Array.from({ length: numbers.length / fields.length }, (_, row) => {
    const event: Record<string, unknown> = { kind };
    for (const [column, [name, inner]] of fields.entries()) {
      const number = numbers[row * fields.length + column];
      if (inner === undefined) event[name] = number;
      else event[name] = { ...(event[name] as object), [inner]: number }; // made anew: an inherited object must not be written to
    }
    return event as RunEvent;
  });
}
