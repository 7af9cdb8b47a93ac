/**
 * An error a person can act on: one sentence with the cause, and the next action. Everything else that is thrown is a bug.
 * The command line prints it without a stack trace; `usage` marks bad input (exit code 2).
 */
export class UserError extends Error {
  override readonly name = "UserError";
  /** Stable, for tests, documentation and the panel's buttons: `model/unsupported-rope`, `data/no-usable-row`, … */
  readonly code: string;
  /** What to do next, one sentence. */
  readonly action: string;
  /** Bad usage or input (exit code 2) rather than a failure while working (exit code 1). */
  readonly badInput: boolean;

  constructor(code: string, message: string, action: string, options: { badInput?: boolean; cause?: unknown } = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.action = action;
    this.badInput = options.badInput ?? true;
  }
}
