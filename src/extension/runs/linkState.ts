/** How this window stands to the core of a run. Types and usual times only. */
import type { CardReport } from "../../protocol/cardReading.ts";
import { type CoreStatus, notRespondingMs } from "../../protocol/coreProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";
import type { CoreClient } from "../coreClient.ts";

export type LinkState =
  /** No core of this user's. */
  | { kind: "away" }
  /** One was asked for, or comes back after a crash. */
  | { kind: "starting" }
  /** The register has one that has not answered yet; since when, by the clock of `performance`. */
  | { kind: "connecting"; pid: number; sinceMs: number }
  | { kind: "attached"; client: CoreClient; status: CoreStatus; responding: boolean }
  /** The register has one that does not let this window in. */
  | { kind: "refused"; pid: number };

export interface LinkListener {
  onEvents(events: RunEvent[]): void;
  onFrame(frame: HeatmapFrame): void;
  onCard(report: CardReport): void;
  /** The state, the failure or the log's tail is another one. */
  onChange(): void;
}

export interface LinkTimes {
  notRespondingMs: number;
  /** Between two tries to reach a core that the register has. */
  retryMs: number;
  /** With keepRunning off a core ends after so long without a window. */
  aloneMs: number;
}

export const usualTimes: LinkTimes = { notRespondingMs, retryMs: 2000, aloneMs: 60_000 };
