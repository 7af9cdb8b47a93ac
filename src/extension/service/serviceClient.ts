/**
 * The service for a window: plans, previews, reads of runs and files, evaluation, generation, export, all done by the core's code in processes of their
 * own. Plain Node, no VS Code. How one process is spoken to is serviceProcess.ts.
 * The rules to keep: processes are started when they are needed and ended when nobody asks; what takes long never keeps what is quick waiting; a process
 * that crashed costs what it was asked and nothing else.
 */
import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";
import type { PruningProgress } from "../../protocol/pruning.ts";
import type { ServiceNotifications, ServiceParams, ServiceRequest, ServiceResults } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import type { BlockValues } from "../coreClient.ts";
import type { CoreProgram } from "../startCore.ts";
import { ServiceProcess } from "./serviceProcess.ts";

/** These load models or copy them; they get a process of their own. */
const longRequests: readonly ServiceRequest[] = ["evaluate", "evaluateTasks", "generate", "export", "prune"];

export interface ServiceOptions {
  /** Asked at each start of a process. Throws UserError, which the request then fails with. */
  program(): Promise<CoreProgram>;
  log(line: string): void;
  /** A process that is asked nothing for so long is ended. */
  idleMs?: number;
}

type OnNotification = ServiceProcess["onNotification"];
/** A notification without its stream's number. */
type Said<Name extends keyof ServiceNotifications> = Omit<ServiceNotifications[Name], "stream">;

/** A process that is there when it is needed. */
class Lane {
  readonly #options: Required<ServiceOptions>;
  readonly #onNotification: OnNotification;
  #process: Promise<ServiceProcess> | null = null;
  #asked = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: Required<ServiceOptions>, onNotification: OnNotification) {
    this.#options = options;
    this.#onNotification = onNotification;
  }

  /** Does something with the process, started if it is not there. */
  async use<T>(work: (process: ServiceProcess) => Promise<T>): Promise<T> {
    this.#asked++;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    try {
      return await work(await this.#running());
    } finally {
      if (--this.#asked === 0) this.#endWhenIdle();
    }
  }

  async end(): Promise<void> {
    if (this.#timer) clearTimeout(this.#timer);
    const ending = this.#process;
    this.#process = null;
    (await ending?.catch(() => null))?.end();
  }

  /** Ends a process that is asked nothing. */
  async endIfIdle(): Promise<void> {
    if (this.#asked === 0) await this.end();
  }

  async #running(): Promise<ServiceProcess> {
    this.#process ??= this.#start();
    const starting = this.#process;
    try {
      const process = await starting;
      if (!process.gone) return process;
    } catch (error) {
      if (this.#process === starting) this.#process = null;
      throw error;
    }
    if (this.#process === starting) this.#process = null;
    return this.#running();
  }

  async #start(): Promise<ServiceProcess> {
    const process = new ServiceProcess(await this.#options.program(), this.#options.log);
    process.onNotification = this.#onNotification;
    return process;
  }

  #endWhenIdle(): void {
    this.#timer = setTimeout(() => void this.end(), this.#options.idleMs);
    this.#timer.unref();
  }
}

export class ServiceClient {
  readonly #quick: Lane;
  readonly #long: Lane;
  /** Who listens to the notifications of a request, by their stream. */
  readonly #listeners = new Map<number, (said: never) => void>();
  /** Frames of a heatmap do not say whose they are: one is asked for at a time. */
  #lastHeatmap: Promise<unknown> = Promise.resolve();
  #streams = 0;
  #disposed = false;

  constructor(options: ServiceOptions) {
    const complete = { idleMs: 60_000, ...options };
    const onNotification: OnNotification = (_, said) => this.#listeners.get(said.stream)?.(said as never);
    this.#quick = new Lane(complete, onNotification);
    this.#long = new Lane(complete, onNotification);
  }

  /** Asks one thing. `signal` gives up: the promise rejects at once with `service/cancelled`, and the service stops as soon as it can. */
  request<Name extends ServiceRequest>(
    name: Name,
    parameters: ServiceParams[Name],
    options: { signal?: AbortSignal } = {},
  ): Promise<ServiceResults[Name]> {
    return this.#use(longRequests.includes(name) ? this.#long : this.#quick, (process) => process.request(name, parameters, options.signal));
  }

  /** `heatmap` with the frames that came before its answer. */
  heatmap(parameters: ServiceParams["heatmap"]): Promise<{ step: number | null; frames: HeatmapFrame[] }> {
    const asked = this.#lastHeatmap.then(() =>
      this.#use(this.#quick, async (process) => {
        const frames: HeatmapFrame[] = [];
        process.onHeatmap = (frame) => frames.push(frame);
        const { step } = await process.request("heatmap", parameters);
        return { step, frames };
      }),
    );
    this.#lastHeatmap = asked.catch(() => undefined);
    return asked;
  }

  readBlock(parameters: ServiceParams["readBlock"]): Promise<BlockValues> {
    return this.#use(this.#quick, async (process) => {
      const reading = await process.request("readBlock", parameters);
      return reading.available ? { ...reading, values: process.takeValues(reading.frame, reading.rows * reading.columns) } : reading;
    });
  }

  readTensor(parameters: ServiceParams["readTensor"]): Promise<{ rows: number; columns: number; values: Float32Array }> {
    return this.#use(this.#quick, async (process) => {
      const { frame, rows, columns } = await process.request("readTensor", parameters);
      return { rows, columns, values: process.takeValues(frame, rows * columns) };
    });
  }

  /** Continues a prompt; `onText` gets the text as it comes. */
  generate(
    parameters: Omit<ServiceParams["generate"], "stream">,
    onText: (text: string) => void,
    options: { signal?: AbortSignal } = {},
  ): Promise<ServiceResults["generate"]> {
    return this.#streaming<"generated", "generate">(
      ({ text }) => onText(text),
      (stream) => this.request("generate", { ...parameters, stream }, options),
    );
  }

  /** Judges a model by test sets; `onProgress` gets every report of how far it is. */
  evaluateTasks(
    parameters: Omit<ServiceParams["evaluateTasks"], "stream">,
    onProgress: (progress: Said<"evaluating">) => void,
    options: { signal?: AbortSignal } = {},
  ): Promise<ServiceResults["evaluateTasks"]> {
    return this.#streaming<"evaluating", "evaluateTasks">(onProgress, (stream) => this.request("evaluateTasks", { ...parameters, stream }, options));
  }

  /** Prunes a model; `listener` gets what there is to know of it, and every report of how far it is. */
  prune(
    parameters: Omit<ServiceParams["prune"], "stream">,
    listener: { onProgress(progress: PruningProgress): void; onNotes(notes: readonly string[]): void },
    options: { signal?: AbortSignal } = {},
  ): Promise<ServiceResults["prune"]> {
    return this.#streaming<"pruning", "prune">(
      ({ said }) => ("notes" in said ? listener.onNotes(said.notes) : listener.onProgress(said)),
      (stream) => this.request("prune", { ...parameters, stream }, options),
    );
  }

  /** The program has changed: what is asked next starts it, unless something long is being answered. */
  async renew(): Promise<void> {
    await Promise.all([this.#quick.endIfIdle(), this.#long.endIfIdle()]);
  }

  /** Listens to what a request says under a stream's number, until it is answered. */
  async #streaming<Name extends keyof ServiceNotifications, Asked extends ServiceRequest>(
    listen: (said: Said<Name>) => void,
    ask: (stream: number) => Promise<ServiceResults[Asked]>,
  ): Promise<ServiceResults[Asked]> {
    const stream = ++this.#streams;
    this.#listeners.set(stream, listen as (said: never) => void);
    try {
      return await ask(stream);
    } finally {
      this.#listeners.delete(stream);
    }
  }

  /** Ends the processes; what waits for them fails. */
  dispose(): void {
    this.#disposed = true;
    void this.#quick.end();
    void this.#long.end();
  }

  #use<T>(lane: Lane, work: (process: ServiceProcess) => Promise<T>): Promise<T> {
    if (this.#disposed)
      return Promise.reject(new UserError("service/ended", "The service of this window has ended.", "Reload the window.", { badInput: false }));
    return lane.use(work);
  }
}
