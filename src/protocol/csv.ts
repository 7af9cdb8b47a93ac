/** Lines of CSV, every value unrounded. Pure text; readers of spreadsheets and scripts need nothing else. */

type Value = string | number | boolean | null;

/** A line; null is an empty field. */
export function csvLine(values: readonly Value[]): string {
  return values.map(field).join(",");
}

/** A text that a spreadsheet would take for a formula is quoted with an apostrophe in front. */
function field(value: Value): string {
  if (value === null) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
