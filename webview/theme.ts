/**
 * The colours of the editor's theme for what is drawn on canvases, where CSS variables do not reach, and word of their change. Everything in HTML takes the
 * variables directly.
 * The rule to keep: colours that carry meaning are told apart by people with colour blindness and have a text or a shape beside them.
 */

import { seriesColors, type ThemeKind, themeKind } from "./themeColors.ts";

export { seriesColors, type ThemeKind, themeKind };

export interface Theme {
  kind: ThemeKind;
  foreground: string;
  background: string;
  /** Of text that explains. */
  mutedForeground: string;
  border: string;
  focus: string;
  /** Lines of a chart's grid. */
  grid: string;
  error: string;
  warning: string;
  link: string;
  /** Up to eight things in one chart; see `seriesColors`. */
  series: readonly string[];
  fontFamily: string;
  fontSizePx: number;
}

/** Reads the theme as it is now. */
export function readTheme(): Theme {
  const kind = themeKind(document.body.className);
  const style = getComputedStyle(document.documentElement);
  const light = kind === "light" || kind === "highContrastLight";
  const color = (names: string[], otherwise: string) =>
    names.map((name) => style.getPropertyValue(`--vscode-${name}`).trim()).find(Boolean) ?? otherwise;
  const foreground = color(["editor-foreground", "foreground"], light ? "#1f1f1f" : "#d4d4d4");
  const contrast = kind === "highContrast" || kind === "highContrastLight";
  return {
    kind,
    foreground,
    background: color(["editor-background"], light ? "#ffffff" : "#1e1e1e"),
    mutedForeground: contrast ? foreground : color(["descriptionForeground"], light ? "#616161" : "#9d9d9d"),
    border: color(contrast ? ["contrastBorder", "panel-border"] : ["panel-border", "widget-border"], light ? "#d4d4d4" : "#454545"),
    focus: color(["focusBorder"], "#0078d4"),
    grid: contrast ? foreground : light ? "rgba(0,0,0,0.12)" : "rgba(255,255,255,0.12)",
    error: color(["errorForeground"], light ? "#a1260d" : "#f48771"),
    warning: color(["editorWarning-foreground"], light ? "#895503" : "#cca700"),
    link: color(["textLink-foreground"], light ? "#006ab1" : "#3794ff"),
    series: seriesColors(kind, foreground),
    fontFamily: color(["font-family"], "sans-serif"),
    fontSizePx: Number.parseFloat(color(["font-size"], "13px")) || 13,
  };
}

/** Calls the listener after the theme has changed. */
export function onThemeChange(listener: (theme: Theme) => void): { dispose(): void } {
  const observer = new MutationObserver(() => listener(readTheme()));
  observer.observe(document.body, { attributes: true, attributeFilter: ["class", "data-vscode-theme-id"] });
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["style"] });
  return { dispose: () => observer.disconnect() };
}
