/**
 * The exponential moving average of a growing series, computed once per value however often the chart is drawn. For drawing only: data and exports stay raw.
 * It is debiased as Adam's moments are (Kingma & Ba 2015, §3), so that the first values are not pulled towards zero:
 * m_t = w·m_(t−1) + (1−w)·x_t, average_t = m_t / (1 − w^t). Values that are not finite are left out and drawn as a gap.
 */

/** Follows a series; `weight` of the past in [0, 1), 0 leaves the values as they are. */
export class MovingAverage {
  #weight: number;
  #averages = new Float64Array(1024);
  #length = 0;
  #moment = 0;
  /** w^t, with t the number of finite values so far. */
  #decay = 1;
  #lastStep = Number.NaN;
  #lastValue = Number.NaN;

  constructor(weight: number) {
    this.#weight = weight;
  }

  get weight(): number {
    return this.#weight;
  }

  /** Another weight: the next `follow` begins anew. */
  setWeight(weight: number): void {
    this.#weight = weight;
    this.#restart();
  }

  /**
   * The averages of the first `length` values. A resumed run takes steps back; then what was averaged no longer ends in what stands there, and all is
   * averaged anew. The array is overwritten by the next call.
   */
  follow(steps: ArrayLike<number>, values: ArrayLike<number>, length: number): Float64Array {
    const last = this.#length - 1;
    if (length < this.#length || (last >= 0 && !(steps[last] === this.#lastStep && Object.is(values[last], this.#lastValue)))) this.#restart();
    this.#reserve(length);
    for (let i = this.#length; i < length; i++) this.#averages[i] = this.#next(values[i]);
    this.#length = length;
    this.#lastStep = steps[length - 1];
    this.#lastValue = values[length - 1];
    return this.#averages.subarray(0, length);
  }

  #next(value: number): number {
    if (!Number.isFinite(value)) return Number.NaN;
    this.#moment = this.#weight * this.#moment + (1 - this.#weight) * value;
    this.#decay *= this.#weight;
    return this.#moment / (1 - this.#decay);
  }

  #restart(): void {
    this.#length = 0;
    this.#moment = 0;
    this.#decay = 1;
  }

  #reserve(length: number): void {
    if (length <= this.#averages.length) return;
    const wider = new Float64Array(Math.max(length, 2 * this.#averages.length));
    wider.set(this.#averages.subarray(0, this.#length));
    this.#averages = wider;
  }
}
