/**
 * What an error of the core is, in the display language: a sentence a code. The core speaks English, with the names and numbers of the case; its own sentence
 * stays behind the headline.
 * The rule to keep: an English window shows the core's sentences alone, and a code without a headline is shown as it is.
 */
import * as vscode from "vscode";
import type { Failure } from "../protocol/panelProtocol.ts";
import { headlines } from "./errorHeadlineTexts.ts";

/** The failure with its headline in front of its sentence. */
export function withHeadline<F extends Pick<Failure, "code" | "message">>(failure: F): F {
  const headline = headlineOf(failure.code);
  return headline === null ? failure : { ...failure, message: `${headline} ${failure.message}` };
}

/** Null where the window is English, or nothing is known of the code. */
export function headlineOf(code: string): string | null {
  if (vscode.l10n.bundle === undefined) return null;
  const known = headlines();
  const key = [code, code.replace(/\/.*/, "/*")].find((candidate) => Object.hasOwn(known, candidate));
  return key === undefined ? null : known[key];
}
