/** What the terminal at hand can show. Everything else in this folder is a pure function of it and of plain data. */

export interface TerminalStyle {
  /** Columns of a line. */
  width: number;
  /** A person is watching: lines may be redrawn. Else every line is written once. */
  interactive: boolean;
  color: boolean;
}

/** The style of a stream: COLUMNS wins over the window's width, NO_COLOR and TERM=dumb switch colour off, a pipe or a file is plain. */
export function styleOf(stream: { isTTY?: boolean; columns?: number }, environment: Record<string, string | undefined> = process.env): TerminalStyle {
  const interactive = stream.isTTY === true && environment.TERM !== "dumb";
  const asked = Number(environment.COLUMNS);
  const width = Number.isInteger(asked) && asked > 0 ? asked : stream.columns || 80;
  return { width: Math.max(width, 20), interactive, color: interactive && !environment.NO_COLOR };
}

/** Text in one of the 256 terminal colours, and on one; plain where colour is off. */
export function paint(text: string, style: TerminalStyle, foreground: number, background?: number): string {
  if (!style.color || text === "") return text;
  return `\x1b[38;5;${foreground}${background === undefined ? "" : `;48;5;${background}`}m${text}\x1b[0m`;
}

const escapes = new RegExp(`${String.fromCharCode(27)}\\[[\\d;]*m`, "g");

/** Text without the colours that {@link paint} put into it. */
export function plainText(text: string): string {
  return text.replace(escapes, "");
}

/**
 * Breaks a line between words where the terminal would break it anywhere, never before a unit; what follows is indented. A line that is indented
 * already, such as a command to copy, and one that nobody watches stays as it is.
 */
export function wrap(text: string, style: TerminalStyle, indent = 0): string {
  if (!style.interactive || text.startsWith(" ")) return text;
  const lines: string[] = [];
  let line = "";
  let used = 0;
  for (const word of text.split(/(?<=\S )(?=[^\s%×])/)) {
    const length = plainText(word).trimEnd().length;
    if (used > indent && used + length > style.width) {
      lines.push(line.trimEnd());
      line = " ".repeat(indent);
      used = indent;
    }
    line += word;
    used += plainText(word).length;
  }
  return [...lines, line].join("\n");
}
