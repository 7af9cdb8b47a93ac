/**
 * What a device throws for an op, or a form of one, that it cannot compute. It is not a bug and not the user's mistake: whoever opens devices
 * takes another one, and the conformance suite counts and prints them. A device throws it before it changes anything.
 */
export class UnsupportedError extends Error {
  override readonly name = "UnsupportedError";
  /** The method of `Device`, e.g. `attentionBackward`. */
  readonly op: string;

  /** @param what The form that is missing, e.g. `head size 2048`. */
  constructor(op: string, what: string) {
    super(`${op} does not support ${what} on this device`);
    this.op = op;
  }
}
