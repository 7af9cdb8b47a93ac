/**
 * One service process (`node core.js --serve`) as the client sees it: started, asked over its standard input and output, and gone. Plain Node.
 * Which of several processes a request goes to, and when one is not needed any more, is the client's business.
 * The rules to keep: every promise ends, also when the process is killed; what it sends is checked by the protocol's schemas.
 */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import os from "node:os";
import { Value } from "typebox/value";
import {
  CancellationTokenSource,
  ConnectionError,
  createMessageConnection,
  ErrorCodes,
  type MessageConnection,
  ResponseError,
} from "vscode-jsonrpc/node";
import { frameSchemas } from "../../protocol/coreProtocol.ts";
import { type ByteStream, FrameSocket } from "../../protocol/frameSocket.ts";
import type { Frame } from "../../protocol/frames.ts";
import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";
import { RpcChannel } from "../../protocol/rpcChannel.ts";
import {
  type ServiceNotifications,
  type ServiceParams,
  type ServiceRequest,
  type ServiceResults,
  serviceNotificationSchemas,
  serviceResultSchemas,
  serviceToHostLimits,
  valuesFrameSchema,
} from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import { type CoreProgram, programEnvironment } from "../startCore.ts";

/** Values that nobody fetched; a request that was given up leaves some behind. */
const keptValues = 16;
/** A process that was told to end gets so long before it is killed. */
const farewellMs = 10_000;

export class ServiceProcess {
  /** Resolves when the process has gone, with how. */
  readonly ended: Promise<string>;
  /** Told what a long request says while it is answered. */
  onNotification: <Name extends keyof ServiceNotifications>(name: Name, said: ServiceNotifications[Name]) => void = () => {};
  onHeatmap: (frame: HeatmapFrame) => void = () => {};
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #socket: FrameSocket;
  readonly #connection: MessageConnection;
  readonly #log: (line: string) => void;
  readonly #values = new Map<number, Float32Array>();
  readonly #crashed: Promise<never>;
  #gone = false;
  #ending = false;

  constructor(program: CoreProgram, log: (line: string) => void) {
    this.#log = log;
    // Its own folder would be in use as long as it lives.
    this.#child = spawn(program.node, [program.core, "--serve"], {
      cwd: os.tmpdir(),
      env: programEnvironment(program),
      windowsHide: true,
      stdio: "pipe",
    });
    this.#child.stderr.setEncoding("utf8").on("data", (text: string) => log(text.trimEnd()));
    this.ended = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve(error.message));
      this.#child.once("close", (code, signal) => resolve(signal ?? `code ${code}`));
    });
    this.#socket = new FrameSocket(pipesOf(this.#child), serviceToHostLimits);
    // A message that cannot be written will have no answer: who waits for it learns that from the end of the process.
    const channel = new RpcChannel((bytes) => this.#socket.sendBytes(bytes).catch(() => void this.#child.kill("SIGKILL")));
    this.#connection = createMessageConnection(channel.reader, channel.writer, { error: log, warn: log, info: () => {}, log: () => {} });
    for (const name of Object.keys(serviceNotificationSchemas) as (keyof ServiceNotifications)[])
      this.#connection.onNotification(name, (parameters: unknown) => {
        if (Value.Check(serviceNotificationSchemas[name], parameters)) this.onNotification(name, parameters as ServiceNotifications[typeof name]);
        else log(`The service sent a notification ${name} that does not fit its schema.`);
      });
    this.#socket.onFrame = (frame) => this.#onFrame(frame, channel);
    this.#connection.listen();
    void this.#socket.closed.then((reason) => {
      if (reason) log(`The connection to the service ended: ${reason}.`);
      // One that does not speak the protocol is of no use.
      this.#child.kill();
    });
    this.#crashed = this.ended.then((how) => {
      this.#gone = true;
      channel.close();
      this.#connection.dispose();
      throw this.#ending ? endedInOrder() : crashed(how);
    });
    this.#crashed.catch(() => undefined);
  }

  get gone(): boolean {
    return this.#gone;
  }

  /** Asks, and checks the answer. Throws the service's UserError, `service/crashed` when it goes, `service/cancelled` when `signal` says so. */
  async request<Name extends ServiceRequest>(name: Name, parameters: ServiceParams[Name], signal?: AbortSignal): Promise<ServiceResults[Name]> {
    const cancellation = new CancellationTokenSource();
    const cancel = () => cancellation.cancel();
    const aborted = new Promise<never>((_, reject) => {
      const onAbort = () => reject(cancelled());
      if (signal?.aborted) onAbort();
      signal?.addEventListener("abort", onAbort, { once: true });
    });
    aborted.catch(cancel);
    try {
      const answer = this.#connection.sendRequest(name, parameters, cancellation.token).catch(asUserError);
      const result: unknown = await Promise.race([answer, this.#crashed, aborted]);
      if (!Value.Check(serviceResultSchemas[name], result)) throw new Error(`The service's answer to ${name} does not fit its schema.`);
      return result as ServiceResults[Name];
    } catch (error) {
      // A connection that is closed says so before the process has been seen to end.
      if (isClosed(error)) return await this.#crashed;
      throw error;
    } finally {
      cancellation.dispose();
    }
  }

  /** Values that came before the answer that names them. */
  takeValues(id: number, count: number): Float32Array {
    const values = this.#values.get(id);
    this.#values.delete(id);
    if (values?.length !== count) throw new Error(`the service named ${count} values and sent ${values?.length ?? "none"}`);
    return values;
  }

  /** Tells it to end. */
  end(): void {
    this.#ending = true;
    this.#socket.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), farewellMs);
    timer.unref();
    void this.ended.then(() => clearTimeout(timer));
  }

  #onFrame({ header, payload }: Frame, channel: RpcChannel): void {
    const { kind } = header;
    if (header.jsonrpc === "2.0") channel.deliver(header);
    else if (Value.Check(valuesFrameSchema, header)) this.#keep(header.id, new Float32Array(payload.buffer, 0, Math.floor(payload.length / 4)));
    else if ((kind === "scores" || kind === "selection" || kind === "magnitudes") && Value.Check(frameSchemas[kind], header))
      this.onHeatmap({ header: header as HeatmapFrame["header"], payload });
    else this.#log(`The service sent a frame of kind ${String(kind).slice(0, 40)}, which is not understood.`);
  }

  #keep(id: number, values: Float32Array): void {
    this.#values.set(id, values);
    if (this.#values.size > keptValues) this.#values.delete(this.#values.keys().next().value as number);
  }
}

/** The child's two pipes as one connection. */
function pipesOf({ stdin, stdout }: ChildProcessWithoutNullStreams): ByteStream {
  return {
    on(event: string, listener: (value: never) => void) {
      stdout.on(event, listener as (value: unknown) => void);
      if (event === "error") stdin.on(event, listener as (error: Error) => void);
    },
    write: (bytes, done) => stdin.write(bytes, done),
    end: () => stdin.end(),
    destroy() {
      stdin.destroy();
      stdout.destroy();
    },
  };
}

function crashed(how: string): UserError {
  return new UserError("service/crashed", `The service process ended unexpectedly (${how}).`, "Try again: it is started anew. The log says more.", {
    badInput: false,
  });
}

function endedInOrder(): UserError {
  return new UserError("service/ended", "The service was ended.", "Reload the window.", { badInput: false });
}

function cancelled(): UserError {
  return new UserError("service/cancelled", "It was cancelled.", "Start it again when you want it.", { badInput: false });
}

function isClosed(error: unknown): boolean {
  return error instanceof ConnectionError || (error instanceof ResponseError && error.code === ErrorCodes.PendingResponseRejected);
}

/** A refusal with its code and next action, as the service meant it. */
function asUserError(error: unknown): never {
  if (isClosed(error) || !(error instanceof ResponseError)) throw error;
  const { code, action } = (error.data ?? {}) as { code?: unknown; action?: unknown };
  throw new UserError(
    typeof code === "string" ? code : "service/failed",
    error.message,
    typeof action === "string" ? action : "Look into the log, and reload the window.",
    { badInput: false },
  );
}
