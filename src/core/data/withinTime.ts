/** Runs work that may never end — a template, a regular expression from a file — with a limit of time. */
import { createContext, Script } from "node:vm";

const context = createContext({ work: () => undefined });
const callWork = new Script("work()");

/** The result of `work`, or null when it needed more than `limitMs`. Work that was cut off must leave nothing half done that matters. */
export function withinTime<T>(limitMs: number, work: () => T): { value: T } | null {
  context.work = work;
  try {
    return { value: callWork.runInContext(context, { timeout: limitMs }) };
  } catch (error) {
    // The error belongs to the context's realm, so that it is no instance of this one's Error.
    if ((error as { code?: unknown } | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") return null;
    throw error;
  } finally {
    context.work = undefined;
  }
}
