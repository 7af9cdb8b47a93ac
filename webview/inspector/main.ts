/**
 * The inspector of sub-matrices: one or two blocks of a run side by side. Everything shown comes from the host by messages; nothing is kept that it cannot
 * send again.
 */
import "./inspector.css";
import type { BlockPlace } from "../../src/protocol/coreProtocol.ts";
import type { StepChoice, ToInspector } from "../../src/protocol/inspectorProtocol.ts";
import { onMessage, send } from "../host.ts";
import { setStrings, t } from "../strings.ts";
import { answered } from "./requests.ts";
import { SideView } from "./sideView.ts";

type ShownBlock = BlockPlace & { at: StepChoice };

const root = document.getElementById("root") as HTMLElement;
const heading = document.createElement("h1");
const sides = document.createElement("div");
sides.className = "sides";

let left: SideView | null = null;
let right: SideView | null = null;
let steps: readonly number[] = [];
let live = false;

function showSide(side: "left" | "right", block: ShownBlock): void {
  if (side === "left") {
    left ??= new SideView("left", { onPin: (pinned) => showSide("right", pinned) });
    sides.prepend(left.element);
  } else if (!right) {
    right = new SideView("right", { onPin: unpin });
    sides.append(right.element);
  }
  const view = (side === "left" ? left : right) as SideView;
  view.offer(steps, live);
  view.show(block);
}

function unpin(): void {
  right?.element.remove();
  right = null;
}

function receive(message: ToInspector): void {
  switch (message.kind) {
    case "hydrate":
      setStrings(message.strings);
      ({ steps, live } = message);
      heading.textContent = t("Sub-matrices of {0}: blocks of {1} × {1}", message.runName, String(message.blockSize));
      root.replaceChildren(heading, sides);
      showSide("left", message.left);
      if (message.right) showSide("right", message.right);
      return;
    case "show":
      showSide(message.side, { ...message.block, at: "now" });
      return;
    case "moved":
      ({ steps, live } = message);
      for (const view of [left, right]) {
        view?.offer(steps, live);
        view?.moved();
      }
      return;
    default:
      answered(message);
  }
}

window.addEventListener("error", (event) => send({ kind: "problem", message: String(event.message) }));
window.addEventListener("unhandledrejection", (event) => send({ kind: "problem", message: String(event.reason) }));
onMessage<ToInspector>(receive);
