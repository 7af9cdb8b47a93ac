/** countZeros: zeros of either sign, part by part. */
import type { Tensor } from "../../device.ts";
import type { Programs } from "../program.ts";
import { overParts, partBounds, tree, width } from "./reduce.wgsl.ts";

/** out (⌈count / 4096⌉, from element `first`) = number of zeros of either sign in each part; the host adds the parts. */
export function zerosOfParts(programs: Programs, out: Tensor, x: Tensor, count: number, first: number): void {
  overParts(
    programs,
    "zeros",
    out,
    x,
    count,
    first,
    () => `${tree}
${partBounds(`
  var own = 0.0;
  for (var i = begin + lane; i < end; i += ${width}u) { if (is_zero(x(i))) { own += 1.0; } }
  let sum = total(own, lane);
  if (lane == 0u) { set_out(p.first + part, sum); }`)}`,
  );
}
