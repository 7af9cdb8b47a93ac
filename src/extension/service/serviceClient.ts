/**
 * The service for a window: plans, previews, reads of runs and files, evaluation, generation, export, all done by the core's code in processes of their
 * own. Plain Node, no VS Code. How one process is spoken to is serviceProcess.ts.
 * The rules to keep: processes are started when they are needed and ended when nobody asks; what takes long never keeps what is quick waiting; a process
 * that crashed costs what it was asked and nothing else.
 */
import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";
import type { ServiceParams, ServiceRequest, ServiceResults } from "../../protocol/serviceProtocol.ts";
import { UserError } from "../../protocol/userError.ts";
import type { BlockValues } from "../coreClient.ts";
import type { CoreProgram } from "../startCore.ts";
import { ServiceProcess } from "./serviceProcess.ts";

/** These load models or copy them; they get a process of their own. */
const longRequests: readonly ServiceRequest[] = ["evaluate", "generate", "export"];

export interface ServiceOptions {
  /** Asked at each start of a process. Throws UserError, which the request then fails with. */
  program(): Promise<CoreProgram>;
  log(line: string): void;
  /** A process that is asked nothing for so long is ended. */
  idleMs?: number;
}

/** A process that is there when it is needed. */
class Lane {
  readonly #options: Required<ServiceOptions>;
  readonly #onGenerated: (stream: number, text: string) => void;
  #process: Promise<ServiceProcess> | null = null;
  #asked = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: Required<ServiceOptions>, onGenerated: (stream: number, text: string) => void) {
    this.#options = options;
    this.#onGenerated = onGenerated;
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
    process.onGenerated = this.#onGenerated;
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
  readonly #texts = new Map<number, (text: string) => void>();
  /** Frames of a heatmap do not say whose they are: one is asked for at a time. */
  #lastHeatmap: Promise<unknown> = Promise.resolve();
  #streams = 0;
  #disposed = false;

  constructor(options: ServiceOptions) {
    const complete = { idleMs: 60_000, ...options };
    const onGenerated = (stream: number, text: string) => this.#texts.get(stream)?.(text);
    this.#quick = new Lane(complete, onGenerated);
    this.#long = new Lane(complete, onGenerated);
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

  /** Statistics of rows × columns values. */
  analyze(values: Float32Array, rows: number, columns: number): Promise<ServiceResults["analyze"]> {
    return this.#use(this.#quick, async (process) => process.request("analyze", { frame: await process.sendValues(values), rows, columns }));
  }

  /** Continues a prompt; `onText` gets the text as it comes. */
  async generate(
    parameters: Omit<ServiceParams["generate"], "stream">,
    onText: (text: string) => void,
    options: { signal?: AbortSignal } = {},
  ): Promise<ServiceResults["generate"]> {
    const stream = ++this.#streams;
    this.#texts.set(stream, onText);
    try {
      return await this.request("generate", { ...parameters, stream }, options);
    } finally {
      this.#texts.delete(stream);
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
