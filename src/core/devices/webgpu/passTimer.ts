/**
 * How long a pass took on the card, by timestamps around it. Nobody waits: a figure comes when the card has got there, or never, when the device is closed before.
 */

export interface PassTiming {
  pass: GPUComputePassDescriptor;
  /** When the pass has ended. */
  end(encoder: GPUCommandEncoder): void;
}

type Take = (nanoseconds: number) => void;

export class PassTimer {
  readonly available: boolean;
  readonly #device: GPUDevice;
  #recorded: { staging: GPUBuffer; take: Take }[] = [];

  constructor(device: GPUDevice) {
    this.#device = device;
    this.available = device.features.has("timestamp-query");
  }

  /** Undefined where the card cannot tell. */
  begin(take: Take): PassTiming | undefined {
    if (!this.available) return undefined;
    const querySet = this.#device.createQuerySet({ type: "timestamp", count: 2 });
    return {
      pass: { timestampWrites: { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 } },
      end: (encoder) => {
        const resolved = this.#device.createBuffer({ size: 16, usage: 0x0200 | 0x0004 }); // QUERY_RESOLVE | COPY_SRC
        const staging = this.#device.createBuffer({ size: 16, usage: 0x0001 | 0x0008 }); // MAP_READ | COPY_DST
        encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
        encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
        this.#recorded.push({ staging, take });
      },
    };
  }

  /** What was recorded is on its way. */
  submitted(): void {
    const recorded = this.#recorded;
    this.#recorded = [];
    for (const { staging, take } of recorded) void read(staging, take).catch(() => {}); // the device was closed
  }
}

async function read(staging: GPUBuffer, take: Take): Promise<void> {
  await staging.mapAsync(0x0001);
  const [begin, end] = new BigUint64Array(staging.getMappedRange().slice(0));
  staging.destroy();
  take(Number(end - begin));
}
