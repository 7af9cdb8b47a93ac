/** The service process spoken to frame by frame, without the client: for what a client would never send. */
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import path from "node:path";
import { encodeFrame, type Frame, FrameDecoder } from "../../../src/protocol/frames.ts";
import { serviceToHostLimits } from "../../../src/protocol/serviceProtocol.ts";

export const core = path.resolve(import.meta.dirname, "../../../src/core/main.ts");

export interface Message {
  id?: number;
  method?: string;
  params?: { stream: number; text: string };
  result?: Record<string, unknown>;
  error?: { code: number; message: string; data?: { code: string; action: string } };
}

export class RawService {
  readonly child: ChildProcessWithoutNullStreams;
  readonly frames: Frame[] = [];
  errors = "";
  /** What came on standard output that is no frame; empty when all is well. */
  problem = "";
  readonly exit: Promise<{ code: number | null; signal: string | null }>;
  readonly #watchers = new Set<() => void>();
  #id = 0;

  constructor(test: { after(clean: () => unknown): void }, ...nodeArguments: string[]) {
    this.child = spawn(process.execPath, [...nodeArguments, core, "--serve"], { stdio: "pipe" });
    test.after(() => this.child.kill("SIGKILL"));
    const decoder = new FrameDecoder(serviceToHostLimits);
    this.child.stdin.on("error", () => {});
    this.child.stdout.on("data", (chunk: Buffer) => {
      try {
        this.frames.push(...decoder.push(chunk));
      } catch (error) {
        this.problem ||= `${(error as Error).message}: ${chunk.toString("latin1").slice(0, 100)}`;
      }
      for (const watcher of [...this.#watchers]) watcher();
    });
    this.child.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.errors += text;
    });
    this.exit = new Promise((resolve) => this.child.on("close", (code, signal) => resolve({ code, signal })));
  }

  write(bytes: Uint8Array): void {
    this.child.stdin.write(bytes);
  }

  /** Sends a request and returns its id. */
  send(method: string, params: unknown): number {
    const id = ++this.#id;
    this.write(encodeFrame({ jsonrpc: "2.0", id, method, params }));
    return id;
  }

  notify(method: string, params: unknown): void {
    this.write(encodeFrame({ jsonrpc: "2.0", method, params }));
  }

  get messages(): Message[] {
    return this.frames.filter(({ header }) => "jsonrpc" in header).map(({ header }) => header as Message);
  }

  /** The first message that fits, come already or to come; rejects when the process ends without one. */
  seen(fits: (message: Message) => boolean): Promise<Message> {
    return new Promise((resolve, reject) => {
      const look = () => {
        const found = this.messages.find(fits);
        if (!found && !this.problem) return;
        this.#watchers.delete(look);
        if (found) resolve(found);
        else reject(new Error(this.problem));
      };
      this.#watchers.add(look);
      void this.exit.then(({ code }) => reject(new Error(`the service ended with ${code}: ${this.errors}`)));
      look();
    });
  }

  async ask(method: string, params: unknown): Promise<Message> {
    const id = this.send(method, params);
    return this.seen((message) => message.id === id && ("result" in message || "error" in message));
  }
}
