/**
 * Where an installed TensorFlow engine lies, for those who install it and those who look for it. Paths only.
 * The rule to keep: in the place stands a whole installation that was tried there, or nothing.
 */
import path from "node:path";
import type { UserPlace } from "../protocol/liveRun.ts";

/** Names a folder whose node_modules holds an engine; who starts a core or the service sets it. */
export const engineFolderVariable = "SPARSE_TUNER_TENSORFLOW";

/** The installation in a folder that is kept for it. */
export function engineIn(folder: string): string {
  return path.join(folder, "engine");
}

/** The command line's folder for it: of this user, for data that is not settings. */
export function userEngineFolder({ platform, env, home }: UserPlace): string {
  if (platform === "win32") return path.join(env.LOCALAPPDATA ?? path.join(home, "AppData", "Local"), "sparse-tuner", "tensorflow");
  if (platform === "darwin") return path.join(home, "Library", "Application Support", "sparse-tuner", "tensorflow");
  const data = env.XDG_DATA_HOME && path.isAbsolute(env.XDG_DATA_HOME) ? env.XDG_DATA_HOME : path.join(home, ".local", "share");
  return path.join(data, "sparse-tuner", "tensorflow");
}
