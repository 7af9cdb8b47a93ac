/**
 * Which ops each device computes, in which dtypes, as the conformance suite found it: recorded while its cases run, and shown as the table of docs/devices.md.
 * The rule to keep: a cell says what was compared with the reference, never what a device claims; the reference itself is the judge.
 */
import type { DType } from "../../src/core/devices/device.ts";
import type { TestedDevice } from "./harness.ts";

/** Families of devices, as the table's columns. */
export const columns = {
  reference: "reference, float64",
  "native cpu": "cpu, native",
  portable: "cpu, portable",
  webgpu: "webgpu",
  tensorflow: "tensorflow",
};
export type Column = keyof typeof columns;

/** Methods that are about no numbers. */
const untyped = new Set(["turn", "close"]);

/** A case is one of bf16 when one of its tensors is. */
type CaseDType = "f32" | "bf16";
interface Answers {
  compared: number;
  unsupported: number;
}

/** Sees the dtypes of the tensors that are allocated from now on. */
export function watchDTypes(device: TestedDevice): Set<DType> {
  const seen = new Set<DType>();
  const allocate = device.allocate.bind(device);
  device.allocate = (shape, dtype, memoryClass) => {
    seen.add(dtype);
    return allocate(shape, dtype, memoryClass);
  };
  return seen;
}

export class Parity {
  readonly #answers = new Map<string, Answers>();
  readonly #ops = new Set<string>();

  /** Keeps what a device of this family answered to a case whose tensors were of these dtypes. */
  record(family: string, op: string, dtypes: ReadonlySet<DType>, answer: keyof Answers): void {
    if (untyped.has(op)) return;
    if (!(family in columns)) throw new Error(`docs/devices.md has no column for the family ${family}`);
    const key = keyOf(family as Column, op, dtypes.has("bf16") ? "bf16" : "f32");
    const answers = this.#answers.get(key) ?? { compared: 0, unsupported: 0 };
    answers[answer]++;
    this.#answers.set(key, answers);
    this.#ops.add(op);
  }

  /** Columns of the families that answered. */
  get families(): Column[] {
    const ran = new Set([...this.#answers.keys()].map((key) => key.split("/")[0]));
    return (Object.keys(columns) as Column[]).filter((family) => ran.has(family));
  }

  cell(family: Column, op: string): string {
    const parts = (["f32", "bf16"] as const).flatMap((dtype) => {
      const answers = this.#answers.get(keyOf(family, op, dtype));
      if (!answers || answers.compared === 0) return [];
      return answers.unsupported === 0 ? [dtype] : [`${dtype} in part`];
    });
    return parts.join(", ") || "–";
  }

  /** The rows of the table, header first, of the families that answered. */
  rows(): string[][] {
    const { families } = this;
    const header = ["op", ...families.map((family) => columns[family])];
    return [header, ...[...this.#ops].map((op) => [`\`${op}\``, ...families.map((family) => this.cell(family, op))])];
  }
}

function keyOf(family: Column, op: string, dtype: CaseDType): string {
  return `${family}/${op}/${dtype}`;
}

const [start, end] = ["<!-- ops: written by `npm run devices` -->", "<!-- end of ops -->"];

/** The document with these rows as its table. */
export function withTable(document: string, [header, ...rows]: string[][]): string {
  const [from, to] = tableRange(document);
  const line = (cells: string[]) => `| ${cells.join(" | ")} |`;
  const table = [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
  return `${document.slice(0, from)}\n\n${table}\n\n${document.slice(to)}`;
}

/** The rows of a document's table, header first. */
export function tableOf(document: string): string[][] {
  const [from, to] = tableRange(document);
  const lines = document.slice(from, to).trim().split("\n");
  return [lines[0], ...lines.slice(2)].map((line) =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

function tableRange(document: string): [from: number, to: number] {
  const [from, to] = [document.indexOf(start) + start.length, document.indexOf(end)];
  if (from < start.length || to < from) throw new Error(`docs/devices.md lacks ${start} … ${end}`);
  return [from, to];
}
