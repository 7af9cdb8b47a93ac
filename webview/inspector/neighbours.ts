/** A block and the eight around it as a table of buttons: score, rank, chosen or not. */
import type { BlockPlace, Cell } from "../../src/protocol/coreProtocol.ts";
import { t } from "../strings.ts";
import { shown } from "./plots.ts";

/** `cells` are 3 × 3, row-major, null outside the matrix; a click chooses one. */
export function neighbourGrid(block: BlockPlace, cells: readonly (Cell | null)[], choose: (place: BlockPlace) => void): HTMLElement {
  const table = document.createElement("table");
  table.className = "neighbours";
  const caption = document.createElement("caption");
  caption.textContent = t("Neighbours in the matrix");
  table.append(caption);
  for (const down of [-1, 0, 1]) {
    const line = table.insertRow();
    for (const right of [-1, 0, 1]) {
      const cell = cells[(down + 1) * 3 + right + 1] ?? null;
      const place = { name: block.name, row: block.row + down, column: block.column + right };
      line.insertCell().append(cell ? neighbour(place, cell, down === 0 && right === 0, choose) : "");
    }
  }
  return table;
}

function neighbour(place: BlockPlace, cell: Cell, own: boolean, choose: (place: BlockPlace) => void): HTMLElement {
  const button = document.createElement("button");
  button.type = "button";
  button.disabled = own;
  button.className = cell.selected ? "chosen" : "";
  const rank = cell.rank === null ? t("not chosen") : t("rank {0}", String(cell.rank + 1));
  button.textContent = `${place.row}, ${place.column}\n${cell.score === null ? "–" : shown(cell.score)}\n${rank}`;
  button.addEventListener("click", () => choose(place));
  return button;
}
