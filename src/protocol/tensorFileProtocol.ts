/**
 * What the extension host and the viewer of a safetensors file say to each other by postMessage: the header once, then windows of values as they are
 * scrolled to. The rule to keep: the host checks every message by these schemas; only the visible window of values crosses.
 */
import Type, { type Static } from "typebox";
import { windowSchema } from "./coreProtocol.ts";
import type { ServiceResults } from "./serviceProtocol.ts";

const closed = { additionalProperties: false };

/** Viewer → host. */
export const fromTensorFileSchemas = {
  ready: Type.Object({ kind: Type.Literal("ready") }, closed),
  /** A tensor seen as a matrix: all but its last dimension are rows. */
  read: Type.Object(
    { kind: Type.Literal("read"), request: Type.Integer({ minimum: 0 }), name: Type.String({ maxLength: 1000 }), window: windowSchema },
    closed,
  ),
  problem: Type.Object({ kind: Type.Literal("problem"), message: Type.String({ maxLength: 10_000 }) }, closed),
};
export type FromTensorFile = {
  [Kind in keyof typeof fromTensorFileSchemas]: Static<(typeof fromTensorFileSchemas)[Kind]>;
}[keyof typeof fromTensorFileSchemas];

/** Host → viewer. */
export type ToTensorFile =
  | { kind: "hydrate"; strings: Record<string, string>; file: string; header: ServiceResults["describeTensors"] }
  /** The file cannot be shown. */
  | { kind: "refused"; strings: Record<string, string>; file: string; message: string; action: string }
  | { kind: "values"; request: number; rows: number; columns: number; values: Float32Array }
  | { kind: "missing"; request: number; reason: string };
