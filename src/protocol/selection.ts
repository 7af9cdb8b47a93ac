/**
 * selection.json: which blocks of which matrices a run trains, in rank order, with what chose them. It is written by a run, read by people,
 * edited by hand and given to the next run, so reading it back checks everything that can be checked without a model.
 * The rule to keep: equal runs write equal files; no time, path or run id stands in it.
 */
import Type, { type Static } from "typebox";
import { say } from "./problemWords.ts";
import { schemaProblems, withDefaults } from "./schemaProblems.ts";
import { UserError } from "./userError.ts";

const closed = { additionalProperties: false };
const index = Type.Integer({ minimum: 0, maximum: 1e9 });
const name = Type.String({ minLength: 1 });

const block = Type.Object(
  {
    /** Hugging Face name without `.weight`. */
    name,
    /** Position in blocks, not in elements. */
    row: index,
    column: index,
    score: Type.Number({ default: 0 }),
    /** 0 is the best. */
    rank: index,
  },
  closed,
);

/** Grid of a matrix that blocks were chosen from: rows and columns in blocks. Ragged: its last row or column of blocks is cut. */
const matrix = Type.Object({ name, rows: index, columns: index, ragged: Type.Optional(Type.Boolean()) }, closed);

const selectionSchema = Type.Object(
  {
    version: Type.Literal(1),
    blockSize: Type.Integer({ minimum: 1, maximum: 65536 }),
    /** The score that ranked the blocks, as in the run file; `given` where a person wrote the list. */
    score: Type.String({ default: "given" }),
    /** Over what they were ranked, as in the run file, or `given`. */
    selection: Type.String({ default: "given" }),
    seed: Type.Integer({ minimum: 0, maximum: 0xffffffff, default: 0 }),
    /** sha256 of the data the scores come from; empty where none was used. */
    dataHash: Type.String({ default: "" }),
    /** Warm-up steps behind the scores. */
    steps: Type.Integer({ minimum: 0, maximum: 1e9, default: 0 }),
    /** Entries of all 2-D weights of the model, which ratios are counted by; 0 where unknown. */
    totalParameters: Type.Integer({ minimum: 0, maximum: 1e15, default: 0 }),
    /** In rank order. */
    blocks: Type.Array(block, { minItems: 1 }),
    /** Share of the chosen entries per projection; sums to 1. */
    shares: Type.Record(Type.String(), Type.Number({ minimum: 0, maximum: 1 }), { default: {} }),
    matrices: Type.Array(matrix, { default: [] }),
  },
  closed,
);

export type Selection = Static<typeof selectionSchema>;
export type SelectedBlock = Selection["blocks"][number];

/** More than this many errors help nobody. */
const shownProblems = 20;

/**
 * Reads a selection.json. Names are accepted with or without `.weight`; only version, blockSize and each block's name, row and column must be there,
 * and a list without ranks is in rank order. Throws UserError `selection/invalid` with what is wrong.
 */
export function parseSelection(text: string, file: string): Selection {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw invalid(file, [`is not valid JSON: ${(error as Error).message}`]);
  }
  const filled = withDefaults(selectionSchema, canonical(value));
  const problems = schemaProblems(selectionSchema, filled);
  if (problems.length > 0)
    throw invalid(
      file,
      problems.map(({ path, words }) => [path.join("."), say(words)].filter(Boolean).join(" ")),
    );
  const selection = filled as Selection;
  const contradictions = contradictionsIn(selection);
  if (contradictions.length > 0) throw invalid(file, contradictions);
  selection.blocks.sort((a, b) => a.rank - b.rank);
  return selection;
}

/** The text of a selection.json: one block a line, so that two of them can be compared line by line. */
export function stringifySelection(selection: Selection): string {
  const { blocks, shares, matrices, ...rest } = selection;
  const head = Object.entries(rest).map(([key, value]) => `  ${JSON.stringify(key)}: ${JSON.stringify(value)},\n`);
  const lines = (entries: readonly object[]) =>
    entries.length === 0 ? "[]" : `[\n${entries.map((entry) => `    ${JSON.stringify(entry)}`).join(",\n")}\n  ]`;
  return `{\n${head.join("")}  "blocks": ${lines(blocks)},\n  "shares": ${JSON.stringify(shares)},\n  "matrices": ${lines(matrices)}\n}\n`;
}

/** Names without `.weight`, and ranks by position where no block has one. What has another form is left for the schema to refuse. */
function canonical(value: unknown): unknown {
  const entries = (list: unknown) =>
    Array.isArray(list) ? list.map((entry) => (isRecord(entry) ? { ...entry, name: withoutSuffix(entry.name) } : entry)) : list;
  if (!isRecord(value)) return value;
  const blocks = entries(value.blocks);
  const ranked = Array.isArray(blocks) && !blocks.some((entry) => isRecord(entry) && "rank" in entry);
  const result: Record<string, unknown> = {
    ...value,
    blocks: ranked ? blocks.map((entry, rank) => (isRecord(entry) ? { ...entry, rank } : entry)) : blocks,
  };
  if ("matrices" in value) result.matrices = entries(value.matrices);
  return result;
}

function withoutSuffix(text: unknown): unknown {
  return typeof text === "string" ? text.replace(/\.weight$/, "") : text;
}

function contradictionsIn({ blocks, matrices }: Selection): string[] {
  const problems: string[] = [];
  const grids = new Map(matrices.map((grid) => [grid.name, grid]));
  if (grids.size < matrices.length) problems.push("names a matrix twice");
  const seen = new Set<string>();
  const ranks = new Set<number>();
  for (const { name, row, column, rank } of blocks) {
    const place = `${name}:${row},${column}`;
    if (seen.has(place)) problems.push(`names block ${place} twice`);
    if (ranks.has(rank)) problems.push(`gives rank ${rank} twice`);
    const grid = grids.get(name);
    if (matrices.length > 0 && !grid) problems.push(`has no grid for ${name}, which block ${place} lies in`);
    if (grid && (row >= grid.rows || column >= grid.columns))
      problems.push(`places block ${place} outside a grid of ${grid.rows} × ${grid.columns} blocks`);
    seen.add(place);
    ranks.add(rank);
  }
  return problems;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(file: string, problems: string[]): UserError {
  const more = problems.length > shownProblems ? [`… and ${problems.length - shownProblems} more`] : [];
  const lines = [...problems.slice(0, shownProblems), ...more];
  const message = lines.length === 1 ? `${file} ${lines[0].replace(/[^?]$/, "$&.")}` : `${file} is no valid selection:\n  ${lines.join("\n  ")}`;
  return new UserError("selection/invalid", message, "Correct the file, or take the selection.json of a run folder.");
}
