/**
 * Runs as the Compare Runs view shows them side by side: what their events have measured, and their curves. The number of trained parameters of a method
 * without blocks is asked of the service, which plans it from the run file.
 * The rule to keep: a run is only read; what it has not measured is null.
 */
import { readFile } from "node:fs/promises";
import path from "node:path";
import type { Curve, RunCard } from "../../protocol/compareProtocol.ts";
import type { RunEvent } from "../../protocol/events.ts";
import type { RunView } from "../../protocol/panelProtocol.ts";
import { checkRunFile } from "../../protocol/runConfig.ts";
import { measuresIn } from "../../protocol/runMeasures.ts";
import type { RunSession } from "../runs/runSession.ts";
import type { ServiceClient } from "../service/serviceClient.ts";
import { shortName } from "../views/runText.ts";

/** Longer curves are thinned evenly: no screen has so many pixels, and no message needs to be so long. */
const mostPoints = 20_000;

/** Cards of some runs; remembers what was asked of the service. */
export class RunCards {
  readonly #service: Pick<ServiceClient, "request">;
  readonly #parameters = new Map<string, Promise<number | null>>();

  constructor(service: Pick<ServiceClient, "request">) {
    this.#service = service;
  }

  async cards(sessions: readonly RunSession[]): Promise<RunCard[]> {
    const names = namesOf(sessions.map(({ view }) => view));
    return Promise.all(sessions.map((session, index) => this.#card(session, String(index), names[index])));
  }

  async #card(session: RunSession, id: string, name: string): Promise<RunCard> {
    await session.load();
    const { events, view } = session;
    const measures = measuresIn(events);
    return {
      id,
      name,
      method: events.findLast((event) => event.kind === "started")?.method ?? "",
      state: view.state,
      trainableParameters: measures.chosenParameters ?? (await this.#planned(session)),
      lossBefore: measures.lossBefore,
      lossAfter: measures.lossAfter ?? events.findLast((event) => event.kind === "evaluation")?.loss ?? null,
      peakBytes: measures.peakBytes,
      secondsPerStep: measures.secondsPerStep,
      steps: measures.steps,
      training: curveOf(events, "step"),
      heldOut: curveOf(events, "evaluation"),
    };
  }

  /** Null where the model cannot be read any more. */
  #planned({ runFolder }: RunSession): Promise<number | null> {
    const known = this.#parameters.get(runFolder);
    if (known) return known;
    const asked = this.#ask(path.join(runFolder, "run.yaml")).catch(() => null);
    this.#parameters.set(runFolder, asked);
    return asked;
  }

  async #ask(runFile: string): Promise<number | null> {
    const text = await readFile(runFile, "utf8");
    if (!checkRunFile(text, runFile).config) return null;
    return (await this.#service.request("plan", { runFile, text })).trainableParameters;
  }
}

/** Short names; runs of one run file, which would be called the same, by their whole names. */
function namesOf(runs: readonly Pick<RunView, "name">[]): string[] {
  const short = runs.map(shortName);
  return runs.map(({ name }, index) => (short.indexOf(short[index]) === short.lastIndexOf(short[index]) ? short[index] : name));
}

function curveOf(events: readonly RunEvent[], kind: "step" | "evaluation"): Curve {
  const points = events.flatMap((event) => (event.kind === kind ? [{ step: event.step, value: event.loss }] : []));
  const every = Math.ceil(points.length / mostPoints);
  const kept = every <= 1 ? points : points.filter((_, index) => index % every === 0 || index === points.length - 1);
  return { steps: kept.map(({ step }) => step), values: kept.map(({ value }) => value) };
}
