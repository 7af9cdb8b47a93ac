/**
 * The register of live runs: one small JSON file a core, in a folder of the user's own that lies outside every workspace. What it says is trusted,
 * what a run folder says of a process is not. This file says where things lie and how a record reads; reading and writing are each side's own.
 * The rule to keep: a socket or a process is used only after a record of this register and the operating system agree on it.
 */
import path from "node:path";
import Type, { type Static } from "typebox";
import { Value } from "typebox/value";

const recordSchema = Type.Object({
  version: Type.Literal(1),
  /** Absolute, without symbolic links. */
  runFolder: Type.String({ minLength: 1, maxLength: 4096 }),
  pid: Type.Integer({ minimum: 1, maximum: 2 ** 31 }),
  host: Type.String({ minLength: 1, maxLength: 300 }),
  /** Boot and start tick of the process, which tell it from a later one with the same id; null where the system does not say. */
  processStart: Type.Union([Type.String({ maxLength: 200 }), Type.Null()]),
  /** Proves to the core that who connects has read this record. */
  nonce: Type.String({ pattern: "^[0-9A-Za-z-]{8,64}$" }),
  socket: Type.String({ minLength: 1, maxLength: 300 }),
  startedMs: Type.Number(),
});

export type LiveRunRecord = Static<typeof recordSchema>;

/** A record's text read back; null when it is none. */
export function parseLiveRunRecord(text: string): LiveRunRecord | null {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(recordSchema, value) ? value : null;
  } catch {
    return null;
  }
}

/** A process that works on a comparison. It has no socket: it is watched, and asked to stop, by files of its folder. */
const comparisonSchema = Type.Pick(recordSchema, ["version", "runFolder", "pid", "host", "processStart", "startedMs"]);
export type LiveComparisonRecord = Static<typeof comparisonSchema>;

/** As {@link parseLiveRunRecord}. */
export function parseLiveComparisonRecord(text: string): LiveComparisonRecord | null {
  try {
    const value: unknown = JSON.parse(text);
    return Value.Check(comparisonSchema, value) ? value : null;
  } catch {
    return null;
  }
}

/** What the paths depend on; `process.env` and friends. */
export interface UserPlace {
  platform: string;
  env: Readonly<Record<string, string | undefined>>;
  home: string;
}

/** Folder of this user's records. XDG_STATE_HOME counts only when it is absolute, as its specification says. */
export function liveRunsFolder({ platform, env, home }: UserPlace): string {
  if (platform === "win32") return path.join(env.LOCALAPPDATA ?? path.join(home, "AppData", "Local"), "sparse-tuner", "runs");
  if (platform === "darwin") return path.join(home, "Library", "Application Support", "sparse-tuner", "runs");
  const state = env.XDG_STATE_HOME && path.isAbsolute(env.XDG_STATE_HOME) ? env.XDG_STATE_HOME : path.join(home, ".local", "state");
  return path.join(state, "sparse-tuner", "runs");
}

/** Folder of this user's records of comparisons, beside that of runs. */
export function liveComparisonsFolder(place: UserPlace): string {
  return path.join(path.dirname(liveRunsFolder(place)), "comparisons");
}

/** Boot id and the text of /proc/PID/stat as one mark of a process; null when that text is none. A dead one that nobody has reaped has no record's mark. */
export function processStartMark(bootId: string, stat: string): string | null {
  // The name in parentheses may hold anything; after it come the state and, as the 20th field, the start tick.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (fields[0] === "Z" || fields[0] === "X") return `${bootId.trim()}:ended`;
  const tick = fields[19];
  return tick ? `${bootId.trim()}:${tick}` : null;
}
