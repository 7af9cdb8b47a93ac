/** The device went away while it was used: a driver was reset, a card unplugged or put to sleep. What it held is gone; what is on the disk is not. */
import { UserError } from "../../protocol/userError.ts";

export class DeviceLostError extends UserError {
  /** `why` is the driver's own sentence. */
  constructor(why: string) {
    super(
      "device/lost",
      `The graphics card was lost (${why.trim() || "its driver does not say why"}).`,
      "Start again from what was saved; if it happens again, look after the card's driver, or use device: cpu.",
      { badInput: false },
    );
  }
}
