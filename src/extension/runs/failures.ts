/**
 * What went wrong with a run, as views show it. Plain Node: the sentences are the core's own or written like them.
 * The rule to keep: a failure has a stable code, one sentence and what to do next.
 */
import type { Failure } from "../../protocol/panelProtocol.ts";
import { UserError } from "../../protocol/userError.ts";

/** An absolute path of a text file; it may hold spaces, so that it ends at its extension. */
const file = String.raw`((?:[A-Za-z]:[\\/]|/)[^\n:"]*?\.(?:ya?ml|jsonl?|csv|txt))(?![A-Za-z0-9])`;
const fileColonLine = new RegExp(`${file}:(\\d+)`);
const lineOfFile = new RegExp(`\\b[Ll]ine (\\d+) of ${file}`);
const fileThenLine = new RegExp(`${file}[^\\n]*?\\bline (\\d+)\\b`);

/** The first place in a file that a sentence names: `FILE:12:3: …`, `Line 12 of FILE …`, `FILE … (line 12: …)`. */
export function placeNamedIn(message: string): Failure["place"] {
  const colon = fileColonLine.exec(message);
  if (colon) return { file: colon[1], line: Number(colon[2]) };
  const before = lineOfFile.exec(message);
  if (before) return { file: before[2], line: Number(before[1]) };
  const after = fileThenLine.exec(message);
  return after && { file: after[1], line: Number(after[2]) };
}

/** A refusal as a failure, with the place it names. */
export function failureFrom({ code, message, action }: { code: string; message: string; action: string }): Failure {
  return { code, message, action, place: placeNamedIn(message) };
}

/** Anything that was thrown as a failure. */
export function failureOf(error: unknown): Failure {
  if (error instanceof UserError) return failureFrom(error);
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message, action: "Look into the log, and resume the run.", place: null };
}

/** What an action on a core is refused with where none lives. */
export function notLive(): UserError {
  return new UserError("run/not-live", "No process works on the run.", "Resume the run.", { badInput: false });
}

/** What every action on a core is refused with in a workspace that is not trusted. */
export function restricted(): UserError {
  return new UserError(
    "trust/restricted",
    "The workspace is not trusted: no run is started or attached to.",
    "Trust the workspace, if you know where it comes from.",
    { badInput: false },
  );
}
