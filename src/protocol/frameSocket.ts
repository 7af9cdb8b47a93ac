/**
 * One end of a connection that speaks frames, over whatever carries bytes. Used by core and hosts alike.
 * The rule to keep: bytes that are no frame end this connection and nothing else; no error of a connection is thrown anywhere but where it sends.
 */
import { encodeFrame, type Frame, FrameDecoder, type FrameLimits } from "./frames.ts";

/** What is used of a net.Socket. */
export interface ByteStream {
  on(event: "data", listener: (chunk: Uint8Array) => void): unknown;
  on(event: "close", listener: () => void): unknown;
  on(event: "error", listener: (error: Error) => void): unknown;
  write(bytes: Uint8Array, done: (error?: Error | null) => void): boolean;
  end(): unknown;
  destroy(): unknown;
}

export class FrameSocket {
  /** Receives every frame; frames that come before it is set wait. An error thrown here ends the connection. */
  #onFrame: ((frame: Frame) => void) | null = null;
  readonly #early: Frame[] = [];
  readonly #stream: ByteStream;
  readonly #closed: Promise<string | null>;
  #reason: string | null = null;
  #pendingBytes = 0;

  constructor(stream: ByteStream, limits: FrameLimits) {
    this.#stream = stream;
    const decoder = new FrameDecoder(limits);
    stream.on("data", (chunk) => this.#guarded(() => decoder.push(chunk).forEach((frame) => void this.#deliver(frame))));
    // "close" follows, and tells who waits.
    stream.on("error", (error) => {
      this.#reason ??= error.message;
    });
    this.#closed = new Promise((resolve) => stream.on("close", () => resolve(this.#reason)));
  }

  /** Resolves when the connection has ended, with the reason if it was not closed in order. */
  get closed(): Promise<string | null> {
    return this.#closed;
  }

  /** Bytes given to `send` that have not left yet. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  set onFrame(listener: (frame: Frame) => void) {
    this.#onFrame = listener;
    this.#guarded(() => this.#early.splice(0).forEach(listener));
  }

  /** Sends bytes of a frame; resolves when they have left. Rejects when the connection has ended. */
  sendBytes(bytes: Uint8Array): Promise<void> {
    this.#pendingBytes += bytes.length;
    return new Promise((resolve, reject) =>
      this.#stream.write(bytes, (error) => {
        this.#pendingBytes -= bytes.length;
        if (error) reject(error);
        else resolve();
      }),
    );
  }

  send(header: object, payload?: ArrayBufferView): Promise<void> {
    return this.sendBytes(encodeFrame(header, payload));
  }

  /** Closes after what was sent has left. */
  end(): void {
    this.#stream.end();
  }

  /** Ends the connection at once. */
  drop(reason: string): void {
    this.#reason ??= reason;
    this.#stream.destroy();
  }

  #deliver(frame: Frame): void {
    if (this.#onFrame) this.#onFrame(frame);
    else if (this.#early.push(frame) > 1000) throw new Error("too many frames that nobody takes");
  }

  #guarded(action: () => void): void {
    try {
      action();
    } catch (error) {
      this.drop(error instanceof Error ? error.message : String(error));
    }
  }
}
