/**
 * The list of a file's tensors: filter, sortable columns, and as many rows as are seen, however many there are. It shows entries and says which one was
 * chosen; values are not its business.
 * The rule to keep: one tab stop for the rows, walked with arrow keys; the active row is told by its id.
 */
import { element, oncePerFrame, setText } from "../element.ts";
import { t } from "../strings.ts";
import { Axis, moved } from "./axis.ts";
import { arranged, bytesText, nextOrder, type Order, type SortKey, shapeText, sortKeys, type TensorEntry } from "./tensorTable.ts";

const rowPixels = 22;

export class TensorList {
  readonly root: HTMLElement;
  readonly #tensors: readonly TensorEntry[];
  readonly #choose: (tensor: TensorEntry) => void;
  readonly #filter: HTMLInputElement;
  readonly #count: HTMLElement;
  readonly #grid: HTMLElement;
  readonly #spacer: HTMLElement;
  readonly #layer: HTMLElement;
  readonly #headers = new Map<SortKey, HTMLElement>();
  readonly #rows: HTMLElement[] = [];
  readonly #draw = oncePerFrame(() => this.#redraw());
  #order: Order = { key: null, descending: false };
  #shown: TensorEntry[];
  #active = 0;
  #chosen: string | null = null;

  constructor(tensors: readonly TensorEntry[], choose: (tensor: TensorEntry) => void) {
    this.#tensors = tensors;
    this.#shown = [...tensors];
    this.#choose = choose;
    this.#filter = element("input", { type: "search", placeholder: t("Filter tensors"), "aria-label": t("Filter tensors"), spellcheck: "false" });
    this.#filter.addEventListener("input", () => this.#arrange());
    this.#count = element("p", { class: "count", role: "status" });
    this.#layer = element("div", { class: "layer", role: "rowgroup" });
    this.#spacer = element("div", { class: "spacer", role: "presentation" }, this.#header(), this.#layer);
    this.#grid = element(
      "div",
      { class: "grid list", role: "grid", tabindex: 0, "aria-label": t("Tensors"), "aria-colcount": sortKeys.length },
      this.#spacer,
    );
    this.#grid.addEventListener("scroll", this.#draw);
    this.#grid.addEventListener("keydown", (event) => this.#onKey(event));
    this.#grid.addEventListener("focus", this.#draw);
    new ResizeObserver(this.#draw).observe(this.#grid);
    this.root = element("section", { class: "tensors" }, this.#filter, this.#count, this.#grid);
    this.#arrange();
  }

  #header(): HTMLElement {
    const titles: Record<SortKey, string> = { name: t("Name"), dtype: t("Type"), shape: t("Shape"), bytes: t("Size") };
    const cells = sortKeys.map((key) => {
      const button = element("button", { class: "sort", title: t("Sort by {0}", titles[key]) }, titles[key]);
      button.addEventListener("click", () => {
        this.#order = nextOrder(this.#order, key);
        this.#arrange();
      });
      const cell = element("div", { class: `cell ${key}`, role: "columnheader", "aria-sort": "none" }, button);
      this.#headers.set(key, cell);
      return cell;
    });
    return element("div", { class: "row header", role: "row", "aria-rowindex": 1 }, ...cells);
  }

  #arrange(): void {
    const active = this.#shown[this.#active];
    this.#shown = arranged(this.#tensors, this.#filter.value, this.#order);
    this.#active = Math.max(0, this.#shown.indexOf(active));
    for (const [key, cell] of this.#headers) {
      cell.setAttribute("aria-sort", this.#order.key !== key ? "none" : this.#order.descending ? "descending" : "ascending");
    }
    setText(this.#count, t("{0} of {1} tensors", this.#shown.length, this.#tensors.length));
    this.#grid.setAttribute("aria-rowcount", String(this.#shown.length + 1));
    this.#draw();
  }

  get #axis(): Axis {
    return new Axis(this.#shown.length, rowPixels);
  }

  /** Height of the rows, below the header. */
  get #viewPixels(): number {
    return Math.max(rowPixels, this.#grid.clientHeight - rowPixels);
  }

  #redraw(): void {
    const axis = this.#axis;
    this.#spacer.style.height = `${axis.pixels(this.#viewPixels) + rowPixels}px`;
    const first = axis.firstAt(this.#grid.scrollTop, this.#viewPixels);
    const count = this.#shown.length === 0 ? 0 : Math.min(axis.shown(this.#viewPixels) + 1, this.#shown.length - first);
    while (this.#rows.length < count) this.#rows.push(this.#layer.appendChild(this.#createRow()));
    for (const [i, row] of this.#rows.entries()) {
      row.hidden = i >= count;
      if (i < count) this.#fill(row, first + i);
    }
    const activeRow = this.#rows[this.#active - first];
    if (activeRow && !activeRow.hidden) this.#grid.setAttribute("aria-activedescendant", activeRow.id);
    else this.#grid.removeAttribute("aria-activedescendant");
  }

  #createRow(): HTMLElement {
    // A name is written from left to right in a cell that is cut on the left: names differ at their ends.
    const cells = sortKeys.map((key) => element("div", { class: `cell ${key}`, role: "gridcell" }, element("bdi", { dir: "ltr" })));
    const row = element("div", { class: "row", role: "row", id: `tensor-row-${this.#rows.length}` }, ...cells);
    row.addEventListener("click", () => {
      this.#active = Number(row.dataset.index);
      this.#chooseActive();
    });
    return row;
  }

  #fill(row: HTMLElement, index: number): void {
    const tensor = this.#shown[index];
    const texts = [tensor.name, tensor.dtype, shapeText(tensor.shape), bytesText(tensor.bytes)];
    for (const [i, text] of texts.entries()) setText(row.children[i].children[0], text);
    row.children[0].setAttribute("title", tensor.name);
    row.dataset.index = String(index);
    row.setAttribute("aria-rowindex", String(index + 2));
    row.setAttribute("aria-selected", String(tensor.name === this.#chosen));
    row.classList.toggle("active", index === this.#active);
  }

  #onKey(event: KeyboardEvent): void {
    if (event.target !== this.#grid || this.#shown.length === 0) return;
    if (event.key === "Enter" || event.key === " ") this.#chooseActive();
    else {
      const size = { rows: this.#shown.length, columns: 1, page: Math.max(1, Math.floor(this.#viewPixels / rowPixels)) };
      // A list has no columns to walk, so Home and End go to its ends without Ctrl as well.
      const to = moved({ row: this.#active, column: 0 }, event.key, true, size);
      if (!to) return;
      this.#active = to.row;
      const axis = this.#axis;
      const first = axis.revealing(to.row, axis.firstAt(this.#grid.scrollTop, this.#viewPixels), this.#viewPixels);
      this.#grid.scrollTop = axis.scrollOf(first, this.#viewPixels);
      this.#draw();
    }
    event.preventDefault();
  }

  #chooseActive(): void {
    const tensor = this.#shown[this.#active];
    if (!tensor) return;
    this.#chosen = tensor.name;
    this.#draw();
    this.#choose(tensor);
  }
}
