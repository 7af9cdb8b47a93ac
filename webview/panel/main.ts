/**
 * The training panel's program: takes the host's messages into the store, mounts the parts once texts and state are there, and says when a frame was shown.
 * It draws nothing itself. The rules to keep: parts know the store and the host, never each other; what goes wrong here is told to the host, for the log.
 */
import type { ToPanel } from "../../src/protocol/panelProtocol.ts";
import { element } from "../element.ts";
import { keepState, keptState, onMessage, send } from "../host.ts";
import { setStrings } from "../strings.ts";
import { mountHeader } from "./header.ts";
import { mountHeatmap } from "./heatmap/heatmap.ts";
import { mountLossChart } from "./lossChart.ts";
import { mountMemoryChart } from "./memoryChart.ts";
import { mountNotices } from "./notices.ts";
import { mountPlan } from "./planView.ts";
import { mountQkvShare } from "./qkvShare.ts";
import { mountRunForm } from "./runForm.ts";
import { mountSparsityMeter } from "./sparsityMeter.ts";
import { Store } from "./store.ts";
import "../buttons.css";
import "../page.css";
import "./panel.css";

type Mount = (container: HTMLElement, store: Store) => void;

/** In reading order for a run that has begun. */
const parts: readonly { name: string; mount: Mount }[] = [
  { name: "heatmap", mount: mountHeatmap },
  { name: "share", mount: mountQkvShare },
  { name: "sparsity", mount: mountSparsityMeter },
  { name: "loss", mount: mountLossChart },
  { name: "memory", mount: mountMemoryChart },
  { name: "notices", mount: mountNotices },
  { name: "plan", mount: mountPlan },
  { name: "form", mount: mountRunForm },
];
/** And for a run file that was not started: first what can be decided, then what will be seen. */
const draftOrder = ["form", "plan", "heatmap", "share", "sparsity", "loss", "memory", "notices"];
/** What is looked at first in a run. The rest takes several times as long to make, and waits until this is on the screen and its events have come. */
const firstParts: ReadonlySet<string> = new Set(["heatmap", "share", "sparsity"]);
const problemCharacters = 10_000;
/** In the page's performance timeline, where a benchmark and the developer tools find it. */
const frameShownMark = "sparse-tuner-frame-shown";

const store = new Store();
const root = document.querySelector("main") ?? document.body.appendChild(element("main"));

function reportProblem(what: unknown): void {
  const text = what instanceof Error ? (what.stack ?? what.message) : String(what);
  send({ kind: "problem", message: text.slice(0, problemCharacters) });
}

/** A frame that contradicts itself is left out; everything else of a first message still counts. */
function take(message: ToPanel): void {
  try {
    store.receive(message);
  } catch (error) {
    reportProblem(error);
    if (message.kind === "hydrate") store.receive({ ...message, frames: [] });
  }
}

let mounted: Map<string, HTMLElement> | null = null;
/** Of the parts that wait; empty once they are there. */
const mountLater: (() => void)[] = [];
/** Null until the parts were arranged once. */
let arrangedAsDraft: boolean | null = null;

function mountAll(): Map<string, HTMLElement> {
  const header = element("header", { class: "panel-header" });
  root.replaceChildren(header);
  root.removeAttribute("aria-busy");
  mountPart(mountHeader, header);
  return new Map(
    parts.map(({ name, mount }) => {
      const container = element("div", { class: `panel-part part-${name}` });
      if (isDraft() || firstParts.has(name)) mountPart(mount, container);
      else mountLater.push(() => mountPart(mount, container));
      return [name, container];
    }),
  );
}

function isDraft(): boolean {
  return store.state.run?.runFolder === null;
}

/** A part that cannot be built does not take the others with it. */
function mountPart(mount: Mount, container: HTMLElement): void {
  try {
    mount(container, store);
  } catch (error) {
    reportProblem(error);
  }
}

/** Puts the parts in the order that a draft or a run is read in; elements and not only their looks move, so that Tab follows. */
function arrange(containers: Map<string, HTMLElement>): void {
  const draft = isDraft();
  if (draft === arrangedAsDraft) return;
  arrangedAsDraft = draft;
  root.dataset.subject = draft ? "draft" : "run";
  const order = draft ? draftOrder : parts.map(({ name }) => name);
  root.append(...order.flatMap((name) => containers.get(name) ?? []));
}

/** The host sends the next frame when this one is on the screen; a hidden page paints nothing and so asks for nothing. */
function sayFrameShown(): void {
  afterPaint(() => {
    performance.mark(frameShownMark);
    send({ kind: "frameShown" });
  });
}

function afterPaint(work: () => void): void {
  requestAnimationFrame(() => setTimeout(work));
}

onMessage<ToPanel>((message) => {
  if (message.kind === "hydrate") {
    setStrings(message.strings);
    // What the host needs to show the same again after a reload of the window.
    keepState({ ...(keptState() as object | undefined), runFolder: message.run.runFolder, runFile: message.form?.file ?? null });
  }
  take(message);
  if (!store.state.run) return;
  if (message.kind === "frame" || message.kind === "hydrate") sayFrameShown();
  mounted ??= mountAll();
  if (message.kind === "events") for (const mount of mountLater.splice(0)) mount();
  arrange(mounted);
});
addEventListener("error", ({ error, message }) => reportProblem(error ?? message));
addEventListener("unhandledrejection", ({ reason }) => reportProblem(reason));
root.setAttribute("aria-busy", "true");
