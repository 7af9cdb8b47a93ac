/**
 * JSON-RPC with a core: requests and notifications with their types, checked by the protocol's schemas. What they mean for a window is the client's.
 * The rule to keep: every promise ends, also when the core goes without a word.
 */
import net from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Value } from "typebox/value";
import { ConnectionError, createMessageConnection, ErrorCodes, type MessageConnection, ResponseError } from "vscode-jsonrpc/node";
import { fits } from "../protocol/compiledCheck.ts";
import {
  type CoreNotification,
  type CoreNotifications,
  type CoreParams,
  type CoreRequest,
  type CoreResults,
  coreToHostLimits,
  notificationSchemas,
  resultSchemas,
} from "../protocol/coreProtocol.ts";
import { FrameSocket } from "../protocol/frameSocket.ts";
import { RpcChannel } from "../protocol/rpcChannel.ts";
import { UserError } from "../protocol/userError.ts";

export class CoreRpc {
  readonly socket: FrameSocket;
  readonly #connection: MessageConnection;
  readonly #ended: Promise<never>;
  readonly #report: (what: string) => void;
  #gone = false;

  /** `report` is told of what cannot be understood. */
  constructor(socket: net.Socket, report: (what: string) => void) {
    this.#report = report;
    this.socket = new FrameSocket(socket, coreToHostLimits);
    // A write that fails ends the connection, and that ends every request; the library would also throw it where nobody can catch it.
    const channel = new RpcChannel((bytes) => this.socket.sendBytes(bytes).catch((error: Error) => this.socket.drop(error.message)));
    this.#connection = createMessageConnection(channel.reader, channel.writer, { error: report, warn: report, info: () => {}, log: () => {} });
    this.socket.onFrame = ({ header }) => channel.deliver(header);
    this.#connection.listen();
    this.#ended = this.socket.closed.then(() => {
      throw unreachable("The core has gone.");
    });
    this.#ended.catch(() => undefined);
    void this.socket.closed.then(() => {
      this.#gone = true;
      channel.close();
      this.#connection.dispose();
    });
  }

  /** Closes after what was sent has left; nothing can be asked any more. */
  end(): void {
    this.#gone = true;
    this.socket.end();
  }

  async request<Name extends CoreRequest>(name: Name, parameters: CoreParams[Name]): Promise<CoreResults[Name]> {
    if (this.#gone) throw unreachable("The core has gone.");
    const result: unknown = await this.#connection.sendRequest(name, parameters).catch(asUserError);
    if (!Value.Check(resultSchemas[name], result)) throw new Error(`The core's answer to ${name} does not fit its schema.`);
    return result as CoreResults[Name];
  }

  onNotification<Name extends CoreNotification>(name: Name, handle: (parameters: CoreNotifications[Name]) => void): void {
    this.#connection.onNotification(name, (parameters: unknown) => {
      if (fits(notificationSchemas[name], parameters)) handle(parameters as CoreNotifications[Name]);
      else this.#report(`a notification ${name}`);
    });
  }

  /** The promise, or the end of the connection where that comes first. */
  orEnd<T>(promise: Promise<T>): Promise<T> {
    return Promise.race([promise, this.#ended]);
  }
}

/** The refusal `core/unreachable`. */
export function unreachable(message: string): UserError {
  return new UserError("core/unreachable", message, "Look whether the run still goes on, and attach again or resume it.", { badInput: false });
}

/** A refusal with its code and next action, as the core meant it. */
function asUserError(error: unknown): never {
  const gone = error instanceof ConnectionError || (error instanceof ResponseError && error.code === ErrorCodes.PendingResponseRejected);
  if (gone) throw unreachable("The core has gone.");
  if (!(error instanceof ResponseError)) throw error;
  const { code, action } = (error.data ?? {}) as { code?: unknown; action?: unknown };
  throw new UserError(
    typeof code === "string" ? code : "core/refused",
    error.message,
    typeof action === "string" ? action : "Reload the window, so that host and core are of one version.",
    { badInput: false },
  );
}

/** A socket has its name a moment before it listens; whoever connects just then is refused once or twice. */
const refusals = { tries: 5, delayMs: 50 };

/** Connects to a core's socket. Throws UserError `core/unreachable`. */
export async function openSocket(file: string, timeoutMs: number): Promise<net.Socket> {
  for (let attempt = 1; ; attempt++)
    try {
      return await connect(file, timeoutMs);
    } catch (error) {
      const refused = (error as NodeJS.ErrnoException).code === "ECONNREFUSED";
      if (!refused || attempt === refusals.tries) throw unreachable(`The core cannot be reached: ${(error as Error).message}.`);
      await delay(refusals.delayMs);
    }
}

function connect(file: string, timeoutMs: number): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect(file);
    const timer = setTimeout(() => fail(new Error("it does not answer")), timeoutMs);
    const fail = (error: Error) => {
      clearTimeout(timer);
      socket.destroy();
      reject(error);
    };
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(timer);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}

/** The promise, or UserError `core/unreachable` after so long. */
export async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unreachable("The core does not answer.")), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
