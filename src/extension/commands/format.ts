/** Numbers as people read them: three significant digits, a unit, no locale. The exact figures are in files and in tooltips. */

/** `0 B`, `1.50 KiB`, `12.3 GiB`: powers of 1024. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** A count such as parameters or tokens: `950`, `656 K`, `1.10 B`. */
export function formatCount(count: number): string {
  return scaled(count, 1000, ["", "K", "M", "B", "T"]).trimEnd();
}

/** A share of 1: `0 %`, `0.84 %`, `12.3 %`, `100 %`. */
export function formatPercent(share: number): string {
  const percent = share * 100;
  if (!Number.isFinite(percent)) return "?";
  if (percent === 0) return "0 %";
  return `${percent < 9.995 ? percent.toFixed(2) : percent < 99.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

function scaled(value: number, base: number, units: readonly string[]): string {
  if (!Number.isFinite(value)) return "?";
  let size = value;
  let unit = 0;
  // 999.5 would be printed as 1000 of a unit; it is 1.00 of the next.
  while (size >= (unit === 0 ? base : Math.min(base, 999.5)) && unit < units.length - 1) {
    size /= base;
    unit++;
  }
  const digits = unit === 0 ? String(Math.round(size)) : size.toFixed(size < 9.995 ? 2 : size < 99.95 ? 1 : 0);
  return `${digits} ${units[unit]}`;
}
