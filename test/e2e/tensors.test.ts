/** The viewer of safetensors files: what it shows of the demo's model equals an independent read of the file's bytes; a broken file is refused readably. */
import assert from "node:assert/strict";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import type { Frame } from "playwright-core";
import { readTensors, type Tensor, valueAt } from "./checkpointBytes.ts";
import { openFromExplorer } from "./editorReading.ts";
import { workbenchSession } from "./session.ts";
import { until } from "./window.ts";
import type { OpenWorkbench } from "./workbench.ts";

const model = path.resolve(import.meta.dirname, "../../media/demo/model/model.safetensors");
const title = "Sparse Tuner Tensor File";
const tensors = readTensors(model);

/** A header that names values behind the file's end. */
function brokenFile(): Buffer {
  const header = Buffer.from(JSON.stringify({ "lost.weight": { dtype: "F32", shape: [4, 4], data_offsets: [0, 64] } }));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  return Buffer.concat([length, header, Buffer.alloc(10)]);
}

const inWorkbench = workbenchSession({
  workspace: {
    fill(folder) {
      cpSync(model, path.join(folder, "model.safetensors"));
      writeFileSync(path.join(folder, "cut.safetensors"), brokenFile());
      writeFileSync(path.join(folder, "text.safetensors"), "This is no tensor file, and longer than a length of eight bytes.\n");
    },
  },
});

/** Opens a file of the workspace in the viewer, by the menu: it is no file's default editor. */
async function openInViewer({ window }: OpenWorkbench, name: string): Promise<void> {
  await openFromExplorer(window, name);
  await window.runCommand("View: Reopen Editor With...");
  await window.pick("Safetensors");
}

/** Values in view by their row and column; the column of a wrapped tensor is its index. */
async function shownValues(viewer: Frame): Promise<{ row: number; column: number; exact: number; text: string }[]> {
  return viewer.locator(".grid.values .layer").evaluate((layer) => {
    const rows = [...layer.children].filter((row) => !(row as HTMLElement).hidden);
    const texts = (row: Element) => [...row.children].map((cell) => (cell as HTMLElement).textContent ?? "");
    const [columns] = rows.slice(0, 1).map(texts);
    return rows.slice(1).flatMap((row) =>
      [...row.children].slice(1).flatMap((cell, index) => {
        const { hidden, title: exact, textContent } = cell as HTMLElement;
        if (hidden || !exact) return [];
        return [{ row: Number(texts(row)[0]), column: Number(columns[index + 1]), exact: Number(exact), text: textContent ?? "" }];
      }),
    );
  });
}

/** Chooses a tensor and goes to a place of it, by keys. */
async function goTo(viewer: Frame, name: string, place: string): Promise<void> {
  await viewer.getByLabel("Filter tensors").fill(name);
  const rows = viewer.locator(".grid.list .layer .row:not([hidden])");
  // Until then the rows are those of the list before, of which most are about to be hidden.
  await until("the filtered list", async () => (await rows.count()) === 1);
  await rows.filter({ hasText: name }).click();
  await viewer.locator("section.chosen h2").getByText(name, { exact: true }).waitFor();
  const field = viewer.locator("input.goto");
  await field.fill(place);
  await field.press("Enter");
  await viewer.locator("p.status").getByText(`[${place}] =`).waitFor({ timeout: 60_000 });
}

function assertShown(name: string, tensor: Tensor, shown: Awaited<ReturnType<typeof shownValues>>): void {
  const columns = tensor.shape.length === 1 ? 0 : (tensor.shape.at(-1) ?? 0);
  for (const { row, column, exact, text } of shown) {
    const expected = valueAt(tensor, row * columns + column + (columns === 0 ? row : 0));
    assert.equal(Math.fround(exact), expected, `${name}[${row}, ${column}]`);
    assert.ok(Math.abs(Number(text) - expected) <= 1e-5 * Math.abs(expected), `${name}[${row}, ${column}] is ${expected}, in short ${text}`);
  }
}

test(
  "every tensor with its type, shape and size",
  inWorkbench(async (workbench) => {
    await openInViewer(workbench, "model.safetensors");
    const viewer = await workbench.window.frame(title, 60_000);
    await viewer.getByText(`${tensors.size} of ${tensors.size} tensors`).waitFor();
    const rows = await viewer
      .locator(".grid.list .layer .row:not([hidden])")
      .evaluateAll((elements) => elements.map((row) => [...row.children].map((cell) => cell.textContent ?? "")));
    assert.ok(rows.length > 5, `${rows.length} rows`);
    for (const [name, dtype, shape] of rows) {
      const tensor = tensors.get(name);
      assert.ok(tensor, name);
      assert.equal(dtype, tensor.dtype);
      assert.deepEqual((shape.match(/\d+/g) ?? []).map(Number), tensor.shape);
    }
    await workbench.window.screenshot("tensors-list");
  }),
);

test(
  "values at the start, inside and at the end of tensors equal the bytes of the file",
  inWorkbench(async (workbench) => {
    const viewer = await workbench.window.frame(title);
    const matrix = [...tensors].find(([name, { shape }]) => name.includes("down_proj") && shape.length === 2);
    const vector = [...tensors].find(([, { shape }]) => shape.length === 1);
    const head = [...tensors].find(([name]) => name.includes("lm_head"));
    assert.ok(matrix && vector && head);
    for (const [name, tensor] of [matrix, head]) {
      const [rows, columns] = tensor.shape;
      for (const [row, column] of [
        [0, 0],
        [rows >> 1, columns >> 1],
        [rows - 1, columns - 1],
      ]) {
        await goTo(viewer, name, `${row}, ${column}`);
        const shown = await until("the values there", async () => {
          const all = await shownValues(viewer);
          return all.some((cell) => cell.row === row && cell.column === column) && all;
        });
        assert.ok(shown.length >= 20, `${shown.length} values in view`);
        assertShown(name, tensor, shown);
      }
    }
    await workbench.window.screenshot("tensors-end-of-matrix");
    const [name, tensor] = vector;
    const last = tensor.shape[0] - 1;
    await goTo(viewer, name, String(last));
    const shown = await until("the vector's end", async () => {
      const all = await shownValues(viewer);
      return all.some(({ row, column }) => row + column === last) && all;
    });
    assertShown(name, { ...tensor, shape: [tensor.shape[0]] }, shown);
    await workbench.window.screenshot("tensors-vector");
  }),
);

for (const [name, reason] of [
  ["cut.safetensors", /lost\.weight|end|bytes/],
  ["text.safetensors", /header|safetensors/],
] as const)
  test(
    `${name} is refused with the reason and what to do`,
    inWorkbench(async (workbench) => {
      await openInViewer(workbench, name);
      const refusal = await until(
        "the refusal",
        async () => {
          const viewer = await workbench.window.findFrame(title);
          const text = await viewer
            ?.locator(".refusal")
            .textContent({ timeout: 1000 })
            .catch(() => null);
          return text?.includes(name) && text;
        },
        60_000,
      );
      assert.match(refusal, /This file cannot be shown/);
      assert.match(refusal, reason);
      const action = await (await workbench.window.frame(title)).locator(".refusal .action").textContent();
      assert.ok(action && action.length > 10 && !/bug/.test(action), `what to do: ${action}`);
      await workbench.window.screenshot(`tensors-refused-${name.split(".")[0]}`);
    }),
  );

test(
  "no byte of a viewed file has changed",
  inWorkbench(async ({ workspace }) => {
    assert.ok(readFileSync(path.join(workspace ?? "", "model.safetensors")).equals(readFileSync(model)));
  }),
);
