/**
 * One host at the core's socket: answers its requests and tells it what happens. It holds no state of the run.
 * The rules to keep: nothing but `hello` is answered before a good `hello`; parameters are checked by the protocol's schemas; an answer that fails is an
 * error to this host and nothing to the run.
 */
import { randomUUID, timingSafeEqual } from "node:crypto";
import { Value } from "typebox/value";
import { createMessageConnection, ErrorCodes, type MessageConnection, ResponseError } from "vscode-jsonrpc/node";
import type { CardReport } from "../../protocol/cardReading.ts";
import {
  type CoreNotification,
  type CoreNotifications,
  type CoreParams,
  type CoreRequest,
  type CoreResults,
  type CoreStatus,
  protocolVersion,
  requestSchemas,
} from "../../protocol/coreProtocol.ts";
import type { FrameSocket } from "../../protocol/frameSocket.ts";
import type { Frame } from "../../protocol/frames.ts";
import { RpcChannel } from "../../protocol/rpcChannel.ts";
import { UserError } from "../../protocol/userError.ts";
import type { Analyst } from "../blocks/analyst.ts";
import type { CardFeed, CardSink } from "./cardFeed.ts";
import { EventFeed } from "./eventFeed.ts";
import type { FrameSink, HeatmapFeed } from "./heatmapFeed.ts";
import type { Steering } from "./steering.ts";

/** What a host is attached to. */
export interface AttachedCore {
  runFolder: string;
  nonce: string;
  steering: Steering;
  heatmap: HeatmapFeed;
  card: CardFeed;
  analyst: Analyst;
  status(): CoreStatus;
  /** Milliseconds without a host after which the run is saved and stopped; null keeps it running. */
  stopWhenAlone(afterMs: number | null): void;
  log(line: string): void;
}

/** A heartbeat, or a card's figures, are left out while so many bytes wait for a host that does not read. */
const heartbeatBacklogBytes = 1 << 20;

export class AttachedHost implements FrameSink, CardSink {
  /** Names the host's bulk connection. */
  readonly attachment: string = randomUUID();
  readonly #core: AttachedCore;
  readonly #socket: FrameSocket;
  readonly #channel: RpcChannel;
  readonly #connection: MessageConnection;
  #name: string | null = null;
  #refused = false;
  #bulk: FrameSocket | null = null;
  #watching = false;
  #feed: EventFeed | null = null;
  #blockFrames = 0;

  /** `first` is the frame by which its kind was known. */
  constructor(core: AttachedCore, socket: FrameSocket, first: Frame) {
    this.#core = core;
    this.hello = new Promise((resolve) => {
      this.#resolveHello = resolve;
    });
    this.#socket = socket;
    this.#channel = new RpcChannel((bytes) => socket.sendBytes(bytes));
    const toLog = (text: string) => core.log(`${this.#name ?? "a host"}: ${text}`);
    this.#connection = createMessageConnection(this.#channel.reader, this.#channel.writer, {
      error: toLog,
      warn: toLog,
      info: () => {},
      log: () => {},
    });
    for (const name of Object.keys(requestSchemas) as CoreRequest[])
      this.#connection.onRequest(name, (parameters: unknown) => this.#respond(name, parameters));
    this.#connection.listen();
    const deliver = ({ header }: Frame) => {
      if (header.jsonrpc !== "2.0") throw new Error("a message is no JSON-RPC");
      if (!this.#refused) this.#channel.deliver(header);
    };
    deliver(first);
    socket.onFrame = deliver;
    void socket.closed.then(() => this.#close());
  }

  /** Resolves when it said a good hello. */
  readonly hello: Promise<void>;
  #resolveHello: () => void = () => {};

  /** Whether it did. */
  get greeted(): boolean {
    return this.#name !== null;
  }

  /** Takes the connection that frames go over. */
  attachBulk(socket: FrameSocket): void {
    this.#bulk?.drop("another bulk connection came");
    this.#bulk = socket;
    void socket.closed.then(() => {
      if (this.#bulk === socket) this.#bulk = null;
    });
    if (this.#watching) this.#restartHeatmap();
  }

  /** A frame on the bulk connection. */
  async send(bytes: Uint8Array): Promise<void> {
    if (!this.#bulk) throw new Error("no bulk connection");
    await this.#bulk.sendBytes(bytes);
  }

  /** Sends what was written to the event log since. */
  onEvent(): void {
    this.#feed?.pump().catch(() => undefined); // Its connection has ended.
  }

  heartbeat(): void {
    if (this.greeted && this.#socket.pendingBytes < heartbeatBacklogBytes)
      void this.#notify("heartbeat", { timeMs: Date.now(), status: this.#core.status() });
  }

  onCard(report: CardReport): void {
    if (this.#socket.pendingBytes < heartbeatBacklogBytes) void this.#notify("card", report);
  }

  /** Sends the rest of the events and how the run ended. The host closes when it has taken them: an end from here could overtake them there. */
  async end(ended: CoreNotifications["ended"]): Promise<void> {
    await this.#feed?.finish().catch(() => undefined);
    if (this.greeted) await this.#notify("ended", ended);
    else this.#socket.end();
  }

  #notify<Name extends CoreNotification>(name: Name, parameters: CoreNotifications[Name]): Promise<void> {
    return this.#connection.sendNotification(name, parameters).catch(() => undefined);
  }

  async #respond(name: CoreRequest, parameters: unknown): Promise<object> {
    if (this.#refused || (!this.greeted && name !== "hello")) throw this.#refuse("Say hello first.");
    if (!Value.Check(requestSchemas[name], parameters))
      throw new ResponseError(ErrorCodes.InvalidParams, `The parameters of ${name} do not fit its schema.`);
    try {
      return await (this.#answers[name] as (parameters: unknown) => Promise<object> | object)(parameters);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      throw new ResponseError(ErrorCodes.UnknownErrorCode, error.message, { code: error.code, action: error.action });
    }
  }

  readonly #answers: { [Name in CoreRequest]: (parameters: CoreParams[Name]) => CoreResults[Name] | Promise<CoreResults[Name]> } = {
    hello: ({ version, nonce, client }) => {
      if (version !== protocolVersion) throw this.#refuse(`The host speaks version ${version} of the protocol, this core ${protocolVersion}.`);
      if (!sameText(nonce, this.#core.nonce)) throw this.#refuse("The nonce is another run's.");
      this.#name = client;
      this.#resolveHello();
      const { runFolder } = this.#core;
      return { version: protocolVersion, runFolder, pid: process.pid, attachment: this.attachment, status: this.#core.status() };
    },
    pause: ({ id }) => this.#core.steering.command("pause", id, this.#name as string),
    resume: ({ id }) => this.#core.steering.command("resume", id, this.#name as string),
    stop: ({ id }) => this.#core.steering.command("stop", id, this.#name as string),
    save: ({ id }) => this.#core.steering.command("save", id, this.#name as string),
    status: () => this.#core.status(),
    follow: ({ after }) => {
      if (this.#feed) throw new ResponseError(ErrorCodes.InvalidRequest, "This connection follows already.");
      this.#feed = new EventFeed(this.#core.runFolder, after, (events) => this.#connection.sendNotification("events", { events }));
      this.onEvent();
      return {};
    },
    watchHeatmap: ({ on }) => {
      this.#watching = on;
      if (this.#bulk) this.#restartHeatmap();
      return {};
    },
    readBlock: async (request) => {
      const bulk = this.#bulk;
      if (!bulk) throw new ResponseError(ErrorCodes.InvalidRequest, "Values need a bulk connection.");
      const block = await this.#core.steering.readBlock(request);
      if ("reason" in block) return { available: false, ...block };
      const { values, whole, ...place } = block;
      const analysed = await this.#core.analyst.analyze(whole, block);
      const frame = ++this.#blockFrames;
      await bulk.send({ kind: "block", id: frame }, values);
      return { available: true, frame, ...place, ...analysed };
    },
    watchCard: ({ on }) => {
      this.#core.card.watch(this, on);
      return {};
    },
    stopWhenAlone: ({ afterMs }) => {
      this.#core.stopWhenAlone(afterMs);
      return {};
    },
    readCell: (place) => this.#core.steering.readCell(place),
  };

  /** An error, and the end of this connection once it has been sent. */
  #refuse(message: string): ResponseError<void> {
    if (!this.#refused) {
      this.#refused = true;
      this.#core.log(`refused a host: ${message}`);
      setTimeout(() => this.#socket.end(), 100).unref();
    }
    return new ResponseError(ErrorCodes.InvalidRequest, message);
  }

  #restartHeatmap(): void {
    this.#core.heatmap.watch(this, false);
    this.#core.heatmap.watch(this, this.#watching);
    if (this.#watching) this.#core.steering.wake();
  }

  #close(): void {
    this.#core.heatmap.watch(this, false);
    this.#core.card.watch(this, false);
    this.#bulk?.drop("its host has gone");
    void this.#feed?.close();
    this.#channel.close();
    this.#connection.dispose();
  }
}

/** Compares in a time that tells nothing of where two texts differ. */
function sameText(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
