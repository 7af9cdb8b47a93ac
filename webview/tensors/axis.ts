/**
 * Which items of a long list are seen, and where a scroll bar stands for them. Browsers cannot lay out more than some 10 million pixels, so a longer list
 * gets a scroll bar in another scale; wheel and keys still move item by item. Pure arithmetic.
 * The rule to keep: the first and the last item can always be reached, by scrolling too.
 */

/** Far below what every browser can lay out. */
const longestPixels = 4_000_000;

export class Axis {
  readonly count: number;
  /** CSS pixels of an item. */
  readonly itemPixels: number;

  constructor(count: number, itemPixels: number) {
    this.count = count;
    this.itemPixels = itemPixels;
  }

  /** Length of what is scrolled: the bar's end is where the last item is seen whole, as the first of a view that it may not fill. */
  pixels(viewPixels: number): number {
    return Math.min(this.lastFirst(viewPixels) * this.itemPixels + viewPixels, this.scaled ? longestPixels : Number.POSITIVE_INFINITY);
  }

  /** Whether a pixel of the scroll bar is not a pixel of the list. */
  get scaled(): boolean {
    return this.count * this.itemPixels > longestPixels;
  }

  /** Items that fit, the last perhaps in part. */
  shown(viewPixels: number): number {
    return Math.max(1, Math.min(this.count, Math.ceil(viewPixels / this.itemPixels)));
  }

  /** The largest first item: the last one is then seen whole. */
  lastFirst(viewPixels: number): number {
    return Math.max(0, this.count - Math.max(1, Math.floor(viewPixels / this.itemPixels)));
  }

  /** The first item seen where the scroll bar stands. */
  firstAt(scrollPixels: number, viewPixels: number): number {
    const last = this.lastFirst(viewPixels);
    const range = this.pixels(viewPixels) - viewPixels;
    return range <= 0 ? 0 : Math.max(0, Math.min(Math.round((scrollPixels / range) * last), last));
  }

  /** Where the scroll bar stands for a first item. */
  scrollOf(first: number, viewPixels: number): number {
    const last = this.lastFirst(viewPixels);
    return last === 0 ? 0 : (Math.min(first, last) / last) * (this.pixels(viewPixels) - viewPixels);
  }

  /** The first item that has `item` in view, moved as little as can be. */
  revealing(item: number, first: number, viewPixels: number): number {
    const whole = Math.max(1, Math.floor(viewPixels / this.itemPixels));
    const moved = item < first ? item : item >= first + whole ? item - whole + 1 : first;
    return Math.max(0, Math.min(moved, this.lastFirst(viewPixels)));
  }
}

/** A place in a grid. */
export interface GridPlace {
  row: number;
  column: number;
}

/** Where a key moves to in a grid of rows × columns with `page` rows in view; null for a key that moves nothing. */
export function moved(place: GridPlace, key: string, control: boolean, size: { rows: number; columns: number; page: number }): GridPlace | null {
  const { row, column } = place;
  const [lastRow, lastColumn] = [size.rows - 1, size.columns - 1];
  const clamp = (value: number, last: number) => Math.max(0, Math.min(value, last));
  switch (key) {
    case "ArrowUp":
      return { row: clamp(row - 1, lastRow), column };
    case "ArrowDown":
      return { row: clamp(row + 1, lastRow), column };
    case "ArrowLeft":
      return { row, column: clamp(column - 1, lastColumn) };
    case "ArrowRight":
      return { row, column: clamp(column + 1, lastColumn) };
    case "PageUp":
      return { row: clamp(row - size.page, lastRow), column };
    case "PageDown":
      return { row: clamp(row + size.page, lastRow), column };
    case "Home":
      return control ? { row: 0, column: 0 } : { row, column: 0 };
    case "End":
      return control ? { row: lastRow, column: lastColumn } : { row, column: lastColumn };
    default:
      return null;
  }
}
