/** A matrix of values as text for a spreadsheet, and as bytes for NumPy. Plain; no VS Code. */

/** Rows as lines, values by commas, each with as many digits as bring the same f32 back. */
export function csvOf(values: Float32Array, rows: number, columns: number): string {
  const lines = Array.from({ length: rows }, (_, row) => Array.from(values.subarray(row * columns, (row + 1) * columns), shortest).join(","));
  return `${lines.join("\n")}\n`;
}

/** The shortest decimal that rounds to this f32. */
function shortest(value: number): string {
  if (Object.is(value, -0)) return "-0";
  for (let digits = 6; digits < 9; digits++) {
    const text = value.toPrecision(digits);
    if (Math.fround(Number(text)) === value) return String(Number(text));
  }
  return String(value);
}

/** A version 1.0 .npy file: little-endian f32, C order (NumPy Enhancement Proposal 1). */
export function npyOf(values: Float32Array, rows: number, columns: number): Uint8Array {
  const dictionary = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  // Magic, version and length take 10 bytes; the whole header is padded to a multiple of 64 and ends with a line break.
  const headerBytes = Math.ceil((10 + dictionary.length + 1) / 64) * 64;
  const file = new Uint8Array(headerBytes + 4 * values.length);
  file.set([0x93, ...Buffer.from("NUMPY"), 1, 0]);
  const view = new DataView(file.buffer);
  view.setUint16(8, headerBytes - 10, true);
  file.set(Buffer.from(`${dictionary.padEnd(headerBytes - 11)}\n`), 10);
  values.forEach((value, i) => {
    view.setFloat32(headerBytes + 4 * i, value, true);
  });
  return file;
}
