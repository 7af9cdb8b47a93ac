/** Where the figures of an axis stand, for the axes that decimal steps on a linear scale do not suit. Pure arithmetic. */

/** Ticks of an axis of bytes, at powers of two: a decimal step would put them at 953.7 MiB. At most `wanted` + 1 of them between 0 and `topBytes`. */
export function byteTicks(topBytes: number, wanted: number): number[] {
  if (!(topBytes > 0)) return [0];
  const step = 2 ** Math.max(0, Math.ceil(Math.log2(topBytes / wanted)));
  const ticks: number[] = [];
  for (let bytes = 0; bytes <= topBytes; bytes += step) ticks.push(bytes);
  return ticks;
}

/** Ticks of a logarithmic axis: decades, with 2 and 5 between them where there is room; round linear steps where it spans less than a decade or so. */
export function logTicks(low: number, high: number): number[] {
  if (!(low > 0) || !(high > low)) return [];
  if (high / low < 8) return linearTicks(low, high, 5);
  const decades = Math.log10(high / low);
  const within = decades > 4 ? [1] : [1, 2, 5];
  const every = Math.max(1, Math.ceil(decades / 8));
  const ticks: number[] = [];
  for (let exponent = Math.floor(Math.log10(low)); exponent <= Math.log10(high); exponent += every) {
    for (const digit of within) ticks.push(Number(`${digit}e${exponent}`));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
}

/** Round steps of 1, 2 or 5 times a power of ten; about `wanted` of them. */
function linearTicks(low: number, high: number, wanted: number): number[] {
  const rough = (high - low) / wanted;
  const exponent = Math.floor(Math.log10(rough));
  const digit = [1, 2, 5, 10].find((factor) => factor * 10 ** exponent >= rough) ?? 10;
  const step = digit * 10 ** exponent;
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step); i * step <= high; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}
