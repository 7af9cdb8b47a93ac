/**
 * A host's connection to a core: says hello, asks, follows events, receives frames. Plain Node, no VS Code; one object a window and run.
 * The rules to keep: what a core sends is checked by the protocol's schemas, and what does not fit is left out and reported; every promise ends, also when
 * the core is killed.
 */
import { randomUUID } from "node:crypto";
import type { CardReport } from "../protocol/cardReading.ts";
import { fits } from "../protocol/compiledCheck.ts";
import {
  type BlockPlace,
  type Cell,
  type CommandName,
  type CoreNotifications,
  type CoreParams,
  type CoreResults,
  type CoreStatus,
  coreToHostLimits,
  type FrameHeader,
  type FrameKind,
  frameSchemas,
  type HeatmapHeader,
  protocolVersion,
  notRespondingMs as usualSilenceMs,
} from "../protocol/coreProtocol.ts";
import { asRunEvent } from "../protocol/eventSchemas.ts";
import type { RunEvent } from "../protocol/events.ts";
import { FrameSocket } from "../protocol/frameSocket.ts";
import type { Frame } from "../protocol/frames.ts";
import type { LiveRunRecord } from "../protocol/liveRun.ts";
import { CoreRpc, openSocket, within } from "./coreRpc.ts";

/** How a core's connection came to its end. `lost`: it went without a word, so the process was killed or has crashed. */
export type CoreEnd = CoreNotifications["ended"] | { outcome: "lost"; reason: string | null } | { outcome: "closed" };

export interface CoreListener {
  /** Every event of the run, in order and without a gap, after `follow` was called. */
  onEvent?(event: RunEvent): void;
  /** The same, as they came together. */
  onEvents?(events: RunEvent[]): void;
  onHeartbeat?(status: CoreStatus): void;
  /** The graphics card's figures, while they are watched. */
  onCard?(report: CardReport): void;
  /** The core has been silent for too long, or (`true`) speaks again. It is never killed for that. */
  onResponding?(responding: boolean): void;
  /** Heatmap frames. The payload is the listener's own. */
  onFrame?(header: HeatmapHeader, payload: Uint8Array): void;
  /** Called once. */
  onEnd?(end: CoreEnd): void;
  /** What the core sent and nobody understands. */
  onMalformed?(what: string): void;
}

/** A block's values, or why there are none. */
export type BlockValues =
  | (Extract<CoreResults["readBlock"], { available: true }> & { values: Float32Array })
  | Extract<CoreResults["readBlock"], { available: false }>;

export interface ConnectOptions {
  record: Pick<LiveRunRecord, "socket" | "nonce">;
  /** Shown to others as the giver of commands. */
  name: string;
  listener?: CoreListener;
  /** Time for connecting and the hello. */
  timeoutMs?: number;
  /** Silence after which a core counts as not responding. */
  notRespondingMs?: number;
  version?: number;
}

export class CoreClient {
  readonly hello: CoreResults["hello"];
  readonly #rpc: CoreRpc;
  readonly #listener: CoreListener;
  readonly #bulk: FrameSocket;
  /** Values that came before the answer that names them, and answers that wait for values. */
  readonly #values = new Map<number, Float32Array>();
  readonly #waiting = new Map<number, (values: Float32Array) => void>();
  #lastSequence: number | null = null;
  #lastHeartbeatMs = performance.now();
  #responding = true;
  #end: CoreEnd | null = null;
  readonly #watchdog: NodeJS.Timeout;

  private constructor(rpc: CoreRpc, hello: CoreResults["hello"], bulk: FrameSocket, listener: CoreListener, notRespondingMs: number) {
    this.hello = hello;
    this.#rpc = rpc;
    this.#bulk = bulk;
    this.#listener = listener;
    bulk.onFrame = (frame) => this.#onFrame(frame);
    rpc.onNotification("events", ({ events }) => this.#onEvents(events));
    rpc.onNotification("heartbeat", ({ status }) => this.#onHeartbeat(status));
    rpc.onNotification("card", (report) => this.#listener.onCard?.(report));
    rpc.onNotification("ended", (ended) => {
      this.#end ??= ended;
      rpc.end();
    });
    void rpc.socket.closed.then((reason) => this.#onClosed(reason));
    this.#watchdog = setInterval(() => this.#watch(notRespondingMs), 500);
    this.#watchdog.unref();
  }

  /** Connects to a core of the register. Throws UserError `core/unreachable` or `core/refused`. */
  static async connect({
    record,
    name,
    listener = {},
    timeoutMs = 10_000,
    notRespondingMs = usualSilenceMs,
    version = protocolVersion,
  }: ConnectOptions): Promise<CoreClient> {
    const rpc = new CoreRpc(await openSocket(record.socket, timeoutMs), (what) => listener.onMalformed?.(what));
    try {
      const hello = await within(timeoutMs, rpc.request("hello", { version, nonce: record.nonce, client: name }));
      const bulk = new FrameSocket(await openSocket(record.socket, timeoutMs), coreToHostLimits);
      await bulk.send({ kind: "attach", attachment: hello.attachment });
      return new CoreClient(rpc, hello, bulk, listener, notRespondingMs);
    } catch (error) {
      rpc.socket.drop("the hello failed");
      throw error;
    }
  }

  /** Number of the newest event seen; give it to a later `follow` to go on from there. */
  get lastSequence(): number {
    return this.#lastSequence ?? 0;
  }

  /** Gives a command. With the id of an earlier one nothing happens again. */
  command(name: CommandName, id: string = randomUUID()): Promise<{ repeated: boolean }> {
    return this.#rpc.request(name, { id });
  }

  status(): Promise<CoreStatus> {
    return this.#rpc.request("status", {});
  }

  /** Asks for every event after a number, then for those to come. */
  async follow(after = 0): Promise<void> {
    this.#lastSequence = after;
    await this.#rpc.request("follow", { after });
  }

  async watchHeatmap(on: boolean): Promise<void> {
    await this.#rpc.request("watchHeatmap", { on });
  }

  async watchCard(on: boolean): Promise<void> {
    await this.#rpc.request("watchCard", { on });
  }

  /** After how long without a host the run is saved and stopped; null keeps it running. */
  async stopWhenAlone(afterMs: number | null): Promise<void> {
    await this.#rpc.request("stopWhenAlone", { afterMs });
  }

  /** Reads entries of a block at the next step boundary. */
  async readBlock(request: CoreParams["readBlock"]): Promise<BlockValues> {
    const reading = await this.#rpc.request("readBlock", request);
    if (!reading.available) return reading;
    const { frame, rows, columns } = reading;
    const values = this.#values.get(frame) ?? (await this.#rpc.orEnd(new Promise<Float32Array>((resolve) => this.#waiting.set(frame, resolve))));
    this.#values.delete(frame);
    this.#waiting.delete(frame);
    if (values.length !== rows * columns) throw new Error(`a block of ${rows} × ${columns} came with ${values.length} values`);
    return { ...reading, values };
  }

  /** What the heatmaps show of one block, exactly, at the next step boundary. */
  readCell(place: BlockPlace): Promise<Cell> {
    return this.#rpc.request("readCell", place);
  }

  /** Leaves; the run goes on. */
  close(): void {
    this.#end ??= { outcome: "closed" };
    this.#rpc.end();
    this.#bulk.end();
  }

  /** What is no event is left out, and its number passed over: the run folder has it as it is. */
  #onEvents(values: { sequence: number; kind: string }[]): void {
    const events: RunEvent[] = [];
    for (const value of values) {
      const { sequence } = value;
      if (this.#lastSequence !== null && sequence <= this.#lastSequence) {
        this.#listener.onMalformed?.(`event ${sequence} came after ${this.#lastSequence}`);
        continue;
      }
      if (this.#lastSequence !== null && sequence !== this.#lastSequence + 1)
        this.#listener.onMalformed?.(`event ${sequence} came after ${this.#lastSequence}`);
      this.#lastSequence = sequence;
      const event = asRunEvent(value);
      if (event) events.push(event);
      else this.#listener.onMalformed?.(`event ${sequence} of kind ${value.kind.slice(0, 40)}`);
    }
    for (const event of events) this.#listener.onEvent?.(event);
    if (events.length > 0) this.#listener.onEvents?.(events);
  }

  #onHeartbeat(status: CoreStatus): void {
    this.#lastHeartbeatMs = performance.now();
    this.#setResponding(true);
    this.#listener.onHeartbeat?.(status);
  }

  #watch(notRespondingMs: number): void {
    if (performance.now() - this.#lastHeartbeatMs > notRespondingMs) this.#setResponding(false);
  }

  #setResponding(responding: boolean): void {
    if (this.#responding === responding) return;
    this.#responding = responding;
    this.#listener.onResponding?.(responding);
  }

  #onFrame({ header, payload }: Frame): void {
    const schema = frameSchemas[header.kind as FrameKind];
    if (schema && fits(schema, header)) this.#onKnownFrame(header as FrameHeader, payload);
    else this.#listener.onMalformed?.(`a frame of kind ${String(header.kind).slice(0, 40)}`);
  }

  #onKnownFrame(header: FrameHeader, payload: Uint8Array): void {
    if (header.kind !== "block") {
      this.#listener.onFrame?.(header, payload);
      return;
    }
    const values = new Float32Array(payload.buffer, 0, Math.floor(payload.length / 4));
    const waiting = this.#waiting.get(header.id);
    if (waiting) waiting(values);
    else this.#values.set(header.id, values);
  }

  #onClosed(reason: string | null): void {
    clearInterval(this.#watchdog);
    this.#bulk.drop("the core has gone");
    this.#listener.onEnd?.(this.#end ?? { outcome: "lost", reason });
  }
}
