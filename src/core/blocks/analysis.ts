/** Statistics of a matrix of values, for who looks at a block. Plain numbers in, plain numbers out. */
import { Matrix, SingularValueDecomposition } from "ml-matrix";
import { type Analysis, maxSpectrumSide } from "../../protocol/coreProtocol.ts";

const bins = 64;

/** Looks at rows × columns values, row-major. Everything but `nonFinite` counts finite values only; what there is none of is 0. */
export function analyze(values: Float32Array, rows: number, columns: number): Analysis {
  let [sum, squares, minimum, maximum, zeros, finite] = [0, 0, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 0, 0];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    finite++;
    sum += value;
    squares += value * value;
    if (value === 0) zeros++;
    if (value < minimum) minimum = value;
    if (value > maximum) maximum = value;
  }
  if (finite === 0) [minimum, maximum] = [0, 0];
  const mean = finite === 0 ? 0 : sum / finite;
  const singularValues = finite === values.length && Math.max(rows, columns) <= maxSpectrumSide ? singularValuesOf(values, rows, columns) : [];
  return {
    mean,
    standardDeviation: standardDeviation(values, mean, finite),
    minimum,
    maximum,
    norm: Math.sqrt(squares),
    zeros,
    nonFinite: values.length - finite,
    histogram: histogram(values, minimum, maximum),
    singularValues,
    effectiveRank: effectiveRank(singularValues),
  };
}

/** Of the whole population; in a second pass, because squares of large equal values would swallow their differences. */
function standardDeviation(values: Float32Array, mean: number, finite: number): number {
  if (finite === 0) return 0;
  let sum = 0;
  for (const value of values) if (Number.isFinite(value)) sum += (value - mean) ** 2;
  return Math.sqrt(sum / finite);
}

/** The maximum belongs to the last bin; where all values are equal they are all in the first. */
function histogram(values: Float32Array, minimum: number, maximum: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  const perUnit = maximum > minimum ? bins / (maximum - minimum) : 0;
  for (const value of values) if (Number.isFinite(value)) counts[Math.min(bins - 1, Math.floor((value - minimum) * perUnit))]++;
  return counts;
}

function singularValuesOf(values: Float32Array, rows: number, columns: number): number[] {
  const matrix = Matrix.from1DArray(rows, columns, values);
  const options = { computeLeftSingularVectors: false, computeRightSingularVectors: false, autoTranspose: true };
  return [...new SingularValueDecomposition(matrix, options).diagonal].sort((a, b) => b - a);
}

function effectiveRank(singularValues: readonly number[]): number {
  const sum = singularValues.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  let entropy = 0;
  for (const value of singularValues) {
    const share = value / sum;
    if (share > 0) entropy -= share * Math.log(share);
  }
  return Math.exp(entropy);
}
