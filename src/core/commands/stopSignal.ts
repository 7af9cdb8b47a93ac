/**
 * Turns Ctrl-C and SIGTERM into a request that a run answers at its next step boundary. The first signal asks, a second one ends the process at once.
 * It stops nothing itself; without it a signal ends a command at once, with the same exit codes.
 */
import os from "node:os";

export interface StopSignal {
  /** The signal that asked, or null. */
  readonly received: NodeJS.Signals | null;
  /** What the process shall exit with when it has stopped because of it: 130 or 143. Null when nothing was asked. */
  readonly exitCode: number | null;
  /** Gives the signals back to the command line. */
  close(): void;
}

const signals: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM"];

/** The exit code a shell gives for a process that a signal ended. */
export function exitCodeOf(signal: NodeJS.Signals): number {
  return 128 + os.constants.signals[signal];
}

/** Ends the process with the signal's exit code as soon as one comes. */
export function exitOnSignals(): void {
  for (const signal of signals) process.on(signal, exitNow);
}

function exitNow(signal: NodeJS.Signals): void {
  process.exit(exitCodeOf(signal));
}

/** Listens until closed; `onFirst` is called once, to say that the run is stopping. */
export function listenForStop(onFirst: (signal: NodeJS.Signals) => void): StopSignal {
  let received: NodeJS.Signals | null = null;
  const listener = (signal: NodeJS.Signals) => {
    if (received) exitNow(signal);
    received = signal;
    onFirst(signal);
  };
  for (const signal of signals) {
    process.off(signal, exitNow);
    process.on(signal, listener);
  }
  return {
    get received() {
      return received;
    },
    get exitCode() {
      return received && exitCodeOf(received);
    },
    close() {
      for (const signal of signals) {
        process.off(signal, listener);
        process.on(signal, exitNow);
      }
    },
  };
}
