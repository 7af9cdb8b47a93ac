/**
 * Reads the training panel as a program can: the frames that reached it, and block values decoded from the colours of its heatmap. It knows the panel's
 * documented surface (webview/panel/heatmap/surface.ts) and nothing of how it draws. The rule to keep: a value read here came through the pixels.
 */
import type { BrowserContext, Frame } from "playwright-core";
import type { HeatmapHeader } from "../../src/protocol/coreProtocol.ts";
import type { RunEvent } from "../../src/protocol/events.ts";
import type { HeatmapSurface } from "../../webview/panel/heatmap/surface.ts";
import type { HeatmapMode } from "../../webview/panel/heatmap/values.ts";
import { until } from "./window.ts";

export const panelTitle = "Sparse Tuner Training Panel";

export interface Place {
  name: string;
  row: number;
  column: number;
}

interface Recording {
  recordedFrames?: { header: HeatmapHeader; payload: Uint8Array }[];
  /** Numbers of the events that came since the state was sent last, that with them. */
  recordedSequences?: number[];
  sparseTunerHeatmap?: HeatmapSurface;
}

/** From now on every document of a window keeps the heatmap frames and the numbers of the events that it is sent. */
export async function recordMessages(context: BrowserContext): Promise<void> {
  await context.addInitScript(() => {
    const view = globalThis as unknown as Recording & Window;
    view.recordedFrames = [];
    // VS Code writes a webview's document anew, which takes listeners away but leaves what the window's own objects have become.
    const add = EventTarget.prototype.addEventListener;
    EventTarget.prototype.addEventListener = function (
      this: EventTarget,
      type: string,
      listener: EventListenerOrEventListenerObject | null,
      options,
    ) {
      if (type !== "message" || this !== window || typeof listener !== "function") return add.call(this, type, listener, options);
      const recording = (event: Event) => {
        const data = (event as MessageEvent).data;
        if (data?.kind === "hydrate") view.recordedSequences = [];
        if (Array.isArray(data?.events)) view.recordedSequences?.push(...data.events.map(({ sequence }: RunEvent) => sequence));
        if (data?.kind === "frame") view.recordedFrames?.push(data.frame);
        if (data?.kind === "hydrate") view.recordedFrames?.push(...(data.frames ?? []));
        return listener.call(window, event);
      };
      return add.call(this, type, recording, options);
    };
  });
}

/** Every heatmap frame that the panel was sent since its document was made. */
export async function receivedFrames(panel: Frame): Promise<{ header: HeatmapHeader; payload: Buffer }[]> {
  const frames = await panel.evaluate(() => {
    const { recordedFrames = [] } = globalThis as unknown as Recording;
    return recordedFrames.map(({ header, payload }) => ({ header, payload: Array.from(payload) }));
  });
  return frames.map(({ header, payload }) => ({ header, payload: Buffer.from(payload) }));
}

/** Numbers of the events that the panel holds, from the smallest on: those that are looked at first come first. */
export async function receivedSequences(panel: Frame): Promise<number[]> {
  const sequences = await panel.evaluate(() => (globalThis as unknown as Recording).recordedSequences ?? []);
  return sequences.sort((one, other) => one - other);
}

/** The matrices that the heatmap shows. */
export function heatmapMatrices(panel: Frame): Promise<{ name: string; rows: number; columns: number }[]> {
  return panel.evaluate(() => (globalThis as unknown as Recording).sparseTunerHeatmap?.cells() ?? []);
}

/** Chooses what the heatmap shows; resolves when it does. */
export async function showMode(panel: Frame, mode: HeatmapMode): Promise<void> {
  await panel.locator(`.heatmap-toolbar input[type=radio][value="${mode}"]`).check({ force: true });
  await until(`the heatmap in mode ${mode}`, () => heatmapData(panel, "mode").then((shown) => shown === mode));
}

/** A `data-` attribute of the heatmap's canvas. */
export function heatmapData(panel: Frame, name: string): Promise<string> {
  return panel.locator("canvas.heatmap-values").evaluate((canvas, key) => (canvas as HTMLCanvasElement).dataset[key] ?? "", name);
}

/** What the colours of blocks stand for; null where a block's colour is no value. Each matrix is zoomed to, so that a block has pixels of its own. */
export async function decodeBlocks(panel: Frame, places: readonly Place[]): Promise<({ low: number; high: number } | null)[]> {
  return panel.evaluate(async (wanted) => {
    const surface = (globalThis as unknown as Recording).sparseTunerHeatmap;
    const canvas = document.querySelector<HTMLCanvasElement>("canvas.heatmap-values");
    const pixels = canvas?.getContext("2d");
    if (!surface || !canvas || !pixels) throw new Error("the panel has no heatmap");
    const painted = () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)));
    const scale = canvas.width / canvas.getBoundingClientRect().width;
    const values: ({ low: number; high: number } | null)[] = [];
    let shown: string | null = null;
    for (const { name, row, column } of wanted) {
      if (name !== shown) {
        surface.show(name);
        shown = name;
        await painted();
      }
      const rect = surface.cellRect(name, row, column);
      if (!rect) throw new Error(`${name}:${row},${column} is not on the screen`);
      const [x, y] = [Math.floor((rect.x + rect.width / 2) * scale), Math.floor((rect.y + rect.height / 2) * scale)];
      const [red, green, blue] = pixels.getImageData(x, y, 1, 1).data;
      values.push(surface.valueOfColor(red, green, blue));
    }
    surface.show(null);
    await painted();
    return values;
  }, places);
}

/** Clicks a block where it is drawn. */
export async function clickBlock(panel: Frame, { name, row, column }: Place): Promise<void> {
  const place = { name, row, column };
  const rect = await panel.evaluate(
    (block) => (globalThis as unknown as Recording).sparseTunerHeatmap?.cellRect(block.name, block.row, block.column),
    place,
  );
  if (!rect) throw new Error(`${name}:${row},${column} is not on the screen`);
  await panel.locator("canvas.heatmap-marks").click({ position: { x: rect.x + rect.width / 2, y: rect.y + rect.height / 2 } });
}
