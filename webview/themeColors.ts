/**
 * Kinds of themes and the colours for things in charts that belong to no theme. No DOM, so that it can be tested.
 * The rule to keep: colours that carry meaning are told apart by people with colour blindness and have a text or a shape beside them.
 */

export type ThemeKind = "dark" | "light" | "highContrast" | "highContrastLight";

/**
 * Eight colours that stay apart for every kind of colour blindness: beginning with those of M. Okabe and K. Ito ("Color Universal Design", 2008), moved by
 * a search for the largest distance in CIE L*a*b* between any two, seen with each full dichromacy, at a contrast of 3 : 1 with a usual background.
 */
export function seriesColors(kind: ThemeKind, foreground: string): string[] {
  const light = kind === "light" || kind === "highContrastLight";
  return light
    ? ["#0056b1", "#d87600", "#108c45", "#b0539a", "#598bff", "#704300", "#919191", foreground]
    : ["#4e98f8", "#f3a503", "#2adb86", "#b68ac2", "#b6ff79", "#dd390c", "#696969", foreground];
}

/** The kind that VS Code names by the body's class. */
export function themeKind(classes: string): ThemeKind {
  const names = new Set(classes.split(/\s+/));
  if (names.has("vscode-high-contrast-light")) return "highContrastLight";
  if (names.has("vscode-high-contrast")) return "highContrast";
  return names.has("vscode-light") ? "light" : "dark";
}

/** Black or white, whichever is read better on a colour `#rrggbb`; one of them always has a contrast of 4.5 : 1. */
export function readableOn(color: string): "#000000" | "#ffffff" {
  const light = [1, 3, 5].map((at) => {
    const share = Number.parseInt(color.slice(at, at + 2), 16) / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  // Relative luminance (WCAG 2); at 0.179 black and white are equally far.
  return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.179 ? "#000000" : "#ffffff";
}
