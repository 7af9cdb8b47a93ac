/**
 * Safetensors files for who looks into one: the header, and windows of values as f32. It knows no model.
 * The rule to keep: of a tensor only the window's own bytes are read; a dtype that is not decoded is refused by name.
 */
import { maxWindowValues } from "../../protocol/coreProtocol.ts";
import type { ServiceParams, ServiceResults } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { fromBfloat16, fromFloat16 } from "../devices/floatFormats.ts";
import { dtypeBits, openSafetensors, readHeader, type SafetensorsDType } from "../files/safetensors.ts";

export async function describeTensors(file: string): Promise<ServiceResults["describeTensors"]> {
  const { tensors, metadata, dataStart, fileBytes } = await readHeader(file);
  return {
    bytes: fileBytes,
    headerBytes: dataStart,
    metadata: Object.fromEntries(metadata),
    tensors: [...tensors].map(([name, { dtype, shape, begin, end }]) => ({ name, dtype, shape, bytes: end - begin })),
  };
}

/** A window's values. Throws UserError `tensors/no-window`, `tensors/unsupported-dtype`, `safetensors/…`. */
export async function readTensorWindow({ file, name, window }: ServiceParams["readTensor"]): Promise<Float32Array> {
  const opened = await openSafetensors(file);
  try {
    const { dtype, shape } = opened.info(name);
    const read = readers[dtype];
    if (!read)
      throw new UserError("tensors/unsupported-dtype", `${name} is stored as ${dtype}, whose values are not shown.`, "Look at another tensor.");
    const columns = shape.length === 0 ? 1 : shape[shape.length - 1];
    const rows = shape.slice(0, -1).reduce((product, n) => product * n, 1);
    const { row, column, rows: height, columns: width } = window;
    if (row + height > rows || column + width > columns || height * width > maxWindowValues)
      throw new UserError(
        "tensors/no-window",
        `${name} has ${rows} × ${columns} values: ${height} × ${width} from row ${row}, column ${column} cannot be had at once.`,
        "Ask for a smaller window inside it.",
      );
    const elementBytes = dtypeBits[dtype] / 8;
    const values = new Float32Array(height * width);
    const readRun = async (at: number, first: number, count: number) => {
      const bytes = await opened.readBytes(name, first * elementBytes, (first + count) * elementBytes);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      for (let i = 0; i < count; i++) values[at + i] = read(view, i * elementBytes);
    };
    if (width === columns) await readRun(0, row * columns, height * width);
    else await Promise.all(Array.from({ length: height }, (_, r) => readRun(r * width, (row + r) * columns + column, width)));
    return values;
  } finally {
    await opened.close();
  }
}

type Reader = (view: DataView, at: number) => number;

/** Whole numbers beyond f32's 24 bits are shown rounded. */
const readers: Partial<Record<SafetensorsDType, Reader>> = {
  F32: (view, at) => view.getFloat32(at, true),
  F64: (view, at) => view.getFloat64(at, true),
  F16: (view, at) => fromFloat16(view.getUint16(at, true)),
  BF16: (view, at) => fromBfloat16(view.getUint16(at, true)),
  F8_E4M3: (view, at) => fromFloat8(view.getUint8(at), 3, 7),
  F8_E5M2: (view, at) => fromFloat16(view.getUint8(at) << 8),
  F8_E8M0: (view, at) => (view.getUint8(at) === 255 ? Number.NaN : 2 ** (view.getUint8(at) - 127)),
  BOOL: (view, at) => Number(view.getUint8(at) !== 0),
  U8: (view, at) => view.getUint8(at),
  I8: (view, at) => view.getInt8(at),
  U16: (view, at) => view.getUint16(at, true),
  I16: (view, at) => view.getInt16(at, true),
  U32: (view, at) => view.getUint32(at, true),
  I32: (view, at) => view.getInt32(at, true),
  U64: (view, at) => Number(view.getBigUint64(at, true)),
  I64: (view, at) => Number(view.getBigInt64(at, true)),
};

/** E4M3 as in "FP8 Formats for Deep Learning" (arXiv 2209.05433): no infinities, all ones is NaN. */
function fromFloat8(bits: number, mantissaBits: number, bias: number): number {
  const sign = bits & 0x80 ? -1 : 1;
  const exponent = (bits & 0x7f) >> mantissaBits;
  const mantissa = (bits & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
  if ((bits & 0x7f) === 0x7f) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias));
}
