/** Table, CSV and figure of a comparison: what stands in them, and that nothing from outside gets in as anything but text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { comparisonSvg } from "../../../src/core/compare/chart.ts";
import { comparisonTable } from "../../../src/core/compare/table.ts";
import { linearTicks, logTicks, tickTexts } from "../../../src/protocol/chartShapes.ts";
import { comparisonCsv } from "../../../src/protocol/compareCsv.ts";
import { comparisonPicture, type PictureWords, type Shape } from "../../../src/protocol/comparePicture.ts";
import type { ComparisonLine } from "../../../src/protocol/compareResults.ts";
import { type ComparisonSummary, summarise } from "../../../src/protocol/compareSummary.ts";
import { finishedLines, plan, planWithTask, point, result, score } from "./comparisonLines.ts";

const of = (lines: readonly ComparisonLine[]) => summarise(lines) as ComparisonSummary;
const finished = of(finishedLines());
const words: PictureWords = {
  loss: "loss",
  parameters: "parameters",
  memory: "memory",
  seconds: "seconds",
  accuracy: (task) => `${task} accuracy`,
  floor: "floor",
  before: "before",
  formatLoss: (value) => value.toFixed(3),
  formatShare: (value) => `${(100 * value).toFixed(1)} %`,
  formatCount: String,
  formatBytes: (value) => `${value} B`,
  formatSeconds: (value) => `${value} s`,
  tip: (label, parameters, value, spread, seeds) => `${label} ${parameters} ${value} ${spread} ${seeds}`,
};

test("the table has a row a point with mean, spread and distance from the budget; the best of a budget is strong", () => {
  const lines = comparisonTable(finished).split("\n");
  assert.deepEqual(lines.slice(0, 2), [
    "| method | budget | trained | as | learning rate | held-out loss | seeds | peak memory | time per step |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
  ]);
  assert.ok(lines.includes("| SMT | 1.00 K | 1.02 K (+2.40 %) | rank 2 | 0.01 (highest tried) | **2.5000 ± 0.0200** | 3 | 1.00 MiB | 500 ms |"));
  assert.ok(lines.includes("| LoRA | 1.00 K | 960 (−4.00 %) | rank 2 | 0.01 (highest tried) | 2.6000 ± 0.0200 | 3 | 1.00 MiB | 500 ms |"));
  assert.ok(lines.includes("| Full |  | 650 K | rank 2 | 0.01 (highest tried) | 2.1000 ± 0.0200 | 3 | 1.00 MiB | 500 ms |"));
  assert.match(comparisonTable(finished), /the untrained model's is 3\.0000/);
  assert.match(comparisonTable(finished), /which is also one of its seeds/);
});

test("who is far from a budget is not the best of it", () => {
  const far = { ...point("LoRA", 1000, 1900, "lora"), note: "1900 is the nearest to the 1000 asked for" };
  const points = [point("SMT", 1000, 1024), far, point("DoRA", 1000, 1010, "dora")];
  const lines = comparisonTable(of([plan(points, [1e-2], [1]), ...points.map((one, i) => result(one, 1e-2, 1, [2.5, 2.4, 2.6][i]))])).split("\n");
  assert.deepEqual(
    lines.filter((line) => line.includes("**")).map((line) => line.split(" ")[1]),
    ["SMT"],
  );
});

test("what is not as it should be is said under the table", () => {
  const [a] = [{ ...point("A", 100, 150), note: "150 is the nearest to the 100 asked for" }];
  const failed = result(a, 1e-2, 2, null, { status: "failed", message: "x" });
  const table = comparisonTable(of([plan([a], [1e-3, 1e-2], [1, 2]), result(a, 1e-3, 1, null), result(a, 1e-2, 1, 2), failed]));
  assert.match(table, /- A, budget 100: 150 is the nearest to the 100 asked for\./);
  assert.match(table, /- A, budget 100: one run diverged\./);
  assert.match(table, /- A, budget 100: one run failed\./);
  assert.match(table, /The best learning rate is the highest that was tried, and a better one may lie beyond: A, budget 100\./);
  assert.match(table, /- 2 of 3 runs are done\./);
});

test("the CSV has a row a run, unrounded, and nothing in it is a formula", () => {
  const [head, ...rows] = comparisonCsv(finished).trimEnd().split("\n");
  assert.equal(rows.length, 20);
  assert.match(head, /^run,label,method,budget,setting,trainableParameters,learningRate,seed,search,chosen,status,lossBefore,lossAfter,/);
  assert.equal(rows[0], "smt-1000-lr0.001-seed1,SMT,smt,1000,rank 2,1024,0.001,1,true,false,done,3,2.7,100,1048576,0.5,60,,,,,,");
  const evil = point('=HYPERLINK("http://x","y")', null, 5);
  const csv = comparisonCsv(of([plan([{ ...evil, id: "evil" }], [1e-3], [1]), result({ ...evil, id: "evil" }, 1e-3, 1, 1 / 3)]));
  assert.match(csv, /,"'=HYPERLINK\(""http:\/\/x"",""y""\)",/);
  assert.match(csv, new RegExp(String(1 / 3)));
});

/** Shapes of the large chart alone: above the small ones. */
function shapesOf(summary: ComparisonSummary): { shapes: Shape[]; markers: Extract<Shape, { kind: "marker" }>[] } {
  const { shapes } = comparisonPicture(summary, words, 800);
  return { shapes, markers: shapes.filter((shape) => shape.kind === "marker" && shape.tip !== "") as Extract<Shape, { kind: "marker" }>[] };
}

test("the figure places each mean at its parameters and value, with a shape of its own for each method", () => {
  const { shapes, markers } = shapesOf(finished);
  // Five points in three charts.
  assert.equal(markers.length, 15);
  const loss = markers.filter(({ tip }) => / 0\.020 3$/.test(tip));
  assert.equal(loss.length, 5);
  const at = (tip: RegExp) => loss.find((marker) => tip.test(marker.tip)) as Extract<Shape, { kind: "marker" }>;
  const [smt1, smt4, lora1, full] = [at(/^SMT 1024/), at(/^SMT 4096/), at(/^LoRA 960/), at(/^Full/)];
  assert.ok(smt4.x > smt1.x && smt1.x > lora1.x, "more parameters lie to the right");
  assert.ok(smt4.y > smt1.y && lora1.y < smt1.y && full.y > smt4.y, "a lower loss lies lower");
  assert.equal(new Set([smt1.marker, lora1.marker, full.marker]).size, 3);
  // On a logarithmic axis equal factors are equal distances.
  const lora4 = at(/^LoRA 3840/);
  assert.ok(Math.abs(smt4.x - smt1.x - (lora4.x - lora1.x)) < 1e-9);
  // The spread: a bar from one deviation above to one below, as tall as 0.04 of the loss.
  const unit = (smt4.y - smt1.y) / 0.3;
  const bars = shapes.filter(
    (shape) => shape.kind === "line" && shape.role === "series" && Math.abs(shape.x1 - smt1.x) < 1e-9 && shape.x1 === shape.x2,
  );
  assert.equal(bars.length, 1);
  const [bar] = bars as Extract<Shape, { kind: "line" }>[];
  assert.ok(Math.abs(Math.abs(bar.y2 - bar.y1) - 0.04 * unit) < 1e-6);
  assert.ok(Math.abs((bar.y1 + bar.y2) / 2 - smt1.y) < 1e-9, "around the mean");
  const level = shapes.find((shape) => shape.kind === "line" && shape.dashed && Math.abs(shape.y1 - full.y) < 1e-9 && shape.x2 - shape.x1 > 400);
  assert.ok(level, "full fine-tuning is a level");
});

test("everything of the figure lies within it, also where it is narrow", () => {
  for (const width of [320, 800, 1100]) {
    const { shapes, height } = comparisonPicture(finished, words, width);
    for (const shape of shapes) {
      if (shape.kind === "text" || shape.kind === "marker")
        assert.ok(shape.x >= 0 && shape.x <= width && shape.y >= 0 && shape.y <= height, JSON.stringify(shape));
      if (shape.kind === "line")
        assert.ok([shape.x1, shape.x2].every((x) => x >= 0 && x <= width) && [shape.y1, shape.y2].every((y) => y >= 0 && y <= height));
    }
  }
});

test("a comparison without results, or with one point, is drawn all the same", () => {
  const [a] = [point("A", null, 100)];
  const empty = comparisonPicture(of([plan([a], [1e-3, 1e-2], [1, 2])]), words);
  assert.equal(empty.empty, true);
  for (const lines of [[plan([a], [1e-3], [1])], [plan([a], [1e-3], [1]), result(a, 1e-3, 1, 2)], [plan([point("F", null, 9, "full")], [1], [1])]]) {
    const svg = comparisonSvg(of(lines as ComparisonLine[]));
    assert.doesNotMatch(svg, /NaN|Infinity|undefined/);
  }
});

test("names are text in the SVG, whatever they are", () => {
  const evil = { ...point("</text><script>alert(1)</script>&\u0007", null, 100), id: "e" };
  const svg = comparisonSvg(of([plan([evil], [1e-3], [1]), result(evil, 1e-3, 1, 2)]));
  assert.equal(svg.includes("<script") || svg.includes("\u0007"), false);
  assert.match(svg, /&#60;script&#62;/);
});

test("ticks have as many decimals as tell them apart", () => {
  assert.deepEqual(tickTexts([7, 8, 9, 10]), ["7", "8", "9", "10"]);
  assert.deepEqual(tickTexts([2, 2.5, 3]), ["2.0", "2.5", "3.0"]);
  assert.deepEqual(tickTexts([2.04, 2.05]), ["2.04", "2.05"]);
  assert.deepEqual(tickTexts([0.2]), ["0.2"]);
  assert.deepEqual(tickTexts([]), []);
});

test("ticks are round, within the range, and have room", () => {
  assert.deepEqual(linearTicks(1.93, 2.41, 200), [2, 2.2, 2.4]);
  assert.deepEqual(logTicks(900, 110_000, 700), [1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000]);
  assert.deepEqual(logTicks(900, 110_000, 250), [1000, 10_000, 100_000]);
  assert.ok(logTicks(1, 1e12, 200).length <= 3);
  for (const ticks of [logTicks(430, 470, 300), linearTicks(0, 1e-9, 100)]) assert.ok(ticks.every(Number.isFinite));
});

/** The finished comparison, its chosen runs scored: accuracy falls where the loss rises. */
function scoredLines(): ComparisonLine[] {
  const [first, ...rest] = finishedLines();
  assert.ok(first.kind === "plan");
  const chosen = of([first, ...rest]).points.flatMap(({ runs }) => runs.map(({ run, result: found }) => score(run, 1 - (found?.lossAfter ?? 0) / 5)));
  return [{ ...first, ...planWithTask(first.points, first.learningRates, first.seeds) }, score("untrained", 0.45), ...rest.slice(0, -1), ...chosen];
}

test("a test set has a column with its floor, notes and figures of its own; held-out loss is as without", () => {
  const lines = comparisonTable(of(scoredLines())).split("\n");
  assert.match(lines[0], /\| held-out loss \| BoolQ \(floor 60\.0 %\) \| seeds \|/);
  assert.ok(
    lines.some((line) => line.includes("| **2.5000 ± 0.0200** | 50.0 % ± 0.4 | 3 |")),
    lines.join("\n"),
  );
  assert.ok(lines.some((line) => /untrained model's is 45\.0 %, over 100 questions; always giving .* has 60\.0 %/.test(line)));
  const rows = comparisonCsv(of(scoredLines())).trim().split("\n");
  const column = (name: string) => rows[0].split(",").indexOf(name);
  const chosen = rows.slice(1).filter((row) => row.split(",")[column("chosen")] === "true");
  assert.equal(chosen.length, 15);
  for (const row of rows.slice(1)) {
    const cells = row.split(",");
    assert.equal(cells[column("accuracy")] !== "", chosen.includes(row));
    assert.equal(cells[column("task")], chosen.includes(row) ? "boolq" : "");
  }
});

test("the accuracy's chart has a marker a point at its value, and lines at floor and untrained model", () => {
  const [without, scored] = [comparisonPicture(finished, words), comparisonPicture(of(scoredLines()), words)];
  const markers = (shapes: readonly Shape[]) => shapes.filter((shape) => shape.kind === "marker" && shape.tip !== "");
  assert.equal(markers(scored.shapes).length, markers(without.shapes).length + 5);
  const text = (value: string) => scored.shapes.find((shape) => shape.kind === "text" && shape.text === value) as Extract<Shape, { kind: "text" }>;
  const tipped = (tip: string) => markers(scored.shapes).find((shape) => shape.kind === "marker" && shape.tip.startsWith(tip)) as { y: number };
  const [floor, before] = [text("floor").y + 5, text("before").y + 5];
  // The parameters' name stands right below the axis.
  const axes = scored.shapes.filter((shape) => shape.kind === "text" && shape.text === "parameters") as { y: number }[];
  assert.ok(text("BoolQ accuracy").y + 14 <= floor && floor < before && before <= axes[1].y - 37, `${floor} and ${before} in the chart`);
  // 0.60 and 0.45 give the scale, on which the points have their places.
  const yOf = (share: number) => before + ((share - 0.45) / 0.15) * (floor - before);
  const accuracies = scored.shapes.filter((shape) => shape.kind === "marker" && / %/.test(shape.tip)) as { tip: string; y: number }[];
  assert.equal(accuracies.length, 5);
  for (const { tip, y } of accuracies) assert.ok(Math.abs(y - yOf(Number(/ ([\d.]+) % /.exec(tip)?.[1]) / 100)) < 0.5, tip);
  assert.ok(tipped("SMT 1024 50.0 %"));
  assert.match(scored.description, /Full 650000 2\.100.*SMT 1024 50\.0 %/s);
});
