/**
 * Finds and loads the compiled addon, and says what its functions take. It computes nothing; cpuDevice.ts gives these calls the shape of a Device.
 * The addon is looked for beside the bundle (dist/native/…) and, when run from source, in the repository's dist folder.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { UserError } from "../../../protocol/userError.ts";

/** The addon's functions. A tensor is two numbers, its buffer's id and the element it starts at; native/bind*.cc state each function's arguments. */
export interface Addon {
  open(threads: number, mostInstructions: string): number;
  close(device: number): void;
  describe(device: number): string;
  workspaceBytes(threads: number): number;
  /** FLOP/s of `threads` threads that only multiply and add, measured for about `seconds`; 0 where this cannot be measured. */
  peak(mostInstructions: string, bf16: boolean, threads: number, seconds: number): number;
  allocate(device: number, count: number, dtype: number, poolAllowanceBytes: number): number;
  free(device: number, id: number): void;
  checkGuards(device: number, id: number): void;
  pooledBytes(device: number): number;
  write(device: number, id: number, start: number, data: Float32Array | Int32Array): void;
  load(device: number, id: number, start: number, count: number, bytes: Uint8Array, stored: number): number;
  read(device: number, id: number, start: number, into: Float32Array | Int32Array): void;
  fill(device: number, id: number, start: number, count: number, value: number): void;
  sumSquares(device: number, count: number, id: number, start: number): number;
  countZeros(device: number, count: number, id: number, start: number): number;
  copy: NativeOp;
  matmul: NativeOp;
  addBias: NativeOp;
  biasBackward: NativeOp;
  embeddingForward: NativeOp;
  embeddingBackward: NativeOp;
  rmsNormForward: NativeOp;
  rmsNormBackward: NativeOp;
  rope: NativeOp;
  attentionForward: NativeOp;
  attentionBackward: NativeOp;
  swigluForward: NativeOp;
  swigluBackward: NativeOp;
  crossEntropy: NativeOp;
  adamwStep: NativeOp;
  gatherColumns: NativeOp;
  gatherBlocks: NativeOp;
  scatterBlocks: NativeOp;
  blockGradients: NativeOp;
  blockScores: NativeOp;
  blockMeans: NativeOp;
  columnSumSquares: NativeOp;
  adaptedMatmul: NativeOp;
  adaptedGradients: NativeOp;
  formAdapted: NativeOp;
  fitQuantization: NativeOp;
  maskBy: NativeOp;
  dropout: NativeOp;
  scaleColumns: NativeOp;
  scaleRows: NativeOp;
  rowDots: NativeOp;
  columnDots: NativeOp;
  doraGains: NativeOp;
  /** Whether h was positive definite in f32, or in f64 with `wide`. */
  inverseCholesky(device: number, ...values: (number | null)[]): boolean;
  mirrorLower: NativeOp;
  sparseGptSweep: NativeOp;
}

type NativeOp = (device: number, ...values: (number | boolean | null | Int32Array)[]) => void;

const places = ["./native", "../../../../dist/native"].map((folder) =>
  fileURLToPath(new URL(`${folder}/${process.platform}-${process.arch}/sparse_tuner_cpu.node`, import.meta.url)),
);

let loaded: Addon | null = null;

/** Whether a compiled addon lies where it is looked for. */
export function nativeAvailable(): boolean {
  return loaded !== null || places.some((place) => existsSync(place));
}

/** The addon. Throws UserError `device/no-addon` when there is none or it does not load. */
export function loadAddon(): Addon {
  if (loaded) return loaded;
  const place = places.find((candidate) => existsSync(candidate));
  if (!place) {
    throw new UserError(
      "device/no-addon",
      `The compiled CPU kernels for ${process.platform}-${process.arch} are not there.`,
      "Install a C++ compiler and run `npm run build`.",
      { badInput: false },
    );
  }
  try {
    loaded = createRequire(import.meta.url)(place) as Addon;
    return loaded;
  } catch (cause) {
    throw new UserError(
      "device/no-addon",
      `The compiled CPU kernels do not load: ${(cause as Error).message.split("\n")[0]}.`,
      "Delete the folder dist/native and run `npm run build`.",
      { badInput: false, cause },
    );
  }
}

/** The best instruction set the environment allows: SPARSE_TUNER_ISA = avx512 | avx512f (without bf16 products) | avx2 | portable; "" sets no limit. */
export function mostInstructions(): string {
  const name = process.env.SPARSE_TUNER_ISA ?? "";
  if (!["", "avx512", "avx512f", "avx2", "portable"].includes(name)) {
    throw new UserError(
      "device/unknown-isa",
      `SPARSE_TUNER_ISA is ${name}, which is no instruction set.`,
      "Set it to avx512, avx512f, avx2 or portable, or unset it.",
    );
  }
  return name;
}
