/** formAdapted: W̃ written out. */
import type { AdaptedWeight, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { adaptedSource } from "./adaptedWeight.wgsl.ts";

/** out = W̃, or so much of it from (row, column) on as out's shape says. */
export function formAdapted(programs: Programs, out: Tensor, adapted: AdaptedWeight, { row = 0, column = 0 } = {}): void {
  const source = adaptedSource(adapted);
  const entry = out.dtype === "bf16" ? "adapted_bf16" : "adapted";
  const [rows, columns] = out.shape;
  programs.map({
    name: `formAdapted ${source.form}`,
    outs: { out },
    count: rows * columns,
    tensors: source.tensors,
    params: { ...source.params, row, column, columns },
    wgsl: () => `${source.wgsl}\nfn value_out(i: u32) -> f32 { return ${entry}(p.row + i / p.columns, p.column + i % p.columns); }`,
  });
}
