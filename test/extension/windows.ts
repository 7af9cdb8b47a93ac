/** Windows for tests: what a shell gives to RunSessions, with the core of the sources and without VS Code; and who looks at a run in one. */
import { nativeAvailable } from "../../src/core/devices/cpu/cpuDevice.ts";
import type { CrashBudget } from "../../src/extension/runs/crashBudget.ts";
import type { LinkTimes } from "../../src/extension/runs/linkState.ts";
import type { RunReader, RunServices, RunSession } from "../../src/extension/runs/runSession.ts";
import { RunSessions } from "../../src/extension/runs/runSessions.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import type { RunState } from "../../src/protocol/panelProtocol.ts";
import { program, until } from "../core/host/runningCore.ts";

/** Steps of some hundredths of a second, so that a run outlasts those who look at it. */
export const slowSteps = nativeAvailable() ? { batchSize: 8, sequenceLength: 128 } : { batchSize: 1, sequenceLength: 32 };

/** Nothing is read from checkpoints in most tests. */
export const noService: RunReader = {
  request: (name) => Promise.reject(new Error(`the service was asked for ${name}`)),
  heatmap: () => Promise.reject(new Error("the service was asked for heatmaps")),
  readBlock: () => Promise.reject(new Error("the service was asked for a block")),
};

export interface WindowOptions extends Partial<RunServices> {
  times?: Partial<LinkTimes>;
  budget?: CrashBudget;
}

/** A window that is closed after the test; the runs it started are the test's to end. */
export function openWindow(test: { after(clean: () => void): void }, { times, budget, ...services }: WindowOptions = {}) {
  const logged: string[] = [];
  const runs = new RunSessions(
    {
      program: async () => program,
      service: noService,
      isTrusted: () => true,
      keepRunning: () => true,
      log: (line) => logged.push(line),
      ...services,
    },
    { times, budget },
  );
  test.after(() => runs.dispose());
  return { runs, logged };
}

/** Everything a panel would have: what was there when it looked, then what it was told. */
export class Watcher {
  readonly events: RunEvent[];
  readonly states: RunState[] = [];
  readonly #session: RunSession;

  constructor(session: RunSession) {
    this.#session = session;
    this.states.push(session.view.state);
    session.listen({
      onEvents: (events) => this.events.push(...events),
      onView: ({ state }) => {
        if (this.states.at(-1) !== state) this.states.push(state);
      },
    });
    this.events = [...session.events];
  }

  get steps(): number {
    return this.events.filter(({ kind }) => kind === "step").length;
  }

  async reached(state: RunState, timeoutMs = 90_000): Promise<void> {
    await until(
      () => this.#session.view.state === state,
      timeoutMs,
      () => `${state} after ${this.states.join(", ")}; ${JSON.stringify(this.#session.view)}`,
    );
  }

  async stepped(count = 5): Promise<void> {
    const wanted = this.steps + count;
    await until(
      () => this.steps >= wanted,
      90_000,
      () => `${this.steps} of ${wanted} steps, ${JSON.stringify(this.#session.view)}`,
    );
  }
}
