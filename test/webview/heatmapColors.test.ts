/** The heatmap's colours: they can be told apart, with and without colour blindness, and read back to the values they stand for. */

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { flatColors, pixelOf, type Rgb, ramp, rampIndex, rampPixels } from "../../webview/panel/heatmap/ramp.ts";
import { colorIndex, colorScale, legendValues, scaleKinds, valuesOfIndex } from "../../webview/panel/heatmap/scale.ts";
import { seriesColors, themeKind } from "../../webview/themeColors.ts";

const linear = (byte: number) => (byte <= 10.31475 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4);
const luminance = ([red, green, blue]: Rgb) => 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);

/** CIE L*a*b*, and the plain distance in it. */
function lab([red, green, blue]: readonly number[]): [number, number, number] {
  const f = (t: number) => (t > (6 / 29) ** 3 ? Math.cbrt(t) : t / (3 * (6 / 29) ** 2) + 4 / 29);
  const x = f((0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047);
  const y = f(0.2126729 * red + 0.7151522 * green + 0.072175 * blue);
  const z = f((0.0193339 * red + 0.119192 * green + 0.9503041 * blue) / 1.08883);
  return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
}
const distance = (a: readonly number[], b: readonly number[]) => Math.hypot(...lab(a).map((value, axis) => value - lab(b)[axis]));

/** Full colour blindness of each kind, in linear light: Machado, Oliveira and Fernandes (2009), severity 1. */
const blindness: Record<string, number[][]> = {
  none: [
    [1, 0, 0],
    [0, 1, 0],
    [0, 0, 1],
  ],
  protanopia: [
    [0.152286, 1.052583, -0.204868],
    [0.114503, 0.786281, 0.099216],
    [-0.003882, -0.048116, 1.051998],
  ],
  deuteranopia: [
    [0.367322, 0.860646, -0.227968],
    [0.280085, 0.672501, 0.047413],
    [-0.01182, 0.04294, 0.968881],
  ],
  tritanopia: [
    [1.255528, -0.076749, -0.178779],
    [-0.078411, 0.930809, 0.147602],
    [0.004733, 0.691367, 0.3039],
  ],
};
const seen = (kind: string, color: Rgb) => {
  const light = color.map(linear);
  return blindness[kind].map((row) =>
    Math.min(
      1,
      Math.max(
        0,
        row.reduce((sum, weight, axis) => sum + weight * light[axis], 0),
      ),
    ),
  );
};

test("the ramp has 256 different colours of rising lightness in equal steps", () => {
  assert.equal(new Set(rampPixels).size, 256);
  for (let i = 1; i < 256; i++) assert.ok(luminance(ramp[i]) > luminance(ramp[i - 1]) - 1e-3, `entry ${i}`);
  for (let i = 16; i < 256; i++) assert.ok(luminance(ramp[i]) > luminance(ramp[i - 16]), `entry ${i}`);
  const steps = Array.from({ length: 15 }, (_, i) => distance(ramp[16 * i + 16].map(linear), ramp[16 * i].map(linear)));
  assert.ok(Math.max(...steps) / Math.min(...steps) < 1.15, `steps of ${steps.map((step) => step.toFixed(1))}`);
});

test("people with each kind of colour blindness see a sixteenth of the ramp as a difference", () => {
  for (const kind of Object.keys(blindness))
    for (let i = 16; i < 256; i++) {
      const difference = distance(seen(kind, ramp[i]), seen(kind, ramp[i - 16]));
      assert.ok(difference > 3.5, `${kind}: entries ${i - 16} and ${i} differ by ${difference.toFixed(1)}`);
    }
});

test("what is no value has a colour that no value has, in every theme", () => {
  for (const [kind, flat] of Object.entries(flatColors)) {
    for (const color of Object.values(flat)) assert.equal(rampIndex(color), -1, `${kind} ${color}`);
    assert.equal(new Set(Object.values(flat).map(pixelOf)).size, 4, kind);
    assert.ok(distance(flat.chosen.map(linear), flat.notChosen.map(linear)) > 40, kind);
    for (const vision of Object.keys(blindness))
      assert.ok(distance(seen(vision, flat.chosen), seen(vision, flat.notChosen)) > 30, `${kind} ${vision}`);
  }
  // Lines of the hatching are greys, also where they are blurred.
  for (const [red, green, blue] of ramp) assert.ok(Math.max(red, green, blue) - Math.min(red, green, blue) > 2);
});

test("a pixel of the canvas is the colour's red, green, blue and full opacity, in this order", () => {
  const bytes = new Uint8Array(Uint32Array.of(pixelOf([1, 2, 3])).buffer);
  assert.deepEqual([...bytes], [1, 2, 3, 255]);
  for (let index = 0; index < 256; index++) assert.equal(rampIndex(ramp[index]), index);
});

const magnitude = fc.float({ noNaN: true, min: 0, max: Math.fround(1e30) });
const ranges = fc
  .tuple(magnitude, magnitude, fc.boolean())
  .map(([a, b, negative]) => ({ low: negative ? -Math.max(a, b) : Math.min(a, b), high: negative ? Math.min(a, b) : Math.max(a, b) }));

test("a value is always among those that its colour stands for", () => {
  fc.assert(
    fc.property(
      ranges,
      fc.constantFrom(...scaleKinds),
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 1 }),
      ({ low, high }, kind, shares) => {
        const values = shares.map((share) => Math.min(high, Math.max(low, low + share * (high - low))));
        const smallestPositive = Math.min(...[low, high, ...values].filter((value) => value > 0));
        const scale = colorScale(kind, { low, high, smallestPositive, error: 0 });
        for (const value of [low, high, ...values]) {
          const index = colorIndex(scale, value);
          const { low: from, high: to } = valuesOfIndex(scale, index);
          assert.ok(index >= 0 && index < 256 && from <= value && value <= to, `${value} in ${from} … ${to} of ${low} … ${high}`);
        }
      },
    ),
    { numRuns: 500 },
  );
});

test("colours rise with values, and the whole ramp is used", () => {
  for (const kind of scaleKinds) {
    const scale = colorScale(kind, { low: 1e-4, high: 1, smallestPositive: 1e-4, error: 0 });
    const indexes = Array.from({ length: 20_000 }, (_, i) =>
      colorIndex(scale, kind === "linear" ? 1e-4 + (i / 19_999) * (1 - 1e-4) : 10 ** (-4 + (4 * i) / 19_999)),
    );
    for (let i = 1; i < indexes.length; i++) assert.ok(indexes[i] >= indexes[i - 1]);
    assert.equal(new Set(indexes).size, 256, kind);
    assert.deepEqual([indexes[0], indexes.at(-1)], [0, 255]);
  }
});

test("a colour of a logarithmic scale stands for a few percent, and what is zero for the lowest colour alone", () => {
  const scale = colorScale("logarithmic", { low: 0, high: 1, smallestPositive: 1e-3, error: 0 });
  assert.equal(colorIndex(scale, 0), 0);
  assert.ok(colorIndex(scale, 2e-3) > 0);
  for (let index = 1; index < 256; index++) {
    const { low, high } = valuesOfIndex(scale, index);
    assert.ok(high / low < 1.03, `${index}: ${low} … ${high}`);
  }
});

test("equal values are one colour, the first, and are read back as themselves", () => {
  for (const kind of scaleKinds)
    for (const value of [0, 3, -2]) {
      const scale = colorScale(kind, { low: value, high: value, smallestPositive: value > 0 ? value : Number.POSITIVE_INFINITY, error: 0 });
      assert.equal(colorIndex(scale, value), 0);
      const { low, high } = valuesOfIndex(scale, 0);
      assert.ok(low <= value && high >= value && high - low < 1e-5);
    }
});

test("the error of quantised values widens what a colour stands for", () => {
  const scale = colorScale("linear", { low: 0, high: 256, smallestPositive: 1, error: 0.5 });
  const { low, high } = valuesOfIndex(scale, 10);
  assert.ok(low < 9.51 && low > 9.49 && high > 11.49 && high < 11.51, `${low} … ${high}`);
});

test("the legend's numbers are the scale's", () => {
  assert.deepEqual(legendValues(colorScale("linear", { low: 2, high: 4, smallestPositive: 2, error: 0 }), [0, 0.5, 1]), [2, 3, 4]);
  const [low, middle, high] = legendValues(colorScale("logarithmic", { low: 0.01, high: 1, smallestPositive: 0.01, error: 0 }), [0, 0.5, 1]);
  assert.deepEqual([low, Math.round(middle * 1e6) / 1e6, high], [0.01, 0.1, 1]);
});

test("colours of chart series are different in every theme, also for colour-blind people", () => {
  const parse = (text: string) => [1, 3, 5].map((at) => Number.parseInt(text.slice(at, at + 2), 16)) as unknown as Rgb;
  for (const kind of ["dark", "light"] as const) {
    const colors = seriesColors(kind, kind === "dark" ? "#d4d4d4" : "#000000").map(parse);
    for (const vision of Object.keys(blindness))
      for (let i = 0; i < colors.length; i++)
        for (let j = 0; j < i; j++) {
          const difference = distance(seen(vision, colors[i]), seen(vision, colors[j]));
          assert.ok(difference > 16, `${kind} ${vision}: ${i} and ${j} differ by ${difference.toFixed(1)}`);
        }
  }
});

test("the theme's kind is read from the classes of VS Code", () => {
  assert.equal(themeKind("vscode-dark"), "dark");
  assert.equal(themeKind("vscode-light some-other"), "light");
  assert.equal(themeKind("vscode-high-contrast"), "highContrast");
  assert.equal(themeKind("vscode-high-contrast-light vscode-high-contrast"), "highContrastLight");
  assert.equal(themeKind(""), "dark");
});
