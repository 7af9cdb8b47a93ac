/**
 * The service process: answers one host on standard input and output, JSON-RPC and arrays as frames on the same two pipes, until its input ends.
 * What the answers are is in answers.ts. It belongs to who started it, unlike a core, and holds nothing that is lost with it.
 * The rules to keep: parameters are checked by the protocol's schemas, every request gets one answer, and what comes in and is no frame ends the process;
 * nothing but frames is written to standard output; when the input ends, work that goes on is told to end and gets a moment to clean up.
 */
import { Value } from "typebox/value";
import { type CancellationToken, createMessageConnection, ErrorCodes, type MessageConnection, ResponseError } from "vscode-jsonrpc/node";
import { type ByteStream, FrameSocket } from "../../protocol/frameSocket.ts";
import type { Frame } from "../../protocol/frames.ts";
import { RpcChannel } from "../../protocol/rpcChannel.ts";
import { hostToServiceLimits, type ServiceRequest, serviceRequestSchemas, serviceToHostLimits } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { fileErrorSentence } from "../commands/fileErrors.ts";
import { type Asker, answers } from "./answers.ts";

/** Work that is told to end gets so long. */
const farewellMs = 5_000;

/** Serves standard input and output; the process ends with the exit code that this resolves to. */
export async function serve(): Promise<never> {
  const service = new Service(takeStandardStreams());
  const reason = await service.closed;
  if (reason !== null) process.stderr.write(`The service ends: ${reason}.\n`);
  await service.finish();
  process.exit(reason === null ? 0 : 1);
}

/** The two pipes as one connection. From here on, what anything else writes to standard output goes to standard error. */
function takeStandardStreams(): ByteStream {
  const { stdin, stdout, stderr } = process;
  const write = stdout.write.bind(stdout);
  stdout.write = stderr.write.bind(stderr) as typeof stdout.write;
  return {
    on(event: string, listener: (value: never) => void) {
      stdin.on(event, listener as (value: unknown) => void);
      if (event === "close") stdin.on("end", listener as () => void);
      if (event === "error") stdout.on("error", listener as (error: Error) => void);
    },
    write: (bytes, done) => write(bytes, done),
    end: () => stdin.destroy(),
    destroy: () => stdin.destroy(),
  };
}

class Service {
  readonly closed: Promise<string | null>;
  readonly #socket: FrameSocket;
  readonly #connection: MessageConnection;
  /** Requests that are being answered, with what ends them. */
  readonly #working = new Map<Promise<unknown>, AbortController>();
  #frames = 0;

  constructor(stream: ByteStream) {
    this.#socket = new FrameSocket(stream, hostToServiceLimits);
    const channel = new RpcChannel((bytes) => this.#socket.sendBytes(bytes));
    this.#connection = createMessageConnection(channel.reader, channel.writer, { error: toLog, warn: toLog, info: () => {}, log: () => {} });
    for (const name of Object.keys(serviceRequestSchemas) as ServiceRequest[])
      this.#connection.onRequest(name, (parameters: unknown, token: CancellationToken) => this.#respond(name, parameters, token));
    this.#connection.listen();
    this.#socket.onFrame = (frame) => this.#onFrame(frame, channel);
    this.closed = this.#socket.closed;
  }

  /** Ends what goes on; resolves when it has ended, or after a moment. */
  async finish(): Promise<void> {
    for (const controller of this.#working.values()) controller.abort(cancelled());
    const late = new Promise((resolve) => setTimeout(resolve, farewellMs));
    await Promise.race([Promise.allSettled(this.#working.keys()), late]);
    this.#connection.dispose();
  }

  #onFrame({ header }: Frame, channel: RpcChannel): void {
    if (header.jsonrpc !== "2.0") throw new Error("a frame is no message");
    channel.deliver(header);
  }

  async #respond(name: ServiceRequest, parameters: unknown, token: CancellationToken): Promise<unknown> {
    if (!Value.Check(serviceRequestSchemas[name], parameters))
      throw new ResponseError(ErrorCodes.InvalidParams, `The parameters of ${name} do not fit its schema.`);
    const controller = new AbortController();
    const watch = token.onCancellationRequested(() => controller.abort(cancelled()));
    const work = (answers[name] as (parameters: unknown, asker: Asker) => Promise<unknown>)(parameters, this.#asker(controller.signal));
    this.#working.set(work, controller);
    try {
      return sendable(name, await work);
    } catch (error) {
      throw asResponse(controller.signal.aborted ? cancelled() : error);
    } finally {
      this.#working.delete(work);
      watch.dispose();
    }
  }

  #asker(signal: AbortSignal): Asker {
    return {
      signal,
      sendFrame: (frame) => this.#socket.sendBytes(frame),
      sendValues: async (values) => {
        const id = ++this.#frames;
        await this.#socket.send({ kind: "values", id }, values);
        return id;
      },
      generated: (stream, text) => void this.#connection.sendNotification("generated", { stream, text }).catch(() => undefined),
      evaluating: (stream, task, done, of) => void this.#connection.sendNotification("evaluating", { stream, task, done, of }).catch(() => undefined),
      pruning: (stream, said) => void this.#connection.sendNotification("pruning", { stream, said }).catch(() => undefined),
    };
  }
}

function toLog(text: string): void {
  process.stderr.write(`${text}\n`);
}

function cancelled(): UserError {
  return new UserError("service/cancelled", "It was cancelled.", "Start it again when you want it.", { badInput: false });
}

/** A header of a hundred megabytes, or a first batch of a million tokens, is no message. */
function sendable(name: ServiceRequest, result: unknown): unknown {
  const open = name === "describeTensors" || name === "preview";
  if (open && Buffer.byteLength(JSON.stringify(result)) > serviceToHostLimits.headerBytes - 1024)
    throw new UserError(
      "service/too-large",
      "There is more to show than can be shown at once.",
      "Look at it with the command line, or at less of it.",
    );
  return result;
}

/** What a person can mend keeps its code and next action; a bug leaves its trace in the log. */
function asResponse(error: unknown): unknown {
  const sentence = fileErrorSentence(error);
  const mendable =
    error instanceof UserError
      ? error
      : sentence === null
        ? null
        : new UserError("file/unusable", sentence, "Check the path and its permissions, and try again.");
  if (mendable) return new ResponseError(ErrorCodes.UnknownErrorCode, mendable.message, { code: mendable.code, action: mendable.action });
  toLog(error instanceof Error ? (error.stack ?? error.message) : String(error));
  return new ResponseError(ErrorCodes.InternalError, error instanceof Error ? error.message : String(error));
}
