/** Numbers as people read them: three significant digits, a unit, no locale. The screen's figures are rounded here and nowhere else; --json is not. */

/** `0 B`, `1.50 KiB`, `12.3 GiB`: powers of 1024. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

/** A count such as parameters or tokens: `950`, `656 K`, `1.10 B`. */
export function formatCount(count: number): string {
  return scaled(count, 1000, ["", "K", "M", "B", "T"]).trimEnd();
}

/** `840 ms`, `4.2 s`, `42 s`, `3 min 05 s`, `2 h 07 min`. */
export function formatDuration(milliseconds: number): string {
  if (!Number.isFinite(milliseconds) || milliseconds < 0) return "?";
  if (milliseconds < 999.5) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 9950) return `${(milliseconds / 1000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (n: number) => String(n).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${two(seconds % 60)} s`;
  const minutes = Math.round(seconds / 60);
  return `${Math.floor(minutes / 60)} h ${two(minutes % 60)} min`;
}

/** A share of 1: `0 %`, `0.84 %`, `12.3 %`, `100 %`. */
export function formatPercent(share: number): string {
  const percent = share * 100;
  if (!Number.isFinite(percent)) return "?";
  if (percent === 0) return "0 %";
  return `${percent < 9.995 ? percent.toFixed(2) : percent < 99.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

/** A loss, four places. */
export function formatLoss(loss: number): string {
  return loss.toFixed(4);
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
