/** What the classes of this folder are given by who builds them. Types only. */

import type { HeatmapFrame } from "../../protocol/panelProtocol.ts";
import type { ServiceParams, ServiceResults } from "../../protocol/serviceProtocol.ts";
import type { BlockValues } from "../coreClient.ts";
import type { CoreProgram } from "../startCore.ts";

/** What is asked of the service process: reads of runs that need no live core. */
export interface RunReader {
  request<Name extends "describeRun" | "readCell" | "blockHistory">(name: Name, parameters: ServiceParams[Name]): Promise<ServiceResults[Name]>;
  heatmap(parameters: ServiceParams["heatmap"]): Promise<{ step: number | null; frames: HeatmapFrame[] }>;
  readBlock(parameters: ServiceParams["readBlock"]): Promise<BlockValues>;
}

/** Given by the shell. */
export interface RunServices {
  /** Absolute path of core.js; node is found anew at each start. */
  program(): Promise<CoreProgram>;
  service: RunReader;
  isTrusted(): boolean;
  keepRunning(): boolean;
  log(line: string): void;
  /** Keeps every frame of a heatmap in the run folder, for tests that compare what was shown with what was sent. */
  recordFrames?(): boolean;
}
