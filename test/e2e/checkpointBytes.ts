/**
 * Reads blocks of a checkpoint and of a base model from the bytes of their files, with nothing of the product's own readers: the independent witness of
 * what the inspector shows. Square blocks and F32, F16 and BF16 only.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { BlockPart } from "../../src/protocol/coreProtocol.ts";

/** A tensor as it lies in its file. */
export interface Tensor {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** The tensors of a safetensors file, by name. */
export function readTensors(file: string): Map<string, Tensor> {
  const bytes = readFileSync(file);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString("utf8", 8, 8 + headerBytes)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = Object.entries(header).filter(([name]) => name !== "__metadata__");
  return new Map(
    tensors.map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [begin, end],
        },
      ]) => [name, { dtype, shape, bytes: bytes.subarray(8 + headerBytes + begin, 8 + headerBytes + end) }],
    ),
  );
}

/** An entry of a tensor, counted as its values lie in the file. */
export function valueAt({ dtype, bytes }: Tensor, index: number): number {
  if (dtype === "F32") return bytes.readFloatLE(4 * index);
  const half = bytes.readUInt16LE(2 * index);
  if (dtype === "BF16") {
    const wide = Buffer.alloc(4);
    wide.writeUInt16LE(half, 2);
    return wide.readFloatLE(0);
  }
  if (dtype !== "F16") throw new Error(`no reader for ${dtype}`);
  const [sign, exponent, fraction] = [half >> 15, (half >> 10) & 31, half & 1023];
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return sign ? -size : size;
}

/** One part of a block as of a checkpoint, row-major f32. */
export function blockOfCheckpoint(
  { checkpoint, model }: { checkpoint: string; model: string },
  { name, row, column }: { name: string; row: number; column: number },
  part: BlockPart,
): Float32Array {
  const trained = readTensors(path.join(checkpoint, "smt.safetensors"));
  const places = trained.get(`${name}.weight.index`);
  const blocks = trained.get(`${name}.weight.blocks`);
  if (!places || !blocks) throw new Error(`${checkpoint} trains no block of ${name}`);
  const size = blocks.shape[1];
  const all = Array.from({ length: blocks.shape[0] }, (_, index) => {
    const [rowStart, columnStart] = [places.bytes.readInt32LE(16 * index), places.bytes.readInt32LE(16 * index + 8)];
    return { index, row: rowStart / size, column: columnStart / size };
  });
  const found = all.find((block) => block.row === row && block.column === column);
  if (!found) throw new Error(`${checkpoint} does not train ${name}:${row},${column}`);
  const slice = (tensor: Tensor, block: number) =>
    Float32Array.from({ length: size * size }, (_, index) => valueAt(tensor, block * size * size + index));
  if (part !== "weight" && part !== "delta") {
    // The optimizer's tensors hold the blocks by column, then row.
    const order = all.toSorted((a, b) => a.column - b.column || a.row - b.row).indexOf(found);
    return slice(required(readTensors(path.join(checkpoint, "optimizer.safetensors")), `${name}.weight.${part}`), order);
  }
  const weight = slice(blocks, found.index);
  if (part === "weight") return weight;
  const base = required(readTensors(path.join(model, "model.safetensors")), `${name}.weight`);
  return weight.map((value, index) => {
    const [r, c] = [row * size + Math.floor(index / size), column * size + (index % size)];
    return value - valueAt(base, r * base.shape[1] + c);
  });
}

function required(tensors: Map<string, Tensor>, name: string): Tensor {
  const tensor = tensors.get(name);
  if (!tensor) throw new Error(`no tensor ${name}`);
  return tensor;
}
