/** How numbers of the heatmap are written: short enough to read, exact enough to compare. No DOM. */

/** Four significant digits; powers of ten where a number is very small or large. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-3 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return text.replace("e+", "e");
}

/** Eight significant digits, which tell any two f32 numbers of a matrix apart that matter. */
export function exactText(value: number): string {
  return String(Number(value.toPrecision(8)));
}

/** A value with how far the exact one may lie from it; the error is rounded up. */
export function valueText({ value, error }: { value: number; error: number }): string {
  return error > 0 ? `${numberText(value)} ± ${roundedUp(error)}` : numberText(value);
}

function roundedUp(error: number): string {
  const digit = 10 ** (Math.floor(Math.log10(error)) - 1);
  return numberText(Number((Math.ceil(error / digit) * digit).toPrecision(2)));
}
