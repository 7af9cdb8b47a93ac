/**
 * The block heatmap of the panel: mounts its parts and passes what happens between them. Where things stand, which colours they have and what is said of
 * them is known elsewhere.
 * The rules to keep: nothing is drawn that no frame told; a frame is drawn once, before the next paint; the picture is one tab stop.
 */
import { element, oncePerFrame, setText } from "../../element.ts";
import { keepState, keptState, send } from "../../host.ts";
import { t } from "../../strings.ts";
import { onThemeChange, readTheme } from "../../theme.ts";
import type { PanelState, Store } from "../store.ts";
import { mountBreadcrumb } from "./breadcrumb.ts";
import { HeatmapControl } from "./control.ts";
import type { CellPlace } from "./grids.ts";
import { watchKeys } from "./keys.ts";
import { mountLegend } from "./legend.ts";
import { Picture } from "./picture.ts";
import { watchPointer } from "./pointer.ts";
import { mountReadout } from "./readout.ts";
import { type ScaleKind, scaleKinds } from "./scale.ts";
import { type HeatmapSurface, surfaceOf } from "./surface.ts";
import { mountTable } from "./table.ts";
import { aggregationText, emptyText, gridLabel, missingText, modeExplanation, sourceText } from "./texts.ts";
import { mountToolbar } from "./toolbar.ts";
import { type HeatmapMode, heatmapModes } from "./values.ts";
import "./heatmap.css";

declare global {
  interface Window {
    sparseTunerHeatmap?: HeatmapSurface;
  }
}

export function mountHeatmap(container: HTMLElement, store: Store): void {
  const control = new HeatmapControl();
  restoreChoices(control);
  const theme = readTheme();
  control.setThemeKind(theme.kind);

  const values = element("canvas", { class: "heatmap-values" });
  const marks = element("canvas", { class: "heatmap-marks", "aria-hidden": "true" });
  const cell = element("div", { role: "gridcell", id: "heatmap-cell" });
  const row = element("div", { role: "row", class: "visually-hidden" }, cell);
  const stage = element("div", { role: "grid", class: "heatmap-stage", tabindex: 0 }, values, marks, row);
  const empty = element("p", { class: "empty" });
  const explanation = element("p", { class: "muted" });
  const note = element("p", { class: "heatmap-note", role: "status" });
  const tableBox = element("div", { class: "heatmap-table", hidden: true });
  const [toolbarBox, legendBox, readoutBox] = ["heatmap-toolbar", "heatmap-legend", "heatmap-readout"].map((name) => element("div", { class: name }));
  const crumbs = element("nav", { class: "heatmap-crumbs", "aria-label": t("Part of the model that is shown") });
  const figure = element("div", { class: "heatmap-figure" }, crumbs, stage, legendBox, note, readoutBox);
  const full = element("div", { class: "heatmap-full" }, toolbarBox, explanation, figure, tableBox);
  container.append(element("section", { class: "heatmap" }, element("h2", {}, t("Block heatmap")), empty, full));

  const inspect = (place: CellPlace) => {
    const { name } = control.model.matrices[place.matrix];
    send({ kind: "inspect", name, row: place.row, column: place.column });
  };
  const picture = new Picture(control, values, marks, theme);
  const table = mountTable(tableBox, control, inspect);
  const updateToolbar = mountToolbar(toolbarBox, control, (asTable) => {
    tableBox.hidden = !asTable;
    figure.hidden = asTable;
    table.setVisible(asTable);
  });
  const updateCrumbs = mountBreadcrumb(crumbs, control, () => stage.focus());
  const updateLegend = mountLegend(legendBox, control);
  const updateReadout = mountReadout(readoutBox, control, store, (sentence) => speak(stage, row, cell, control, sentence));
  watchPointer(marks, control, inspect);
  watchKeys(stage, control, inspect);
  window.sparseTunerHeatmap = surfaceOf(control);

  const due = { values: true, view: true, marks: true };
  /** What the marks were drawn of: values stream in and change none of them. */
  let marked: { chosen: unknown; mode: HeatmapMode | null } = { chosen: null, mode: null };
  const draw = oncePerFrame(() => {
    const { values: valuesDue, view: viewDue, marks: marksDue } = due;
    Object.assign(due, { values: false, view: false, marks: false });
    if (valuesDue || viewDue) {
      picture.drawValues(viewDue);
      describe(values, control, store.state);
      updateLegend();
      updateToolbar();
      setText(explanation, modeExplanation(control.mode));
      setText(note, noteOf(control));
      stage.setAttribute("aria-label", gridLabel(control.model.matrices, control.model.cellCount, control.mode));
      table.update();
    }
    if (viewDue) updateCrumbs();
    if (marksDue || viewDue || marked.chosen !== control.model.chosen || marked.mode !== control.mode) {
      marked = { chosen: control.model.chosen, mode: control.mode };
      picture.drawMarks(document.activeElement === stage);
    }
    updateReadout();
  });
  control.onChange((change) => {
    if (change === "view") due.view = true;
    if (change === "values") due.values = true;
    if (change === "cursor") due.marks = true;
    draw();
  });
  const drawMarks = () => {
    due.marks = true;
    draw();
  };

  const measure = () => {
    const { clientWidth: width, clientHeight: height } = stage;
    if (width === 0 || height === 0) return;
    control.setArea({ width, height }, devicePixelRatio);
    picture.resize();
    due.view = true;
    draw();
  };
  new ResizeObserver(measure).observe(stage);
  addEventListener("resize", measure);
  for (const type of ["focus", "blur"]) stage.addEventListener(type, drawMarks);
  onThemeChange((next) => {
    control.setThemeKind(next.kind);
    picture.setTheme(next);
  });

  const take = (state: PanelState) => {
    control.setModel(state.heatmap);
    const nothing = state.heatmap.matrices.length === 0;
    full.hidden = nothing;
    empty.hidden = !nothing;
    if (nothing) setText(empty, emptyText(state));
  };
  take(store.state);
  store.subscribe((state, changed) => {
    if (changed !== "plan" && changed !== "cell") take(state);
  });
}

/** The mode and scale that were looked at last; the control keeps them from now on. */
function restoreChoices(control: HeatmapControl): void {
  const { mode, scale } = (keptState() as { heatmap?: { mode?: HeatmapMode; scale?: ScaleKind } } | undefined)?.heatmap ?? {};
  if (mode && heatmapModes.includes(mode)) control.setMode(mode);
  if (scale && scaleKinds.includes(scale)) control.setScaleKind(scale);
  let kept = { mode: control.mode, scale: control.scaleKind };
  control.onChange(() => {
    if (control.mode === kept.mode && control.scaleKind === kept.scale) return;
    kept = { mode: control.mode, scale: control.scaleKind };
    keepState({ ...(keptState() as object | undefined), heatmap: kept });
  });
}

/** What a program can read from the canvas; see `surface.ts`. */
function describe(canvas: HTMLCanvasElement, control: HeatmapControl, state: PanelState): void {
  const { model, mode, paint, cellPixels, aggregated } = control;
  const steps: Record<HeatmapMode, number | undefined> = {
    score: model.scores?.step ?? model.chosen?.step,
    selected: model.chosen?.step,
    gradient: model.magnitudes?.step,
    delta: model.magnitudes?.step,
    secondMoment: model.magnitudes?.step,
  };
  const layers = new Set(model.matrices.filter(({ layer }) => layer >= 0).map(({ layer }) => layer));
  Object.assign(canvas.dataset, {
    mode,
    scale: paint.scale?.kind ?? "",
    layerCount: String(layers.size),
    step: String(steps[mode] ?? ""),
    cellPixels: cellPixels.toPrecision(6),
    aggregated: String(aggregated),
    run: state.run?.runFolder ?? "",
  });
}

function noteOf(control: HeatmapControl): string {
  const { model, mode, paint, aggregated, blocksPerSquare } = control;
  const nothing = mode === "selected" ? !model.chosen : !paint.scale;
  if (nothing) return missingText(model, mode);
  const source = sourceText(model, mode);
  return aggregated ? `${source} ${aggregationText(blocksPerSquare.down, blocksPerSquare.across, mode)}` : source;
}

/** Lets the one element that stands for all blocks speak of the active one. */
function speak(stage: HTMLElement, row: HTMLElement, cell: HTMLElement, control: HeatmapControl, sentence: string): void {
  const { active, model } = control;
  if (!active || cell.getAttribute("aria-label") === sentence) return;
  const grid = model.matrices[active.matrix];
  cell.setAttribute("aria-label", sentence);
  cell.setAttribute("aria-colindex", String(active.column + 1));
  row.setAttribute("aria-rowindex", String(active.row + 1));
  stage.setAttribute("aria-rowcount", String(grid.rows));
  stage.setAttribute("aria-colcount", String(grid.columns));
  // Pointing at the same element again is no change for a screen reader, unless it was not pointed at in between.
  stage.removeAttribute("aria-activedescendant");
  stage.setAttribute("aria-activedescendant", cell.id);
}
