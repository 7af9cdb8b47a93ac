/** formAdapted: W̃ written out. */
import type { AdaptedWeight, Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { adaptedSource } from "./adaptedWeight.wgsl.ts";

/** out = W̃. */
export function formAdapted(programs: Programs, out: Tensor, adapted: AdaptedWeight): void {
  const source = adaptedSource(adapted);
  const entry = out.dtype === "bf16" ? "adapted_bf16" : "adapted";
  programs.map({
    name: `formAdapted ${source.form}`,
    outs: { out },
    count: out.shape[0] * out.shape[1],
    tensors: source.tensors,
    params: source.params,
    wgsl: () => `${source.wgsl}\nfn value_out(i: u32) -> f32 { return ${entry}(i / p.wide, i % p.wide); }`,
  });
}
