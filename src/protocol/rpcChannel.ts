/**
 * Lets vscode-jsonrpc speak over frames: the reader and writer of one connection, fed and drained by whoever owns the socket.
 * The rule to keep: writing resolves when the bytes have left, so that who waits for it never fills memory for a slow reader.
 */
import type { Disposable, Event, Message, MessageReader, MessageWriter } from "vscode-jsonrpc";
import { encodeFrame } from "./frames.ts";

/** A list of listeners in the form vscode-jsonrpc asks for. */
class Listeners<T> {
  readonly #all = new Set<(value: T) => void>();

  readonly event: Event<T> = (listener, thisArgument) => {
    const bound = listener.bind(thisArgument) as (value: T) => void;
    this.#all.add(bound);
    return { dispose: () => void this.#all.delete(bound) };
  };

  fire(value: T): void {
    for (const listener of [...this.#all]) listener(value);
  }

  clear(): void {
    this.#all.clear();
  }
}

export class RpcChannel {
  readonly reader: MessageReader;
  readonly writer: MessageWriter;
  readonly #closed = new Listeners<void>();
  readonly #errors = new Listeners<Error>();
  readonly #writeErrors = new Listeners<[Error, Message | undefined, number | undefined]>();
  /** Messages that came before anybody listened. */
  readonly #early: Message[] = [];
  #listener: ((message: Message) => void) | null = null;

  /** `send` resolves when the bytes were taken. */
  constructor(send: (bytes: Uint8Array) => Promise<void>) {
    const dispose = () => this.#clear();
    this.reader = {
      onError: this.#errors.event,
      onClose: this.#closed.event,
      onPartialMessage: new Listeners<{ readonly messageToken: number; readonly waitingTime: number }>().event,
      listen: (callback) => this.#listen(callback),
      dispose,
    };
    this.writer = {
      onError: this.#writeErrors.event,
      onClose: this.#closed.event,
      write: (message) => send(encodeFrame(message)),
      end: () => {},
      dispose,
    };
  }

  /** Hands a received frame's header to the connection. */
  deliver(header: object): void {
    const message = header as Message;
    if (this.#listener) this.#listener(message);
    else this.#early.push(message);
  }

  /** Tells the connection that the socket has closed. */
  close(): void {
    this.#closed.fire();
    this.#clear();
  }

  #listen(callback: (message: Message) => void): Disposable {
    this.#listener = callback;
    for (const message of this.#early.splice(0)) callback(message);
    return {
      dispose: () => {
        this.#listener = null;
      },
    };
  }

  #clear(): void {
    this.#closed.clear();
    this.#errors.clear();
    this.#writeErrors.clear();
  }
}
