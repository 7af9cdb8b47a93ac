/** The keyboard on the heatmap. Keys become calls of the control; the rule to keep: Tab always leaves, nothing else is taken that the page needs. */
import type { HeatmapControl } from "./control.ts";
import type { CellPlace } from "./grids.ts";
import { isWalkKey, walked } from "./walk.ts";

const zoomStep = 1.5;

export function watchKeys(stage: HTMLElement, control: HeatmapControl, inspect: (place: CellPlace) => void): void {
  stage.addEventListener("focus", () => {
    const place = control.active ?? control.firstPlace;
    // A click has its own block; coming by Tab begins at the best one.
    if (place && !control.active && stage.matches(":focus-visible")) control.setActive(place);
  });
  stage.addEventListener("keydown", (event) => {
    if (event.altKey || event.metaKey || control.model.matrices.length === 0) return;
    if (!act(event, control, inspect)) return;
    event.preventDefault();
  });
}

/** True when the key was meant for the heatmap. */
function act({ key, ctrlKey }: KeyboardEvent, control: HeatmapControl, inspect: (place: CellPlace) => void): boolean {
  const place = control.active ?? control.firstPlace;
  if (isWalkKey(key) && place) {
    control.setActive(control.active ? walked(control.model.matrices, place, key, ctrlKey) : place);
    return true;
  }
  if (ctrlKey) return false;
  switch (key) {
    case "Enter":
      if (control.active) inspect(control.active);
      return control.active !== null;
    case "+":
    case "=":
      zoomAtActive(control, zoomStep);
      return true;
    case "-":
      zoomAtActive(control, 1 / zoomStep);
      return true;
    case "0":
    case "Escape":
      control.showWhole();
      return true;
    default:
      return false;
  }
}

function zoomAtActive(control: HeatmapControl, factor: number): void {
  const rect = control.active && control.rectOf(control.active);
  control.zoomBy(factor, rect ? { x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 } : undefined);
}
