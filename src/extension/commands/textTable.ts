/** A Markdown table that reads as well as plain text: columns padded to one width, numbers to the right. Pure. */

/** The first row is the head; the first column is text, the others are figures. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows[0].map((_, column) => Math.max(3, ...rows.map((row) => width(row[column]))));
  const line = (row: readonly string[]) => `| ${row.map((cell, column) => padded(cell, widths[column], column > 0)).join(" | ")} |`;
  const rule = `|${widths.map((size, column) => (column > 0 ? `${"-".repeat(size + 1)}:` : "-".repeat(size + 2))).join("|")}|`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join("\n");
}

function padded(text: string, size: number, right: boolean): string {
  const space = " ".repeat(size - width(text));
  return right ? space + text : text + space;
}

/** Columns that a text takes in a fixed-width font: characters of East Asian scripts take two. */
function width(text: string): number {
  return [...text].reduce(
    (sum, character) =>
      sum + (/[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]/.test(character) ? 2 : 1),
    0,
  );
}
