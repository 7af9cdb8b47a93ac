/** Frames for tests of the heatmap, made as a core makes them; payloads begin somewhere inside a larger buffer, as those do that crossed a socket. */

import type { HeatmapFrame } from "../../src/protocol/panelProtocol.ts";
import type { Grid } from "../../webview/panel/heatmap/grids.ts";

/** A copy of the bytes that is a view into a buffer with other bytes around it. */
function amidst(bytes: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(bytes.length + 13).fill(0xa5);
  buffer.set(bytes, 5);
  return buffer.subarray(5, 5 + bytes.length);
}

/** The seven matrices of each layer of a Llama of this width, cut into blocks. */
export function llamaGrids(layers: number, hiddenBlocks: number, mlpBlocks: number): Grid[] {
  const [h, m] = [hiddenBlocks, mlpBlocks];
  const shapes: [string, number, number][] = [
    ["self_attn.q_proj", h, h],
    ["self_attn.k_proj", h, h],
    ["self_attn.v_proj", h, h],
    ["self_attn.o_proj", h, h],
    ["mlp.gate_proj", m, h],
    ["mlp.up_proj", m, h],
    ["mlp.down_proj", h, m],
  ];
  return Array.from({ length: layers }, (_, layer) =>
    shapes.map(([module, rows, columns]) => ({ name: `model.layers.${layer}.${module}`, rows, columns })),
  ).flat();
}

/** Scores of one byte a block; the range of each matrix is [0, 1] unless given. */
export function scoresFrame(
  grids: readonly Grid[],
  bytes: Uint8Array,
  { step = 1, afterStep = 0, final = false, range = (_: number) => ({ low: 0, high: 1 }) } = {},
): HeatmapFrame {
  return {
    header: { kind: "scores", step, afterStep, final, matrices: grids.map((grid, index) => ({ ...grid, ...range(index) })) },
    payload: amidst(bytes),
  };
}

export interface ChosenCell {
  matrix: number;
  row: number;
  column: number;
  rank: number;
  score: number;
}

export function selectionFrame(grids: readonly Grid[], chosen: readonly ChosenCell[], { step = 0, blockSize = 256 } = {}): HeatmapFrame {
  const words = new DataView(new ArrayBuffer(12 * chosen.length));
  let at = 0;
  const matrices = grids.map((grid, matrix) => {
    const own = chosen.filter((cell) => cell.matrix === matrix).sort((a, b) => a.rank - b.rank);
    for (const { row, column, rank, score } of own) {
      words.setUint32(at, row * grid.columns + column, true);
      words.setUint32(at + 4, rank, true);
      words.setFloat32(at + 8, score, true);
      at += 12;
    }
    return { ...grid, chosen: own.length };
  });
  return { header: { kind: "selection", step, blockSize, matrices }, payload: amidst(new Uint8Array(words.buffer)) };
}

/** Means of |gradient|, |delta| and Adam's second moment of the chosen blocks, in the selection's order. */
export function magnitudesFrame(values: readonly (readonly [number, number, number])[], step = 1): HeatmapFrame {
  const words = new DataView(new ArrayBuffer(12 * values.length));
  for (const [block, triple] of values.entries())
    for (const [column, value] of triple.entries()) words.setFloat32(4 * (column * values.length + block), value, true);
  return { header: { kind: "magnitudes", step, blocks: values.length }, payload: amidst(new Uint8Array(words.buffer)) };
}
