/**
 * Frames: how messages and bulk arrays cross the socket between a core and its hosts. 16 bytes of prefix (magic, version, header bytes, payload bytes;
 * u32 little-endian), a header in JSON, a payload of raw bytes. JSON-RPC messages are frames without a payload; arrays are payloads, never JSON.
 * It knows no socket and no meaning. The rule to keep: sizes are bounded before anything is kept, and one bad byte makes the whole stream invalid.
 */

/** One frame. The payload has a buffer of its own, so that typed arrays can be laid over it. */
export interface Frame {
  header: Record<string, unknown>;
  payload: Uint8Array;
}

/** The most a reader accepts, in bytes. */
export interface FrameLimits {
  headerBytes: number;
  payloadBytes: number;
}

/** Bytes that are no frame, or more than was agreed: the connection is to be dropped. */
export class FrameError extends Error {
  override readonly name = "FrameError";
}

const magic = 0x46_54_50_53; // "SPTF" as bytes
const version = 1;
const prefixBytes = 16;

/** The bytes of a frame. */
export function encodeFrame(header: object, payload: ArrayBufferView = new Uint8Array()): Uint8Array {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(prefixBytes + text.length + payload.byteLength);
  const prefix = new DataView(bytes.buffer);
  for (const [i, value] of [magic, version, text.length, payload.byteLength].entries()) prefix.setUint32(4 * i, value, true);
  bytes.set(text, prefixBytes);
  bytes.set(new Uint8Array(payload.buffer, payload.byteOffset, payload.byteLength), prefixBytes + text.length);
  return bytes;
}

/** Cuts a stream of bytes into frames. */
export class FrameDecoder {
  readonly #limits: FrameLimits;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #sizes: { header: number; payload: number } | null = null;

  constructor(limits: FrameLimits) {
    this.#limits = limits;
  }

  /** Takes the next bytes and returns the frames they complete. Throws FrameError; the stream cannot be read any further then. */
  push(chunk: Uint8Array): Frame[] {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    const frames: Frame[] = [];
    for (;;) {
      if (!this.#sizes) {
        if (this.#bytes < prefixBytes) return frames;
        this.#sizes = this.#readPrefix(this.#take(prefixBytes));
      }
      const { header, payload } = this.#sizes;
      if (this.#bytes < header + payload) return frames;
      this.#sizes = null;
      frames.push({ header: parseHeader(this.#take(header)), payload: this.#take(payload) });
    }
  }

  #readPrefix(bytes: Uint8Array): { header: number; payload: number } {
    const prefix = new DataView(bytes.buffer);
    const [found, foundVersion, header, payload] = [0, 4, 8, 12].map((at) => prefix.getUint32(at, true));
    if (found !== magic) throw new FrameError("these bytes are no frame");
    if (foundVersion !== version) throw new FrameError(`frames of version ${foundVersion} are not understood`);
    const { headerBytes, payloadBytes } = this.#limits;
    if (header > headerBytes || payload > payloadBytes) throw new FrameError(`a frame of ${header} + ${payload} bytes is too large`);
    return { header, payload };
  }

  /** The next bytes, in a buffer of their own. There are as many. */
  #take(count: number): Uint8Array {
    const taken = new Uint8Array(count);
    let filled = 0;
    let used = 0;
    while (filled < count) {
      const chunk = this.#chunks[used];
      const part = chunk.subarray(0, count - filled);
      taken.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) used++;
      else this.#chunks[used] = chunk.subarray(part.length);
    }
    this.#chunks.splice(0, used);
    this.#bytes -= count;
    return taken;
  }
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new FrameError("a frame's header is not JSON");
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) throw new FrameError("a frame's header is no object");
  return header as Record<string, unknown>;
}
