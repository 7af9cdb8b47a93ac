/**
 * The colours of the heatmap as plain numbers: a ramp of 256 for values, and those for "chosen", "not chosen" and "unknown". No DOM.
 * The ramp is a straight line in CIE 1976 L*a*b* (ISO/CIE 11664-4, D65) from dark blue to light yellow: equal steps of value are equal steps of perceived
 * difference, lightness only rises, and blue to yellow is the axis that colour-blind people of the red-green kinds see; whoever sees no colour sees
 * the lightness. The end points were found by a search for the longest such line inside sRGB with 256 different entries.
 * The rule to keep: every entry is different and no other colour equals one, so that a colour on the screen can be read back.
 */
import type { ThemeKind } from "../../themeColors.ts";

export type Rgb = readonly [red: number, green: number, blue: number];

const rampEnds = { from: [10, 20, -38], to: [92, -12, 84] } as const;

/** Entry 0 is the lowest value. */
export const ramp: readonly Rgb[] = Array.from({ length: 256 }, (_, index) => {
  const [lightness, a, b] = rampEnds.from.map((start, axis) => start + (index / 255) * (rampEnds.to[axis] - start));
  return labToRgb(lightness, a, b);
});

/** One number an entry, as a little-endian RGBA pixel. */
export const rampPixels = Uint32Array.from(ramp, pixelOf);

/** Opaque, for a Uint32Array over canvas pixels; every platform of VS Code is little-endian. */
export function pixelOf([red, green, blue]: Rgb): number {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

export function cssOf([red, green, blue]: Rgb): string {
  return `rgb(${red}, ${green}, ${blue})`;
}

/** The colours that are no values. `hatch` is drawn as lines on `ground`, so that "unknown" looks like no value at all. */
export interface FlatColors {
  chosen: Rgb;
  notChosen: Rgb;
  ground: Rgb;
  hatch: Rgb;
}

export const flatColors: Record<ThemeKind, FlatColors> = {
  dark: { chosen: [255, 196, 61], notChosen: [52, 66, 84], ground: [37, 37, 38], hatch: [69, 69, 70] },
  light: { chosen: [164, 60, 0], notChosen: [205, 213, 222], ground: [246, 246, 246], hatch: [214, 214, 214] },
  highContrast: { chosen: [255, 255, 0], notChosen: [40, 40, 48], ground: [0, 0, 0], hatch: [130, 130, 130] },
  highContrastLight: { chosen: [0, 0, 160], notChosen: [222, 222, 230], ground: [255, 255, 255], hatch: [110, 110, 110] },
};

const indexes = new Map([...rampPixels].map((pixel, index) => [pixel, index]));

/** The ramp's entry with exactly this colour; −1 when it has none. */
export function rampIndex(color: Rgb): number {
  return indexes.get(pixelOf(color)) ?? -1;
}

/** CIE L*a*b* under D65 to sRGB (IEC 61966-2-1), rounded to bytes. */
function labToRgb(lightness: number, a: number, b: number): Rgb {
  const y = (lightness + 16) / 116;
  const linearLight = (t: number) => (t > 6 / 29 ? t ** 3 : 3 * (6 / 29) ** 2 * (t - 4 / 29));
  const [X, Y, Z] = [0.95047 * linearLight(y + a / 500), linearLight(y), 1.08883 * linearLight(y - b / 200)];
  const byte = (linear: number) => {
    const encoded = linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
    return Math.round(255 * Math.min(1, Math.max(0, encoded)));
  };
  return [
    byte(3.2404542 * X - 1.5371385 * Y - 0.4985314 * Z),
    byte(-0.969266 * X + 1.8760108 * Y + 0.041556 * Z),
    byte(0.0556434 * X - 0.2040259 * Y + 1.0572252 * Z),
  ];
}
