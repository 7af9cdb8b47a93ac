/**
 * Mouse and touchpad over the heatmap: hover, click, double click, drag, wheel. It turns them into calls of the control; it draws nothing.
 * The rule to keep: the wheel belongs to the page until it is used over the heatmap on its own, and again where zooming has come to its end.
 */
import type { HeatmapControl } from "./control.ts";
import type { CellPlace } from "./grids.ts";

/** A click opens the inspector only when no second one follows so soon. */
const doubleClickMs = 250;
/** Moved less than this, a press is a click. */
const clickPixels = 4;
/** Wheel events closer together than this are one movement of the hand. */
const sameGestureMs = 250;
const wheelPixelsPerDoubling = 240;

export function watchPointer(surface: HTMLElement, control: HeatmapControl, inspect: (place: CellPlace) => void): void {
  let pressed: { x: number; y: number; dragged: boolean } | null = null;
  let dragged = false;
  let click: ReturnType<typeof setTimeout> | undefined;
  const pointOf = (event: MouseEvent) => {
    const { left, top } = surface.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };

  surface.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pressed = { x: event.clientX, y: event.clientY, dragged: false };
    surface.setPointerCapture(event.pointerId);
  });
  surface.addEventListener("pointermove", (event) => {
    if (!pressed) {
      control.setHovered(control.placeAt(pointOf(event)));
      return;
    }
    const [dx, dy] = [event.clientX - pressed.x, event.clientY - pressed.y];
    if (!pressed.dragged && Math.hypot(dx, dy) < clickPixels) return;
    pressed = { x: event.clientX, y: event.clientY, dragged: true };
    control.setHovered(null);
    control.panBy(dx, dy);
  });
  surface.addEventListener("pointerup", () => {
    dragged = pressed?.dragged ?? false;
    pressed = null;
  });
  surface.addEventListener("click", (event) => {
    const place = dragged ? null : control.placeAt(pointOf(event));
    clearTimeout(click);
    if (!place) return;
    control.setActive(place);
    if (event.detail < 2) click = setTimeout(() => inspect(place), doubleClickMs);
  });
  surface.addEventListener("pointercancel", () => {
    pressed = null;
  });
  surface.addEventListener("pointerleave", () => control.setHovered(null));
  surface.addEventListener("dblclick", (event) => {
    clearTimeout(click);
    const place = control.placeAt(pointOf(event));
    if (!place) return;
    if (control.focus.matrix === place.matrix) control.zoomBy(2, pointOf(event));
    else control.showMatrix(place.matrix);
  });
  watchWheel(surface, control, pointOf);
}

function watchWheel(surface: HTMLElement, control: HeatmapControl, pointOf: (event: MouseEvent) => { x: number; y: number }): void {
  // When the page was scrolled last: a movement that began as scrolling goes on as scrolling, also when the heatmap slides under the pointer.
  let scrolledMs = Number.NEGATIVE_INFINITY;
  addEventListener(
    "wheel",
    (event) => {
      if (!event.defaultPrevented) scrolledMs = event.timeStamp;
    },
    { passive: true },
  );
  surface.addEventListener(
    "wheel",
    (event) => {
      const scrolling = event.timeStamp - scrolledMs < sameGestureMs && !event.ctrlKey;
      if (scrolling || event.deltaY === 0 || control.model.matrices.length === 0) return;
      const before = control.view;
      control.zoomBy(2 ** (-pixelsOf(event) / wheelPixelsPerDoubling), pointOf(event));
      if (control.view === before && !event.ctrlKey) return;
      event.preventDefault();
      control.setHovered(control.placeAt(pointOf(event)));
    },
    { passive: false },
  );
}

/** Wheels count in pixels, lines or pages. */
function pixelsOf({ deltaY, deltaMode }: WheelEvent): number {
  const unit = deltaMode === WheelEvent.DOM_DELTA_LINE ? 33 : deltaMode === WheelEvent.DOM_DELTA_PAGE ? 400 : 1;
  return Math.max(-400, Math.min(400, deltaY * unit));
}
