/**
 * The core's side of the socket as a whole: takes connections, tells RPC from bulk by their first frame, beats, and notices when nobody is attached.
 * The rules to keep: the run never waits for a host; whatever a connection sends, only that connection ends.
 */

import { randomUUID } from "node:crypto";
import { appendFileSync, realpathSync } from "node:fs";
import type net from "node:net";
import os from "node:os";
import path from "node:path";
import { Value } from "typebox/value";
import { attachSchema, type CoreNotifications, type CoreStatus, heartbeatMs, hostToCoreLimits } from "../../protocol/coreProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import { FrameSocket } from "../../protocol/frameSocket.ts";
import type { Selection } from "../../protocol/selection.ts";
import { Analyst } from "../blocks/analyst.ts";
import { log, runFiles } from "../files/runFolder.ts";
import { processStart } from "../files/runLock.ts";
import type { ScoreGrid } from "../methods/smt/selection.ts";
import type { Run } from "../run.ts";
import type { SessionOptions } from "../session.ts";
import type { Emit } from "../trainer.ts";
import { type AttachedCore, AttachedHost } from "./attachedHost.ts";
import { CardFeed } from "./cardFeed.ts";
import { HeatmapFeed } from "./heatmapFeed.ts";
import { Listener } from "./listener.ts";
import { measureChosen } from "./liveMagnitudes.ts";
import { type Registration, registerRun } from "./register.ts";
import { Steering } from "./steering.ts";

export interface CoreHostOptions {
  runFolder: string;
  nonce: string;
  /** Milliseconds after which the run is saved and stopped while no host is attached; null keeps it running. Hosts may change it. */
  stopWhenAloneMs: number | null;
  /** Keeps every frame of scores and magnitudes in the run folder, for tests that compare what was shown with what was sent. */
  recordFrames: boolean;
}

const maxConnections = 64;
/** Who has not said what it wants by then is let go. */
const firstFrameMs = 10_000;
/** Hosts get so long to take what is left when the run ends. */
const farewellMs = 5_000;

export class CoreHost implements AttachedCore {
  readonly runFolder: string;
  readonly nonce: string;
  readonly steering = new Steering((run, still) => this.#look(run, still));
  readonly heatmap: HeatmapFeed;
  readonly card = new CardFeed();
  readonly analyst = new Analyst();
  readonly #hosts = new Set<AttachedHost>();
  readonly #connections = new Set<FrameSocket>();
  #listener: Listener | null = null;
  #registration: Registration | null = null;
  #timer: NodeJS.Timeout | null = null;
  #run: Run | null = null;
  #lastSequence = 0;
  #lastAttachedMs = performance.now();
  #stopWhenAloneMs: number | null;

  constructor(options: CoreHostOptions) {
    this.runFolder = realpathSync(options.runFolder);
    this.nonce = options.nonce;
    this.#stopWhenAloneMs = options.stopWhenAloneMs;
    const record = (frame: Uint8Array) => appendFileSync(path.join(this.runFolder, runFiles.frames), frame);
    this.heatmap = new HeatmapFeed(() => this.#run?.smt?.blockSize ?? 1, options.recordFrames ? record : undefined);
  }

  /** Listens, and only then enters the register. Throws UserError. */
  async open(): Promise<void> {
    this.#listener = await Listener.open(this.nonce, (socket) => this.#accept(socket));
    this.#registration = await registerRun({
      version: 1,
      runFolder: this.runFolder,
      pid: process.pid,
      host: os.hostname(),
      processStart: await processStart(process.pid),
      nonce: this.nonce,
      socket: this.#listener.path,
      startedMs: Date.now(),
    });
    this.#lastAttachedMs = performance.now();
    this.#timer = setInterval(() => this.#beat(), heartbeatMs);
  }

  /** What a session tells and asks. */
  sessionOptions(): Omit<SessionOptions, "resume"> {
    return {
      onLocked: () => this.open(),
      onOpen: async (run, emit) => this.#onOpen(run, emit),
      onEvent: (event) => this.#onEvent(event),
      onWaiting: (reason) => {
        this.steering.onWaiting();
        this.log(reason);
      },
      stopRequested: () => this.steering.stopRequested(),
      atBoundary: (control) => {
        this.card.atBoundary();
        return this.steering.atBoundary(control);
      },
      onDone: () => this.steering.done(),
      scored: (at, grids) => {
        this.steering.scored(grids);
        return this.heatmap.scored(at, grids);
      },
      selected: (selection, grids) => {
        this.steering.selected();
        this.#selected(selection, grids);
      },
    };
  }

  status(): CoreStatus {
    const { state, step, totalSteps } = this.steering;
    return { state, step, totalSteps, lastSequence: this.#lastSequence, clients: this.#attached().length };
  }

  stopWhenAlone(afterMs: number | null): void {
    this.#stopWhenAloneMs = afterMs;
  }

  log(line: string): void {
    void log(this.runFolder, line);
  }

  /** Says farewell to the hosts and leaves the register. */
  async end(ended: CoreNotifications["ended"]): Promise<void> {
    this.steering.end();
    this.card.end();
    this.#listener?.close();
    if (this.#timer) clearInterval(this.#timer);
    await this.#registration?.release();
    let timer: NodeJS.Timeout | undefined;
    const tooLong = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, farewellMs);
    });
    await Promise.race([Promise.all([...this.#hosts].map((host) => host.end(ended))), tooLong]);
    await Promise.race([Promise.all([...this.#connections].map((connection) => connection.closed)), tooLong]);
    clearTimeout(timer);
    for (const connection of this.#connections) connection.drop("the core has ended");
  }

  #onOpen(run: Run, emit: Emit): void {
    this.#run = run;
    this.steering.onOpen(run, emit);
    this.card.onOpen(run.device.description, (reading) => emit({ kind: "card", step: run.state.step, ...reading }));
    if (run.selection) this.#selected(run.selection, null);
  }

  #selected(selection: Selection, grids: readonly ScoreGrid[] | null): void {
    const { model, state } = this.#run as Run;
    this.heatmap.selected(selection, grids, state.lastSelection, (name) => model.tensors.byName.get(`${name}.weight`)?.shape ?? [0, 0]);
  }

  async #look(run: Run, still: boolean): Promise<void> {
    if (!run.selection) return;
    // A base that can no longer be read is the watcher's loss alone.
    await this.heatmap.updated(run.state.step, still, () => measureChosen(run)).catch((error: Error) => this.log(`blocks: ${error.message}`));
  }

  #onEvent(event: RunEvent): void {
    this.#lastSequence = event.sequence;
    for (const host of this.#hosts) host.onEvent();
  }

  #accept(socket: net.Socket): void {
    const connection = new FrameSocket(socket, hostToCoreLimits);
    this.#connections.add(connection);
    if (this.#connections.size > maxConnections) connection.drop("too many connections");
    const timer = setTimeout(() => connection.drop("it did not say what it wants"), firstFrameMs);
    void connection.closed.then((reason) => {
      clearTimeout(timer);
      this.#connections.delete(connection);
      if (reason) this.log(`a connection was dropped: ${reason}`);
    });
    connection.onFrame = ({ header, payload }) => {
      if ("jsonrpc" in header) this.#attach(connection, timer, { header, payload });
      else if (Value.Check(attachSchema, header)) this.#attachBulk(connection, timer, header.attachment);
      else throw new Error("its first frame is neither a message nor an attachment");
    };
  }

  #attach(connection: FrameSocket, timer: NodeJS.Timeout, first: { header: Record<string, unknown>; payload: Uint8Array }): void {
    const host = new AttachedHost(this, connection, first);
    this.#hosts.add(host);
    void host.hello.then(() => clearTimeout(timer));
    void connection.closed.then(() => {
      this.#hosts.delete(host);
      if (host.greeted) this.#lastAttachedMs = performance.now();
    });
  }

  #attachBulk(connection: FrameSocket, timer: NodeJS.Timeout, attachment: string): void {
    const host = this.#attached().find((candidate) => candidate.attachment === attachment);
    if (!host) throw new Error("its attachment is not known");
    clearTimeout(timer);
    connection.onFrame = () => {
      throw new Error("a host sends nothing on a bulk connection");
    };
    host.attachBulk(connection);
  }

  #attached(): AttachedHost[] {
    return [...this.#hosts].filter(({ greeted }) => greeted);
  }

  #beat(): void {
    for (const host of this.#hosts) host.heartbeat();
    void this.#listener?.reopenIfGone();
    const stopWhenAloneMs = this.#stopWhenAloneMs;
    if (stopWhenAloneMs === null || this.#attached().length > 0 || this.steering.stopRequested()) return;
    if (performance.now() - this.#lastAttachedMs < stopWhenAloneMs) return;
    this.steering.command("stop", randomUUID(), `the core, alone for ${Math.round(stopWhenAloneMs / 1000)} s,`);
  }
}
