/** The linear assignment problem: who gets what, so that the sum of values is greatest. Pure; shortest augmenting paths with potentials, O(n³). */

/** For each row of `values` (n, n) its column, each column once, with the greatest sum of values. Of equal sums any. */
export function greatestAssignment(values: Float64Array, n: number): Int32Array {
  const rowOf = new Int32Array(n + 1).fill(-1); // by column; column n is where each search starts
  const [rowPotential, columnPotential] = [new Float64Array(n), new Float64Array(n + 1)];
  const [least, previous, reached] = [new Float64Array(n + 1), new Int32Array(n + 1), new Uint8Array(n + 1)];
  for (let start = 0; start < n; start++) {
    rowOf[n] = start;
    least.fill(Number.POSITIVE_INFINITY);
    reached.fill(0);
    let column = n;
    do {
      reached[column] = 1;
      const row = rowOf[column];
      let [step, next] = [Number.POSITIVE_INFINITY, -1];
      for (let j = 0; j < n; j++) {
        if (reached[j]) continue;
        const cost = -values[row * n + j] - rowPotential[row] - columnPotential[j];
        if (cost < least[j]) {
          least[j] = cost;
          previous[j] = column;
        }
        if (least[j] < step) [step, next] = [least[j], j];
      }
      for (let j = 0; j <= n; j++) {
        if (reached[j]) {
          rowPotential[rowOf[j]] += step;
          columnPotential[j] -= step;
        } else least[j] -= step;
      }
      column = next;
    } while (rowOf[column] >= 0);
    for (; column !== n; column = previous[column]) rowOf[column] = rowOf[previous[column]];
  }
  const columnOf = new Int32Array(n);
  for (let j = 0; j < n; j++) columnOf[rowOf[j]] = j;
  return columnOf;
}
