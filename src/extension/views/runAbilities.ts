/**
 * What can be done to a run in which state, for menus, context keys and commands alike. Pure.
 * The rule to keep: only what a core or a folder in that state really answers to is offered.
 */
import type { RunState, RunView } from "../../protocol/panelProtocol.ts";
import { type Ability, type ContextKey, contextKeys } from "../contributions.ts";

const byState: Record<RunState, readonly Ability[]> = {
  draft: ["start"],
  starting: ["stop"],
  opening: ["stop"],
  running: ["pause", "stop", "use"],
  pausing: ["resume", "stop", "use"],
  paused: ["resume", "stop", "use"],
  waiting: ["stop", "use"],
  stopping: ["use"],
  stopped: ["resume", "use", "remove"],
  interrupted: ["resume", "use", "remove"],
  failed: ["resume", "use", "remove"],
  finished: ["use", "remove"],
  notResponding: ["kill"],
  elsewhere: ["unlock"],
  restricted: [],
};

/** A core works on it, or is being started. */
const liveStates: readonly RunState[] = ["starting", "opening", "running", "pausing", "paused", "waiting", "stopping", "notResponding"];

export function abilitiesOf(state: RunState): readonly Ability[] {
  return byState[state];
}

export function isLive({ state }: Pick<RunView, "state">): boolean {
  return liveStates.includes(state);
}

/**
 * The context keys for the run (or draft) in front; without one, a command is offered when some run accepts it, because it will ask which. As long as the
 * folders were not looked through nothing is known of runs at rest, and what is not known is offered.
 */
export function contextOf(front: RunState | null, all: readonly RunState[], scanned: boolean): Record<ContextKey, boolean> {
  const states = front ? [front] : all;
  const atRest: readonly Ability[] = ["resume", "use", "remove"];
  const offered = (ability: Ability) =>
    states.some((state) => byState[state].includes(ability)) || (!front && (ability === "start" || (!scanned && atRest.includes(ability))));
  return Object.fromEntries(Object.entries(contextKeys).map(([key, ability]) => [key, offered(ability)])) as Record<ContextKey, boolean>;
}
