/**
 * Figures of the charts, the plan and the form as people read them: three significant digits and a unit, no locale, the same as on the terminal. Pure text.
 * The rule to keep: what is rounded here stands beside its exact value (`exactCount`) in a title, so that nothing shown is only an approximation.
 */

/** `0 B`, `1.50 KiB`, `12.3 GiB`: powers of 1024. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** A count such as parameters: `950`, `656 K`, `1.10 B`. */
export function formatCount(count: number): string {
  return scaled(count, 1000, ["", "K", "M", "B", "T"]).trimEnd();
}

/** All digits, in groups of three: `1,610,612,736`. */
export function exactCount(count: number): string {
  return String(count).replace(/\B(?=(\d{3})+(?!\d))/g, ",");
}

/** A share of 1: `0 %`, `0.84 %`, `12.3 %`, `100 %`; `< 0.01 %` for what would look like none. */
export function formatPercent(share: number): string {
  const percent = share * 100;
  if (!Number.isFinite(percent)) return "?";
  if (percent === 0) return "0 %";
  if (percent > 0 && percent < 0.005) return "< 0.01 %";
  return `${percent < 9.995 ? percent.toFixed(2) : percent < 99.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

/** A value of a chart: `2.3456`, `1.00e-4`, `12345`. */
export function formatValue(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  return size < 10 ? value.toFixed(4) : size < 1000 ? value.toFixed(2) : value.toFixed(0);
}

/** The same for an axis, whose figures are round: `2.5`, `1e-4`. */
export function formatTick(value: number): string {
  const rounded = Number(value.toPrecision(6));
  const size = Math.abs(rounded);
  return size !== 0 && (size < 1e-3 || size >= 1e6) ? rounded.toExponential() : String(rounded);
}

function scaled(value: number, base: number, units: readonly string[]): string {
  if (!Number.isFinite(value)) return "?";
  let size = Math.abs(value);
  let unit = 0;
  // 999.5 would be printed as 1000 of a unit; it is 1.00 of the next.
  while (size >= (unit === 0 ? base : Math.min(base, 999.5)) && unit < units.length - 1) {
    size /= base;
    unit++;
  }
  const digits = unit === 0 ? String(Math.round(size)) : size.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  return `${value < 0 ? "-" : ""}${digits} ${units[unit]}`;
}
