/** Round figures for axes, and the outlines of markers. Pure arithmetic; it knows no chart. */

export const markerNames = ["circle", "square", "triangle", "diamond", "cross", "triangleDown", "plus", "star"] as const;
export type MarkerName = (typeof markerNames)[number];

/** Figures that are round in bytes' own units where the base is theirs. */
export function roundTicks(low: number, high: number, pixels: number, base: number): number[] {
  const unit = base === 10 ? 1 : base ** Math.floor(Math.log(Math.max(high, 1)) / Math.log(base));
  return linearTicks(low / unit, high / unit, pixels).map((tick) => tick * unit);
}

/** Round figures within a range, so many as have room. */
export function linearTicks(low: number, high: number, pixels: number): number[] {
  const wanted = Math.max(2, Math.floor(pixels / 44));
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999) ?? 10);
  const ticks: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** Ticks as texts, all with as many decimals as their distance needs. */
export function tickTexts(ticks: readonly number[]): string[] {
  const step = ticks.length > 1 ? Math.abs(ticks[1] - ticks[0]) : Math.abs(ticks[0] ?? 1);
  const decimals = step > 0 ? Math.min(12, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))) : 0;
  return ticks.map((tick) => tick.toFixed(decimals));
}

/** 1, 2 and 5 times powers of ten within a range; fewer where there is no room. */
export function logTicks(low: number, high: number, pixels: number): number[] {
  const all = (factors: number[]) => {
    const ticks: number[] = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
      for (const factor of factors) {
        const tick = factor * 10 ** power;
        if (tick >= low * 0.999 && tick <= high * 1.001) ticks.push(tick);
      }
    return ticks;
  };
  const room = Math.max(2, Math.floor(pixels / 64));
  const choices = [all([1, 2, 5]), all([1, 3]), all([1]), all([1, 2, 3, 4, 5, 6, 7, 8, 9])];
  const fitting = choices.find((ticks) => ticks.length <= room && ticks.length > 1);
  if (fitting) return fitting;
  const sparse = choices[2].length > 0 ? choices[2] : choices[3];
  const every = Math.ceil(sparse.length / room);
  return sparse.filter((_, index) => index % every === 0);
}

const regular = (corners: number, radius: (corner: number) => number) =>
  Array.from({ length: corners }, (_, i) => {
    const angle = (2 * Math.PI * i) / corners;
    return [radius(i) * Math.sin(angle), -radius(i) * Math.cos(angle)];
  }).flat();

/** Corners around the origin, x and y in turn. */
const outlines: Record<MarkerName, { lines: number[][]; closed: boolean }> = {
  circle: { lines: [regular(24, () => 1)], closed: true },
  square: { lines: [[-0.9, -0.9, 0.9, -0.9, 0.9, 0.9, -0.9, 0.9]], closed: true },
  triangle: { lines: [[0, -1.2, 1.1, 0.9, -1.1, 0.9]], closed: true },
  diamond: { lines: [[0, -1.3, 1.1, 0, 0, 1.3, -1.1, 0]], closed: true },
  cross: {
    lines: [
      [-1, -1, 1, 1],
      [-1, 1, 1, -1],
    ],
    closed: false,
  },
  triangleDown: { lines: [[0, 1.2, 1.1, -0.9, -1.1, -0.9]], closed: true },
  plus: {
    lines: [
      [0, -1.2, 0, 1.2],
      [-1.2, 0, 1.2, 0],
    ],
    closed: false,
  },
  star: { lines: [regular(10, (i) => (i % 2 === 0 ? 1.35 : 0.6))], closed: true },
};

/** The outline of a marker around (x, y), for whoever draws it; `closed` where it is filled. */
export function markerOutline(marker: MarkerName, x: number, y: number, size = 5): { lines: [number, number][][]; closed: boolean } {
  const { lines, closed } = outlines[marker];
  const pairs = (line: readonly number[]) => Array.from({ length: line.length / 2 }, (_, i) => [line[2 * i], line[2 * i + 1]]);
  return { lines: lines.map((line) => pairs(line).map(([dx, dy]): [number, number] => [x + dx * size, y + dy * size])), closed };
}
